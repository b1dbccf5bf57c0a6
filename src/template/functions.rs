//! The functions of templates: Go's own, and those docker adds.

use serde_json::Value;

use super::TemplateError;
use super::render::{is_true, printed};

const FUNCTIONS: [&str; 22] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "printf", "println", "split", "title", "truncate", "upper",
];

pub(super) fn is_function(word: &str) -> bool {
    FUNCTIONS.contains(&word)
}

/// Calls `function`, one of [`FUNCTIONS`].
pub(super) fn call(function: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let text = |text: String| Ok(Value::String(text));
    let call = Call { function, arguments };
    match (function, arguments) {
        ("json", [value]) => text(value.to_string()),
        ("upper", [_]) => text(call.text(0)?.to_uppercase()),
        ("lower", [_]) => text(call.text(0)?.to_lowercase()),
        ("title", [_]) => text(title(call.text(0)?)),
        ("split", [_, _]) => Ok(call.text(0)?.split(call.text(1)?).map(Value::from).collect()),
        ("join", [list, _]) => {
            let list = list.as_array().ok_or_else(|| call.refuse(0))?;
            text(list.iter().map(printed).collect::<Vec<_>>().join(call.text(1)?))
        }
        ("pad", [_, _, _]) => {
            let blanks =
                |count| Ok(" ".repeat(call.number(count)?.clamp(0, 1000).unsigned_abs().try_into().unwrap_or(0)));
            let word = call.text(0)?;
            text(if word.is_empty() { String::new() } else { blanks(1)? + word + &blanks(2)? })
        }
        ("truncate", [_, _]) => {
            let length = usize::try_from(call.number(1)?).unwrap_or(0);
            text(call.text(0)?.chars().take(length).collect())
        }
        ("len", [value]) => length(value).map(Value::from).ok_or_else(|| call.refuse(0)),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("not", [value]) => Ok(Value::Bool(!is_true(value))),
        ("and", [first, rest @ ..]) => Ok(rest.iter().fold(first, |a, b| if is_true(a) { b } else { a }).clone()),
        ("or", [first, rest @ ..]) => Ok(rest.iter().fold(first, |a, b| if is_true(a) { a } else { b }).clone()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => Ok(Value::Bool(rest.iter().any(|other| other == first))),
        ("ne", [a, b]) => Ok(Value::Bool(a != b)),
        ("lt" | "le" | "gt" | "ge", [_, _]) => call.compare(),
        ("print", values) => text(print(values)),
        ("println", values) => text(values.iter().map(printed).collect::<Vec<_>>().join(" ") + "\n"),
        ("printf", [_, values @ ..]) => text(printf(call.text(0)?, values)?),
        _ => Err(TemplateError::ArgumentCount { function: function.to_owned() }),
    }
}

struct Call<'a> {
    function: &'a str,
    arguments: &'a [Value],
}

impl Call<'_> {
    fn refuse(&self, argument: usize) -> TemplateError {
        TemplateError::BadArgument { function: self.function.to_owned(), value: printed(&self.arguments[argument]) }
    }

    fn text(&self, argument: usize) -> Result<&str, TemplateError> {
        self.arguments[argument].as_str().ok_or_else(|| self.refuse(argument))
    }

    fn number(&self, argument: usize) -> Result<i64, TemplateError> {
        self.arguments[argument].as_i64().ok_or_else(|| self.refuse(argument))
    }

    fn compare(&self) -> Result<Value, TemplateError> {
        let order = match (&self.arguments[0], &self.arguments[1]) {
            (Value::String(a), Value::String(b)) => a.cmp(b),
            _ => self.number(0)?.cmp(&self.number(1)?),
        };
        Ok(Value::Bool(match self.function {
            "lt" => order.is_lt(),
            "le" => order.is_le(),
            "gt" => order.is_gt(),
            _ => order.is_ge(),
        }))
    }
}

fn title(text: &str) -> String {
    let mut at_start = true;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if at_start {
            titled.extend(c.to_uppercase())
        } else {
            titled.push(c)
        }
        at_start = c.is_whitespace();
    }
    titled
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(list) => Some(list.len()),
        Value::Object(map) => Some(map.len()),
        Value::Null => Some(0),
        _ => None,
    }
}

fn index(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or(Value::Null)),
        (Value::Null, Value::String(_)) => Ok(Value::Null),
        (Value::Array(list), Value::Number(number)) => {
            let place = number.as_u64().and_then(|place| usize::try_from(place).ok());
            let element = place.and_then(|place| list.get(place)).cloned();
            element.ok_or_else(|| TemplateError::OutOfRange { index: number.to_string() })
        }
        (Value::Null, _) => Err(TemplateError::OutOfRange { index: printed(key) }),
        _ => Err(TemplateError::BadArgument { function: "index".to_owned(), value: printed(key) }),
    }
}

/// Joins values with a blank between two that are not strings, as Go's `Sprint`.
fn print(values: &[Value]) -> String {
    let mut text = String::new();
    for (place, value) in values.iter().enumerate() {
        if place > 0 && !value.is_string() && !values[place - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&printed(value));
    }
    text
}

/// Formats with the verbs `%s %d %v %q %t %%`, a width and a leading `-`.
fn printf(format: &str, values: &[Value]) -> Result<String, TemplateError> {
    let refuse = |value: String| TemplateError::BadArgument { function: "printf".to_owned(), value };
    let mut values = values.iter();
    let mut text = String::new();
    let mut rest = format;
    while let Some((plain, after)) = rest.split_once('%') {
        text.push_str(plain);
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '-').ok_or_else(|| refuse("%".to_owned()))?;
        let verb = after[end..].chars().next().unwrap_or_default();
        rest = &after[end + verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| TemplateError::ArgumentCount { function: "printf".to_owned() })?;
        let shown = match verb {
            's' | 'v' | 't' => printed(value),
            'd' if value.is_number() => printed(value),
            'q' => value.as_str().map(|text| format!("{text:?}")).ok_or_else(|| refuse(printed(value)))?,
            _ => return Err(refuse(format!("%{verb}"))),
        };
        text.push_str(&padded(&shown, &after[..end]));
    }
    text.push_str(rest);
    Ok(text)
}

fn padded(text: &str, width: &str) -> String {
    match width.strip_prefix('-') {
        Some(left) => format!("{text:<width$}", width = left.parse::<u16>().unwrap_or(0).into()),
        None => format!("{text:>width$}", width = width.parse::<u16>().unwrap_or(0).into()),
    }
}
