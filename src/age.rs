//! Points in time as docker prints them: `3 minutes ago`, or a date.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24;

/// Reads a time of an image config; `None` for what is not RFC 3339.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// Writes how long ago `time` was, seen from `now`: `2 weeks ago`.
///
/// `None`, and the times before 1970 that some builders write for "no time", are `N/A`.
pub(crate) fn ago(time: Option<OffsetDateTime>, now: SystemTime) -> String {
    let Some(time) = time.filter(|time| time.unix_timestamp() >= 0) else { return "N/A".to_owned() };
    let passed = OffsetDateTime::from(now) - time;
    format!("{} ago", duration(passed.try_into().unwrap_or(Duration::ZERO)))
}

/// Writes a duration in its largest unit, in docker's words.
pub(crate) fn duration(passed: Duration) -> String {
    let seconds = passed.as_secs();
    let hours = (seconds + HOUR / 2) / HOUR;
    match (seconds, seconds / MINUTE, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..MINUTE, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, minutes @ 2..60, _) => format!("{minutes} minutes"),
        (_, _, 0..=1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / DAY),
        (_, _, 336..1440) => format!("{} weeks", hours / DAY / 7),
        (_, _, 1440..17520) => format!("{} months", hours / DAY / 30),
        _ => format!("{} years", seconds / HOUR / DAY / 365),
    }
}

/// Writes a time as Go prints one: `2024-01-31 12:00:00 +0000 UTC`.
pub(crate) fn dated(time: Option<OffsetDateTime>) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] +0000 UTC");
    let utc = time.map(|time| time.to_offset(time::UtcOffset::UTC));
    utc.and_then(|time| time.format(&format).ok()).unwrap_or_else(|| "N/A".to_owned())
}

/// Writes a time as RFC 3339 in whole seconds.
pub(crate) fn rfc3339(time: Option<OffsetDateTime>) -> String {
    let whole = time.and_then(|time| time.replace_nanosecond(0).ok());
    whole.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "N/A".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_dockers_words() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (180, "3 minutes"),
            (59 * MINUTE + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * MINUTE, "About an hour"),
            (HOUR + 30 * MINUTE, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * 24 * HOUR, "13 days"),
            (14 * 24 * HOUR, "2 weeks"),
            (59 * 24 * HOUR, "8 weeks"),
            (60 * 24 * HOUR, "2 months"),
            (729 * 24 * HOUR, "24 months"),
            (730 * 24 * HOUR, "2 years"),
        ];
        for (seconds, words) in cases {
            assert_eq!(duration(Duration::from_secs(seconds)), words, "{seconds} s");
        }
    }

    #[test]
    fn a_time_that_is_missing_or_before_1970_is_not_an_age() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(120);
        assert_eq!(ago(parse("1970-01-01T00:00:00Z"), now), "2 minutes ago");
        assert_eq!(ago(parse("0001-01-01T00:00:00Z"), now), "N/A");
        assert_eq!(ago(parse("yesterday"), now), "N/A");
        assert_eq!(ago(parse("1970-01-01T01:00:00Z"), now), "Less than a second ago");
    }

    #[test]
    fn dates_are_utc() {
        let time = parse("2024-01-31T14:00:00.5+02:00");
        assert_eq!(dated(time), "2024-01-31 12:00:00 +0000 UTC");
        assert_eq!(rfc3339(time), "2024-01-31T14:00:00+02:00");
    }
}
