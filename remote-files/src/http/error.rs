//! Why a file could not be fetched. No message holds a password or a query.

use std::fmt;
use std::io;
use std::time::Duration;

use http_transport::{ExchangeError, Failure, is_transient};

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum HttpFileError {
    #[error("cannot fetch {url}")]
    Exchange { url: String, source: ExchangeError },
    #[error("cannot fetch {url}: the server says {}", Said(*.status, .words.as_deref()))]
    Status { url: String, status: u16, retry_after: Option<Duration>, words: Option<String> },
    #[error("cannot fetch {url}: {reason}")]
    Protocol { url: String, reason: &'static str },
    #[error("cannot fetch {url}: the connection ended after {received} of {expected} bytes")]
    Cut { url: String, received: u64, expected: u64 },
    #[error("cannot keep what {url} sends")]
    Write { url: String, source: io::Error },
}

impl HttpFileError {
    /// Returns the status of the answer, if it was one that names an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Failure for HttpFileError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Exchange { source, .. } => source.is_transient(),
            Self::Status { status, .. } => is_transient(*status),
            Self::Cut { .. } => true,
            Self::Protocol { .. } | Self::Write { .. } => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A status with its name and the server's own words.
struct Said<'a>(u16, Option<&'a str>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = reqwest::StatusCode::from_u16(self.0).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or("unknown status");
        write!(f, "{} {reason}", self.0)?;
        self.1.map_or(Ok(()), |words| write!(f, ": {words}"))
    }
}
