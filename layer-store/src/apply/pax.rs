//! Checks what the tar parser is lenient about: the numbers of a header and the records of a PAX header.
//!
//! | what | rule |
//! |---|---|
//! | a record that is not `<length> <key>=<value>\n` | refused, never skipped |
//! | base-256 numbers | not negative (but for times), not larger than their type |
//! | `mtime` | seconds before 1970 and fractions are kept, to the nanosecond |
//! | sparse formats | GNU's old one, and PAX 0.0, 0.1, 1.0; another version is refused |
//! | a global header | may say nothing about names, links or sizes: readers disagree whether it applies |

use tar_core::Header;

use super::entries::TarError;
use crate::sys::Time;

/// What a PAX header says that the parser does not pass on.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) modified: Option<Time>,
    pub(super) has_size: bool,
    pub(super) sparse_version: (Option<u64>, Option<u64>),
}

/// Reads and checks the records of a PAX header.
pub(super) fn check(data: &[u8]) -> Result<Pax, TarError> {
    let mut pax = Pax::default();
    for record in records(data) {
        let (key, value) = record?;
        // an empty value stands for the header's own
        if value.is_empty() {
            continue;
        }
        match key {
            b"path" | b"linkpath" if value.contains(&0) => return Err(TarError::Pax("a name has a NUL")),
            b"mtime" => pax.modified = Some(time(value).ok_or(TarError::Pax("mtime is not a time"))?),
            b"size" => {
                size(value)?;
                pax.has_size = true;
            }
            b"uid" | b"gid" => {
                number(value)?;
            }
            b"GNU.sparse.major" => pax.sparse_version.0 = Some(number(value)?),
            b"GNU.sparse.minor" => pax.sparse_version.1 = Some(number(value)?),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" | b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                size(value)?;
            }
            b"GNU.sparse.map" if !value.is_ascii() => return Err(TarError::Pax("a sparse map is not text")),
            _ => {}
        }
    }
    match pax.sparse_version {
        (None, None) | (Some(0), Some(0 | 1)) | (Some(1), Some(0)) => Ok(pax),
        _ => Err(TarError::Pax("the version of a sparse file is not known")),
    }
}

/// Checks a PAX header that is meant for all later entries.
pub(super) fn check_global(data: &[u8]) -> Result<(), TarError> {
    for record in records(data) {
        let (key, _) = record?;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err(TarError::Pax("a global header changes names or sizes"));
        }
    }
    Ok(())
}

fn records(data: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), TarError>> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = record(rest);
        rest = record.map_or(&[], |(_, _, after)| after);
        Some(record.map(|(key, value, _)| (key, value)).ok_or(TarError::Pax("a record is malformed")))
    })
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(digits(&data[..space])?).ok()?;
    let (record, after) = data.split_at_checked(length)?;
    let (newline, pair) = record.get(space + 1..)?.split_last()?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    let key = &pair[..equals];
    let is_sound = *newline == b'\n' && !key.is_empty() && std::str::from_utf8(key).is_ok();
    is_sound.then_some((key, &pair[equals + 1..], after))
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn number(value: &[u8]) -> Result<u64, TarError> {
    digits(value).ok_or(TarError::Pax("a number is not one"))
}

fn size(value: &[u8]) -> Result<u64, TarError> {
    number(value)?.try_into().map_err(|_| TarError::Pax("a size is too large")).map(i64::cast_unsigned)
}

/// Reads `[-]<seconds>[.<fraction>]`.
fn time(value: &[u8]) -> Option<Time> {
    let (is_negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(digits(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"0");
    digits(&fraction[..fraction.len().min(18)])?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9).fold(0, |all, at| all * 10 + u32::from(fraction.get(at).copied().unwrap_or(b'0') - b'0'));
    Some(match (is_negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// Checks the numbers of a header that the parser would cut.
pub(super) fn check_header(header: &Header) -> Result<(), TarError> {
    let fields = header.as_ustar();
    let is_cut =
        |field: &[u8]| field[0] & 0x80 != 0 && (field[0] != 0x80 || field[1..].iter().rev().skip(8).any(|b| *b != 0));
    if is_cut(&fields.size) || is_cut(&fields.uid) || is_cut(&fields.gid) || is_cut(&fields.mode) {
        return Err(TarError::Number);
    }
    header_time(header).map(drop)
}

/// Reads the modification time of a header, which may be before 1970 in GNU's base-256 form.
pub(super) fn header_time(header: &Header) -> Result<Time, TarError> {
    let field = &header.as_ustar().mtime;
    let seconds = match field {
        [0x80, 0, 0, 0, rest @ ..] | [0xff, 0xff, 0xff, 0xff, rest @ ..] => i64::from_be_bytes(*rest),
        [first, ..] if first & 0x80 != 0 => return Err(TarError::Number),
        _ => i64::try_from(header.mtime().map_err(|_| TarError::Number)?).map_err(|_| TarError::Number)?,
    };
    let is_positive = field[0] != 0xff;
    if is_positive != (seconds >= 0) {
        return Err(TarError::Number);
    }
    Ok(Time { seconds, nanoseconds: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_fractions_are_kept() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        let cases: [(&[u8], Option<Time>); 10] = [
            (b"0", at(0, 0)),
            (b"12.5", at(12, 500_000_000)),
            (b"12.0000000019", at(12, 1)),
            (b"-1.5", at(-2, 500_000_000)),
            (b"-0.25", at(-1, 750_000_000)),
            (b"-7", at(-7, 0)),
            (b"", None),
            (b"1.x", None),
            (b"--1", None),
            (b"99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_malformed_record_is_refused_and_never_skipped() {
        let good: [&[u8]; 3] = [b"", b"10 a=b\nc=\n", b"6 a=b\n7 b=\0\0\n"];
        for data in good {
            assert!(check(data).is_ok(), "{}", data.escape_ascii());
        }
        let bad: [&[u8]; 9] = [
            b"x",
            b"6 a=b",
            b"7 a=b\n",
            b"5 a=b\n",
            b"0 a=b\n",
            b"+6 a=b\n",
            b"5 ab\n",
            b"99999999999999999999 a=b\n",
            b"11 size=-1\n",
        ];
        for data in bad {
            assert!(check(data).is_err(), "{}", data.escape_ascii());
        }
    }

    #[test]
    fn a_global_header_may_comment_but_not_rename() {
        assert!(check_global(b"17 comment=hello\n").is_ok());
        assert!(check_global(b"11 path=aa\n").is_err());
        assert!(check_global(b"9 size=1\n").is_err());
    }
}
