//! Requests to a repository: authenticated, refused with the registry's words, repeated where that may help.
//!
//! ```text
//! retried ─▶ exchange ─▶ token held? ─▶ Wire::send ─▶ 401 from the registry itself? ─▶ new token, once ─▶ Wire::send
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http_transport::{
    Answer, Attempts, ClientError, Message, Origin, Redirects, RetryPolicy, Wire, WireOptions, retry_after,
};
use oci::Reference;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use time::OffsetDateTime;
use url::Url;

use crate::auth::{Asking, Authenticator, Grant};
use crate::challenge::Challenge;
use crate::client::ClientOptions;
use crate::credentials::{CredentialSource, Tried};
use crate::error::{Refusal, RegistryWords, RequestError};
use crate::origin::Repository;
use crate::payload::Payload;

const MAX_HOPS: usize = 5;
/// Bytes of an error's body that are read.
const MAX_ERROR_BODY: usize = 64 << 10;

/// Sends requests for all of a client's operations.
pub(crate) struct Transport {
    wire: Arc<Wire>,
    authenticator: Authenticator,
    retry: RetryPolicy,
    insecure: Arc<BTreeSet<String>>,
}

/// A repository and what is to be done in it.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) repository: Repository,
    pub(crate) scopes: Vec<String>,
}

/// One request.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    payload: Payload,
}

impl Call {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), payload: Payload::Empty }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.append(name, value.into());
        self
    }

    #[must_use]
    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }
}

impl Access {
    /// Returns the same access, and reading `other` with it.
    #[must_use]
    pub(crate) fn and_pull(&self, other: &Repository) -> Self {
        let mut access = self.clone();
        access.scopes.push(other.scope("pull"));
        access
    }
}

impl Transport {
    pub(crate) fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let wire = Arc::new(Wire::new(&WireOptions {
            extra_ca_pem: options.trust.extra_ca_pem,
            proxies: options.proxies,
            user_agent: options.user_agent,
            timeouts: options.timeouts,
        })?);
        let insecure = Arc::new(options.trust.insecure);
        let authenticator = Authenticator::new(options.credentials);
        Ok(Self { wire, authenticator, retry: options.retry, insecure })
    }

    /// Returns a transport over the same connections with other credentials.
    pub(crate) fn with_credentials(&self, credentials: Arc<dyn CredentialSource>) -> Self {
        Self {
            wire: Arc::clone(&self.wire),
            authenticator: Authenticator::new(credentials),
            retry: self.retry,
            insecure: Arc::clone(&self.insecure),
        }
    }

    /// Starts to access the repository of `name` with `actions`.
    pub(crate) fn access(&self, name: &Reference, actions: &str) -> Result<Access, RequestError> {
        let repository = Repository::of(name, &self.insecure)?;
        self.wire.allow_host(repository.host());
        let scopes = vec![repository.scope(actions)];
        Ok(Access { repository, scopes })
    }

    /// Starts to access a registry as a whole.
    pub(crate) fn access_registry(&self, registry: &str) -> Result<Access, RequestError> {
        let repository = Repository::new(registry, "", &self.insecure)?;
        self.wire.allow_host(repository.host());
        Ok(Access { repository, scopes: Vec::new() })
    }

    pub(crate) fn attempts(&self) -> Attempts {
        self.retry.start()
    }

    /// Sends a request until it succeeds or may not be repeated any more.
    pub(crate) async fn retried(&self, access: &Access, call: &Call) -> Result<Answer, RequestError> {
        let mut attempts = self.attempts();
        loop {
            match self.exchange(access, call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// Sends a request until its whole answer, of at most `limit` bytes, is here; `read` keeps what it needs of the head.
    pub(crate) async fn fetch<T>(
        &self,
        access: &Access,
        call: &Call,
        limit: u64,
        head: impl Fn(&Answer) -> T,
    ) -> Result<(T, Vec<u8>), RequestError> {
        let mut attempts = self.attempts();
        loop {
            let fetched = async {
                let answer = self.exchange(access, call).await?;
                let head = head(&answer);
                Ok::<_, RequestError>((head, answer.read(limit).await?))
            };
            match fetched.await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// Sends a request once, twice if its token had expired; every status but success is an error.
    pub(crate) async fn exchange(&self, access: &Access, call: &Call) -> Result<Answer, RequestError> {
        let asking = Asking { wire: &self.wire, access, retry: self.retry };
        let mut grant = self.authenticator.held(asking).await?;
        let mut answer = self.send(access, call, grant.as_ref()).await?;
        if let Some(challenge) = challenge(access, &answer) {
            let renewed = self.authenticator.renew(asking, challenge, grant.as_ref()).await?;
            if renewed.is_some() {
                grant = renewed;
                answer = self.send(access, call, grant.as_ref()).await?;
            }
        }
        if (200..300).contains(&answer.status()) {
            return Ok(answer);
        }
        let tried = grant.map(|grant| grant.tried).unwrap_or_default();
        Err(refusal(answer, tried).await)
    }

    async fn send(&self, access: &Access, call: &Call, grant: Option<&Grant>) -> Result<Answer, RequestError> {
        let objection = |from: &Url, to: &Url| access.repository.objection(from, to);
        let message = Message {
            method: call.method.clone(),
            url: call.url.clone(),
            headers: call.headers.clone(),
            payload: &call.payload,
            authorization: access.repository.origin().zip(grant.map(|grant| grant.header.clone())),
            redirects: redirects(&objection),
        };
        Ok(self.wire.send(message).await?)
    }
}

/// Allows as many redirects as a registry needs.
pub(crate) fn redirects<'a>(objection: &'a (dyn Fn(&Url, &Url) -> Option<&'static str> + Sync)) -> Redirects<'a> {
    Redirects { limit: MAX_HOPS, objection }
}

/// Returns the challenge of an answer, if the registry itself asks for credentials.
fn challenge(access: &Access, answer: &Answer) -> Option<Challenge> {
    let is_own = Origin::of(answer.url()) == access.repository.origin();
    if answer.status() != 401 || !is_own {
        return None;
    }
    Challenge::choose(answer.headers(WWW_AUTHENTICATE))
}

/// Makes an error of an answer that is no success.
pub(crate) async fn refusal(answer: Answer, tried: Tried) -> RequestError {
    let at = answer.at.clone();
    let status = answer.status();
    let retry_after = answer.header(RETRY_AFTER).and_then(|value| retry_after(value, OffsetDateTime::now_utc()));
    let words = RegistryWords::read(&answer.read_some(MAX_ERROR_BODY).await);
    RequestError::Status(Box::new(Refusal { at, status, retry_after, tried, words }))
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("wire", &self.wire).field("retry", &self.retry).finish_non_exhaustive()
    }
}
