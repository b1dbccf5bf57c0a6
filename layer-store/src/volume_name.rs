//! Names of volumes: the only text of users that becomes a path in the store, so it has a narrow grammar.
//!
//! Spec: docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::rand::{GetRandomFlags, getrandom};

/// The longest name that file systems take.
const MAX_LENGTH: usize = 255;

/// The name of a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

/// Why a text is no name of a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum VolumeNameError {
    #[error("volume name `{}` is too short: names have at least two characters", .name.escape_debug())]
    TooShort { name: String },
    #[error("volume name `{}` is longer than {MAX_LENGTH} bytes", .name.escape_debug())]
    TooLong { name: String },
    #[error(
        "`{}` is not a volume name: these are letters, digits, `_`, `.` and `-`, the first a letter or digit; \
         a directory of the host begins with `/` or `.`", .name.escape_debug()
    )]
    Characters { name: String },
}

impl VolumeName {
    /// Makes up a name that nobody else has.
    ///
    /// # Errors
    ///
    /// What the kernel says when it has no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0_u8; 32];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(Self(hex::encode(bytes)))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = VolumeNameError;

    fn from_str(text: &str) -> Result<Self, VolumeNameError> {
        let name = text.to_owned();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let starts_badly = text.as_bytes().first().is_some_and(|first| !first.is_ascii_alphanumeric());
        if starts_badly || !text.bytes().all(is_allowed) {
            return Err(VolumeNameError::Characters { name });
        }
        match text.len() {
            0 | 1 => Err(VolumeNameError::TooShort { name }),
            2..=MAX_LENGTH => Ok(Self(name)),
            _ => Err(VolumeNameError::TooLong { name }),
        }
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        for name in ["db", "0_.-", "A9", &"a".repeat(255)] {
            assert_eq!(name.parse::<VolumeName>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        for name in ["", "a", ".x", "-x", "_x", "..", "a/b", "../x", "a b", "ä1", "a\n", "a\0b", &"a".repeat(256)] {
            assert!(name.parse::<VolumeName>().is_err(), "{name:?}");
        }
        let random = VolumeName::random().unwrap();
        assert_eq!(random.as_str().len(), 64);
        assert_eq!(random.as_str().parse(), Ok(random));
    }
}
