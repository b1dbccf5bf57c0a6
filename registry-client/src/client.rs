//! The client and what it is made with.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http_transport::{ClientError, Proxies, RetryPolicy, Timeouts};

use crate::credentials::{Anonymous, CredentialSource};
use crate::transport::Transport;

/// Talks to any number of registries; cloning it shares connections and tokens.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

/// What a [`Client`] is made with.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where credentials are found.
    pub credentials: Arc<dyn CredentialSource>,
    /// Which servers are trusted.
    pub trust: Trust,
    /// The proxies to go through.
    pub proxies: Proxies,
    /// How the client names itself: the `User-Agent` header.
    pub user_agent: String,
    /// How requests are repeated.
    pub retry: RetryPolicy,
    /// How long servers are waited for.
    pub timeouts: Timeouts,
}

/// Which servers are trusted, beside those that the machine's certificates vouch for.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Certificate bundles in PEM form.
    pub extra_ca_pem: Vec<Vec<u8>>,
    /// Registries (`host` or `host:port`) that are spoken to in plain http. Loopback ones are anyway.
    pub insecure: BTreeSet<String>,
}

impl ClientOptions {
    /// No credentials, no proxy, the machine's certificates, the usual patience.
    pub fn new(user_agent: &str) -> Self {
        Self {
            credentials: Arc::new(Anonymous),
            trust: Trust::default(),
            proxies: Proxies::default(),
            user_agent: user_agent.to_owned(),
            retry: RetryPolicy::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Client {
    /// Makes a client; nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when an option is not what it should be.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        Ok(Self { transport: Arc::new(Transport::new(options)?) })
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ClientOptions");
        debug.field("user_agent", &self.user_agent).field("retry", &self.retry).field("timeouts", &self.timeouts);
        debug.field("insecure", &self.trust.insecure).finish_non_exhaustive()
    }
}
