//! Why talking to a registry failed: one error for a single request, and one for each operation made of requests.
//!
//! ```text
//! cannot pull registry.example.com/team/app:1.4                                     PullError
//!   GET https://registry.example.com/v2/team/app/manifests/1.4 was refused (401 …)  RequestError
//!     registry says UNAUTHORIZED: please connect to the VPN                         RegistryWords
//! ```
//!
//! What was tried (whose credentials, which scope) is [`RequestError::tried`]. No message holds a password, a token or a query.

use std::fmt;
use std::time::Duration;

use http_transport::{At, ExchangeError, Failure, shown};
use oci::{BlobError, Descriptor, Digest, DocumentError, MediaType, Platform, Reference};

use crate::credentials::{CredentialError, Tried};

/// Why one request to a registry, or to its token service, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum RequestError {
    #[error("`{registry}` is not the address of a registry")]
    Address { registry: String },
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("{at} was answered with {received} of {expected} bytes")]
    Cut { at: At, received: u64, expected: u64 },
    #[error(transparent)]
    Status(Box<Refusal>),
    #[error("{at} was answered against the protocol: {reason}")]
    Protocol { at: At, reason: &'static str },
    #[error("{at} names the token service {realm}, which is not asked: {reason}")]
    Realm { at: At, realm: String, reason: &'static str },
    #[error("cannot read the credentials for {registry}")]
    Credentials { registry: String, source: CredentialError },
}

/// A request that was answered with an error status.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are HTTP's own")]
pub struct Refusal {
    pub at: At,
    pub status: u16,
    /// How long the registry asks to wait, if it does.
    pub retry_after: Option<Duration>,
    /// Whose credentials were sent, and the scope that was asked for.
    pub tried: Tried,
    /// What the registry says about it, if it says something.
    pub words: Option<RegistryWords>,
}

/// What a registry or token service says of a failure, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryWords {
    codes: Vec<String>,
    text: String,
}

impl RequestError {
    /// Returns the status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// Tells whether the registry does not have what was asked for.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Tells whether the registry, or its token service, does not allow it.
    pub fn is_denied(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// Tells whether the registry found that what it was sent is not what its digest says.
    pub fn is_spoilt(&self) -> bool {
        let Self::Status(refusal) = self else { return false };
        refusal.words.as_ref().is_some_and(|words| words.has_code("DIGEST_INVALID"))
    }

    /// Tells whether no registry was reached.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Exchange(error) if error.is_unreachable())
    }

    /// Returns whose credentials and which scope were tried, when the registry refused.
    pub fn tried(&self) -> Option<&Tried> {
        match self {
            Self::Status(refusal) => Some(&refusal.tried),
            _ => None,
        }
    }

    /// Returns the registry's own words, if it answered with some.
    pub fn words(&self) -> Option<&RegistryWords> {
        match self {
            Self::Status(refusal) => refusal.words.as_ref(),
            _ => None,
        }
    }
}

impl Failure for RequestError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Exchange(error) => error.is_transient(),
            Self::Cut { .. } => true,
            Self::Status(refusal) => http_transport::is_transient(refusal.status),
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = reqwest::StatusCode::from_u16(self.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("unknown status");
        let what = match self.status {
            401 | 403 => "was refused",
            404 => "was not found",
            429 => "was one request too many",
            _ => "failed",
        };
        write!(f, "{} {what} ({} {reason})", self.at, self.status)?;
        match self.retry_after {
            Some(wait) => write!(f, "; the registry asks to wait {} s", wait.as_secs()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.words.as_ref().map(|words| words as _)
    }
}

impl RegistryWords {
    /// Reads the body of an error answer: OCI's envelope, a token service's JSON, or plain text.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let (codes, text) = match json.as_ref().and_then(|json| envelope(json).or_else(|| loose(json))) {
            Some(found) => found,
            None => (Vec::new(), String::from_utf8_lossy(body).into_owned()),
        };
        let text = shown(&text);
        (!text.is_empty()).then_some(Self { codes, text })
    }

    /// Tells whether the registry named this error code of distribution-spec.
    pub fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|held| held == code)
    }
}

fn envelope(json: &serde_json::Value) -> Option<(Vec<String>, String)> {
    let errors = json.get("errors")?.as_array()?;
    let text = |error: &serde_json::Value, name: &str| error.get(name).and_then(|v| v.as_str()).map(str::to_owned);
    let codes: Vec<String> = errors.iter().filter_map(|error| text(error, "code")).collect();
    let line = |error: &serde_json::Value| match (text(error, "code"), text(error, "message")) {
        (Some(code), Some(message)) if !message.is_empty() => Some(format!("{code}: {message}")),
        (code, message) => code.or(message),
    };
    let lines: Vec<String> = errors.iter().filter_map(line).collect();
    Some((codes, lines.join("; ")))
}

fn loose(json: &serde_json::Value) -> Option<(Vec<String>, String)> {
    let names = ["error_description", "details", "detail", "message", "error"];
    let text = names.iter().find_map(|name| json.get(name)?.as_str())?;
    Some((Vec::new(), text.to_owned()))
}

impl fmt::Display for RegistryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registry says {}", self.text)
    }
}

impl std::error::Error for RegistryWords {}

/// Why a name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ResolveError {
    #[error("cannot find {name}")]
    NotFound { name: Box<Reference>, source: Box<RequestError> },
    #[error("cannot resolve {name}")]
    Request { name: Box<Reference>, source: Box<RequestError> },
    #[error("cannot resolve {name}: what the registry sends is not a manifest")]
    Manifest { name: Box<Reference>, source: DocumentError },
    #[error("cannot resolve {name}: the registry sent the manifest {actual} instead of {expected}")]
    DigestMismatch { name: Box<Reference>, expected: Digest, actual: Digest },
    #[error("cannot resolve {name}: manifest {} has {actual} bytes instead of the {} that were announced", .expected.digest, .expected.size)]
    SizeMismatch { name: Box<Reference>, expected: Box<Descriptor>, actual: u64 },
}

/// Why an image or a blob could not be pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum PullError {
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("cannot pull {name}: it has no image for {platform} ({})", list(.available))]
    NoPlatform { name: Box<Reference>, platform: Box<Platform>, available: Vec<Platform> },
    #[error("cannot pull {name}: its indexes are nested more than {limit} deep")]
    TooDeep { name: Box<Reference>, limit: usize },
    #[error("cannot pull {name}: it is no container image, its config is `{media_type}`")]
    NotAnImage { name: Box<Reference>, media_type: MediaType },
    #[error("cannot pull {name}: it has {count} layers, more than the {limit} that are read")]
    TooManyLayers { name: Box<Reference>, count: usize, limit: usize },
    #[error("cannot pull {name}: its manifest has {layers} layers, but its config has {diff_ids} diff IDs")]
    LayerCount { name: Box<Reference>, layers: usize, diff_ids: usize },
    #[error("cannot pull {name}: its config is not one")]
    Config { name: Box<Reference>, source: DocumentError },
    #[error("cannot find blob {digest} of {name}")]
    BlobNotFound { name: Box<Reference>, digest: Digest, source: Box<RequestError> },
    #[error("cannot pull blob {digest} of {name}")]
    Request { name: Box<Reference>, digest: Digest, source: Box<RequestError> },
    #[error("cannot pull blob {digest} of {name}: the registry sends more than its {size} bytes")]
    TooLong { name: Box<Reference>, digest: Digest, size: u64 },
    #[error("cannot pull blob {digest} of {name}")]
    Blob { name: Box<Reference>, digest: Digest, source: BlobError },
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(|platform| shown(&platform.to_string())).collect();
    if names.is_empty() { "it names no platform at all".to_owned() } else { format!("it has {}", names.join(", ")) }
}

/// Why an image could not be pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum PushError {
    #[error("cannot push {name}: its manifest has digest {actual}, but {expected} was asked for")]
    DigestMismatch { name: Box<Reference>, expected: Digest, actual: Digest },
    #[error("cannot push blob {digest} of {name}")]
    Request { name: Box<Reference>, digest: Digest, source: Box<RequestError> },
    #[error("cannot push blob {digest} of {name}: it cannot be read")]
    Blob { name: Box<Reference>, digest: Digest, source: BlobError },
    #[error("cannot push the manifest of {name}")]
    Manifest { name: Box<Reference>, source: Box<RequestError> },
}

/// Why credentials were not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum LoginError {
    #[error("`{registry}` is not the name of a registry")]
    Name { registry: String },
    #[error("{registry} does not accept these credentials")]
    Refused { registry: String, source: Box<RequestError> },
    #[error("cannot log in to {registry}")]
    Request { registry: String, source: Box<RequestError> },
}

macro_rules! request_of {
    ($error:ident, $($variant:ident)|+) => {
        impl $error {
            /// Returns the request that failed, if one did.
            pub fn request(&self) -> Option<&RequestError> {
                match self {
                    $(Self::$variant { source, .. } => Some(source),)+
                    _ => None,
                }
            }
        }
    };
}

request_of!(ResolveError, NotFound | Request);
request_of!(PushError, Request | Manifest);
request_of!(LoginError, Refused | Request);

impl PullError {
    /// Returns the request that failed, if one did.
    pub fn request(&self) -> Option<&RequestError> {
        match self {
            Self::Resolve(error) => error.request(),
            Self::BlobNotFound { source, .. } | Self::Request { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Option<&str>) {
        let words = RegistryWords::read(body.as_bytes()).map(|words| words.to_string());
        assert_eq!(words.as_deref(), expected, "{body}");
    }

    #[test]
    fn the_registrys_words_are_found_in_every_usual_form() {
        check(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#, Some("registry says DENIED: no"));
        check(r#"{"errors":[{"code":"A"},{"code":"B","message":"b","detail":{}}]}"#, Some("registry says A; B: b"));
        check(r#"{"details":"incorrect username or password"}"#, Some("registry says incorrect username or password"));
        check(r#"{"error":"invalid_grant","error_description":"expired"}"#, Some("registry says expired"));
        check("Bad\n  Gateway\u{7}", Some("registry says Bad Gateway\\u{7}"));
        check("", None);
        check(r#"{"errors":[]}"#, None);
    }
}
