//! Agents on sockets, asked as a client would.

#![cfg(test)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::signature::{self, UnparsedPublicKey};
use ssh_agent::{Agent, AgentError, Key, KeyError, Serving};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn public(name: &str) -> PublicKey {
    PublicKey::from_openssh(&std::fs::read_to_string(key(&format!("{name}.pub"))).unwrap()).unwrap()
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

fn sign_request(key: &PublicKey, flags: u32) -> Vec<u8> {
    [&[13][..], &string(&key.to_bytes().unwrap()), &string(b"data"), &flags.to_be_bytes()].concat()
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
fn check_signature(key: &PublicKey, answer: &[u8], algorithm: &str) {
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
    match key.key_data() {
        KeyData::Ed25519(key) => UnparsedPublicKey::new(&signature::ED25519, &key.0).verify(b"data", signature),
        KeyData::Ecdsa(key) if algorithm.ends_with("256") => {
            UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, key.as_sec1_bytes()).verify(b"data", &fixed(32))
        }
        KeyData::Ecdsa(key) => {
            UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, key.as_sec1_bytes()).verify(b"data", &fixed(48))
        }
        KeyData::Rsa(key) => {
            let padding = if algorithm.ends_with("512") {
                &signature::RSA_PKCS1_2048_8192_SHA512
            } else {
                &signature::RSA_PKCS1_2048_8192_SHA256
            };
            let (n, e) = (key.n.as_positive_bytes().unwrap(), key.e.as_positive_bytes().unwrap());
            signature::RsaPublicKeyComponents { n, e }.verify(padding, b"data", signature)
        }
        other => panic!("{other:?}"),
    }
    .unwrap_or_else(|_| panic!("{algorithm}: the signature is wrong"));
}

const KINDS: [(&str, u32, &str); 5] = [
    ("ed25519", 0, "ssh-ed25519"),
    ("ecdsab256", 0, "ecdsa-sha2-nistp256"),
    ("ecdsab384", 0, "ecdsa-sha2-nistp384"),
    ("rsab2048", 2, "rsa-sha2-256"),
    ("rsab2048", 4, "rsa-sha2-512"),
];

#[test]
fn every_kind_of_key_is_listed_and_signs() {
    let files = ["ed25519", "ecdsab256", "ecdsab384", "rsab2048"].map(key);
    let site = Site::new(Agent::of_keys(&files).unwrap());
    let answer = site.ask(&[11]);
    assert_eq!((answer[0], &answer[1..5]), (12, &[0, 0, 0, 4][..]));
    let listed = strings(&answer[5..]);
    assert_eq!(listed[..2], [&public("ed25519").to_bytes().unwrap()[..], b"test ed25519"]);
    for (name, flags, algorithm) in KINDS {
        let key = public(name);
        check_signature(&key, &site.ask(&sign_request(&key, flags)), algorithm);
    }
    assert_eq!(site.ask(&sign_request(&public("rsab2048"), 0)), [5], "SHA-1");
}

#[test]
fn only_listing_and_signing_get_through() {
    let mut site = Site::new(Agent::of_keys(&[key("ed25519")]).unwrap());
    site.serve("b", Agent::forward(&site.directory.path().join("a")).unwrap());
    for name in ["a", "b"] {
        let mut stream = site.connect(name);
        for kind in [0, 1, 9, 17, 18, 19, 20, 22, 23, 25, 26, 27, 255] {
            assert_eq!(ask(&mut stream, &[&[kind][..], &[0; 40]].concat()), [5], "type {kind}");
        }
        assert_eq!(ask(&mut stream, &[13, 0, 0, 0, 1]), [5], "a request that ends early");
        let key = public("ed25519");
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
    let error = |path: &Path| Key::read(path).unwrap_err();
    assert!(matches!(error(&key("passphrase")), KeyError::Passphrase { .. }));
    assert!(matches!(error(&key("ed25519.pub")), KeyError::Format { .. }));
    assert!(matches!(error(&key("ecdsab521")), KeyError::Kind { kind, .. } if kind == "ecdsa-sha2-nistp521"));
    assert!(matches!(error(&key("none")), KeyError::Read { .. }));
    assert!(matches!(Agent::forward(&key("none")).unwrap_err(), AgentError::Unreachable { .. }));
    assert!(!format!("{:?}", Key::read(&key("ed25519")).unwrap()).contains("private"));
}
