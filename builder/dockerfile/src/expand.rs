//! Expands words: variables in, string out.
//!
//! | form | unset | empty | set to `v` |
//! |---|---|---|---|
//! | `${n-w}` / `${n:-w}` | w / w | empty / w | v |
//! | `${n+w}` / `${n:+w}` | empty / empty | w / empty | w |
//! | `${n?m}` / `${n:?m}` | error m | empty / error m | v |
//! | `${n#p}` `##` `%` `%%` | empty | empty | v without the shortest or longest prefix or suffix that p matches |
//! | `${n/p/r}` `//` | empty | as v | v with the first or every match of p replaced by r |
//!
//! - The word, message or pattern is expanded even where its value is not used: an error in it is an error.
//! - Values are never expanded again.
//! - Output is bounded, and so is work: each value looked at and each pattern costs.
//!
//! Not here: the grammar (`template.rs`), what patterns match (`pattern.rs`).

use crate::pattern::{self, PatternError};
use crate::template::{Operation, Part, SyntaxErrorKind, Template};
use crate::word::Variables;

/// How many bytes one expansion may give.
pub const MAX_OUTPUT: usize = 1 << 20;

/// How many bytes of values one expansion may look at.
const MAX_WORK: usize = 64 << 20;
const PATTERN_WORK: usize = 32 << 10;

/// Why a word could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ExpandError {
    #[error("{kind}")]
    Syntax { kind: SyntaxErrorKind },
    #[error("{name}: {message}")]
    Required { name: String, message: String },
    #[error("invalid pattern `{pattern}` in `${{{name}…}}`: {reason}")]
    Pattern { name: String, pattern: String, reason: PatternError },
    #[error("expands to more than {MAX_OUTPUT} bytes")]
    TooLong,
    #[error("takes too much work to expand")]
    TooMuchWork,
}

/// Expands to one string.
pub(crate) fn string(template: &Template, variables: &dyn Variables) -> Result<String, ExpandError> {
    Expansion { variables, work: 0 }.string(template)
}

/// Expands and splits at blanks that were not quoted.
pub(crate) fn words(template: &Template, variables: &dyn Variables) -> Result<Vec<String>, ExpandError> {
    let mut expansion = Expansion { variables, work: 0 };
    let mut words = vec![String::new()];
    let mut total = 0;
    for part in &template.parts {
        let (value, quoted) = expansion.part(part)?;
        total += value.len();
        if total > MAX_OUTPUT {
            return Err(ExpandError::TooLong);
        }
        if quoted {
            words.last_mut().expect("there is always a last word").push_str(&value);
            continue;
        }
        let mut pieces = value.split(char::is_whitespace);
        words.last_mut().expect("there is always a last word").push_str(pieces.next().unwrap_or_default());
        words.extend(pieces.map(str::to_owned));
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

struct Expansion<'a> {
    variables: &'a dyn Variables,
    work: usize,
}

impl Expansion<'_> {
    fn string(&mut self, template: &Template) -> Result<String, ExpandError> {
        let mut output = String::new();
        for part in &template.parts {
            let (value, _) = self.part(part)?;
            if output.len() + value.len() > MAX_OUTPUT {
                return Err(ExpandError::TooLong);
            }
            output.push_str(&value);
        }
        Ok(output)
    }

    /// Expands a part and says whether it was quoted.
    fn part(&mut self, part: &Part) -> Result<(String, bool), ExpandError> {
        match part {
            Part::Text { text, quoted } => Ok((text.clone(), *quoted)),
            Part::Variable { name, operation, quoted, .. } => {
                let value = self.variables.lookup(name).map(std::borrow::Cow::into_owned);
                self.spend(name.len() + value.as_ref().map_or(0, String::len))?;
                let value = match operation {
                    None => value.unwrap_or_default(),
                    Some(operation) => self.apply(name, value, operation)?,
                };
                Ok((value, *quoted))
            }
        }
    }

    fn apply(&mut self, name: &str, value: Option<String>, operation: &Operation) -> Result<String, ExpandError> {
        match operation {
            Operation::Default { empty_is_unset, word } => {
                let word = self.string(word)?;
                Ok(value.filter(|value| !(*empty_is_unset && value.is_empty())).unwrap_or(word))
            }
            Operation::Alternate { empty_is_unset, word } => {
                let word = self.string(word)?;
                let is_set = value.is_some_and(|value| !(*empty_is_unset && value.is_empty()));
                Ok(if is_set { word } else { String::new() })
            }
            Operation::Required { empty_is_unset, message } => {
                let message = self.string(message)?;
                match value {
                    None => Err(required(name, message, "is not allowed to be unset")),
                    Some(value) if *empty_is_unset && value.is_empty() => {
                        Err(required(name, message, "is not allowed to be empty"))
                    }
                    Some(value) => Ok(value),
                }
            }
            Operation::TrimPrefix { pattern } => self.pattern(name, pattern, |pattern| {
                let (pattern, extent) = trim_extent(pattern, '#');
                pattern::trim_prefix(&value.unwrap_or_default(), pattern, extent)
            }),
            Operation::TrimSuffix { pattern } => self.pattern(name, pattern, |pattern| {
                let (pattern, extent) = trim_extent(pattern, '%');
                pattern::trim_suffix(&value.unwrap_or_default(), pattern, extent)
            }),
            Operation::Replace { all, pattern, replacement } => {
                let occurrences = if *all { pattern::Occurrences::All } else { pattern::Occurrences::First };
                let pattern = self.string(pattern)?;
                let replacement = self.string(replacement)?;
                self.spend(PATTERN_WORK)?;
                let replaced = pattern::replace(&value.unwrap_or_default(), &pattern, &replacement, occurrences);
                let replaced =
                    replaced.map_err(|reason| ExpandError::Pattern { name: name.to_owned(), pattern, reason })?;
                replaced.ok_or(ExpandError::TooLong)
            }
        }
    }

    fn pattern(
        &mut self,
        name: &str,
        pattern: &Template,
        trim: impl FnOnce(&str) -> Result<String, PatternError>,
    ) -> Result<String, ExpandError> {
        let pattern = self.string(pattern)?;
        self.spend(PATTERN_WORK)?;
        trim(&pattern).map_err(|reason| ExpandError::Pattern { name: name.to_owned(), pattern, reason })
    }

    fn spend(&mut self, work: usize) -> Result<(), ExpandError> {
        self.work += work;
        if self.work > MAX_WORK { Err(ExpandError::TooMuchWork) } else { Ok(()) }
    }
}

/// `${n##p}` is `${n#…}` with a pattern that begins with `#`, be it written there or come out of a variable (as in docker).
fn trim_extent(pattern: &str, mark: char) -> (&str, pattern::Extent) {
    match pattern.strip_prefix(mark) {
        Some(pattern) => (pattern, pattern::Extent::Longest),
        None => (pattern, pattern::Extent::Shortest),
    }
}

fn required(name: &str, message: String, otherwise: &str) -> ExpandError {
    let message = if message.is_empty() { otherwise.to_owned() } else { message };
    ExpandError::Required { name: name.to_owned(), message }
}
