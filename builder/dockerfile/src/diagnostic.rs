//! What is wrong with a Dockerfile, as data: where, what, and what would help.
//!
//! Drawing the excerpt and its marker is the CLI's work.

use crate::expand::ExpandError;
use crate::{Rule, Span, Word};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be built.
    Error,
    /// The file builds, though perhaps not into what was meant.
    Warning,
}

/// One thing that is wrong with a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub span: Span,
    /// What is wrong, in one lower-case sentence without a full stop.
    pub title: String,
    /// A short text for the marker under the excerpt.
    pub label: Option<String>,
    /// What would help.
    pub help: Option<Help>,
    /// The name of docker's lint rule that this is, for `# check=skip=…`.
    pub rule: Option<Rule>,
}

/// What would help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Help {
    /// The word that was probably meant.
    DidYouMean(String),
    /// Advice in one sentence.
    Note(String),
}

impl Diagnostic {
    pub(crate) fn new(severity: Severity, span: Span, title: String) -> Self {
        Self { severity, span, title, label: None, help: None, rule: None }
    }

    pub(crate) fn error(span: Span, title: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, title.into())
    }

    pub(crate) fn warning(span: Span, title: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, title.into())
    }

    /// Says why a word cannot be expanded, where it stands.
    pub fn unexpandable(word: &Word, error: &ExpandError) -> Self {
        Self::error(word.span(), format!("cannot expand `{}`: {error}", word.text()))
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.help = Some(Help::Note(note.into()));
        self
    }

    pub(crate) fn rule(mut self, rule: Rule) -> Self {
        self.rule = Some(rule);
        self
    }

    /// Suggests the one of `candidates` that is nearest to `word`, if any is near.
    pub(crate) fn suggest<'a>(mut self, word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        if let Some(nearest) = crate::suggest::nearest(word, candidates) {
            self.help = Some(Help::DidYouMean(nearest.to_owned()));
        }
        self
    }
}

/// Returns whether one of `diagnostics` is an error.
pub fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// How many errors, and how many warnings, one file may have: a file of garbage must not fill the memory.
pub(crate) const MOST: usize = 500;

/// Collects diagnostics, up to a number nobody reads beyond.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    pub(crate) fn add(&mut self, mut diagnostic: Diagnostic) {
        let (count, what) = match diagnostic.severity {
            Severity::Error => (&mut self.errors, "errors"),
            Severity::Warning => (&mut self.warnings, "warnings"),
        };
        *count += 1;
        if *count == MOST + 1 {
            let title = format!("more than {MOST} {what}: the others are not shown");
            diagnostic = Diagnostic::new(diagnostic.severity, diagnostic.span, title);
        }
        if *count <= MOST + 1 {
            self.list.push(diagnostic);
        }
    }

    /// Returns whether one more would be kept, be it as the remark that there are more.
    pub(crate) fn takes(&self, severity: Severity) -> bool {
        let count = match severity {
            Severity::Error => self.errors,
            Severity::Warning => self.warnings,
        };
        count <= MOST
    }

    /// Returns how many errors were added.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// Returns whether there are so many errors that looking for more is of no use.
    pub(crate) fn is_full(&self) -> bool {
        self.errors > MOST
    }

    /// Returns the diagnostics in the order of the file.
    pub(crate) fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.severity));
        self.list
    }
}
