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
    let most = match occurrences {
        Occurrences::First => 1,
        Occurrences::All => usize::MAX,
    };
    let (mut output, mut after) = (String::new(), 0);
    for found in regex.find_iter(value).take(most) {
        if output.len() + replacement.len() > MAX_OUTPUT {
            return Ok(None);
        }
        output.push_str(&value[after..found.start()]);
        output.push_str(replacement);
        after = found.end();
    }
    output.push_str(&value[after..]);
    Ok(Some(output))
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
