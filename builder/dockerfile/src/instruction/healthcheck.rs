//! HEALTHCHECK: how a running container is probed.

use std::time::Duration;

use super::{Keyword, Statement, missing, shell_or_exec};
use crate::flags::{FlagValue, Flags, Known, Takes};
use crate::parse::Context;
use crate::{Command, Diagnostic};

/// HEALTHCHECK. Nothing of it is expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// No probe, not even that of the base image.
    None,
    /// A probe.
    Check {
        /// The command; shell form becomes `CMD-SHELL`, which SHELL does not touch.
        command: Command,
        /// Time between probes; `None` leaves it to the runtime, as with all of these.
        interval: Option<Duration>,
        /// How long a probe may take.
        timeout: Option<Duration>,
        /// How long failures do not count after the start.
        start_period: Option<Duration>,
        /// Time between probes during the start period.
        start_interval: Option<Duration>,
        /// How many failures in a row make a container unhealthy.
        retries: Option<u32>,
    },
}

const FLAGS: Known = &[
    ("interval", Takes::Value),
    ("timeout", Takes::Value),
    ("start-period", Takes::Value),
    ("start-interval", Takes::Value),
    ("retries", Takes::Value),
];

impl Healthcheck {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        let text = statement.arguments.text();
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (kind, arguments) = (statement.arguments.slice(0..end), statement.arguments.from(end).trim());
        if kind.text().eq_ignore_ascii_case("none") {
            return Self::none(statement, arguments.is_empty(), context);
        }
        let flags = Flags::check("HEALTHCHECK", &statement.flags, FLAGS, context);
        if !kind.text().eq_ignore_ascii_case("cmd") {
            context.report(match kind.text() {
                "" => missing(statement, Keyword::Healthcheck, "`CMD` or `NONE`"),
                kind_text => {
                    let error = Diagnostic::error(kind.span(), format!("unknown kind of healthcheck `{kind_text}`"));
                    error.label("want CMD or NONE").suggest(kind_text, ["CMD", "NONE"])
                }
            });
            return None;
        }
        if arguments.is_empty() {
            context.report(Diagnostic::error(kind.span(), "HEALTHCHECK CMD needs a command"));
            return None;
        }
        let command = shell_or_exec(arguments, Keyword::Healthcheck, Vec::new(), context)?;
        if command == Command::Exec(Vec::new()) {
            context.report(Diagnostic::error(arguments.span(), "HEALTHCHECK CMD needs a command"));
            return None;
        }
        Some(Self::Check {
            command,
            interval: duration(&flags, "interval", context),
            timeout: duration(&flags, "timeout", context),
            start_period: duration(&flags, "start-period", context),
            start_interval: duration(&flags, "start-interval", context),
            retries: retries(&flags, context),
        })
    }

    fn none(statement: &Statement<'_>, is_alone: bool, context: &mut Context) -> Option<Self> {
        if !is_alone {
            context.report(Diagnostic::error(statement.arguments.span(), "HEALTHCHECK NONE takes no arguments"));
            return None;
        }
        if !statement.flags.is_empty() {
            let span = statement.keyword.span();
            context.report(Diagnostic::warning(span, "the flags of HEALTHCHECK NONE have no effect"));
        }
        Some(Self::None)
    }
}

/// The shortest time docker accepts.
const SHORTEST: Duration = Duration::from_millis(1);

fn duration(flags: &Flags, name: &str, context: &mut Context) -> Option<Duration> {
    let FlagValue { text, span, .. } = flags.value(name)?;
    if text.is_empty() {
        return None;
    }
    let Some(duration) = parse_duration(text) else {
        let error = Diagnostic::error(*span, format!("`{text}` is no duration"));
        context.report(error.label("want something like `30s` or `1m30s`"));
        return None;
    };
    match duration {
        Ok(Duration::ZERO) => None,
        Ok(duration) if duration >= SHORTEST => Some(duration),
        _ => {
            context.report(Diagnostic::error(*span, format!("`--{name}` cannot be less than 1ms")));
            None
        }
    }
}

fn retries(flags: &Flags, context: &mut Context) -> Option<u32> {
    let FlagValue { text, span, .. } = flags.value("retries")?;
    if text.is_empty() {
        return None;
    }
    match text.parse::<i32>() {
        Ok(retries) if retries >= 0 => u32::try_from(retries).ok().filter(|retries| *retries > 0),
        _ => {
            let error = Diagnostic::error(*span, format!("`{text}` is no number of retries"));
            context.report(error.label("want a number from 0 on"));
            None
        }
    }
}

/// A duration that is less than nothing.
#[derive(Debug, PartialEq, Eq)]
struct Negative;

/// Reads a duration as Go writes them: `300ms`, `1.5h`, `1h2m3s`, `0`.
fn parse_duration(text: &str) -> Option<Result<Duration, Negative>> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Ok(Duration::ZERO));
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanoseconds = nanoseconds.checked_add(scaled(number, unit_of(unit)?)?)?;
        rest = after;
    }
    let nanoseconds = u64::try_from(nanoseconds).ok().filter(|total| i64::try_from(*total).is_ok())?;
    if is_negative && nanoseconds > 0 {
        return Some(Err(Negative));
    }
    Some(Ok(Duration::from_nanos(nanoseconds)))
}

fn unit_of(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Multiplies a decimal number by `unit`, dropping what is less than one.
fn scaled(number: &str, unit: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { u128::from(whole.parse::<u64>().ok()?) };
    let digits = &fraction[..fraction.len().min(18)];
    let parts: u128 = if digits.is_empty() { 0 } else { digits.parse::<u128>().ok()? };
    let denominator = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    Some(whole * u128::from(unit) + parts * u128::from(unit) / denominator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let cases = [
            ("0", Some(0)),
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("+1ms", Some(1_000_000)),
            ("1µs", Some(1_000)),
            ("1h2m3s4ms5us6ns", Some(3_723_004_005_006)),
            ("", None),
            ("1", None),
            ("s", None),
            ("1x", None),
            ("1.2.3s", None),
            (".s", None),
            ("999999999h", None),
            ("99999999999999999999999s", None),
        ];
        for (text, expected) in cases {
            let read = parse_duration(text).map(|duration| duration.unwrap().as_nanos());
            assert_eq!(read, expected, "{text}");
        }
        assert_eq!(parse_duration("-1s"), Some(Err(Negative)));
    }
}
