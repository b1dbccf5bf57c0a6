//! Agents on sockets, asked as a client would.

#![cfg(test)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::error::Unspecified;
use ring::signature::{self, UnparsedPublicKey};
use ssh_agent::{Agent, AgentError, Key, KeyError, Serving};

/// Keys that are made when they are first asked for, by `ssh-keygen`: no private key stands in this repository.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Returns the file of a key, named `TYPE-BITS`.
    fn file(&self, name: &str) -> PathBuf {
        self.locked(name, "")
    }

    fn locked(&self, name: &str, passphrase: &str) -> PathBuf {
        let path = self.0.path().join(name);
        if !path.exists() {
            let (kind, bits) = name.split_once('-').unwrap();
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", kind, "-b", bits, "-N", passphrase, "-C", name, "-f"]).arg(&path);
            assert!(command.status().expect("the package openssh-client").success());
        }
        path
    }

    /// Returns a public key, as the protocol names it.
    fn public(&self, name: &str) -> Vec<u8> {
        let path = format!("{}.pub", self.file(name).display());
        let text = std::fs::read_to_string(path).unwrap();
        STANDARD.decode(text.split(' ').nth(1).unwrap()).unwrap()
    }
}

/// An agent that answers at a socket.
struct Site {
    directory: tempfile::TempDir,
    serving: Vec<Serving>,
}

impl Site {
    fn new(agent: Agent) -> Self {
        let mut site = Self { directory: tempfile::tempdir().unwrap(), serving: Vec::new() };
        site.serve("a", agent);
        site
    }

    fn serve(&mut self, name: &str, agent: Agent) {
        let listener = UnixListener::bind(self.directory.path().join(name)).unwrap();
        self.serving.push(Arc::new(agent).serve(listener).unwrap());
    }

    fn connect(&self, name: &str) -> UnixStream {
        UnixStream::connect(self.directory.path().join(name)).unwrap()
    }

    fn ask(&self, request: &[u8]) -> Vec<u8> {
        ask(&mut self.connect("a"), request)
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn ask(stream: &mut UnixStream, request: &[u8]) -> Vec<u8> {
    stream.write_all(&string(request)).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer
}

fn sign_request(key: &[u8], flags: u32) -> Vec<u8> {
    [&[13][..], &string(key), &string(b"data"), &flags.to_be_bytes()].concat()
}

/// Splits concatenated strings.
fn strings(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut strings = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (string, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        strings.push(string);
        bytes = rest;
    }
    strings
}

/// Checks that an answer is a signature of `data`, by this algorithm.
fn check_signature(key: &[u8], answer: &[u8], algorithm: &str) {
    assert_eq!(answer[0], 14, "{algorithm}: {answer:?}");
    let blob = strings(&answer[1..])[0];
    let [name, signature] = strings(blob)[..] else { panic!("{blob:?}") };
    assert_eq!(name, algorithm.as_bytes());
    let fixed = |size: usize| -> Vec<u8> {
        let padded = |number: &[u8]| {
            let digits = number.strip_prefix(&[0]).unwrap_or(number);
            [vec![0; size - digits.len()], digits.to_vec()].concat()
        };
        strings(signature).into_iter().flat_map(padded).collect()
    };
    match (algorithm, &strings(key)[1..]) {
        ("ssh-ed25519", [public]) => UnparsedPublicKey::new(&signature::ED25519, public).verify(b"data", signature),
        ("ecdsa-sha2-nistp256", [_curve, point]) => {
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(b"data", &fixed(32))
        }
        ("ecdsa-sha2-nistp384", [_curve, point]) => {
            UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(b"data", &fixed(48))
        }
        ("rsa-sha2-256", [e, n]) => verify_rsa((n, e), &signature::RSA_PKCS1_2048_8192_SHA256, signature),
        ("rsa-sha2-512", [e, n]) => verify_rsa((n, e), &signature::RSA_PKCS1_2048_8192_SHA512, signature),
        other => panic!("{other:?}"),
    }
    .unwrap_or_else(|_| panic!("{algorithm}: the signature is wrong"));
}

fn verify_rsa((n, e): (&[u8], &[u8]), padding: &signature::RsaParameters, signed: &[u8]) -> Result<(), Unspecified> {
    let n = n.strip_prefix(&[0]).unwrap_or(n);
    signature::RsaPublicKeyComponents { n, e }.verify(padding, b"data", signed)
}

const KINDS: [(&str, u32, &str); 5] = [
    ("ed25519-256", 0, "ssh-ed25519"),
    ("ecdsa-256", 0, "ecdsa-sha2-nistp256"),
    ("ecdsa-384", 0, "ecdsa-sha2-nistp384"),
    ("rsa-2048", 2, "rsa-sha2-256"),
    ("rsa-2048", 4, "rsa-sha2-512"),
];

#[test]
fn every_kind_of_key_is_listed_and_signs() {
    let keys = Keys::new();
    let files = ["ed25519-256", "ecdsa-256", "ecdsa-384", "rsa-2048"].map(|name| keys.file(name));
    let site = Site::new(Agent::of_keys(&files).unwrap());
    let answer = site.ask(&[11]);
    assert_eq!((answer[0], &answer[1..5]), (12, &[0, 0, 0, 4][..]));
    let listed = strings(&answer[5..]);
    assert_eq!(listed[..2], [&keys.public("ed25519-256")[..], b"ed25519-256"]);
    for (name, flags, algorithm) in KINDS {
        let key = keys.public(name);
        check_signature(&key, &site.ask(&sign_request(&key, flags)), algorithm);
    }
    assert_eq!(site.ask(&sign_request(&keys.public("rsa-2048"), 0)), [5], "SHA-1");
}

#[test]
fn only_listing_and_signing_get_through() {
    let keys = Keys::new();
    let mut site = Site::new(Agent::of_keys(&[keys.file("ed25519-256")]).unwrap());
    site.serve("b", Agent::forward(&site.directory.path().join("a")).unwrap());
    for name in ["a", "b"] {
        let mut stream = site.connect(name);
        for kind in [0, 1, 9, 17, 18, 19, 20, 22, 23, 25, 26, 27, 255] {
            assert_eq!(ask(&mut stream, &[&[kind][..], &[0; 40]].concat()), [5], "type {kind}");
        }
        assert_eq!(ask(&mut stream, &[13, 0, 0, 0, 1]), [5], "a request that ends early");
        let key = keys.public("ed25519-256");
        check_signature(&key, &ask(&mut stream, &sign_request(&key, 0)), "ssh-ed25519");
    }
}

#[test]
fn whoever_is_connected_is_cut_off_at_the_end() {
    let mut site = Site::new(Agent::of_keys(&[]).unwrap());
    site.serve("b", Agent::forward(&site.directory.path().join("a")).unwrap());
    let mut streams = ["a", "b"].map(|name| site.connect(name));
    streams.iter_mut().for_each(|stream| assert_eq!(ask(stream, &[11]), [12, 0, 0, 0, 0]));
    site.serving.clear();
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    assert!(UnixStream::connect(site.directory.path().join("a")).is_err());
}

#[test]
fn what_is_no_key_is_named() {
    let keys = Keys::new();
    let error = |path: &Path| Key::read(path).unwrap_err();
    assert!(matches!(error(&keys.locked("ed25519-0256", "hush")), KeyError::Passphrase { .. }));
    assert!(matches!(error(&keys.file("ed25519-256").with_extension("pub")), KeyError::Format { .. }));
    assert!(matches!(error(&keys.file("ecdsa-521")), KeyError::Kind { kind, .. } if kind == "ecdsa-sha2-nistp521"));
    let none = keys.0.path().join("none");
    assert!(matches!(error(&none), KeyError::Read { .. }));
    assert!(matches!(Agent::forward(&none).unwrap_err(), AgentError::Unreachable { .. }));
    assert!(!format!("{:?}", Key::read(&keys.file("ed25519-256")).unwrap()).contains("private"));
}
