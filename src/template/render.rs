//! Fills a template with JSON, printing values as Go prints them.

use serde_json::Value;

use super::functions::call;
use super::{Command, Node, Operand, Pipeline, Root, TemplateError};

/// Maps whose keys are anybody's: a missing one is no mistake.
const OPEN_MAPS: [&str; 6] = ["Labels", "ExposedPorts", "Volumes", "Data", "Annotations", "OnBuild"];

pub(super) fn render(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut scope = Scope { dot: data.clone(), variables: vec![(String::new(), data.clone())] };
    let mut text = String::new();
    scope.run(nodes, &mut text)?;
    Ok(text)
}

struct Scope {
    dot: Value,
    /// Later ones hide earlier ones.
    variables: Vec<(String, Value)>,
}

impl Scope {
    fn run(&mut self, nodes: &[Node], text: &mut String) -> Result<(), TemplateError> {
        for node in nodes {
            match node {
                Node::Text(plain) => text.push_str(plain),
                Node::Print(pipeline) => text.push_str(&top_level(&self.pipeline(pipeline)?)),
                Node::Assign(name, pipeline) => {
                    let value = self.pipeline(pipeline)?;
                    self.variables.push((name.clone(), value));
                }
                Node::If { condition, then, otherwise } => {
                    let chosen = if is_true(&self.pipeline(condition)?) { then } else { otherwise };
                    self.inner(self.dot.clone(), vec![], chosen, text)?;
                }
                Node::With { value, then, otherwise } => match self.pipeline(value)? {
                    value if is_true(&value) => self.inner(value, vec![], then, text)?,
                    _ => self.inner(self.dot.clone(), vec![], otherwise, text)?,
                },
                Node::Range { variables, over, body, otherwise } => {
                    let elements = elements(self.pipeline(over)?)?;
                    if elements.is_empty() {
                        self.inner(self.dot.clone(), vec![], otherwise, text)?;
                    }
                    for (key, element) in elements {
                        let set = bind(variables, key, &element);
                        self.inner(element, set, body, text)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs nodes with another dot; what they set ends with them.
    fn inner(
        &mut self,
        dot: Value,
        variables: Vec<(String, Value)>,
        nodes: &[Node],
        text: &mut String,
    ) -> Result<(), TemplateError> {
        let outer = std::mem::replace(&mut self.dot, dot);
        let known = self.variables.len();
        self.variables.extend(variables);
        let result = self.run(nodes, text);
        self.variables.truncate(known);
        self.dot = outer;
        result
    }

    fn pipeline(&self, pipeline: &Pipeline) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipeline.0 {
            last = Some(match command {
                Command::Value(operand) => self.operand(operand)?,
                Command::Call { function, arguments } => {
                    let arguments = arguments.iter().map(|argument| self.operand(argument));
                    let mut arguments = arguments.collect::<Result<Vec<_>, _>>()?;
                    arguments.extend(last);
                    call(function, &arguments)?
                }
            });
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn operand(&self, operand: &Operand) -> Result<Value, TemplateError> {
        let Operand::Fields(root, fields) = operand else {
            let Operand::Literal(value) = operand else { unreachable!("operands are literals or fields") };
            return Ok(value.clone());
        };
        let mut value = match root {
            Root::Dot => self.dot.clone(),
            Root::Pipeline(pipeline) => self.pipeline(pipeline)?,
            Root::Variable(name) => {
                let known = self.variables.iter().rev().find(|(known, _)| known == name);
                known.ok_or_else(|| TemplateError::UnknownVariable { name: name.clone() })?.1.clone()
            }
        };
        let mut above = None;
        for name in fields {
            value = field(&value, name, above)?;
            above = Some(name.as_str());
        }
        Ok(value)
    }
}

fn field(value: &Value, name: &str, above: Option<&str>) -> Result<Value, TemplateError> {
    let unknown = |known| Err(TemplateError::UnknownField { name: name.to_owned(), known });
    match value {
        Value::Object(fields) => match fields.get(name) {
            Some(value) => Ok(value.clone()),
            None if above.is_some_and(|above| OPEN_MAPS.contains(&above)) => Ok(Value::Null),
            None => unknown(fields.keys().cloned().collect()),
        },
        Value::Null if above.is_some() => Ok(Value::Null),
        _ => unknown(Vec::new()),
    }
}

fn elements(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Array(list) => {
            Ok(list.into_iter().enumerate().map(|(index, element)| (Value::from(index), element)).collect())
        }
        Value::Object(map) => Ok(map.into_iter().map(|(key, element)| (Value::String(key), element)).collect()),
        Value::Null => Ok(Vec::new()),
        other => Err(TemplateError::BadArgument { function: "range".to_owned(), value: printed(&other) }),
    }
}

fn bind(variables: &[String], key: Value, element: &Value) -> Vec<(String, Value)> {
    match variables {
        [] => Vec::new(),
        [only] => vec![(only.clone(), element.clone())],
        [index, value, ..] => vec![(index.clone(), key), (value.clone(), element.clone())],
    }
}

/// Whether Go takes a value as true: not empty, not zero, not nil.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn top_level(value: &Value) -> String {
    if value.is_null() { "<no value>".to_owned() } else { printed(value) }
}

/// Writes a value as Go's `%v`.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(list) => format!("[{}]", list.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| key.as_str());
            let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key}:{}", printed(value))).collect();
            format!("map[{}]", entries.join(" "))
        }
    }
}
