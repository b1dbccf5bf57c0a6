//! Sizes as docker prints them: decimal units and a few significant digits.

const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// Writes `bytes` with three significant digits, as listings of images do: `78.1MB`.
pub(crate) fn listed(bytes: u64) -> String {
    significant(bytes, 3)
}

/// Writes `bytes` with four significant digits, as summaries do: `1.234GB`.
pub(crate) fn summed(bytes: u64) -> String {
    significant(bytes, 4)
}

#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn significant(bytes: u64, digits: usize) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    while unit + 1 < UNITS.len() && rounds_to_thousand(value, digits) {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", trimmed(value, digits), UNITS[unit])
}

/// Whether `value` needs more than three digits before its point, once it is rounded.
fn rounds_to_thousand(value: f64, digits: usize) -> bool {
    let shown: f64 = trimmed(value, digits).parse().unwrap_or(value);
    shown >= 1000.0
}

fn trimmed(value: f64, digits: usize) -> String {
    let whole_digits = format!("{value:.0}").len();
    let text = format!("{value:.*}", digits.saturating_sub(whole_digits));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_show_three_digits_and_no_trailing_zero() {
        let cases = [
            (0, "0B"),
            (7, "7B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (78_123_456, "78.1MB"),
            (100_000_000, "100MB"),
            (123_456_789, "123MB"),
            (999_949, "1MB"),
            (1_999_999_999, "2GB"),
            (u64::MAX, "18.4EB"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(listed(bytes), shown);
        }
    }

    #[test]
    fn summaries_show_four_digits() {
        for (bytes, shown) in [(0, "0B"), (1_234_567_890, "1.235GB"), (104_900_000, "104.9MB"), (999_999, "1MB")] {
            assert_eq!(summed(bytes), shown);
        }
    }
}
