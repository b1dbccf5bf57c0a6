//! References: how users name images.
//!
//! ```text
//! registry.example.com:5000/team/app:1.4@sha256:…
//! ╰───── registry ─────────╯╰ path ─╯╰tag╯╰ digest ╯      repository = registry / path
//! ```
//!
//! A name without a registry is Docker Hub's, as docker reads it: `debian` is `docker.io/library/debian`.
//!
//! Spec: distribution-spec 1.1, "Pulling manifests" (name and tag grammar); the defaults are docker's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_NAMESPACE: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The name of an image: registry, path, and a tag or digest or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{}` is not an image reference: {reason}", .text.escape_debug())]
pub struct ReferenceError {
    /// What was given, cut to 300 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Reference {
    /// Returns the registry's host name, with its port if one was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository's path within its registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns registry and path, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.registry, self.path)
    }

    /// Returns the tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the reference with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// Returns the reference by this digest, without its tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns the repository as docker lists it: `debian` for `docker.io/library/debian`.
    pub fn familiar_repository(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.repository();
        }
        self.path.strip_prefix(DEFAULT_NAMESPACE).filter(|rest| !rest.contains('/')).unwrap_or(&self.path).to_owned()
    }

    /// Returns the reference as docker shows it: `debian:latest` for `docker.io/library/debian:latest`.
    pub fn familiar(&self) -> String {
        self.familiar_repository() + &self.suffix()
    }

    fn suffix(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@{digest}")).unwrap_or_default();
        tag + &digest
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|reason| ReferenceError { text: text.chars().take(300).collect(), reason })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| "its digest is not one")?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("its tag is not one (letters, digits, `_`, `.`, `-`; at most 128, not starting with `.` or `-`)");
    }
    let (registry, path) = split_registry(name);
    check_name(registry, &path)?;
    if digest.is_none() && tag.is_none() && is_identifier(name) {
        return Err("64 hexadecimal digits are an image ID, not a name");
    }
    Ok(Reference { registry: registry.to_owned(), path, tag: tag.map(str::to_owned), digest })
}

fn check_name(registry: &str, path: &str) -> Result<(), &'static str> {
    if !is_registry(registry) {
        return Err("its registry is not a host name");
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository's name is lowercase");
    }
    if !path.split('/').all(is_path_component) {
        return Err("a repository's name has lowercase letters and digits, separated by `.`, `_`, `__` or `-`");
    }
    if registry.len() + 1 + path.len() > MAX_NAME {
        return Err("its name is longer than 255 characters");
    }
    Ok(())
}

fn split_registry(name: &str) -> (&str, String) {
    match name.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => {
            let registry = if first == "index.docker.io" { DEFAULT_REGISTRY } else { first };
            let is_official = registry == DEFAULT_REGISTRY && !rest.contains('/');
            (registry, if is_official { format!("{DEFAULT_NAMESPACE}{rest}") } else { rest.to_owned() })
        }
        Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
        None => (DEFAULT_REGISTRY, format!("{DEFAULT_NAMESPACE}{name}")),
    }
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let is_port = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    is_port && (is_ipv6(host) || host.split('.').all(is_host_component))
}

fn is_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_host_component(part: &str) -> bool {
    let is_edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    is_edge(part.bytes().next())
        && is_edge(part.bytes().last())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_path_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separators =
        part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|run| !run.is_empty());
    let has_edges = part.bytes().next().is_some_and(is_word) && part.bytes().last().is_some_and(is_word);
    has_edges && separators.all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_rest = |b: u8| is_first(b) || b == b'.' || b == b'-';
    tag.len() <= MAX_TAG && tag.bytes().next().is_some_and(is_first) && tag.bytes().all(is_rest)
}

fn is_identifier(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.path, self.suffix())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_shortened_as_docker_does() {
        let cases = [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("nilcons/debian", "docker.io/nilcons/debian:latest", "nilcons/debian:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            (
                "localhost:5000/demo/deb-figlet",
                "localhost:5000/demo/deb-figlet:latest",
                "localhost:5000/demo/deb-figlet:latest",
            ),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("Registry/a", "Registry/a:latest", "Registry/a:latest"),
            ("ghcr.io/a/b__c/d--e.f:V1_0", "ghcr.io/a/b__c/d--e.f:V1_0", "ghcr.io/a/b__c/d--e.f:V1_0"),
        ];
        for (text, canonical, familiar) in cases {
            let reference = text.parse::<Reference>().unwrap().or_latest();
            assert_eq!(reference.to_string(), canonical);
            assert_eq!(reference.familiar(), familiar);
        }
    }

    #[test]
    fn a_digest_needs_no_tag() {
        let digest = Digest::of(b"");
        let reference: Reference = format!("a/b:1@{digest}").parse().unwrap();
        assert_eq!((reference.tag(), reference.digest()), (Some("1"), Some(&digest)));
        let reference = format!("a/b@{digest}").parse::<Reference>().unwrap().or_latest();
        assert_eq!(reference.to_string(), format!("docker.io/a/b@{digest}"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let bad = [
            "",
            ":",
            ":tag",
            "a:",
            "a@",
            "a@sha256:0",
            "-rf",
            "a/../b",
            "../a",
            "/a",
            "a/",
            "a//b",
            "A",
            "a/B",
            "a b",
            "a\0",
            "a:b:c",
            "a:-x",
            "a:.x",
            "a___b",
            "a..b",
            "a_",
            "_a",
            "ex ample.com/a",
            "-host.com/a",
            "host.com:x/a",
            "host.com:/a",
            "[::g]/a",
            "a:b/c:d e",
            "é",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "a\u{1b}[31m",
        ];
        for text in bad {
            assert!(text.parse::<Reference>().is_err(), "{text:?} was accepted");
        }
        assert!("a".repeat(300).parse::<Reference>().is_err());
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }
}
