//! The part of Go's `text/template` that people use with `--format`.
//!
//! ```text
//! {{.Config.User}}   {{json .RootFS}}   {{index .RepoTags 0}}   {{range .RootFS.Layers}}{{.}}{{"\n"}}{{end}}
//! {{if .Os}}…{{else}}…{{end}}   {{with .X}}…{{end}}   {{.ID | upper}}   {{- .ID -}}   {{$x := .ID}}{{$x}}
//! ```
//!
//! - A field that does not exist is an error that names those that do; a missing key of a map (labels, ports) is `<no value>`.
//! - Anything else of Go's language (`define`, `block`, methods) is refused by name.
//!
//! | file | what |
//! |---|---|
//! | `parse.rs` | text → [`Template`] |
//! | `render.rs` | [`Template`] + JSON → text |
//! | `functions.rs` | `json`, `split`, `len`, … |

mod functions;
mod parse;
mod render;

use serde_json::Value;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TemplateError {
    #[error("template: `{{{{` without `}}}}`")]
    Unclosed,
    #[error("template: unexpected `{found}` in `{{{{{action}}}}}`")]
    Unexpected { found: String, action: String },
    #[error("template: `{word}` is not a function that is known here")]
    UnknownFunction { word: String },
    #[error("template: `{{{{{keyword}}}}}` is missing its `{{{{end}}}}`")]
    MissingEnd { keyword: &'static str },
    #[error("template: `{{{{{word}}}}}` without a beginning")]
    Stray { word: String },
    #[error("template: `$name` is only known after `{{{{$name := …}}}}`, not `${name}`")]
    UnknownVariable { name: String },
    #[error("template: there is no field `{name}`{}", among(.known))]
    UnknownField { name: String, known: Vec<String> },
    #[error("template: `{function}` cannot take {value}")]
    BadArgument { function: String, value: String },
    #[error("template: `{function}` takes another number of arguments")]
    ArgumentCount { function: String },
    #[error("template: there is nothing at index {index}")]
    OutOfRange { index: String },
}

fn among(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(" (there are {})", known.join(", ")) }
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    /// Prints a value.
    Print(Pipeline),
    /// `{{$name := pipeline}}`.
    Assign(String, Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        /// The variables before `:=`: none, the element, or index and element.
        variables: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Commands; the value of each is the last argument of the next.
#[derive(Clone, Debug, PartialEq)]
struct Pipeline(Vec<Command>);

#[derive(Clone, Debug, PartialEq)]
enum Command {
    Value(Operand),
    Call { function: String, arguments: Vec<Operand> },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    /// `.A.B`, `$.A`, `$x.A`, `(pipeline).A`.
    Fields(Root, Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
enum Root {
    Dot,
    /// `$` is the variable without a name.
    Variable(String),
    Pipeline(Box<Pipeline>),
}

impl Template {
    /// Parses a template; `\t`, `\n` and such outside of `{{…}}` mean what they mean in C, as docker's flags read them.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] for what is not in the language described above.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        parse::parse(text).map(|nodes| Self { nodes })
    }

    /// Fills the template with `data`.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] for a field that is not there or a function that cannot take its arguments.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        render::render(&self.nodes, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn data() -> Value {
        json!({
            "Id": "sha256:ab",
            "RepoTags": ["a:1", "b:2"],
            "Config": { "User": "", "Labels": { "org.x": "y" }, "Cmd": null, "Env": ["A=1"] },
            "Size": 1234,
            "IsOfficial": true,
        })
    }

    fn render(template: &str) -> Result<String, TemplateError> {
        Template::parse(template)?.render(&data())
    }

    #[test]
    fn templates_give_what_go_gives() {
        let cases = [
            ("plain", "plain"),
            ("{{.Id}} {{.Size}}", "sha256:ab 1234"),
            ("{{ .Config.Labels }}", "map[org.x:y]"),
            ("{{.RepoTags}}", "[a:1 b:2]"),
            ("{{json .RepoTags}}", r#"["a:1","b:2"]"#),
            ("{{json .Config.Cmd}}", "null"),
            ("{{.Config.Cmd}}", "<no value>"),
            ("{{index .RepoTags 1}}", "b:2"),
            (r#"{{index .Config.Labels "org.x"}}"#, "y"),
            (r#"{{index .Config.Labels "none"}}"#, "<no value>"),
            ("{{.Config.Labels.none}}", "<no value>"),
            ("{{range .RepoTags}}{{.}};{{end}}", "a:1;b:2;"),
            ("{{range $i, $tag := .RepoTags}}{{$i}}={{$tag}} {{end}}", "0=a:1 1=b:2 "),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}", "org.x=y"),
            ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
            ("{{if .Config.User}}user{{else if .Size}}size{{else}}none{{end}}", "size"),
            ("{{with .Config}}{{index .Env 0}} {{$.Id}}{{end}}", "A=1 sha256:ab"),
            ("{{.Id | upper}} {{lower \"AB\"}}", "SHA256:AB ab"),
            ("{{join .RepoTags \", \"}}", "a:1, b:2"),
            ("{{index (split .Id \":\") 1}}", "ab"),
            ("{{len .RepoTags}} {{len .Id}}", "2 9"),
            ("{{if eq .Size 1234}}yes{{end}}{{if ne .Id \"x\" }}!{{end}}", "yes!"),
            ("{{if and .IsOfficial (not .Config.User)}}both{{end}}", "both"),
            (
                "{{printf \"%s-%d %q %v %5d|%-4s|\" .Id .Size .Id .RepoTags 7 \"a\"}}",
                "sha256:ab-1234 \"sha256:ab\" [a:1 b:2]     7|a   |",
            ),
            ("{{println .Size}}", "1234\n"),
            ("{{title \"abc def\"}} {{pad .Config.User 1 2}}| {{truncate .Id 3}}", "Abc Def | sha"),
            (r"a\tb\n", "a\tb\n"),
            ("{{\"a\\tb\"}}{{`c\\d`}}", "a\tbc\\d"),
            ("a  {{- .Size -}}  b", "a1234b"),
            ("{{/* nothing */}}x", "x"),
            ("{{$x := .Config}}{{(index $x.Env 0)}}", "A=1"),
            (
                "{{.}}",
                "map[Config:map[Cmd:<nil> Env:[A=1] Labels:map[org.x:y] User:] Id:sha256:ab IsOfficial:true RepoTags:[a:1 b:2] Size:1234]",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let cases = [
            ("{{.Nope}}", "template: there is no field `Nope` (there are Config, Id, IsOfficial, RepoTags, Size)"),
            ("{{.Id.X}}", "template: there is no field `X`"),
            ("{{.Id", "template: `{{` without `}}`"),
            ("{{define \"x\"}}", "template: `define` is not a function that is known here"),
            ("{{nope .Id}}", "template: `nope` is not a function that is known here"),
            ("{{range .RepoTags}}", "template: `{{range}}` is missing its `{{end}}`"),
            ("{{end}}", "template: `{{end}}` without a beginning"),
            ("{{else}}", "template: `{{else}}` without a beginning"),
            ("{{index .RepoTags 7}}", "template: there is nothing at index 7"),
            ("{{len .Size}}", "template: `len` cannot take 1234"),
            ("{{json}}", "template: `json` takes another number of arguments"),
            ("{{$y}}", "template: `$name` is only known after `{{$name := …}}`, not `$y`"),
            ("{{.Id .Size}}", "template: unexpected `.Size` in `{{.Id .Size}}`"),
            ("{{}}", "template: unexpected `}}` in `{{}}`"),
            ("{{\"open}}", "template: unexpected `\"` in `{{\"open}}`"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(template).unwrap_err().to_string(), expected, "{template}");
        }
    }
}
