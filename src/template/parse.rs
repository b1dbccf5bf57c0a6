//! Reads a template: text and actions, then the words of each action.

use serde_json::Value;

use super::functions::is_function;
use super::{Command, Node, Operand, Pipeline, Root, TemplateError};

/// Nested actions and parentheses that are read at most.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { pieces: pieces(text)?.into_iter(), depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        None => Ok(nodes),
        Some(end) => Err(TemplateError::Stray { word: end.word.to_owned() }),
    }
}

enum Piece {
    Text(String),
    Action(Vec<Token>, String),
}

/// Cuts a template into text and actions; `{{-` and `-}}` trim the text beside them.
fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trims_start = false;
    loop {
        let (before, after) = rest.split_once("{{").map_or((rest, None), |(before, after)| (before, Some(after)));
        let trims_end = after.is_some_and(|after| after.starts_with("- "));
        let before = if trims_start { before.trim_start() } else { before };
        let before = if trims_end { before.trim_end() } else { before };
        pieces.push(Piece::Text(unescape(before)));
        let Some(after) = after else { return Ok(pieces) };
        let after = if trims_end { &after[1..] } else { after };
        let end = action_end(after)?;
        let (inner, follows) = (&after[..end], &after[end + 2..]);
        trims_start = inner.ends_with(" -");
        let inner = if trims_start { &inner[..inner.len() - 1] } else { inner };
        if !(inner.starts_with("/*") && inner.trim_end().ends_with("*/")) {
            pieces.push(Piece::Action(tokens(inner)?, inner.to_owned()));
        }
        rest = follows;
    }
}

/// Finds the `}}` that ends an action, not one inside of a string.
fn action_end(text: &str) -> Result<usize, TemplateError> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Ok(at),
            _ => {}
        }
    }
    match (quote, text.find("}}")) {
        (Some(quote), Some(end)) => {
            Err(TemplateError::Unexpected { found: quote.to_string(), action: text[..end].to_owned() })
        }
        _ => Err(TemplateError::Unclosed),
    }
}

/// Turns `\t`, `\n`, `\r`, `\\` and `\"` into what they stand for.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match rest.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some(c @ ('\\' | '"')) => plain.push(c),
            other => {
                plain.push('\\');
                plain.extend(other);
            }
        }
    }
    plain
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `.A.B`, or `.` with no parts.
    Fields(Vec<String>),
    /// `$x.A`.
    Variable(String, Vec<String>),
    Literal(Value, String),
    Word(String),
    Open,
    /// `)`, with the fields after it.
    Close(Vec<String>),
    Pipe,
    Comma,
    Assign,
}

impl Token {
    fn text(&self) -> String {
        let dotted = |fields: &[String]| fields.iter().map(|field| format!(".{field}")).collect::<String>();
        match self {
            Self::Fields(fields) if fields.is_empty() => ".".to_owned(),
            Self::Fields(fields) => dotted(fields),
            Self::Variable(name, fields) => format!("${name}{}", dotted(fields)),
            Self::Literal(_, text) | Self::Word(text) => text.clone(),
            Self::Open => "(".to_owned(),
            Self::Close(fields) => format!("){}", dotted(fields)),
            Self::Pipe => "|".to_owned(),
            Self::Comma => ",".to_owned(),
            Self::Assign => ":=".to_owned(),
        }
    }
}

fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = action.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = token(first, rest)
            .ok_or_else(|| TemplateError::Unexpected { found: first.to_string(), action: action.to_owned() })?;
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn token(first: char, rest: &str) -> Option<(Token, &str)> {
    Some(match first {
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => return None,
        '.' => {
            let (fields, after) = fields(rest);
            if fields.is_empty() { (Token::Fields(fields), &rest[1..]) } else { (Token::Fields(fields), after) }
        }
        '$' => {
            let (name, after) = word(&rest[1..]);
            let (fields, after) = fields(after);
            (Token::Variable(name.to_owned(), fields), after)
        }
        '"' => {
            let end = string_end(rest)?;
            let text = unescape(&rest[1..end]);
            (Token::Literal(Value::String(text), rest[..=end].to_owned()), &rest[end + 1..])
        }
        '`' => {
            let (text, after) = rest[1..].split_once('`')?;
            (Token::Literal(Value::String(text.to_owned()), format!("`{text}`")), after)
        }
        '(' => (Token::Open, &rest[1..]),
        ')' => {
            let (fields, after) = fields(&rest[1..]);
            (Token::Close(fields), after)
        }
        '|' => (Token::Pipe, &rest[1..]),
        ',' => (Token::Comma, &rest[1..]),
        ':' => (Token::Assign, rest.strip_prefix(":=")?),
        c if c.is_ascii_digit() || c == '-' => number(rest)?,
        c if c.is_alphabetic() || c == '_' => {
            let (name, after) = word(rest);
            (named(name), after)
        }
        _ => return None,
    })
}

fn named(name: &str) -> Token {
    match name {
        "true" => Token::Literal(Value::Bool(true), name.to_owned()),
        "false" => Token::Literal(Value::Bool(false), name.to_owned()),
        "nil" => Token::Literal(Value::Null, name.to_owned()),
        _ => Token::Word(name.to_owned()),
    }
}

fn number(rest: &str) -> Option<(Token, &str)> {
    let end = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| end + 1);
    let (text, after) = rest.split_at(end);
    let number: i64 = text.parse().ok()?;
    Some((Token::Literal(Value::from(number), text.to_owned()), after))
}

fn word(rest: &str) -> (&str, &str) {
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    rest.split_at(end)
}

fn fields(mut rest: &str) -> (Vec<String>, &str) {
    let mut fields = Vec::new();
    while let Some(after) = rest.strip_prefix('.') {
        let (name, after) = word(after);
        if name.is_empty() {
            break;
        }
        fields.push(name.to_owned());
        rest = after;
    }
    (fields, rest)
}

fn string_end(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

/// What ended a list of nodes: `end`, or `else` with the words after it.
struct End {
    word: &'static str,
    words: Words,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<End>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (tokens, action) = match piece {
                Piece::Text(text) if text.is_empty() => continue,
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, action) => (tokens, action),
            };
            let mut words = Words { tokens: tokens.into_iter().peekable(), action, depth: 0 };
            match words.keyword() {
                Some("end") => {
                    words.finish()?;
                    return Ok((nodes, Some(End { word: "end", words })));
                }
                Some("else") => return Ok((nodes, Some(End { word: "else", words }))),
                Some(keyword) => nodes.push(self.block(keyword, words)?),
                None => nodes.push(print_or_assign(words)?),
            }
        }
        Ok((nodes, None))
    }

    fn block(&mut self, keyword: &'static str, mut words: Words) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(words.unexpected(keyword.to_owned()));
        }
        let variables = if keyword == "range" { words.range_variables()? } else { Vec::new() };
        let value = words.pipeline()?;
        words.finish()?;
        let (then, otherwise) = self.branches(keyword)?;
        self.depth -= 1;
        Ok(match keyword {
            "range" => Node::Range { variables, over: value, body: then, otherwise },
            "with" => Node::With { value, then, otherwise },
            _ => Node::If { condition: value, then, otherwise },
        })
    }

    fn branches(&mut self, keyword: &'static str) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let missing = || TemplateError::MissingEnd { keyword };
        let (then, end) = self.nodes()?;
        let mut end = end.ok_or_else(missing)?;
        if end.word == "end" {
            return Ok((then, Vec::new()));
        }
        if let Some(keyword @ ("if" | "with")) = end.words.keyword() {
            return Ok((then, vec![self.block(keyword, end.words)?]));
        }
        end.words.finish()?;
        let (otherwise, end) = self.nodes()?;
        match end.ok_or_else(missing)?.word {
            "end" => Ok((then, otherwise)),
            word => Err(TemplateError::Stray { word: word.to_owned() }),
        }
    }
}

fn print_or_assign(mut words: Words) -> Result<Node, TemplateError> {
    let node = match words.assigned() {
        Some(name) => Node::Assign(name, words.pipeline()?),
        None => Node::Print(words.pipeline()?),
    };
    words.finish()?;
    Ok(node)
}

/// The tokens of one action.
struct Words {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    action: String,
    depth: usize,
}

impl Words {
    fn unexpected(&self, found: String) -> TemplateError {
        TemplateError::Unexpected { found, action: self.action.clone() }
    }

    fn keyword(&mut self) -> Option<&'static str> {
        let keywords = ["if", "else", "end", "range", "with"];
        let Some(Token::Word(word)) = self.tokens.peek() else { return None };
        let keyword = keywords.into_iter().find(|keyword| keyword == word)?;
        self.tokens.next();
        Some(keyword)
    }

    fn finish(&mut self) -> Result<(), TemplateError> {
        self.tokens.next().map_or(Ok(()), |token| Err(self.unexpected(token.text())))
    }

    /// Reads `$name :=`.
    fn assigned(&mut self) -> Option<String> {
        let mut ahead = self.tokens.clone();
        match (ahead.next(), ahead.next()) {
            (Some(Token::Variable(name, fields)), Some(Token::Assign)) if fields.is_empty() && !name.is_empty() => {
                self.tokens = ahead;
                Some(name)
            }
            _ => None,
        }
    }

    /// Reads `$element :=` or `$index, $element :=`.
    fn range_variables(&mut self) -> Result<Vec<String>, TemplateError> {
        if let Some(name) = self.assigned() {
            return Ok(vec![name]);
        }
        let mut ahead = self.tokens.clone();
        let (Some(Token::Variable(index, _)), Some(Token::Comma)) = (ahead.next(), ahead.next()) else {
            return Ok(Vec::new());
        };
        self.tokens = ahead;
        let element = self.assigned().ok_or_else(|| self.unexpected(",".to_owned()))?;
        Ok(vec![index, element])
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let mut commands = vec![self.command()?];
        while self.tokens.next_if_eq(&Token::Pipe).is_some() {
            let command = self.command()?;
            if matches!(command, Command::Value(_)) {
                return Err(self.unexpected("|".to_owned()));
            }
            commands.push(command);
        }
        Ok(Pipeline(commands))
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        if let Some(Token::Word(word)) = self.tokens.next_if(|token| matches!(token, Token::Word(_))) {
            if !is_function(&word) {
                return Err(TemplateError::UnknownFunction { word });
            }
            let mut arguments = Vec::new();
            while self.tokens.peek().is_some_and(starts_operand) {
                arguments.push(self.operand()?);
            }
            return Ok(Command::Call { function: word, arguments });
        }
        Ok(Command::Value(self.operand()?))
    }

    fn operand(&mut self) -> Result<Operand, TemplateError> {
        let token = self.tokens.next().ok_or_else(|| self.unexpected("}}".to_owned()))?;
        match token {
            Token::Fields(fields) => Ok(Operand::Fields(Root::Dot, fields)),
            Token::Variable(name, fields) => Ok(Operand::Fields(Root::Variable(name), fields)),
            Token::Literal(value, _) => Ok(Operand::Literal(value)),
            Token::Open => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(self.unexpected("(".to_owned()));
                }
                let inner = self.pipeline()?;
                self.depth -= 1;
                match self.tokens.next() {
                    Some(Token::Close(fields)) => Ok(Operand::Fields(Root::Pipeline(Box::new(inner)), fields)),
                    other => Err(self.unexpected(other.map_or_else(|| "}}".to_owned(), |token| token.text()))),
                }
            }
            other => Err(self.unexpected(other.text())),
        }
    }
}

fn starts_operand(token: &Token) -> bool {
    matches!(token, Token::Fields(_) | Token::Variable(..) | Token::Literal(..) | Token::Open)
}
