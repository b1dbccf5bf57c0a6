//! The grammar of words: quotes, escapes and `$` forms.
//!
//! ```text
//! word     = { '…' | "…" | escape char | dollar | char }
//! dollar   = $name | ${name} | ${name[:]-word} | ${name[:]+word} | ${name[:]?word}
//!          | ${name#pattern} | ${name##pattern} | ${name%pattern} | ${name%%pattern} | ${name/pattern/text} | ${name//pattern/text}
//! name     = letters, digits, _   |   digits   |   one of @ * # ? - $ !
//! ```
//!
//! - `'…'` keeps everything; `"…"` expands `$`, and its escape character escapes only `"`, `$` and itself. Unquoted, the escape
//!   character is dropped and the next character kept; at the end of the word it is dropped.
//! - In patterns and replacements escapes stay, since the pattern gives them their meaning (docker does not drop them from a
//!   replacement either).
//! - `$` before anything that is no name is itself.
//! - Nesting is bounded, so that no input can exhaust the stack.

use std::ops::Range;

/// How deep `${…}` may nest.
pub(crate) const MAX_DEPTH: usize = 200;

/// By which rules a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// An argument of an instruction.
    Word { escape: char },
    /// The body of a heredoc.
    Heredoc,
    /// A line in which heredocs are looked for: modifiers that do not exist are let through where docker does.
    Line,
}

impl Grammar {
    fn escape(self) -> char {
        match self {
            Self::Word { escape } => escape,
            Self::Heredoc | Self::Line => '\\',
        }
    }
}

/// A word, read.
#[derive(Debug, Default)]
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug)]
pub(crate) enum Part {
    Text {
        text: String,
        quoted: bool,
    },
    Variable {
        name: String,
        operation: Option<Operation>,
        quoted: bool,
        /// Where the form stands in the text.
        range: Range<usize>,
    },
}

#[derive(Debug)]
pub(crate) enum Operation {
    Default { empty_is_unset: bool, word: Template },
    Alternate { empty_is_unset: bool, word: Template },
    Required { empty_is_unset: bool, message: Template },
    TrimPrefix { pattern: Template },
    TrimSuffix { pattern: Template },
    Replace { all: bool, pattern: Template, replacement: Template },
}

/// Why a text is no word, and at which byte that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) at: usize,
    pub(crate) kind: SyntaxErrorKind,
}

/// What is wrong with the syntax of a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SyntaxErrorKind {
    #[error("unterminated {quote}")]
    UnterminatedQuote { quote: char },
    #[error("`${{` without its `}}`")]
    MissingBrace,
    #[error("`${{name/pattern` without the `/` before the replacement")]
    MissingSlash,
    #[error("`${{` without the name of a variable")]
    BadSubstitution,
    #[error("unknown modifier `{modifier}` in `${{…}}`")]
    UnsupportedModifier { modifier: String },
    #[error("`${{…}}` nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

impl Template {
    fn push(&mut self, c: char, quotes: bool) {
        if let Some(Part::Text { text, quoted }) = self.parts.last_mut()
            && *quoted == quotes
        {
            return text.push(c);
        }
        self.parts.push(Part::Text { text: c.to_string(), quoted: quotes });
    }

    /// Marks that something was quoted here, though it be empty.
    fn push_empty_quotes(&mut self) {
        self.parts.push(Part::Text { text: String::new(), quoted: true });
    }

    /// Appends the variables that are referred to, nested ones behind the form they stand in, and where their forms stand.
    pub(crate) fn references(&self, found: &mut Vec<(String, Range<usize>)>) {
        for part in &self.parts {
            let Part::Variable { name, operation, range, .. } = part else { continue };
            found.push((name.clone(), range.clone()));
            match operation {
                None => {}
                Some(Operation::Default { word, .. } | Operation::Alternate { word, .. }) => word.references(found),
                Some(Operation::Required { message, .. }) => message.references(found),
                Some(Operation::TrimPrefix { pattern } | Operation::TrimSuffix { pattern }) => {
                    pattern.references(found)
                }
                Some(Operation::Replace { pattern, replacement, .. }) => {
                    pattern.references(found);
                    replacement.references(found);
                }
            }
        }
    }
}

/// Reads `text`.
pub(crate) fn parse(text: &str, grammar: Grammar) -> Result<Template, SyntaxError> {
    Parser::new(text, grammar).until(None, Escapes::Dropped)
}

/// What becomes of escape characters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    Dropped,
    Kept,
}

/// One thing on a line in which heredocs are looked for.
pub(crate) struct Unit {
    /// The character, if it is neither quoted nor escaped nor part of a `$` form.
    pub(crate) plain: Option<char>,
    pub(crate) range: Range<usize>,
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
    grammar: Grammar,
    depth: usize,
    /// Whether any quotes were read.
    pub(crate) has_quotes: bool,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str, grammar: Grammar) -> Self {
        Self { text, at: 0, grammar, depth: 0, has_quotes: false }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn error<T>(&self, at: usize, kind: SyntaxErrorKind) -> Result<T, SyntaxError> {
        Err(SyntaxError { at: at.min(self.text.len()), kind })
    }

    /// Returns the next thing on the line; `None` at its end.
    pub(crate) fn unit(&mut self) -> Result<Option<Unit>, SyntaxError> {
        let start = self.at;
        let Some(c) = self.peek() else { return Ok(None) };
        let mut plain = None;
        let mut ignored = Template::default();
        if c == self.grammar.escape() {
            self.next();
            self.next();
        } else if !self.special(c, Escapes::Kept, &mut ignored)? {
            plain = self.next();
        }
        Ok(Some(Unit { plain, range: start..self.at }))
    }

    /// Reads to the end, or to `stop` and past it.
    pub(crate) fn whole(&mut self) -> Result<Template, SyntaxError> {
        self.until(None, Escapes::Dropped)
    }

    fn until(&mut self, stop: Option<char>, escapes: Escapes) -> Result<Template, SyntaxError> {
        let start = self.at;
        let mut template = Template::default();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.next();
                return Ok(template);
            }
            if self.special(c, escapes, &mut template)? {
                continue;
            }
            self.next();
            if c != self.grammar.escape() {
                template.push(c, false);
                continue;
            }
            if escapes == Escapes::Kept {
                template.push(c, true);
            }
            if let Some(escaped) = self.next() {
                template.push(escaped, true);
            }
        }
        match stop {
            None => Ok(template),
            Some('/') => self.error(start, SyntaxErrorKind::MissingSlash),
            Some(_) => self.error(start, SyntaxErrorKind::MissingBrace),
        }
    }

    /// Reads quotes or a `$` form, if `c` begins one.
    fn special(&mut self, c: char, escapes: Escapes, template: &mut Template) -> Result<bool, SyntaxError> {
        match c {
            '$' => self.dollar(false, template)?,
            '\'' if self.grammar != Grammar::Heredoc => self.single_quotes(template)?,
            '"' if self.grammar != Grammar::Heredoc => self.double_quotes(escapes, template)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn single_quotes(&mut self, template: &mut Template) -> Result<(), SyntaxError> {
        let start = self.at;
        self.has_quotes = true;
        self.next();
        template.push_empty_quotes();
        while let Some(c) = self.next() {
            if c == '\'' {
                return Ok(());
            }
            template.push(c, true);
        }
        self.error(start, SyntaxErrorKind::UnterminatedQuote { quote: '\'' })
    }

    fn double_quotes(&mut self, escapes: Escapes, template: &mut Template) -> Result<(), SyntaxError> {
        let (start, escape) = (self.at, self.grammar.escape());
        self.has_quotes = true;
        self.next();
        template.push_empty_quotes();
        while let Some(c) = self.peek() {
            if c == '$' {
                self.dollar(true, template)?;
                continue;
            }
            self.next();
            if c == '"' {
                return Ok(());
            }
            if c != escape {
                template.push(c, true);
                continue;
            }
            if escapes == Escapes::Kept {
                template.push(c, true);
            }
            match self.peek() {
                Some(escaped) if escaped == '"' || escaped == '$' || escaped == escape => {
                    self.next();
                    template.push(escaped, true);
                }
                Some(_) => template.push(c, true),
                None => {}
            }
        }
        self.error(start, SyntaxErrorKind::UnterminatedQuote { quote: '"' })
    }

    fn dollar(&mut self, quoted: bool, template: &mut Template) -> Result<(), SyntaxError> {
        let start = self.at;
        self.next();
        if self.peek() == Some('{') {
            self.next();
            return self.braces(start, quoted, template);
        }
        let name = self.name();
        if name.is_empty() {
            template.push('$', quoted);
        } else {
            template.parts.push(Part::Variable { name, operation: None, quoted, range: start..self.at });
        }
        Ok(())
    }

    fn braces(&mut self, start: usize, quoted: bool, template: &mut Template) -> Result<(), SyntaxError> {
        if self.depth == MAX_DEPTH {
            return self.error(start, SyntaxErrorKind::TooDeep);
        }
        let name = self.name();
        // Docker reads these three with an empty name, which no variable has.
        if name.is_empty() && !matches!(self.peek(), Some('+' | '%' | '/')) {
            let missing =
                if self.peek().is_none() { SyntaxErrorKind::MissingBrace } else { SyntaxErrorKind::BadSubstitution };
            return self.error(start, missing);
        }
        self.depth += 1;
        let operation = self.operation(start)?;
        self.depth -= 1;
        template.parts.push(Part::Variable { name, operation, quoted, range: start..self.at });
        Ok(())
    }

    fn operation(&mut self, start: usize) -> Result<Option<Operation>, SyntaxError> {
        let Some(first) = self.next() else { return self.error(start, SyntaxErrorKind::MissingBrace) };
        match first {
            '}' => return Ok(None),
            '/' => return self.replace().map(Some),
            _ => {}
        }
        let empty_is_unset = first == ':';
        let kind = if empty_is_unset { self.next() } else { Some(first) };
        let Some(kind) = kind else { return self.error(start, SyntaxErrorKind::MissingBrace) };
        let exists = match kind {
            '#' | '%' => !empty_is_unset,
            '-' | '+' | '?' => true,
            _ => empty_is_unset && self.grammar == Grammar::Line,
        };
        if !exists {
            let modifier = self.text[self.at - kind.len_utf8() - usize::from(empty_is_unset)..self.at].to_owned();
            return self.error(start, SyntaxErrorKind::UnsupportedModifier { modifier });
        }
        let escapes = if matches!(kind, '#' | '%') { Escapes::Kept } else { Escapes::Dropped };
        let word = self.until(Some('}'), escapes)?;
        Ok(Some(match kind {
            '-' => Operation::Default { empty_is_unset, word },
            '+' => Operation::Alternate { empty_is_unset, word },
            '?' => Operation::Required { empty_is_unset, message: word },
            '#' => Operation::TrimPrefix { pattern: word },
            '%' => Operation::TrimSuffix { pattern: word },
            _ => return Ok(None),
        }))
    }

    fn replace(&mut self) -> Result<Operation, SyntaxError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.until(Some('/'), Escapes::Kept)?;
        let replacement = self.until(Some('}'), Escapes::Kept)?;
        Ok(Operation::Replace { all, pattern, replacement })
    }

    /// Reads the name of a variable; empty when none stands here.
    fn name(&mut self) -> String {
        let rest = &self.text[self.at..];
        let length = match rest.chars().next() {
            Some(c) if c.is_numeric() => rest.find(|c: char| !c.is_numeric()).unwrap_or(rest.len()),
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()),
        };
        self.at += length;
        rest[..length].to_owned()
    }
}
