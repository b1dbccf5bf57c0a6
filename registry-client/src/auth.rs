//! Getting let in: Basic, and Bearer tokens from a token service.
//!
//! | rule | why |
//! |---|---|
//! | the scope asked for is ours, whatever the challenge names | a registry must not get tokens for other repositories |
//! | one token per repository and scope, kept until it expires or is refused | |
//! | the token service is asked once for simultaneous requests | |
//! | a password goes to a realm over https, or in plain http to the registry's own origin only | |
//! | an identity token is never sent on by a redirect | it is in the body, which redirects repeat |
//!
//! Spec: docker's token authentication (GET with Basic) and OAuth2 (POST with a refresh token).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_transport::{At, Message, Origin, RetryPolicy, Wire, shown, shown_url, stripped};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use crate::challenge::Challenge;
use crate::credentials::{CredentialSource, Credentials, FoundCredentials, Tried};
use crate::error::RequestError;
use crate::origin::Repository;
use crate::payload::Payload;
use crate::transport::{Access, redirects, refusal};

/// Bytes of a token service's answer that are read at most.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// How long a token is good for when its service does not say.
const DEFAULT_LIFETIME: u64 = 60;
const MAX_LIFETIME: u64 = 24 * 60 * 60;
const CLIENT_ID: &str = "wharf";

/// Holds the tokens of all repositories.
pub(crate) struct Authenticator {
    credentials: Arc<dyn CredentialSource>,
    slots: Mutex<BTreeMap<Key, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// Registry, path and scopes.
type Key = (String, String, Vec<String>);

/// What is known for one key.
#[derive(Default)]
struct Slot {
    challenge: Option<Challenge>,
    grant: Option<Grant>,
    count: u64,
}

/// An `Authorization` header and how it was come by.
#[derive(Clone)]
pub(crate) struct Grant {
    pub(crate) header: HeaderValue,
    pub(crate) tried: Tried,
    expires: Option<Instant>,
    number: u64,
}

/// For what, over which connections and how patiently something is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) wire: &'a Wire,
    pub(crate) access: &'a Access,
    pub(crate) retry: RetryPolicy,
}

/// Where a token is asked for.
struct Service<'a> {
    asking: Asking<'a>,
    realm: Url,
    service: Option<String>,
}

impl Authenticator {
    pub(crate) fn new(credentials: Arc<dyn CredentialSource>) -> Self {
        Self { credentials, slots: Mutex::default() }
    }

    /// Returns what is held for an access, made new if it has expired; `None` when nothing was asked for yet.
    pub(crate) async fn held(&self, asking: Asking<'_>) -> Result<Option<Grant>, RequestError> {
        let slot = self.slot(asking.access);
        let mut slot = slot.lock().await;
        match (&slot.grant, slot.challenge.clone()) {
            (Some(grant), Some(challenge)) if grant.has_expired() => self.fill(&mut slot, asking, challenge).await,
            (grant, _) => Ok(grant.clone()),
        }
    }

    /// Answers a challenge to a request that was sent with `rejected`; `None` when there is nothing better to send.
    pub(crate) async fn renew(
        &self,
        asking: Asking<'_>,
        challenge: Challenge,
        rejected: Option<&Grant>,
    ) -> Result<Option<Grant>, RequestError> {
        let slot = self.slot(asking.access);
        let mut slot = slot.lock().await;
        let is_newer = |held: &&Grant| rejected.is_none_or(|rejected| rejected.number != held.number);
        if let Some(held) = slot.grant.as_ref().filter(is_newer).filter(|held| !held.has_expired()) {
            return Ok(Some(held.clone()));
        }
        if challenge == Challenge::Basic && rejected.is_some() {
            return Ok(None);
        }
        slot.challenge = Some(challenge.clone());
        self.fill(&mut slot, asking, challenge).await
    }

    fn slot(&self, access: &Access) -> Arc<tokio::sync::Mutex<Slot>> {
        let repository = &access.repository;
        let key = (repository.registry.clone(), repository.path.clone(), access.scopes.clone());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_default())
    }

    async fn fill(
        &self,
        slot: &mut Slot,
        asking: Asking<'_>,
        challenge: Challenge,
    ) -> Result<Option<Grant>, RequestError> {
        let repository = &asking.access.repository;
        let found = self.found(repository).await?;
        let grant = match challenge {
            Challenge::Basic => found.as_ref().and_then(basic_grant),
            Challenge::Bearer { realm, service } => {
                let realm = check_realm(repository, &realm, found.is_some())?;
                let service = Service { asking, realm, service };
                Some(service.token(found.as_ref()).await?)
            }
        };
        slot.count += 1;
        slot.grant = grant.map(|grant| Grant { number: slot.count, ..grant });
        Ok(slot.grant.clone())
    }

    async fn found(&self, repository: &Repository) -> Result<Option<FoundCredentials>, RequestError> {
        let source = Arc::clone(&self.credentials);
        let (registry, path) = (repository.registry.clone(), repository.path.clone());
        let found = tokio::task::spawn_blocking(move || source.credentials(&registry, &path)).await;
        let found = found.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        found.map_err(|source| RequestError::Credentials { registry: repository.registry.clone(), source })
    }
}

impl Grant {
    fn new(scheme: &str, secret: &str, tried: Tried) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("{scheme} {secret}")).ok()?;
        header.set_sensitive(true);
        Some(Self { header, tried, expires: None, number: 0 })
    }

    fn has_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= Instant::now())
    }
}

fn basic_header(username: &str, password: &str) -> String {
    STANDARD.encode(format!("{username}:{password}"))
}

fn basic_grant(found: &FoundCredentials) -> Option<Grant> {
    match &found.credentials {
        Credentials::Basic { username, password } => {
            Grant::new("Basic", &basic_header(username, password), Tried::new(Some(found), &[]))
        }
        Credentials::IdentityToken { .. } => None,
    }
}

/// Parses a challenge's realm and checks that it may be asked.
fn check_realm(repository: &Repository, realm: &str, has_credentials: bool) -> Result<Url, RequestError> {
    let base = repository.url("");
    let at = At::new(&Method::GET, &base);
    let refuse = |realm: String, reason| RequestError::Realm { at: at.clone(), realm, reason };
    let Ok(url) = Url::parse(realm) else {
        return Err(refuse(shown(realm), "it is no URL"));
    };
    let url = stripped(url);
    if let Some(reason) = repository.objection(&base, &url) {
        return Err(refuse(shown_url(&url), reason));
    }
    if has_credentials && url.scheme() == "http" && Origin::of(&url) != repository.origin() {
        return Err(refuse(shown_url(&url), "another server would get the password in plain http"));
    }
    Ok(url)
}

/// What a token service answers.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Service<'_> {
    /// Asks for a token, as the account of `found` or anonymously.
    async fn token(&self, found: Option<&FoundCredentials>) -> Result<Grant, RequestError> {
        let tried = Tried::new(found, &self.asking.access.scopes);
        let mut attempts = self.asking.retry.start();
        let answer = loop {
            let asked_at = Instant::now();
            match self.ask(found, &tried).await {
                Ok(body) => break self.read(&body, asked_at),
                Err(error) => attempts.after(error).await?,
            }
        };
        let (token, expires) = answer?;
        let grant = Grant::new("Bearer", &token, tried).ok_or_else(|| self.broken("its token is not one"))?;
        Ok(Grant { expires, ..grant })
    }

    async fn ask(&self, found: Option<&FoundCredentials>, tried: &Tried) -> Result<Vec<u8>, RequestError> {
        let repository = &self.asking.access.repository;
        let anywhere = |from: &Url, to: &Url| repository.objection(from, to);
        let same_origin = |from: &Url, to: &Url| {
            let leaves = Origin::of(from) != Origin::of(to);
            anywhere(from, to).or(leaves.then_some("another server would get the identity token"))
        };
        let mut message = Message {
            method: Method::GET,
            url: self.realm.clone(),
            headers: HeaderMap::new(),
            payload: &Payload::Empty,
            authorization: None,
            redirects: redirects(&anywhere),
        };
        let form;
        match found.map(|found| &found.credentials) {
            Some(Credentials::IdentityToken { token }) => {
                form = Payload::Bytes(self.refresh_form(token));
                message.method = Method::POST;
                message.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                message.payload = &form;
                message.redirects = redirects(&same_origin);
            }
            Some(Credentials::Basic { username, password }) => {
                self.add_query(&mut message.url, Some(username));
                let grant = Grant::new("Basic", &basic_header(username, password), Tried::default());
                message.authorization = Origin::of(&self.realm).zip(grant.map(|grant| grant.header));
            }
            None => self.add_query(&mut message.url, None),
        }
        let answer = self.asking.wire.send(message).await?;
        if (200..300).contains(&answer.status()) {
            Ok(answer.read(MAX_TOKEN_ANSWER).await?)
        } else {
            Err(refusal(answer, tried.clone()).await)
        }
    }

    fn add_query(&self, url: &mut Url, account: Option<&str>) {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(self.service.iter().map(|service| ("service", service)));
        query.extend_pairs(self.asking.access.scopes.iter().map(|scope| ("scope", scope)));
        query.extend_pairs(account.map(|account| ("account", account)));
        query.append_pair("client_id", CLIENT_ID);
    }

    fn refresh_form(&self, token: &str) -> Bytes {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        form.append_pair("service", self.service.as_deref().unwrap_or_default());
        if !self.asking.access.scopes.is_empty() {
            form.append_pair("scope", &self.asking.access.scopes.join(" "));
        }
        Bytes::from(form.append_pair("refresh_token", token).finish())
    }

    fn read(&self, body: &[u8], asked_at: Instant) -> Result<(String, Option<Instant>), RequestError> {
        let answer: TokenAnswer = serde_json::from_slice(body).map_err(|_| self.broken("its token is no JSON"))?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        let token = token.filter(|token| !token.is_empty()).ok_or_else(|| self.broken("it holds no token"))?;
        let lifetime = answer.expires_in.map_or(DEFAULT_LIFETIME, lifetime);
        Ok((token, asked_at.checked_add(Duration::from_secs(lifetime))))
    }

    fn broken(&self, reason: &'static str) -> RequestError {
        RequestError::Protocol { at: At::new(&Method::GET, &self.realm), reason }
    }
}

/// Returns whole seconds out of what JSON calls a number.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is clamped to a day before")]
fn lifetime(seconds: f64) -> u64 {
    if seconds.is_nan() { DEFAULT_LIFETIME } else { seconds.clamp(0.0, MAX_LIFETIME as f64) as u64 }
}
