//! Arguments before expansion: a [`Word`] is what docker expands, a [`Literal`] is what it takes as written.
//!
//! A word keeps its quotes, escapes and `$` forms. [`Word::expand`] gives the string they stand for. What a word was written
//! with (`# escape=`) travels with it, so expanding needs nothing but the variables.
//!
//! Not here: the grammar of words (`template.rs`), the rules of expansion (`expand.rs`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::expand::{self, ExpandError};
use crate::template::{Grammar, Template};
use crate::{Span, template};

/// Gives the values of variables.
pub trait Variables {
    /// Returns the value of `name`; `None` when it is unset.
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl Variables for BTreeMap<String, String> {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

impl Variables for HashMap<String, String> {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// No variable is set.
#[derive(Clone, Copy, Debug)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn lookup(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// An argument that docker takes as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The text.
    pub text: String,
    /// Where it was written.
    pub span: Span,
}

/// An argument that docker expands: quotes, escapes and variables are still in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    text: String,
    span: Span,
    grammar: Grammar,
}

impl Word {
    /// Makes a word out of `text`, in which `escape` (`\` or `` ` ``) escapes; `span` is where it was written.
    pub fn new(text: impl Into<String>, span: Span, escape: char) -> Self {
        Self { text: text.into(), span, grammar: Grammar::Word { escape } }
    }

    /// Makes a word out of the body of a heredoc: quotes are plain characters there, and `\` always escapes.
    pub(crate) fn heredoc(text: String, span: Span) -> Self {
        Self { text, span, grammar: Grammar::Heredoc }
    }

    /// Returns the text as written, joined over continued lines.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns where the word was written.
    pub fn span(&self) -> Span {
        self.span
    }

    pub(crate) fn template(&self) -> Result<Template, ExpandError> {
        template::parse(&self.text, self.grammar).map_err(|error| ExpandError::Syntax { kind: error.kind })
    }

    /// Expands variables and removes quotes and escapes; the result is one string, whatever blanks are in it.
    ///
    /// # Errors
    ///
    /// [`ExpandError::Syntax`] when the word is not well formed, [`ExpandError::Required`] when a `${name:?…}` finds nothing,
    /// [`ExpandError::Pattern`] for a pattern with an unknown escape, and [`ExpandError::TooLong`] or
    /// [`ExpandError::TooMuchWork`] when the result leaves the bounds this crate keeps.
    pub fn expand(&self, variables: &dyn Variables) -> Result<String, ExpandError> {
        expand::string(&self.template()?, variables)
    }

    /// Expands like [`expand`](Self::expand) and splits the result at blanks that were not quoted, as docker does for EXPOSE.
    ///
    /// Empty words vanish, even quoted ones.
    ///
    /// # Errors
    ///
    /// Those of [`expand`](Self::expand).
    pub fn expand_words(&self, variables: &dyn Variables) -> Result<Vec<String>, ExpandError> {
        expand::words(&self.template()?, variables)
    }

    /// Returns the names of all variables the word refers to, nested ones included, each once, in order of appearance.
    ///
    /// A word that is not well formed refers to nothing.
    pub fn references(&self) -> Vec<String> {
        self.located_references().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns the variables of [`references`](Self::references), and where the first form of each stands: all of the word, when
    /// quotes, escapes or ends of lines were cut out of it.
    pub(crate) fn located_references(&self) -> Vec<(String, Span)> {
        let mut found = Vec::new();
        if let Ok(template) = self.template() {
            template.references(&mut found);
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|(name, _)| seen.insert(name.clone()));
        found.into_iter().map(|(name, range)| (name, self.span_of(range))).collect()
    }

    fn span_of(&self, range: Range<usize>) -> Span {
        if self.span.end - self.span.start != self.text.len() {
            return self.span;
        }
        Span::new(self.span.start + range.start, self.span.start + range.end)
    }

    /// Returns whether the word refers to a variable.
    pub fn has_variables(&self) -> bool {
        self.text.contains('$') && !self.references().is_empty()
    }
}
