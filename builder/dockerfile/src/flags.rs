//! Flags: the `--name=value` words before an instruction's arguments.
//!
//! - Only words that begin with `--` and stand before the first other word are flags; a lone `--` ends them.
//! - Quotes are removed and `\` escapes, whatever `# escape=` says. What is left may be expanded later, as a word.
//! - A switch may stand without a value; only list flags may be repeated.

use std::ops::Range;

use crate::lines::{Fragment, is_blank};
use crate::parse::Context;
use crate::{Diagnostic, Literal, Span, Word};

/// A flag as written.
#[derive(Debug)]
pub(crate) struct Flag<'a> {
    /// The name without its dashes.
    pub(crate) name: String,
    /// What follows `=`, without quotes.
    value: Option<String>,
    fragment: Fragment<'a>,
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Switch,
    Value,
    List,
}

/// The flags that an instruction knows.
pub(crate) type Known = &'static [(&'static str, Takes)];

/// The value of a flag.
#[derive(Clone, Debug)]
pub(crate) struct FlagValue {
    pub(crate) text: String,
    pub(crate) span: Span,
    /// Whether `text` is byte for byte what the source has at `span`.
    pub(crate) is_verbatim: bool,
}

impl FlagValue {
    /// Returns where a part of the text stands; all of the value when quotes or escapes were removed from it.
    pub(crate) fn span_of(&self, range: Range<usize>) -> Span {
        if !self.is_verbatim {
            return self.span;
        }
        Span::new(self.span.start + range.start, self.span.start + range.end)
    }

    pub(crate) fn into_literal(self) -> Literal {
        Literal { text: self.text, span: self.span }
    }
}

/// Splits off the flags at the start of `line`; returns them and the arguments after them.
pub(crate) fn split(line: Fragment<'_>) -> (Vec<Flag<'_>>, Fragment<'_>) {
    let mut flags = Vec::new();
    let mut rest = line;
    loop {
        let text = rest.text();
        rest = rest.from(text.len() - text.trim_start_matches(is_blank).len());
        if !rest.text().starts_with("--") {
            return (flags, rest.trim());
        }
        let (word, end) = read_word(rest.text());
        let fragment = rest.slice(0..end);
        rest = rest.from(end);
        if word == "--" {
            return (flags, rest.trim());
        }
        let (name, value) = match word[2..].split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word[2..].to_owned(), None),
        };
        flags.push(Flag { name, value, fragment });
    }
}

/// Reads a word up to a blank outside of quotes; returns it without quotes and escapes, and its length as written.
fn read_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((index, c)) = characters.next() {
        match (c, quote) {
            ('\\', _) => word.extend(characters.next().map(|(_, escaped)| escaped)),
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) => quote = Some(c),
            (c, None) if is_blank(c) => return (word, index),
            (c, None) => word.push(c),
        }
    }
    (word, text.len())
}

impl Flag<'_> {
    fn name_span(&self) -> Span {
        let text = self.fragment.text();
        self.fragment.slice(0..text.find('=').unwrap_or(text.len())).span()
    }

    fn flag_value(&self) -> FlagValue {
        let text = self.fragment.text();
        let value = self.fragment.from(text.find('=').map_or(text.len(), |at| at + 1));
        let span = value.span();
        let unquoted = self.value.clone().unwrap_or_default();
        let is_verbatim = unquoted == value.text() && span.end - span.start == unquoted.len();
        FlagValue { text: unquoted, span, is_verbatim }
    }
}

/// The flags of one instruction, checked against those it knows.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    values: Vec<(&'static str, FlagValue)>,
    switches: Vec<(&'static str, bool)>,
}

impl Flags {
    /// Checks `flags` of `instruction`; those that are wrong are reported and left out.
    pub(crate) fn check(instruction: &str, flags: &[Flag<'_>], known: Known, context: &mut Context) -> Self {
        let mut checked = Self::default();
        for flag in flags {
            if let Err(error) = checked.add(instruction, flag, known) {
                context.report(error);
            }
        }
        checked
    }

    /// Warns of `flags` of an instruction whose flags docker does not look at.
    pub(crate) fn ignore(instruction: &str, flags: &[Flag<'_>], context: &mut Context) {
        for flag in flags {
            let title = format!("flag `--{}` of {instruction} has no effect", flag.name);
            let warning = Diagnostic::warning(flag.name_span(), title);
            context.report(warning.label(format!("{instruction} takes no flags")));
        }
    }

    fn add(&mut self, instruction: &str, flag: &Flag<'_>, known: Known) -> Result<(), Diagnostic> {
        let name = &flag.name;
        let Some((known_name, takes)) = known.iter().find(|(known, _)| known == name) else {
            let error = Diagnostic::error(flag.name_span(), format!("unknown flag `--{name}` of {instruction}"));
            return Err(match known {
                [] => error.label(format!("{instruction} takes no flags")),
                _ => suggest(error, name, known),
            });
        };
        let is_repeated = self.values.iter().map(|(name, _)| name).chain(self.switches.iter().map(|(name, _)| name));
        if *takes != Takes::List && is_repeated.into_iter().any(|seen| seen == known_name) {
            return Err(Diagnostic::error(flag.name_span(), format!("flag `--{name}` is given twice")));
        }
        match (takes, &flag.value) {
            (Takes::Switch, None) => self.switches.push((known_name, true)),
            (Takes::Switch, Some(value)) => match value.to_lowercase().as_str() {
                "true" => self.switches.push((known_name, true)),
                "false" => self.switches.push((known_name, false)),
                _ => {
                    let error =
                        Diagnostic::error(flag.flag_value().span, format!("`{value}` is neither true nor false"));
                    return Err(error.label(format!("value of `--{name}`")));
                }
            },
            (Takes::Value | Takes::List, Some(_)) => self.values.push((known_name, flag.flag_value())),
            (Takes::Value | Takes::List, None) => {
                let error = Diagnostic::error(flag.name_span(), format!("flag `--{name}` has no value"));
                return Err(error.label(format!("want `--{name}=…`")));
            }
        }
        Ok(())
    }

    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.switches.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&FlagValue> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn list(&self, name: &str) -> Vec<&FlagValue> {
        self.values.iter().filter(|(known, _)| *known == name).map(|(_, value)| value).collect()
    }

    /// Returns the value as a word that is expanded.
    pub(crate) fn word(&self, name: &str, context: &mut Context) -> Option<Word> {
        self.value(name).map(|value| context.word(&value.text, value.span))
    }

    /// Returns the value as written.
    pub(crate) fn literal(&self, name: &str) -> Option<Literal> {
        self.value(name).cloned().map(FlagValue::into_literal)
    }
}

/// Suggests a known flag, with the dashes it is written with.
fn suggest(error: Diagnostic, name: &str, known: Known) -> Diagnostic {
    let mut error = error.suggest(name, known.iter().map(|(name, _)| *name));
    if let Some(crate::Help::DidYouMean(name)) = &mut error.help {
        *name = format!("--{name}");
    }
    error
}

/// Reads a boolean as Go does: `1`, `t`, `true`, `0`, `f`, `false` in the usual cases.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
