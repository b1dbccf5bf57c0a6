//! Private keys: read from files of OpenSSH, kept in memory, used to sign.
//!
//! | key | signature |
//! |---|---|
//! | Ed25519 | `ssh-ed25519` |
//! | ECDSA of P-256 and P-384 | `ecdsa-sha2-nistp256`, `ecdsa-sha2-nistp384` |
//! | RSA | `rsa-sha2-256` or `rsa-sha2-512`, as asked for; SHA-1 is refused, as OpenSSH does |
//!
//! Spec: RFC 8709, RFC 5656 section 3.1.2, RFC 8332.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use num_bigint::BigUint;
use ring::rand::SystemRandom;
use ring::rsa::{self, KeyPairComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PKCS1_SHA512, RsaEncoding,
};

use crate::key_file::{KeyFile, Problem};
use crate::protocol::{put_positive, put_string, take_string};

/// Bytes of the longest file that is read as a key.
const LONGEST: u64 = 64 << 10;
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A private key in memory; never shown.
pub struct Key {
    /// The public key, as the protocol names it.
    pub(crate) blob: Vec<u8>,
    pub(crate) comment: String,
    signer: Signer,
}

enum Signer {
    Ed25519(Ed25519KeyPair),
    Ecdsa(&'static str, EcdsaKeyPair),
    Rsa(Box<rsa::KeyPair>),
}

/// Why a file could not be used as a private key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum KeyError {
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is no private key in the format of OpenSSH", .path.display())]
    Format { path: PathBuf },
    #[error("the private key `{}` has a passphrase", .path.display())]
    Passphrase { path: PathBuf },
    #[error("the private key `{}` is of a kind that is not known here: {kind}", .path.display())]
    Kind { path: PathBuf, kind: String },
}

impl Key {
    /// Reads a private key without a passphrase.
    ///
    /// # Errors
    ///
    /// [`KeyError`] when it cannot be read, is none, or is of a kind that cannot sign here.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        File::open(path).and_then(|file| file.take(LONGEST).read_to_string(&mut text)).map_err(failed)?;
        let file = KeyFile::parse(&text).map_err(|problem| match problem {
            Problem::Format => KeyError::Format { path: path.to_owned() },
            Problem::Passphrase => KeyError::Passphrase { path: path.to_owned() },
        })?;
        let kind = || KeyError::Kind { path: path.to_owned(), kind: file.kind.clone() };
        let format = || KeyError::Format { path: path.to_owned() };
        let (signer, comment) = match file.kind.as_str() {
            "ssh-ed25519" => ed25519(&file.fields),
            "ecdsa-sha2-nistp256" => ecdsa(&file.fields, Curve::P256),
            "ecdsa-sha2-nistp384" => ecdsa(&file.fields, Curve::P384),
            "ssh-rsa" => rsa(&file.fields),
            _ => return Err(kind()),
        }
        .ok_or_else(format)?;
        Ok(Self { blob: file.blob, comment: String::from_utf8_lossy(comment).into_owned(), signer })
    }

    /// Signs `data`; `None` when the key cannot do what `flags` ask for.
    pub(crate) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let (algorithm, signature) = match &self.signer {
            Signer::Ed25519(key) => ("ssh-ed25519", key.sign(data).as_ref().to_vec()),
            Signer::Ecdsa(algorithm, key) => {
                let fixed = key.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = fixed.as_ref().split_at(fixed.as_ref().len() / 2);
                let mut signature = Vec::new();
                put_positive(&mut signature, r);
                put_positive(&mut signature, s);
                (*algorithm, signature)
            }
            Signer::Rsa(key) => {
                let (algorithm, padding): (_, &'static dyn RsaEncoding) = match flags {
                    RSA_SHA2_512 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    RSA_SHA2_256 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &SystemRandom::new(), data, &mut signature).ok()?;
                (algorithm, signature)
            }
        };
        let mut blob = Vec::new();
        put_string(&mut blob, algorithm.as_bytes());
        put_string(&mut blob, &signature);
        Some(blob)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("comment", &self.comment).finish_non_exhaustive()
    }
}

/// Makes a signer of the fields of a key, and returns its comment: public key, private key and public key again, comment.
fn ed25519(mut fields: &[u8]) -> Option<(Signer, &[u8])> {
    let (public, private) = (take_string(&mut fields)?, take_string(&mut fields)?);
    let seed = private.get(..32)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
    Some((Signer::Ed25519(pair), take_string(&mut fields)?))
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

/// The same: name of the curve, public point, private number, comment.
fn ecdsa(mut fields: &[u8], curve: Curve) -> Option<(Signer, &[u8])> {
    let _curve = take_string(&mut fields)?;
    let (public, private) = (take_string(&mut fields)?, digits(take_string(&mut fields)?));
    let (name, algorithm, size) = match curve {
        Curve::P256 => ("ecdsa-sha2-nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING, 32),
        Curve::P384 => ("ecdsa-sha2-nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING, 48_usize),
    };
    let padded = [vec![0; size.checked_sub(private.len())?], private.to_vec()].concat();
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &padded, public, &random).ok()?;
    Some((Signer::Ecdsa(name, pair), take_string(&mut fields)?))
}

/// The same: modulus, exponents, inverse of the second prime, primes, comment.
fn rsa(mut fields: &[u8]) -> Option<(Signer, &[u8])> {
    let mut number = || take_string(&mut fields).map(digits);
    let (n, e, d) = (number()?, number()?, number()?);
    let (inverse, p, q) = (number()?, number()?, number()?);
    let one = BigUint::from(1_u8);
    let of = |prime: &[u8]| {
        let prime = BigUint::from_bytes_be(prime);
        (prime > one).then(|| (BigUint::from_bytes_be(d) % (prime - &one)).to_bytes_be())
    };
    let (of_p, of_q) = (of(p)?, of(q)?);
    let components = KeyPairComponents {
        public_key: rsa::PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: &of_p[..],
        dQ: &of_q[..],
        qInv: inverse,
    };
    let pair = rsa::KeyPair::from_components(&components).ok()?;
    Some((Signer::Rsa(Box::new(pair)), take_string(&mut fields)?))
}

/// The digits of a positive number, without leading zeros.
fn digits(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}
