//! Heredocs: `<<EOF`, `<<-EOF`, `<<"EOF"` on the line of a RUN, COPY or ADD, and the bodies that follow it.
//!
//! - A heredoc is a word of its own that begins with `<<`, after at most a number: `cat<<EOF` is none, `cat <<EOF` and `cat << EOF` are.
//!   COPY and ADD, though, take no blanks in it.
//! - The line is read with `\` as the escape character, whatever `# escape=` says. A line with unbalanced quotes or an unknown
//!   `${…}` form has no heredocs.
//! - Bodies follow in the order of their words, raw, comments included, each up to a line that is its delimiter and nothing else
//!   (but for leading tabs with `<<-`).
//! - A delimiter that is quoted anywhere turns expansion off.

use std::borrow::Cow;
use std::ops::Range;

use crate::diagnostic::Diagnostics;
use crate::lines::{Cursor, Fragment};
use crate::template::{Grammar, Parser, Part};
use crate::{Diagnostic, Span, Word};

/// A heredoc with its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The delimiter without its quotes; whatever it holds, `/` and `..` included.
    pub name: String,
    /// The word that opened it, as written: `<<-"EOF"`.
    pub opener: String,
    /// Whether variables are expanded in the body (of COPY and ADD; RUN's are the shell's): no part of the delimiter was quoted.
    pub expands: bool,
    /// Whether leading tabs are cut (`<<-`).
    pub strips_tabs: bool,
    /// The body as written, line endings included.
    pub content: String,
    /// Where the opening word stands.
    pub span: Span,
    /// Where the body stands, without the delimiter's line.
    pub body_span: Span,
}

impl Heredoc {
    /// Returns the body, without leading tabs if they are to be cut.
    pub fn body(&self) -> Cow<'_, str> {
        if !self.strips_tabs {
            return Cow::Borrowed(&self.content);
        }
        Cow::Owned(self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect())
    }

    /// Returns the body as a word to expand: `\` escapes, quotes are plain characters.
    pub fn body_word(&self) -> Word {
        Word::heredoc(self.body().into_owned(), self.body_span)
    }
}

/// A word on a line that opens a heredoc.
pub(crate) struct Opener<'a> {
    pub(crate) fragment: Fragment<'a>,
    name: String,
    expands: bool,
    strips_tabs: bool,
}

/// Returns whether `word` opens a heredoc when nothing stands before it.
pub(crate) fn is_opener(word: &str) -> bool {
    delimiter(word).is_some()
}

/// Finds the words of `line` that open heredocs.
pub(crate) fn openers(line: Fragment<'_>) -> Vec<Opener<'_>> {
    if !line.text().contains("<<") {
        return Vec::new();
    }
    let Some(words) = words(line.text()) else { return Vec::new() };
    words.into_iter().filter_map(|range| opener(line.slice(range))).collect()
}

/// Splits a line into words, the blanks after `<<` being no end of one; `None` when the line is not well formed.
fn words(text: &str) -> Option<Vec<Range<usize>>> {
    let mut parser = Parser::new(text, Grammar::Line);
    let mut words = Vec::new();
    let mut word: Option<Range<usize>> = None;
    let (mut arrows, mut after_arrows) = (0, false);
    while let Some(unit) = parser.unit().ok()? {
        let is_blank = unit.plain.is_some_and(char::is_whitespace);
        arrows = if unit.plain == Some('<') { arrows + 1 } else { 0 };
        let is_gap = after_arrows && matches!(unit.plain, Some(' ' | '\t' | '\r'));
        if is_blank && !is_gap {
            words.extend(word.take());
            after_arrows = false;
            continue;
        }
        after_arrows = is_gap || (arrows > 0 && arrows % 2 == 0);
        word.get_or_insert(unit.range.start..unit.range.end).end = unit.range.end;
    }
    words.extend(word);
    Some(words)
}

fn opener(fragment: Fragment<'_>) -> Option<Opener<'_>> {
    let Delimiter { name, expands, strips_tabs } = delimiter(fragment.text())?;
    Some(Opener { fragment, name, expands, strips_tabs })
}

/// What ends a heredoc, and what its body is.
struct Delimiter {
    name: String,
    expands: bool,
    strips_tabs: bool,
}

fn delimiter(word: &str) -> Option<Delimiter> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strips_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, rest.trim_start()),
    };
    if rest.contains('<') {
        return None;
    }
    let mut parser = Parser::new(rest, Grammar::Line);
    let template = parser.whole().ok()?;
    let name: String = template
        .parts
        .iter()
        .map(|part| match part {
            Part::Text { text, .. } => text.as_str(),
            Part::Variable { range, .. } => &rest[range.clone()],
        })
        .collect();
    let expands = !parser.has_quotes;
    (!name.is_empty()).then_some(Delimiter { name, expands, strips_tabs })
}

/// Reads the bodies of `openers` from the lines after theirs.
pub(crate) fn read_bodies(
    source: &str,
    cursor: &mut Cursor<'_>,
    openers: &[Opener<'_>],
    diagnostics: &mut Diagnostics,
) -> Vec<Heredoc> {
    let mut heredocs = Vec::new();
    for opener in openers {
        match body(source, cursor, opener) {
            Ok(body) => heredocs.push(heredoc(source, opener, body)),
            Err(unterminated) => {
                diagnostics.add(unterminated);
                break;
            }
        }
    }
    heredocs
}

fn heredoc(source: &str, opener: &Opener<'_>, body: Range<usize>) -> Heredoc {
    Heredoc {
        name: opener.name.clone(),
        opener: opener.fragment.text().to_owned(),
        expands: opener.expands,
        strips_tabs: opener.strips_tabs,
        content: source[body.clone()].to_owned(),
        span: opener.fragment.span(),
        body_span: Span::new(body.start, body.end),
    }
}

fn body(source: &str, cursor: &mut Cursor<'_>, opener: &Opener<'_>) -> Result<Range<usize>, Diagnostic> {
    let start = cursor.offset();
    let mut near_miss = false;
    while let Some(line) = cursor.next_line() {
        let text = &source[line.clone()];
        let candidate = if opener.strips_tabs { text.trim_start_matches('\t') } else { text };
        if candidate == opener.name {
            return Ok(start..line.start);
        }
        near_miss |= text.trim() == opener.name;
    }
    let name = &opener.name;
    let error = Diagnostic::error(opener.fragment.span(), "unterminated heredoc");
    let error = error.label(format!("no line `{name}` follows"));
    Err(if near_miss {
        error.note(format!("blanks around `{name}` keep it from ending the heredoc (`<<-` allows leading tabs)"))
    } else {
        error
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::LogicalLine;

    fn check(line: &str, expected: &[(&str, bool, bool)]) {
        let mut cursor = Cursor::new(line, 0);
        let first = cursor.next_line().unwrap();
        let line = LogicalLine::join(&mut cursor, first, '\\');
        let found = openers(line.fragment());
        let found: Vec<_> = found.iter().map(|o| (o.name.as_str(), o.expands, o.strips_tabs)).collect();
        assert_eq!(found, expected, "{}", line.fragment().text());
    }

    #[test]
    fn the_words_that_open_heredocs_are_found() {
        check("RUN <<EOF", &[("EOF", true, false)]);
        check("RUN <<-EOF", &[("EOF", true, true)]);
        check("RUN <<'EOF'", &[("EOF", false, false)]);
        check("RUN <<\"E O F\" x", &[("E O F", false, false)]);
        check("RUN <<E'O'F", &[("EOF", false, false)]);
        check("RUN <<E\\'F", &[("E'F", true, false)]);
        check("RUN <<  EOF", &[("EOF", true, false)]);
        check("RUN <<- EOF", &[]);
        check("RUN 3<<EOF", &[("EOF", true, false)]);
        check("RUN <<$EOF", &[("$EOF", true, false)]);
        check("RUN cat <<A - <<-'B' >x", &[("A", true, false), ("B", false, true)]);
        check("RUN echo ${x:0:3} <<A", &[("A", true, false)]);
    }

    #[test]
    fn other_words_open_none() {
        for line in [
            "RUN cat<<EOF",
            "RUN cat <<<EOF",
            "RUN cat <<",
            "RUN \"<<EOF\"",
            "RUN '<<EOF'",
            "RUN \\<<EOF",
            "RUN <<\"\"",
        ] {
            check(line, &[]);
        }
        check("RUN echo it's <<EOF", &[]);
        check("RUN echo ${x^^} <<EOF", &[]);
    }
}
