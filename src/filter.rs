//! `--filter` of lists and prunes: `key=value` words, and the patterns and times in them.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use layer_store::LabelFilter;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// One `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// What is looked at.
    pub(crate) key: String,
    /// Whether the value must not match (`key!=value`).
    pub(crate) is_negated: bool,
    /// What it is compared with.
    pub(crate) value: String,
}

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("`{text}` is not a filter (want `key=value`)")]
    Form { text: String },
    #[error("`{key}` is not a filter here (there are {known})")]
    Key { key: String, known: String },
    #[error("`{value}` is neither `true` nor `false`")]
    Bool { value: String },
    #[error("`{value}` is neither a duration such as `24h`, nor a date, nor seconds since 1970")]
    Time { value: String },
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (key, value) = text.split_once('=').ok_or_else(|| FilterError::Form { text: text.to_owned() })?;
        let (key, is_negated) = key.strip_suffix('!').map_or((key, false), |key| (key, true));
        Ok(Self { key: key.trim().to_ascii_lowercase(), is_negated, value: value.trim().to_owned() })
    }
}

impl Filter {
    /// Refuses a key that is not among `known`.
    ///
    /// # Errors
    ///
    /// [`FilterError::Key`]; also for `!=` with any key but `label`.
    pub(crate) fn check(&self, known: &[&str]) -> Result<(), FilterError> {
        let is_known = known.contains(&self.key.as_str()) && (!self.is_negated || self.key == "label");
        let key = if self.is_negated { format!("{}!", self.key) } else { self.key.clone() };
        if is_known { Ok(()) } else { Err(FilterError::Key { key, known: known.join(", ") }) }
    }

    /// Reads the value as `true` or `false`.
    ///
    /// # Errors
    ///
    /// [`FilterError::Bool`] for anything else.
    pub(crate) fn flag(&self) -> Result<bool, FilterError> {
        match self.value.as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(FilterError::Bool { value: self.value.clone() }),
        }
    }

    /// Reads the value as a point in time, seen from `now`.
    ///
    /// # Errors
    ///
    /// [`FilterError::Time`] when it is none.
    pub(crate) fn time(&self, now: SystemTime) -> Result<SystemTime, FilterError> {
        let refuse = || FilterError::Time { value: self.value.clone() };
        if let Some(age) = duration(&self.value) {
            return now.checked_sub(age).ok_or_else(refuse);
        }
        if let Some(seconds) = self.value.split('.').next().and_then(|seconds| seconds.parse().ok()) {
            return SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or_else(refuse);
        }
        date(&self.value).map(SystemTime::from).ok_or_else(refuse)
    }

    /// Reads the value as a label's name and what it must be, or, negated, must not be.
    pub(crate) fn of_labels(&self) -> LabelFilter {
        let (key, value) = match self.value.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (self.value.clone(), None),
        };
        if self.is_negated { LabelFilter::HasNot { key, value } } else { LabelFilter::Has { key, value } }
    }
}

/// Reads a duration as Go writes one: `1h30m`, `2.5h`, `90s`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// Reads a date in docker's forms; UTC where it names no zone.
fn date(text: &str) -> Option<OffsetDateTime> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(time);
    }
    let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    if let Ok(time) = time::PrimitiveDateTime::parse(text, &seconds) {
        return Some(time.assume_utc());
    }
    let day = format_description!("[year]-[month]-[day]");
    time::Date::parse(text, &day).ok().map(|day| day.midnight().assume_utc())
}

/// Tells whether `text` matches a glob in which `*` and `?` stop at `/`, as Go's `path.Match` reads it.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    matches_from(&pattern, &text)
}

fn matches_from(mut pattern: &[char], mut text: &[char]) -> bool {
    // where to go on when a later part does not match: the last `*`, and one character more for it
    let mut retry: Option<(&[char], &[char])> = None;
    loop {
        let step = match pattern.split_first() {
            None if text.is_empty() => return true,
            None => None,
            Some(('*', rest)) => {
                retry = Some((rest, text));
                Some((rest, text))
            }
            Some(_) => single(pattern, text),
        };
        match (step, retry) {
            (Some((rest, after)), _) => (pattern, text) = (rest, after),
            (None, Some((rest, from))) => {
                let Some((skipped, after)) = from.split_first() else { return false };
                if *skipped == '/' {
                    return false;
                }
                retry = Some((rest, after));
                (pattern, text) = (rest, after);
            }
            (None, None) => return false,
        }
    }
}

/// Matches one character against the head of a pattern; returns what is left of both.
fn single<'a, 'b>(pattern: &'a [char], text: &'b [char]) -> Option<(&'a [char], &'b [char])> {
    let (&c, after) = text.split_first()?;
    match pattern {
        ['?', rest @ ..] => (c != '/').then_some((rest, after)),
        ['[', class @ ..] => {
            let end = class.iter().skip(1).position(|c| *c == ']')? + 1;
            (in_class(&class[..end], c)).then_some((&class[end + 1..], after))
        }
        ['\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == c).then_some((rest, after)),
        [] => None,
    }
}

fn in_class(class: &[char], c: char) -> bool {
    let (negated, class) = match class {
        ['^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let range = |from: char, to: char| (from..=to).contains(&c);
    let mut rest = class;
    let mut found = false;
    while !rest.is_empty() {
        let after = match rest {
            [from, '-', to, after @ ..] => {
                found |= range(*from, *to);
                after
            }
            [one, after @ ..] => {
                found |= *one == c;
                after
            }
            [] => rest,
        };
        rest = after;
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stop_at_slashes() {
        let cases = [
            ("debian", "debian", true),
            ("deb*", "debian", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcdef", false),
            ("d?b*:*", "debian:12", true),
            ("[a-d]ebian", "debian", true),
            ("[^a-d]ebian", "debian", false),
            ("\\*x", "*x", true),
            ("", "", true),
            ("*a", "/a", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn times_are_durations_dates_or_seconds() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let cases = [
            ("until=24h", Some(1_000_000 - 86_400)),
            ("until=1h30m", Some(1_000_000 - 5_400)),
            ("until=12345", Some(12_345)),
            ("until=1970-01-02", Some(86_400)),
            ("until=1970-01-02T00:00:10", Some(86_410)),
            ("until=1970-01-02T01:00:00+01:00", Some(86_400)),
            ("until=yesterday", None),
            ("until=1x", None),
            ("until=", None),
        ];
        for (text, expected) in cases {
            let time = text.parse::<Filter>().unwrap().time(now).ok();
            assert_eq!(time, expected.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn keys_are_checked() {
        let check = |text: &str| text.parse::<Filter>().and_then(|filter| filter.check(&["label", "dangling"]));
        assert!(check("label=a").is_ok());
        assert!(check("label!=a=b").is_ok());
        assert!(check("dangling!=true").is_err());
        assert!(check("nope=1").is_err());
        assert!(check("nope").is_err());
        let filter: Filter = "label!=a=b=c".parse().unwrap();
        let (key, value) = ("a".to_owned(), Some("b=c".to_owned()));
        assert_eq!(filter.of_labels(), LabelFilter::HasNot { key, value });
    }
}
