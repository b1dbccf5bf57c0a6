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
use ssh_key::PrivateKey;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};

use crate::protocol::{put_positive, put_string};

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
        let mut text = Vec::new();
        File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text)).map_err(failed)?;
        let format = || KeyError::Format { path: path.to_owned() };
        let key = PrivateKey::from_openssh(text).map_err(|_| format())?;
        if key.is_encrypted() {
            return Err(KeyError::Passphrase { path: path.to_owned() });
        }
        let kind = || KeyError::Kind { path: path.to_owned(), kind: key.algorithm().to_string() };
        Ok(Self {
            blob: key.public_key().to_bytes().map_err(|_| format())?,
            comment: key.comment().to_owned(),
            signer: signer(key.key_data()).ok_or_else(kind)?,
        })
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

fn signer(key: &KeypairData) -> Option<Signer> {
    match key {
        KeypairData::Ed25519(key) => ed25519(key).map(Signer::Ed25519),
        KeypairData::Ecdsa(key) => ecdsa(key),
        KeypairData::Rsa(key) => rsa(key).map(|key| Signer::Rsa(Box::new(key))),
        _ => None,
    }
}

fn ed25519(key: &Ed25519Keypair) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_seed_and_public_key(key.private.as_ref(), key.public.as_ref()).ok()
}

fn ecdsa(key: &EcdsaKeypair) -> Option<Signer> {
    let (name, algorithm, private) = match key {
        EcdsaKeypair::NistP256 { private, .. } => {
            ("ecdsa-sha2-nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING, private.as_slice())
        }
        EcdsaKeypair::NistP384 { private, .. } => {
            ("ecdsa-sha2-nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING, private.as_slice())
        }
        EcdsaKeypair::NistP521 { .. } => return None,
    };
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, key.public_key_bytes(), &random);
    Some(Signer::Ecdsa(name, pair.ok()?))
}

fn rsa(key: &RsaKeypair) -> Option<rsa::KeyPair> {
    let number = |number: &ssh_key::Mpint| number.as_positive_bytes().map(BigUint::from_bytes_be);
    let (d, p, q) = (number(&key.private.d)?, number(&key.private.p)?, number(&key.private.q)?);
    let one = BigUint::from(1_u8);
    if p <= one || q <= one {
        return None;
    }
    let (of_p, of_q) = ((&d % (&p - &one)).to_bytes_be(), (&d % (&q - &one)).to_bytes_be());
    let components = KeyPairComponents {
        public_key: rsa::PublicKeyComponents {
            n: key.public.n.as_positive_bytes()?,
            e: key.public.e.as_positive_bytes()?,
        },
        d: key.private.d.as_positive_bytes()?,
        p: key.private.p.as_positive_bytes()?,
        q: key.private.q.as_positive_bytes()?,
        dP: &of_p[..],
        dQ: &of_q[..],
        qInv: key.private.iqmp.as_positive_bytes()?,
    };
    rsa::KeyPair::from_components(&components).ok()
}
