//! Why an exchange with a server failed. No message holds a password, a token or a query.

use std::error::Error as _;
use std::fmt;
use std::time::Duration;

use crate::shown::{At, shown};

/// Why there was no answer, or why its body could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ExchangeError {
    #[error("cannot find the host of {at}")]
    Lookup { at: At, source: Cause },
    #[error("{at} found nothing that listens there")]
    ConnectionRefused { at: At, source: Cause },
    #[error("{at} cannot connect")]
    Connect { at: At, source: Cause },
    #[error("{at} found no trustworthy TLS server")]
    Tls { at: At, source: Cause },
    #[error("{at} took longer than {after:?} {phase}")]
    Timeout { at: At, phase: Phase, after: Duration },
    #[error("{at} lost its connection")]
    Broken { at: At, source: Cause },
    #[error("{at} was sent to {to}, which is not followed: {reason}")]
    Redirect { at: At, to: String, reason: &'static str },
    #[error("{at} was answered with more than the {limit} bytes that are read")]
    TooLarge { at: At, limit: u64 },
}

/// What a request was waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A connection.
    Connecting,
    /// The beginning of the answer.
    Waiting,
    /// More bytes, in either direction.
    Transferring,
}

/// The innermost cause of a failed connection.
pub struct Cause(reqwest::Error);

impl ExchangeError {
    /// Tells whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::ConnectionRefused { .. } | Self::Connect { .. } => true,
            Self::Timeout { .. } | Self::Broken { .. } => true,
            Self::Tls { .. } | Self::Redirect { .. } | Self::TooLarge { .. } => false,
        }
    }

    /// Tells whether no server was reached.
    pub fn is_unreachable(&self) -> bool {
        let is_connecting = matches!(self, Self::Timeout { phase: Phase::Connecting, .. });
        is_connecting || matches!(self, Self::Lookup { .. } | Self::ConnectionRefused { .. } | Self::Connect { .. })
    }

    /// Returns the request that failed.
    pub fn at(&self) -> &At {
        match self {
            Self::Lookup { at, .. }
            | Self::ConnectionRefused { at, .. }
            | Self::Connect { at, .. }
            | Self::Tls { at, .. }
            | Self::Timeout { at, .. }
            | Self::Broken { at, .. }
            | Self::Redirect { at, .. }
            | Self::TooLarge { at, .. } => at,
        }
    }

    /// Sorts out why sending failed.
    pub(crate) fn sending(at: At, error: reqwest::Error, connect_timeout: Duration) -> Self {
        if error.is_connect() && error.is_timeout() {
            return Self::Timeout { at, phase: Phase::Connecting, after: connect_timeout };
        }
        let source = Cause(error.without_url());
        let is_connect = source.0.is_connect();
        if source.is_tls() {
            Self::Tls { at, source }
        } else if !is_connect {
            Self::Broken { at, source }
        } else if source.is_io(std::io::ErrorKind::ConnectionRefused) {
            Self::ConnectionRefused { at, source }
        } else if format!("{:?}", source.0).contains("dns error") {
            Self::Lookup { at, source }
        } else {
            Self::Connect { at, source }
        }
    }

    pub(crate) fn no_tls(at: At, error: reqwest::Error) -> Self {
        Self::Tls { at, source: Cause(error) }
    }

    pub(crate) fn receiving(at: At, error: reqwest::Error) -> Self {
        Self::Broken { at, source: Cause(error.without_url()) }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "to connect",
            Self::Waiting => "to answer",
            Self::Transferring => "without a byte, or with hardly any",
        })
    }
}

impl Cause {
    fn chain(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        std::iter::successors(self.0.source(), |&error| error.source())
    }

    fn is_io(&self, kind: std::io::ErrorKind) -> bool {
        self.chain().filter_map(|error| error.downcast_ref::<std::io::Error>()).any(|error| error.kind() == kind)
    }

    fn is_tls(&self) -> bool {
        self.chain().any(is_tls)
    }
}

/// Looks through the I/O errors that a TLS error is wrapped in; they do not show it as their source.
fn is_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>() || wrapped.is_some_and(|wrapped| is_tls(wrapped))
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let innermost = self.chain().last().map_or_else(|| self.0.to_string(), ToString::to_string);
        f.write_str(&shown(&innermost))
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {}
