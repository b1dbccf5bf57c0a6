//! One exchange of bytes with a server: connections, timeouts and redirects. Nothing here knows of registries or tokens.
//!
//! ```text
//! message ─▶ send ─▶ redirect? ─no──▶ answer (its body read under a stall timeout)
//!             ▲         │ yes, at most 5, none that the repository objects to
//!             └─────────┘ the Authorization goes along only where its origin is
//! ```
//!
//! Proxies and environment are not looked at; what is needed of them is an option.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Certificate, Method, NoProxy, Proxy, redirect};
use tokio::time::Instant;
use url::Url;

use crate::client::{ClientError, ClientOptions};
use crate::error::{Phase, RequestError};
use crate::origin::{Origin, Repository, is_link_local, stripped};
use crate::payload::Payload;
use crate::shown::{At, shown_url};

const MAX_HOPS: usize = 5;
const MAX_HEADERS: u32 = 64 << 10;
/// A server may need this long for each byte of a body before it answers: 8 MiB in a second.
const BYTES_HANDLED_PER_SECOND: u64 = 8 << 20;
/// Slower than this many bytes in [`PACE_WINDOW`] is a stall.
const MIN_PACE: u64 = 60 << 10;
const PACE_WINDOW: Duration = Duration::from_secs(60);

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

/// A request before it is sent.
pub(crate) struct Message<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: &'a Payload,
    /// Sent to this origin only.
    pub(crate) authorization: Option<(Origin, HeaderValue)>,
    /// On whose behalf.
    pub(crate) repository: &'a Repository,
    pub(crate) follow: Follow,
}

/// Where redirects may lead.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// To any origin that the repository does not object to.
    Anywhere,
    /// To the same origin only, because the payload is a secret.
    SameOrigin,
}

/// The head of an answer; its body is still to be read.
pub(crate) struct Answer {
    response: reqwest::Response,
    pub(crate) at: At,
    stall: Duration,
    pace: Pace,
}

struct Pace {
    since: Instant,
    bytes: u64,
}

/// The connections.
pub(crate) struct Wire {
    plain: reqwest::Client,
    secure: OnceLock<reqwest::Client>,
    options: WireOptions,
    named: Arc<Named>,
}

struct WireOptions {
    certificates: Vec<Certificate>,
    proxies: Vec<Proxy>,
    user_agent: HeaderValue,
    timeouts: Timeouts,
}

impl Wire {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        // Somebody else may have installed one already; any will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let certificates = certificates(&options.trust.extra_ca_pem)?;
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| ClientError::UserAgent { text: options.user_agent.clone() })?;
        let proxies = proxies(options)?;
        let options = WireOptions { certificates, proxies, user_agent, timeouts: options.timeouts };
        let named = Arc::new(Named::default());
        let plain = builder(&options, &named).tls_certs_only([]).build();
        let plain = plain.map_err(|source| ClientError::Build { source })?;
        Ok(Self { plain, secure: OnceLock::new(), options, named })
    }

    /// Lets the resolver hand out any address for this host, because the user named it.
    pub(crate) fn allow_host(&self, host: &str) {
        self.named.0.write().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
    }

    /// Sends a message and follows redirects; any status is an answer.
    pub(crate) async fn send(&self, message: Message<'_>) -> Result<Answer, RequestError> {
        let mut url = message.url.clone();
        for _ in 0..=MAX_HOPS {
            let answer = self.send_once(&message, &url).await?;
            let Some(next) = answer.next_hop(&message.method) else { return Ok(answer) };
            let refuse = |reason| RequestError::Redirect { at: answer.at.clone(), to: shown_url(&next), reason };
            if let Some(reason) = message.repository.objection(&url, &next) {
                return Err(refuse(reason));
            }
            if message.follow == Follow::SameOrigin && Origin::of(&url) != Origin::of(&next) {
                return Err(refuse("another server would get the identity token"));
            }
            url = next;
        }
        let at = At::new(&message.method, &message.url);
        Err(RequestError::Redirect { at, to: shown_url(&url), reason: "it is one redirect too many" })
    }

    async fn send_once(&self, message: &Message<'_>, url: &Url) -> Result<Answer, RequestError> {
        let at = At::new(&message.method, url);
        let client = self.client_for(url, &at)?;
        let mut headers = message.headers.clone();
        let own = message.authorization.as_ref().filter(|(origin, _)| Origin::of(url).as_ref() == Some(origin));
        if let Some((_, value)) = own {
            headers.insert(AUTHORIZATION, value.clone());
        }
        if !matches!(message.method, Method::GET | Method::HEAD) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(message.payload.size()));
        }
        let request = client.request(message.method.clone(), url.clone()).headers(headers);
        let request =
            if matches!(message.payload, Payload::Empty) { request } else { request.body(message.payload.body()) };
        let timeouts = self.options.timeouts;
        let sent = patiently(request.send(), message.payload, timeouts).await;
        let sent = sent.map_err(|(phase, after)| RequestError::Timeout { at: at.clone(), phase, after })?;
        let response = sent.map_err(|error| RequestError::sending(at.clone(), error, timeouts.connect))?;
        Ok(Answer { response, at, stall: timeouts.stall, pace: Pace::start() })
    }

    /// Returns the client for a scheme; the one for https reads the machine's certificates when it is first needed.
    fn client_for(&self, url: &Url, at: &At) -> Result<&reqwest::Client, RequestError> {
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let client = builder(&self.options, &self.named).tls_certs_merge(self.options.certificates.clone()).build();
        let client = client.map_err(|error| RequestError::no_tls(at.clone(), error))?;
        Ok(self.secure.get_or_init(|| client))
    }
}

fn builder(options: &WireOptions, named: &Arc<Named>) -> reqwest::ClientBuilder {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .user_agent(options.user_agent.clone())
        .connect_timeout(options.timeouts.connect)
        .http2_max_header_list_size(MAX_HEADERS)
        .dns_resolver(Resolver(Arc::clone(named)));
    options.proxies.iter().cloned().fold(client, reqwest::ClientBuilder::proxy)
}

fn certificates(bundles: &[Vec<u8>]) -> Result<Vec<Certificate>, ClientError> {
    let mut all = Vec::new();
    for (number, pem) in bundles.iter().enumerate() {
        let found = Certificate::from_pem_bundle(pem).map_err(|source| ClientError::Certificate { number, source })?;
        if found.is_empty() {
            return Err(ClientError::NoCertificate { number });
        }
        all.extend(found);
    }
    Ok(all)
}

fn proxies(options: &ClientOptions) -> Result<Vec<Proxy>, ClientError> {
    let except = options.proxies.except.as_deref().and_then(NoProxy::from_string);
    let mut all = Vec::new();
    let bad = |source| ClientError::Proxy { source };
    if let Some(url) = &options.proxies.https {
        all.push(Proxy::https(url).map_err(bad)?.no_proxy(except.clone()));
    }
    if let Some(url) = &options.proxies.http {
        all.push(Proxy::http(url).map_err(bad)?.no_proxy(except));
    }
    Ok(all)
}

/// Waits for the head of an answer, for as long as the payload keeps moving.
async fn patiently<F: Future>(
    answer: F,
    payload: &Payload,
    timeouts: Timeouts,
) -> Result<F::Output, (Phase, Duration)> {
    let mut answer = std::pin::pin!(answer);
    let handling = timeouts.head + Duration::from_secs(payload.size() / BYTES_HANDLED_PER_SECOND);
    let start = payload.sent();
    let mut sent = start;
    loop {
        let is_sent = match (sent, start) {
            (Some(sent), Some(start)) => sent - start >= payload.size(),
            _ => true,
        };
        let (phase, wait) = if is_sent { (Phase::Waiting, handling) } else { (Phase::Transferring, timeouts.stall) };
        if let Ok(output) = tokio::time::timeout(wait, &mut answer).await {
            return Ok(output);
        }
        if payload.sent() == sent {
            return Err((phase, wait));
        }
        sent = payload.sent();
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns the URL that answered.
    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// Returns a header as text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns every value of a header as text.
    pub(crate) fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the announced length of the body.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// Resolves the `Location` header, without user and password.
    pub(crate) fn location(&self) -> Option<Url> {
        self.url().join(self.header(LOCATION)?).ok().map(stripped)
    }

    fn next_hop(&self, method: &Method) -> Option<Url> {
        let is_read = matches!(*method, Method::GET | Method::HEAD);
        let is_redirect = match self.status() {
            307 | 308 => true,
            301..=303 => is_read,
            _ => false,
        };
        self.location().filter(|_| is_redirect)
    }

    /// Returns the next bytes of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RequestError> {
        let stalled = |after| RequestError::Timeout { at: self.at.clone(), phase: Phase::Transferring, after };
        let Ok(chunk) = tokio::time::timeout(self.stall, self.response.chunk()).await else {
            return Err(stalled(self.stall));
        };
        let chunk = chunk.map_err(|error| RequestError::receiving(self.at.clone(), error))?;
        if chunk.as_ref().is_some_and(|chunk| !self.pace.keeps(chunk.len() as u64)) {
            return Err(stalled(PACE_WINDOW));
        }
        Ok(chunk)
    }

    /// Reads the whole body, of at most `limit` bytes.
    pub(crate) async fn read(mut self, limit: u64) -> Result<Vec<u8>, RequestError> {
        let too_large = |at: &At| RequestError::TooLarge { at: at.clone(), limit };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large(&self.at));
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large(&self.at));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Reads the body up to `limit` bytes, or up to where it fails.
    pub(crate) async fn read_some(mut self, limit: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= limit {
                body.truncate(limit);
                break;
            }
        }
        body
    }
}

impl Pace {
    fn start() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    /// Counts bytes, and tells whether they come fast enough.
    fn keeps(&mut self, bytes: u64) -> bool {
        self.bytes += bytes;
        if self.since.elapsed() < PACE_WINDOW {
            return true;
        }
        let keeps = self.bytes >= MIN_PACE;
        *self = Self::start();
        keeps
    }
}

/// The hosts that the user named.
#[derive(Debug, Default)]
struct Named(RwLock<BTreeSet<String>>);

/// Resolves names with the system's resolver, and forgets link-local addresses of hosts that only a server named.
struct Resolver(Arc<Named>);

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let is_named = self.0.0.read().unwrap_or_else(PoisonError::into_inner).contains(name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<_> = found.filter(|address| is_named || is_usable(*address)).collect();
            Ok(Box::new(usable.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// Tells whether a host that only a server named may have this address.
fn is_usable(address: SocketAddr) -> bool {
    !is_link_local(address.ip())
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("timeouts", &self.options.timeouts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_a_server_knows_lead_to_no_metadata_service() {
        let check =
            |address: &str, expected: bool| assert_eq!(is_usable(address.parse().unwrap()), expected, "{address}");
        check("169.254.169.254:80", false);
        check("[fe80::1]:80", false);
        check("[::ffff:169.254.0.1]:80", false);
        check("[fd00:ec2::254]:80", false);
        check("100.100.100.200:80", false);
        check("10.0.0.1:80", true);
        check("93.184.216.34:443", true);
    }

    #[tokio::test]
    async fn a_connection_that_makes_no_progress_is_given_up() {
        let short = Duration::from_millis(20);
        let timeouts = Timeouts { connect: short, head: short, stall: short };
        let given_up = patiently(std::future::pending::<()>(), &Payload::Empty, timeouts).await;
        assert_eq!(given_up, Err((Phase::Waiting, short)));
    }
}
