//! What connections are made with: trust, proxies, patience.

use std::fmt;
use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, NoProxy, Proxy};

/// What a [`Wire`](crate::Wire) is made with.
#[derive(Clone)]
pub struct WireOptions {
    /// Certificate bundles in PEM form, trusted beside the machine's.
    pub extra_ca_pem: Vec<Vec<u8>>,
    /// The proxies to go through.
    pub proxies: Proxies,
    /// How the client names itself: the `User-Agent` header.
    pub user_agent: String,
    /// How long servers are waited for.
    pub timeouts: Timeouts,
}

/// The proxies to go through; none by default, whatever the environment says.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For http URLs.
    pub http: Option<String>,
    /// For https URLs.
    pub https: Option<String>,
    /// Hosts that are asked directly, in the form of `NO_PROXY`.
    pub except: Option<String>,
}

/// How long to wait for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the beginning of an answer, after the request was sent.
    pub head: Duration,
    /// For the next byte of a body, in either direction.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), head: Duration::from_secs(30), stall: Duration::from_secs(30) }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ClientError {
    #[error("CA bundle {} is not one in PEM form", .number + 1)]
    Certificate { number: usize, source: reqwest::Error },
    #[error("CA bundle {} holds no certificate", .number + 1)]
    NoCertificate { number: usize },
    #[error("a proxy's URL is not one")]
    Proxy { source: reqwest::Error },
    #[error("`{}` cannot be a User-Agent", .text.escape_debug())]
    UserAgent { text: String },
    #[error("cannot prepare an HTTP client")]
    Build { source: reqwest::Error },
}

impl WireOptions {
    /// No proxy, the machine's certificates, the usual patience.
    pub fn new(user_agent: &str) -> Self {
        Self {
            extra_ca_pem: Vec::new(),
            proxies: Proxies::default(),
            user_agent: user_agent.to_owned(),
            timeouts: Timeouts::default(),
        }
    }

    pub(crate) fn certificates(&self) -> Result<Vec<Certificate>, ClientError> {
        let mut all = Vec::new();
        for (number, pem) in self.extra_ca_pem.iter().enumerate() {
            let found =
                Certificate::from_pem_bundle(pem).map_err(|source| ClientError::Certificate { number, source })?;
            if found.is_empty() {
                return Err(ClientError::NoCertificate { number });
            }
            all.extend(found);
        }
        Ok(all)
    }

    pub(crate) fn user_agent(&self) -> Result<HeaderValue, ClientError> {
        HeaderValue::from_str(&self.user_agent).map_err(|_| ClientError::UserAgent { text: self.user_agent.clone() })
    }
}

impl Proxies {
    pub(crate) fn list(&self) -> Result<Vec<Proxy>, ClientError> {
        let except = self.except.as_deref().and_then(NoProxy::from_string);
        let mut all = Vec::new();
        let bad = |source| ClientError::Proxy { source };
        if let Some(url) = &self.https {
            all.push(Proxy::https(url).map_err(bad)?.no_proxy(except.clone()));
        }
        if let Some(url) = &self.http {
            all.push(Proxy::http(url).map_err(bad)?.no_proxy(except));
        }
        Ok(all)
    }
}

impl fmt::Debug for WireOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("WireOptions");
        debug.field("proxies", &self.proxies).field("user_agent", &self.user_agent);
        debug.field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

impl fmt::Debug for Proxies {
    // A proxy's URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("except", &self.except).finish_non_exhaustive()
    }
}
