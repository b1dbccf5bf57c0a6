//! The checksum that an instruction demands of a file: `--checksum=sha256:…`.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

const BUFFER: usize = 128 << 10;

/// `sha256:`, `sha384:` or `sha512:` and lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChecksum {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// Why a text is not a checksum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a checksum (want `sha256:` and 64, `sha384:` and 96, or `sha512:` and 128, lowercase hexadecimal digits)"
)]
pub struct InvalidChecksum {
    /// What was given, safe to show.
    pub text: String,
}

/// Why a file is not the one that was meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum VerifyError {
    #[error("the file has the checksum {actual}, but {expected} was demanded")]
    Mismatch { expected: FileChecksum, actual: FileChecksum },
    #[error("the file cannot be read")]
    Read { source: io::Error },
}

impl FileChecksum {
    /// Reads `reader` to its end and compares.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Mismatch`] names both checksums.
    pub fn verify(&self, reader: impl Read) -> Result<(), VerifyError> {
        let actual = self.algorithm.of(reader).map_err(|source| VerifyError::Read { source })?;
        if actual == *self { Ok(()) } else { Err(VerifyError::Mismatch { expected: self.clone(), actual }) }
    }
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha384 => 96,
            Self::Sha512 => 128,
        }
    }

    fn of(self, reader: impl Read) -> io::Result<FileChecksum> {
        let hex = match self {
            Self::Sha256 => digest::<sha2::Sha256>(reader),
            Self::Sha384 => digest::<sha2::Sha384>(reader),
            Self::Sha512 => digest::<sha2::Sha512>(reader),
        };
        Ok(FileChecksum { algorithm: self, hex: hex? })
    }
}

fn digest<D: sha2::Digest>(mut reader: impl Read) -> io::Result<String> {
    let mut hasher = D::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex::encode(hasher.finalize())),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl FromStr for FileChecksum {
    type Err = InvalidChecksum;

    fn from_str(text: &str) -> Result<Self, InvalidChecksum> {
        let refuse = || InvalidChecksum { text: http_transport::shown(text) };
        let (name, hex) = text.split_once(':').ok_or_else(refuse)?;
        let known = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];
        let algorithm = known.into_iter().find(|algorithm| algorithm.name() == name).ok_or_else(refuse)?;
        let is_hex = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != algorithm.hex_length() || !is_hex {
            return Err(refuse());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl fmt::Display for FileChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: [&str; 3] = [
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha384:cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ];

    #[test]
    fn a_file_is_compared_with_what_was_demanded() {
        for text in OF_ABC {
            let checksum: FileChecksum = text.parse().unwrap();
            assert_eq!(checksum.to_string(), text);
            checksum.verify(&b"abc"[..]).unwrap();
            let error = checksum.verify(&b"abd"[..]).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("the file has the checksum sha"), "{error}");
        }
    }

    #[test]
    fn what_is_no_checksum_is_refused() {
        let upper = OF_ABC[0].to_uppercase();
        let short = &OF_ABC[0][..70];
        for text in ["", "abc", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:\u{1b}[0m", &upper, short] {
            let error = text.parse::<FileChecksum>().unwrap_err().to_string();
            assert!(error.contains("is not a checksum") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
