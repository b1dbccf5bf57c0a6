//! Places in a Dockerfile, in the JSON form that docker gives to other programs.
//!
//! Spec: BuildKit, `solver/pb`, `Location`: lines count from 1, characters from 0; what is zero is left out.

use serde::Serialize;

use crate::{Source, Span};

/// Ranges of the one source that there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// At least one.
    pub ranges: Vec<Range>,
}

/// From a place to the one behind the last character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Range {
    pub start: Place,
    pub end: Place,
}

/// A line, from 1, and a character in it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Place {
    pub line: usize,
    #[serde(skip_serializing_if = "is_zero")]
    pub character: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Location {
    /// Returns where `span` stands in `source`.
    pub fn of(source: &Source<'_>, span: Span) -> Self {
        let place = |offset| {
            let position = source.position(offset);
            Place { line: position.line, character: position.column - 1 }
        };
        Self { ranges: vec![Range { start: place(span.start), end: place(span.end) }] }
    }
}
