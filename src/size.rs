//! Sizes as docker prints them, in decimal units with a few significant digits, and as it reads them, in binary ones.

use crate::shown::shown;

const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];

/// Writes `bytes` with three significant digits, as listings of images do: `78.1MB`.
pub(crate) fn listed(bytes: u64) -> String {
    significant(bytes, 3)
}

/// Writes `bytes` with four significant digits, as summaries do: `1.234GB`.
pub(crate) fn summed(bytes: u64) -> String {
    significant(bytes, 4)
}

/// Reads a size in binary units: `64m`, `1.5g`, `128MiB`, `512 kb`, or bytes.
///
/// Spec: `RAMInBytes` of docker's go-units, whose rules these are.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn binary(text: &str) -> Result<u64, String> {
    let wrong = || format!("invalid size: '{}'", shown(text));
    let end = text.rfind(|char: char| char.is_ascii_digit() || matches!(char, '.' | ' ')).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = Some(number).filter(|_| is_plain).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(format!("invalid suffix: '{}'", shown(unit))),
    };
    let bytes = number * f64::from(shift).exp2();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked, a part of a byte is none"
    )]
    (bytes < i64::MAX as f64).then_some(bytes as u64).ok_or_else(wrong)
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
    fn binary_sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32KiB", 32 << 10),
            ("32 Mb", 32 << 20),
            ("1.5g", 3 << 29),
            ("128MiB", 128 << 20),
            ("0.5t", 1 << 39),
            (".5k", 512),
            ("2p", 2 << 50),
        ] {
            assert_eq!(binary(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "m", "-1", "-32k", "32bb", "32kk", "32kbb", "32x", " 32", "3e2", "1.2.3", "inf", "9999999p", "32 k b"]
        {
            assert!(binary(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn summaries_show_four_digits() {
        for (bytes, shown) in [(0, "0B"), (1_234_567_890, "1.235GB"), (104_900_000, "104.9MB"), (999_999, "1MB")] {
            assert_eq!(summed(bytes), shown);
        }
    }
}
