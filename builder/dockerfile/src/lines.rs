//! From bytes to instructions' lines: physical lines, joined into logical ones where the escape character ends a line.
//!
//! ```text
//! RUN a \⏎          one logical line `RUN a   b`; each piece remembers where in the source it stands,
//!   # comment⏎      so every token has the span of what was written
//!   b⏎
//! ```
//!
//! - Joining removes the escape character, the blanks after it and the line ending, and nothing else.
//! - Comment lines inside a continued instruction are dropped; so are empty ones, with a warning.
//! - An escape character after an escape character does not continue the line.

use std::ops::Range;

use crate::Span;

/// Hands out the physical lines of a source.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    source: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at byte `at`, the beginning of a line.
    pub(crate) fn new(source: &'a str, at: usize) -> Self {
        Self { source, at }
    }

    /// Returns where the next line starts.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Returns the next line without its line ending.
    pub(crate) fn next_line(&mut self) -> Option<Range<usize>> {
        let rest = self.source.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').unwrap_or(rest.len());
        let start = self.at;
        self.at = start + (length + 1).min(rest.len());
        Some(start..start + rest[..length].trim_end_matches('\r').len())
    }
}

/// One instruction's line, continuations joined.
#[derive(Debug, Default)]
pub(crate) struct LogicalLine {
    text: String,
    /// Where pieces of `text` stand in the source: offset in `text`, offset in the source. The first is at 0.
    pieces: Vec<(usize, usize)>,
    /// Empty lines between continued ones.
    pub(crate) empty_lines: Vec<Span>,
}

impl LogicalLine {
    /// Joins `first`, a line that is neither empty nor a comment, with the lines that continue it.
    pub(crate) fn join(cursor: &mut Cursor<'_>, first: Range<usize>, escape: char) -> Self {
        let source = cursor.source;
        let mut line = Self::default();
        let blanks = source[first.clone()].len() - source[first.clone()].trim_start().len();
        let mut continued = line.push(source, first.start + blanks..first.end, escape);
        while continued && let Some(next) = cursor.next_line() {
            let text = source[next.clone()].trim_start();
            if text.starts_with('#') {
                continue;
            }
            if text.is_empty() {
                line.empty_lines.push(Span::new(next.start, next.end));
                continue;
            }
            continued = line.push(source, next, escape);
        }
        line
    }

    /// Appends a physical line and says whether the next one continues it.
    fn push(&mut self, source: &str, range: Range<usize>, escape: char) -> bool {
        let text = &source[range.clone()];
        let kept = without_continuation(text, escape);
        self.pieces.push((self.text.len(), range.start));
        self.text.push_str(kept.unwrap_or(text));
        kept.is_some()
    }

    /// Returns all of the line.
    pub(crate) fn fragment(&self) -> Fragment<'_> {
        Fragment { line: self, start: 0, end: self.text.len() }
    }

    fn source_of(&self, offset: usize) -> usize {
        let piece = self.pieces.partition_point(|(at, _)| *at <= offset);
        let (at, source) = self.pieces.get(piece.saturating_sub(1)).copied().unwrap_or_default();
        source + (offset - at)
    }
}

/// Returns `text` without the escape character that continues it; `None` when it is not continued.
fn without_continuation(text: &str, escape: char) -> Option<&str> {
    let kept = text.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept)
}

/// A part of a logical line that knows where in the source it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    line: &'a LogicalLine,
    start: usize,
    end: usize,
}

impl<'a> Fragment<'a> {
    pub(crate) fn text(&self) -> &'a str {
        &self.line.text[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns where the fragment was written; it may run over several physical lines.
    pub(crate) fn span(&self) -> Span {
        let start = self.line.source_of(self.start);
        let end = if self.is_empty() { start } else { self.line.source_of(self.end - 1) + 1 };
        Span::new(start, end)
    }

    /// Returns a part of the fragment; `range` counts bytes of its text.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        debug_assert!(
            range.start <= range.end && self.start + range.end <= self.end,
            "a slice lies inside its fragment"
        );
        Self { line: self.line, start: self.start + range.start, end: self.start + range.end }
    }

    /// Returns the fragment from byte `at` of its text on.
    pub(crate) fn from(&self, at: usize) -> Self {
        self.slice(at..self.end - self.start)
    }

    /// Returns the fragment and all that stands behind it, blanks at the end included.
    pub(crate) fn to_line_end(self) -> Self {
        Self { end: self.line.text.len(), ..self }
    }

    /// Returns where `inner` starts in the text of this fragment of the same line.
    pub(crate) fn offset_of(&self, inner: &Self) -> usize {
        inner.start.saturating_sub(self.start)
    }

    pub(crate) fn trim(&self) -> Self {
        let text = self.text();
        let start = text.len() - text.trim_start().len();
        let end = start + text.trim().len();
        self.slice(start..end)
    }

    /// Splits at the first run of blanks; the second half is empty when there is none.
    pub(crate) fn split_word(&self) -> (Self, Self) {
        let text = self.text();
        let end = text.find(is_blank).unwrap_or(text.len());
        let rest = text[end..].trim_start_matches(is_blank);
        (self.slice(0..end), self.from(text.len() - rest.len()))
    }

    /// Splits into the words between runs of blanks.
    pub(crate) fn words(&self) -> Vec<Self> {
        let mut words = Vec::new();
        let mut rest = self.from(self.text().len() - self.text().trim_start_matches(is_blank).len());
        while !rest.is_empty() {
            let (word, after) = rest.split_word();
            words.push(word);
            rest = after;
        }
        words
    }
}

/// What separates arguments that are not quoted: docker's own set, smaller than Unicode's.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(source: &str, escape: char) -> (String, Vec<Span>) {
        let mut cursor = Cursor::new(source, 0);
        let first = cursor.next_line().unwrap();
        let line = LogicalLine::join(&mut cursor, first, escape);
        let words = line.fragment().words().iter().map(Fragment::span).collect();
        (line.text, words)
    }

    #[test]
    fn continued_lines_are_joined_as_docker_joins_them() {
        let cases = [
            ("  RUN a\n", "RUN a"),
            ("RUN a \\\n   b\nX", "RUN a    b"),
            ("RUN a\\\n# c\n  # d\n\nb", "RUN ab"),
            ("RUN a \\ \t\r\n b\r\n", "RUN a  b"),
            ("RUN a \\\\\nb", "RUN a \\\\"),
            ("RUN a \\\\\\\nb", "RUN a \\\\\\"),
            ("RUN a \\\n\\\n\\\nb", "RUN a b"),
            ("RUN a \\", "RUN a "),
            ("\\\nRUN a", "RUN a"),
            ("RUN a `\nb", "RUN a `"),
        ];
        for (source, expected) in cases {
            assert_eq!(join(source, '\\').0, expected, "{source:?}");
        }
        assert_eq!(join("RUN c:\\ `\nb", '`').0, "RUN c:\\ b");
    }

    #[test]
    fn a_word_knows_where_it_was_written() {
        let source = "RUN a\\\nbc \\\n  d\n";
        let spans = join(source, '\\').1;
        let texts: Vec<_> = spans.iter().map(|span| &source[span.range()]).collect();
        assert_eq!(texts, ["RUN", "a\\\nbc", "d"]);
    }
}
