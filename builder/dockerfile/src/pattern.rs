//! The patterns of `${name#pattern}` and its kin: `*` is any characters, `?` is one, `\*`, `\?` and `\\` are themselves.
//!
//! - There are no `[…]` classes. `\/` and `\}` are `/` and `}`, so that both can be written inside `${…}`; any other escape is
//!   an error.
//! - Neither `*` nor `?` matches a line end.
//! - A suffix is the prefix of the reversed value, so that the shortest is found from the right.

use regex::{Regex, RegexBuilder};

use crate::expand::MAX_OUTPUT;

/// How many characters a pattern may have: matching costs value times pattern.
const MAX_PATTERN: usize = 1024;

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum PatternError {
    #[error("unknown escape `\\{escaped}`")]
    Escape { escaped: char },
    #[error("`\\` at its end")]
    EscapeAtEnd,
    #[error("more than {MAX_PATTERN} characters")]
    TooLong,
}

/// How much a trim takes.
#[derive(Clone, Copy)]
pub(crate) enum Extent {
    Shortest,
    Longest,
}

/// Which matches are replaced.
#[derive(Clone, Copy)]
pub(crate) enum Occurrences {
    First,
    All,
}

pub(crate) fn trim_prefix(value: &str, pattern: &str, extent: Extent) -> Result<String, PatternError> {
    let regex = compile(pattern, "^", extent)?;
    Ok(regex.find(value).map_or(value, |found| &value[found.end()..]).to_owned())
}

pub(crate) fn trim_suffix(value: &str, pattern: &str, extent: Extent) -> Result<String, PatternError> {
    let value: String = value.chars().rev().collect();
    let trimmed = trim_prefix(&value, &reversed(pattern), extent)?;
    Ok(trimmed.chars().rev().collect())
}

/// Replaces matches; `None` when the result is longer than an expansion may be.
pub(crate) fn replace(
    value: &str,
    pattern: &str,
    replacement: &str,
    occurrences: Occurrences,
) -> Result<Option<String>, PatternError> {
    let regex = compile(pattern, "", Extent::Longest)?;
    let (most, pieces) = match occurrences {
        Occurrences::First => (1, vec![Piece::Text(replacement)]),
        Occurrences::All => (usize::MAX, pieces(replacement)),
    };
    let (mut output, mut after) = (String::new(), 0);
    for found in regex.find_iter(value).take(most) {
        output.push_str(&value[after..found.start()]);
        for piece in &pieces {
            output.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Found => found.as_str(),
            });
            if output.len() > MAX_OUTPUT {
                return Ok(None);
            }
        }
        after = found.end();
    }
    output.push_str(&value[after..]);
    Ok(Some(output))
}

/// A part of what replaces a match.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    /// What was matched.
    Found,
}

/// Reads the replacement of `//`, in which docker leaves `$` to Go's regular expressions: `$0` and `${0}` are the match, `$$`
/// is `$`, any other number or name is nothing, and a `$` before anything else is itself.
fn pieces(replacement: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = replacement;
    while let Some(dollar) = rest.find('$') {
        pieces.push(Piece::Text(&rest[..dollar]));
        let (sign, after) = rest[dollar..].split_at(1);
        rest = match (after.strip_prefix('$'), group(after)) {
            (Some(after), _) => {
                pieces.push(Piece::Text(sign));
                after
            }
            (None, Some((name, after))) => {
                pieces.extend((name == "0").then_some(Piece::Found));
                after
            }
            (None, None) => {
                pieces.push(Piece::Text(sign));
                after
            }
        };
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// Splits off the name of a group that `text`, which stands behind a `$`, begins with.
fn group(text: &str) -> Option<(&str, &str)> {
    let (is_braced, text) = text.strip_prefix('{').map_or((false, text), |text| (true, text));
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if is_braced { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

fn compile(pattern: &str, anchor: &str, extent: Extent) -> Result<Regex, PatternError> {
    if pattern.chars().count() > MAX_PATTERN {
        return Err(PatternError::TooLong);
    }
    let star = match extent {
        Extent::Shortest => ".*?",
        Extent::Longest => ".*",
    };
    let mut regex = anchor.to_owned();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '*' => regex.push_str(star),
            '?' => regex.push('.'),
            '\\' => match characters.next() {
                Some(escaped @ ('*' | '?' | '\\' | '/' | '}')) => regex.push_str(&regex::escape(&escaped.to_string())),
                Some(escaped) => return Err(PatternError::Escape { escaped }),
                None => return Err(PatternError::EscapeAtEnd),
            },
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    let compiled = RegexBuilder::new(&regex).size_limit(64 << 20).build();
    Ok(compiled.expect("escaped literals, `.` and `.*` of bounded number are a regular expression of bounded size"))
}

/// Reverses a pattern, leaving each escape before what it escapes.
fn reversed(pattern: &str) -> String {
    let mut units: Vec<String> = Vec::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        let mut unit = c.to_string();
        if c == '\\' {
            unit.extend(characters.next());
        }
        units.push(unit);
    }
    units.reverse();
    units.concat()
}
