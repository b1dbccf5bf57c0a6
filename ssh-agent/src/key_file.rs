//! Files of private keys as `ssh-keygen` writes them: what is in one, before anybody knows its kind.
//!
//! Not by the crate `ssh-key`: 0.6 cannot read an ECDSA key whose number begins with a zero byte, one in 256.
//!
//! Spec: OpenSSH's PROTOCOL.key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::protocol::{take_number, take_string};

const BEGIN: &str = concat!("-----BEGIN OPENSSH PRIVATE", " KEY-----");
const END: &str = concat!("-----END OPENSSH PRIVATE", " KEY-----");
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// A private key, in its parts.
pub(crate) struct KeyFile {
    /// The public key, as the protocol names it.
    pub(crate) blob: Vec<u8>,
    /// Such as `ssh-ed25519`.
    pub(crate) kind: String,
    /// What a key of this kind consists of, and its comment.
    pub(crate) fields: Vec<u8>,
}

/// Why a file holds no key that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    Format,
    Passphrase,
}

impl KeyFile {
    /// Reads the first key in `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let armoured = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).ok_or(Problem::Format)?.0;
        let encoded: String = armoured.split_whitespace().collect();
        let bytes = STANDARD.decode(encoded).map_err(|_| Problem::Format)?;
        let mut rest = bytes.strip_prefix(MAGIC).ok_or(Problem::Format)?;
        let mut string = || take_string(&mut rest).ok_or(Problem::Format);
        let (cipher, _kdf, _kdf_options) = (string()?, string()?, string()?);
        if cipher != b"none" {
            return Err(Problem::Passphrase);
        }
        Self::open(rest).ok_or(Problem::Format)
    }

    /// Reads what follows the names of the ciphers.
    fn open(mut rest: &[u8]) -> Option<Self> {
        if take_number(&mut rest)? != 1 {
            return None;
        }
        let (blob, mut private) = (take_string(&mut rest)?, take_string(&mut rest)?);
        let (one, two) = (take_number(&mut private)?, take_number(&mut private)?);
        let kind = String::from_utf8(take_string(&mut private)?.to_vec()).ok()?;
        (one == two).then(|| Self { blob: blob.to_vec(), kind, fields: private.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{put_number, put_string};

    fn armoured(bytes: &[u8]) -> String {
        format!("x\n{BEGIN}\n{}\n{END}\n", STANDARD.encode(bytes))
    }

    fn file(cipher: &str, checks: (u32, u32)) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        [cipher.as_bytes(), b"none", b""].iter().for_each(|part| put_string(&mut bytes, part));
        put_number(&mut bytes, 1);
        put_string(&mut bytes, b"blob");
        let mut private = Vec::new();
        put_number(&mut private, checks.0);
        put_number(&mut private, checks.1);
        put_string(&mut private, b"ssh-x");
        private.extend(b"fields");
        put_string(&mut bytes, &private);
        bytes
    }

    #[test]
    fn a_key_is_read_in_its_parts() {
        let key = KeyFile::parse(&armoured(&file("none", (7, 7)))).ok().unwrap();
        assert_eq!((key.blob, key.kind.as_str(), key.fields), (b"blob".to_vec(), "ssh-x", b"fields".to_vec()));
    }

    #[test]
    fn what_is_no_key_is_refused_wherever_it_ends() {
        let whole = file("none", (7, 7));
        for end in 0..whole.len() {
            assert_eq!(KeyFile::parse(&armoured(&whole[..end])).err(), Some(Problem::Format), "{end}");
        }
        assert_eq!(KeyFile::parse(&armoured(&file("none", (7, 8)))).err(), Some(Problem::Format));
        assert_eq!(KeyFile::parse(&armoured(&file("aes256-ctr", (7, 7)))).err(), Some(Problem::Passphrase));
        for text in ["", BEGIN, &BEGIN.replace("OPENSSH", "RSA"), &format!("{BEGIN}\n!\n{END}")] {
            assert_eq!(KeyFile::parse(text).err(), Some(Problem::Format), "{text}");
        }
    }
}
