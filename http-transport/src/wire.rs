//! One exchange of bytes with a server: connections, timeouts and redirects. Nothing here knows what is fetched.
//!
//! ```text
//! message ─▶ send ─▶ redirect? ─no──▶ answer (its body read under a stall timeout)
//!             ▲         │ yes, at most as many as are allowed, none that is objected to
//!             └─────────┘ the Authorization goes along only where its origin is
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Body, Certificate, Method, Proxy, redirect};
use tokio::time::Instant;
use url::Url;

use crate::error::{ExchangeError, Phase};
use crate::options::{ClientError, Timeouts, WireOptions};
use crate::origin::{Origin, is_link_local, stripped};
use crate::shown::{At, shown_url};

const MAX_HEADERS: u32 = 64 << 10;
/// A server may need this long for each byte of a body before it answers: 8 MiB in a second.
const BYTES_HANDLED_PER_SECOND: u64 = 8 << 20;
/// Slower than this many bytes in [`PACE_WINDOW`] is a stall.
const MIN_PACE: u64 = 60 << 10;
const PACE_WINDOW: Duration = Duration::from_secs(60);

/// A request before it is sent.
#[expect(missing_docs, reason = "the other fields are HTTP's own")]
pub struct Message<'a> {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub payload: &'a dyn Payload,
    /// Sent to this origin only.
    pub authorization: Option<(Origin, HeaderValue)>,
    pub redirects: Redirects<'a>,
}

/// Where redirects may lead.
#[derive(Clone, Copy)]
pub struct Redirects<'a> {
    /// How many are followed.
    pub limit: usize,
    /// Says why the second URL may not be visited, coming from the first; `None` when it may.
    pub objection: &'a (dyn Fn(&Url, &Url) -> Option<&'static str> + Sync),
}

/// What a request carries, in a form that can be sent again.
pub trait Payload: Sync {
    /// Returns how many bytes it has.
    fn size(&self) -> u64;

    /// Starts a body; every call starts anew.
    fn body(&self) -> Body;

    /// Returns how many bytes were handed over so far, over all bodies; `None` when that is no sign of progress.
    fn sent(&self) -> Option<u64>;
}

/// The payload of a request that carries nothing.
#[derive(Clone, Copy, Debug)]
pub struct Empty;

impl Payload for Empty {
    fn size(&self) -> u64 {
        0
    }

    fn body(&self) -> Body {
        Body::default()
    }

    fn sent(&self) -> Option<u64> {
        None
    }
}

/// The head of an answer; its body is still to be read.
pub struct Answer {
    response: reqwest::Response,
    /// Where the request went.
    pub at: At,
    stall: Duration,
    pace: Pace,
}

struct Pace {
    since: Instant,
    bytes: u64,
}

/// The connections.
pub struct Wire {
    plain: reqwest::Client,
    secure: OnceLock<reqwest::Client>,
    connecting: Connecting,
    named: Arc<Named>,
}

struct Connecting {
    certificates: Vec<Certificate>,
    proxies: Vec<Proxy>,
    user_agent: HeaderValue,
    timeouts: Timeouts,
}

impl Wire {
    /// Prepares connections; none is made yet.
    ///
    /// # Errors
    ///
    /// [`ClientError`] when an option is not what it should be.
    pub fn new(options: &WireOptions) -> Result<Self, ClientError> {
        // Somebody else may have installed one already; any will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let certificates = options.certificates()?;
        let (user_agent, proxies) = (options.user_agent()?, options.proxies.list()?);
        let connecting = Connecting { certificates, proxies, user_agent, timeouts: options.timeouts };
        let named = Arc::new(Named::default());
        let plain = builder(&connecting, &named).tls_certs_only([]).build();
        let plain = plain.map_err(|source| ClientError::Build { source })?;
        Ok(Self { plain, secure: OnceLock::new(), connecting, named })
    }

    /// Lets the resolver hand out any address for this host, because the user named it.
    pub fn allow_host(&self, host: &str) {
        self.named.0.write().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned());
    }

    /// Sends a message and follows redirects; any status is an answer.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`]: no answer came, or a redirect leads where it must not.
    pub async fn send(&self, message: Message<'_>) -> Result<Answer, ExchangeError> {
        let mut url = message.url.clone();
        for _ in 0..=message.redirects.limit {
            let answer = self.send_once(&message, &url).await?;
            let Some(next) = answer.next_hop(&message.method) else { return Ok(answer) };
            if let Some(reason) = (message.redirects.objection)(&url, &next) {
                return Err(ExchangeError::Redirect { at: answer.at, to: shown_url(&next), reason });
            }
            url = next;
        }
        let at = At::new(&message.method, &message.url);
        Err(ExchangeError::Redirect { at, to: shown_url(&url), reason: "it is one redirect too many" })
    }

    async fn send_once(&self, message: &Message<'_>, url: &Url) -> Result<Answer, ExchangeError> {
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
        let request = if message.payload.size() == 0 { request } else { request.body(message.payload.body()) };
        let timeouts = self.connecting.timeouts;
        let sent = patiently(request.send(), message.payload, timeouts).await;
        let sent = sent.map_err(|(phase, after)| ExchangeError::Timeout { at: at.clone(), phase, after })?;
        let response = sent.map_err(|error| ExchangeError::sending(at.clone(), error, timeouts.connect))?;
        Ok(Answer { response, at, stall: timeouts.stall, pace: Pace::start() })
    }

    /// Returns the client for a scheme; the one for https reads the machine's certificates when it is first needed.
    fn client_for(&self, url: &Url, at: &At) -> Result<&reqwest::Client, ExchangeError> {
        if url.scheme() == "http" {
            return Ok(&self.plain);
        }
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let client =
            builder(&self.connecting, &self.named).tls_certs_merge(self.connecting.certificates.clone()).build();
        let client = client.map_err(|error| ExchangeError::no_tls(at.clone(), error))?;
        Ok(self.secure.get_or_init(|| client))
    }
}

fn builder(connecting: &Connecting, named: &Arc<Named>) -> reqwest::ClientBuilder {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .user_agent(connecting.user_agent.clone())
        .connect_timeout(connecting.timeouts.connect)
        .http2_max_header_list_size(MAX_HEADERS)
        .dns_resolver(Resolver(Arc::clone(named)));
    connecting.proxies.iter().cloned().fold(client, reqwest::ClientBuilder::proxy)
}

/// Waits for the head of an answer, for as long as the payload keeps moving.
async fn patiently<F: Future>(
    answer: F,
    payload: &dyn Payload,
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
    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns the URL that answered.
    pub fn url(&self) -> &Url {
        self.response.url()
    }

    /// Returns a header as text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns every value of a header as text.
    pub fn headers(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the announced length of the body.
    pub fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// Resolves the `Location` header, without user and password.
    pub fn location(&self) -> Option<Url> {
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
    ///
    /// # Errors
    ///
    /// [`ExchangeError::Timeout`] when nothing or hardly anything comes, [`ExchangeError::Broken`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ExchangeError> {
        let stalled = |after| ExchangeError::Timeout { at: self.at.clone(), phase: Phase::Transferring, after };
        let Ok(chunk) = tokio::time::timeout(self.stall, self.response.chunk()).await else {
            return Err(stalled(self.stall));
        };
        let chunk = chunk.map_err(|error| ExchangeError::receiving(self.at.clone(), error))?;
        if chunk.as_ref().is_some_and(|chunk| !self.pace.keeps(chunk.len() as u64)) {
            return Err(stalled(PACE_WINDOW));
        }
        Ok(chunk)
    }

    /// Reads the whole body, of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`ExchangeError::TooLarge`], and what [`chunk`](Self::chunk) returns.
    pub async fn read(mut self, limit: u64) -> Result<Vec<u8>, ExchangeError> {
        let too_large = |at: &At| ExchangeError::TooLarge { at: at.clone(), limit };
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
    pub async fn read_some(mut self, limit: usize) -> Vec<u8> {
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

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("at", &At::new(&self.method, &self.url)).finish_non_exhaustive()
    }
}

impl fmt::Debug for Redirects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirects").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("at", &self.at).field("status", &self.status()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("timeouts", &self.connecting.timeouts).finish_non_exhaustive()
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
        let given_up = patiently(std::future::pending::<()>(), &Empty, timeouts).await;
        assert_eq!(given_up, Err((Phase::Waiting, short)));
    }
}
