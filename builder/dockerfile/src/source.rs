//! Where things stand in a Dockerfile: byte spans, and the lines and columns people read.
//!
//! A [`Span`] counts bytes of the text that was parsed, BOM included. Lines and columns start at 1; a column counts characters.
//!
//! Not here: the excerpt with its marker (the CLI draws it).

use std::borrow::Cow;
use std::ops::Range;

use crate::{Diagnostic, Severity};

/// A range of bytes in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

impl Span {
    /// Makes the span from `start` to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Returns the span as a range, to slice the source with.
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A line and a column, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// The text of a Dockerfile with an index of its lines.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// Indexes the lines of `text`.
    pub fn new(text: &'a str) -> Self {
        let after_newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    /// Returns where the lines start.
    pub(crate) fn into_line_starts(self) -> Vec<usize> {
        self.starts
    }

    /// Returns the line, from 1, on which `span` starts.
    pub fn line_of(&self, span: Span) -> usize {
        self.starts.partition_point(|start| *start <= span.start)
    }

    /// Returns the line, from 1, on which `span` ends.
    pub fn last_line_of(&self, span: Span) -> usize {
        let last = span.end.saturating_sub(1).max(span.start);
        self.line_of(Span::new(last, last))
    }

    /// Returns line and column of the byte at `offset`.
    pub fn position(&self, offset: usize) -> Position {
        let line = self.line_of(Span::new(offset, offset));
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
        Position { line, column }
    }

    /// Returns the text of `line`, from 1, without its line ending; empty beyond the end.
    pub fn line_text(&self, line: usize) -> &'a str {
        let Some(&start) = line.checked_sub(1).and_then(|index| self.starts.get(index)) else { return "" };
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\r', '\n'])
    }

    /// Returns the offset of the first byte of `line`, from 1; the end of the text beyond the last one.
    pub fn line_start(&self, line: usize) -> usize {
        let start = line.checked_sub(1).and_then(|index| self.starts.get(index));
        start.copied().unwrap_or(self.text.len())
    }

    /// Returns the number of lines.
    pub fn line_count(&self) -> usize {
        self.starts.len()
    }
}

/// Reads bytes as the text of a Dockerfile.
///
/// Bytes that are not UTF-8 become U+FFFD: with a warning in a comment line, and with an error anywhere else, because the
/// build would run something other than what was written. The spans count bytes of the returned text.
pub fn decode(bytes: &[u8]) -> (Cow<'_, str>, Vec<Diagnostic>) {
    let text = String::from_utf8_lossy(bytes);
    if matches!(text, Cow::Borrowed(_)) {
        return (text, Vec::new());
    }
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let (mut raw, mut start) = (bytes.split(|byte| *byte == b'\n'), 0);
    for line in text.split('\n') {
        let broken = raw.next().is_some_and(|line| std::str::from_utf8(line).is_err());
        if broken {
            let severity = if line.trim_start().starts_with('#') { Severity::Warning } else { Severity::Error };
            if diagnostics.iter().all(|earlier| earlier.severity != severity) {
                diagnostics.push(not_utf8(line, start, severity));
            }
        }
        start += line.len() + 1;
    }
    (text, diagnostics)
}

fn not_utf8(line: &str, start: usize, severity: Severity) -> Diagnostic {
    let at = start + line.find('\u{fffd}').unwrap_or_default();
    let span = Span::new(at, at + '\u{fffd}'.len_utf8());
    let diagnostic = Diagnostic::new(severity, span, "not UTF-8 text".to_owned());
    diagnostic.label("a byte that is no character")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_start_at_one_and_count_characters() {
        let source = Source::new("FROM a\r\nÄÖ x\n");
        assert_eq!(source.line_count(), 3);
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.position(13), Position { line: 2, column: 4 });
        assert_eq!(source.line_text(1), "FROM a");
        assert_eq!(source.line_text(2), "ÄÖ x");
        assert_eq!((source.line_text(0), source.line_text(9)), ("", ""));
        assert_eq!(source.line_of(Span::new(8, 9)), 2);
        assert_eq!(source.last_line_of(Span::new(0, 8)), 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_except_in_comments() {
        let (text, diagnostics) = decode(b"# caf\xe9\nFROM a\xff\nRUN \xff\n");
        assert_eq!(text, "# caf\u{fffd}\nFROM a\u{fffd}\nRUN \u{fffd}\n");
        let found: Vec<_> = diagnostics.iter().map(|d| (d.severity, Source::new(&text).line_of(d.span))).collect();
        assert_eq!(found, [(Severity::Warning, 1), (Severity::Error, 2)]);
        assert!(decode("FROM ä".as_bytes()).1.is_empty());
    }
}
