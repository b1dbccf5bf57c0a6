//! Files by HTTP.
//!
//! ```text
//! HttpFiles::get ─▶ head of the answer ─▶ Download ─▶ write_to: bytes into a file, hashed on the way
//!                                             ▲            │ cut: the rest, if it is still the same file; else all anew
//!                                             └────────────┘
//! ```
//!
//! - At most 10 redirects, never from https to http, never to another scheme; an `Authorization` stays with its origin.
//! - Link-local addresses are not asked: who writes a Dockerfile must not learn what a cloud tells its machines.
//! - 408, 429, 5xx and lost connections are repeated.
//! - Bytes are stored as sent: `Content-Encoding` is not looked at.

mod download;
mod error;
mod file_name;
mod writer;

use std::fmt;
use std::sync::Arc;

use http_transport::{
    Answer as Head, Attempts, Empty, Message, Origin, Redirects, RetryPolicy, Wire, WireOptions, redirect_objection,
    retry_after,
};
use reqwest::Method;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, RETRY_AFTER,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use url::Url;

use crate::authorization::HttpAuthorization;
use crate::source::HttpSource;

pub use download::{Download, Downloaded};
pub use error::HttpFileError;

const MAX_REDIRECTS: usize = 10;
/// Bytes of an error's body that are read.
const MAX_ERROR_BODY: usize = 8 << 10;

/// Fetches files; cloning it shares connections.
#[derive(Clone, Debug)]
pub struct HttpFiles {
    wire: Arc<Wire>,
    retry: RetryPolicy,
}

/// What a server says to a request for a file.
#[derive(Debug)]
pub enum Answer {
    /// The file is still the one that the validators are of.
    NotModified,
    /// Here it is.
    File(Box<Download>),
}

/// By what a server recognises a version of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// The `ETag` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The `Last-Modified` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
}

impl HttpFiles {
    /// Prepares connections; none is made yet.
    ///
    /// # Errors
    ///
    /// [`http_transport::ClientError`] when an option is not what it should be.
    pub fn new(options: &WireOptions, retry: RetryPolicy) -> Result<Self, http_transport::ClientError> {
        Ok(Self { wire: Arc::new(Wire::new(options)?), retry })
    }

    /// Asks for a file; `known` are the validators of an earlier answer.
    ///
    /// `authorization` goes to the origin of the source only; without it, user and password of the URL do.
    ///
    /// # Errors
    ///
    /// [`HttpFileError::Exchange`], [`HttpFileError::Status`] when the server does not have it or does not give it.
    pub async fn get(
        &self,
        source: &HttpSource,
        authorization: Option<&HttpAuthorization>,
        known: Option<&Validators>,
    ) -> Result<Answer, HttpFileError> {
        let url = source.parsed_url();
        let authorization = authorization.or(source.authorization()).map(HttpAuthorization::header);
        let authorization = Origin::of(url).zip(authorization);
        let request = Request { wire: Arc::clone(&self.wire), url: url.clone(), authorization };
        let known = known.map(Validators::conditions).unwrap_or_default();
        let mut attempts = self.retry.start();
        let head = request.retried(&mut attempts, &known).await?;
        if head.status() == 304 && !known.is_empty() {
            return Ok(Answer::NotModified);
        }
        Ok(Answer::File(Box::new(Download::new(request, head, attempts)?)))
    }
}

/// One file of one server, to be asked for as often as it takes.
struct Request {
    wire: Arc<Wire>,
    url: Url,
    authorization: Option<(Origin, HeaderValue)>,
}

impl Request {
    /// Asks until there is an answer that is no error, or until no more attempts are left.
    async fn retried(&self, attempts: &mut Attempts, headers: &HeaderMap) -> Result<Head, HttpFileError> {
        loop {
            match self.send(headers).await {
                Ok(head) => return Ok(head),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    /// Asks once; 2xx, 304 and 416 are answers.
    async fn send(&self, headers: &HeaderMap) -> Result<Head, HttpFileError> {
        let mut headers = headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let objection = |from: &Url, to: &Url| redirect_objection(&self.url, from, to);
        let message = Message {
            method: Method::GET,
            url: self.url.clone(),
            headers,
            payload: &Empty,
            authorization: self.authorization.clone(),
            redirects: Redirects { limit: MAX_REDIRECTS, objection: &objection },
        };
        let sent = self.wire.send(message).await;
        let head = sent.map_err(|source| HttpFileError::Exchange { url: self.shown(), source })?;
        match head.status() {
            200..=299 | 304 | 416 => Ok(head),
            _ => Err(self.refusal(head).await),
        }
    }

    async fn refusal(&self, head: Head) -> HttpFileError {
        let status = head.status();
        let retry_after = head.header(RETRY_AFTER).and_then(|value| retry_after(value, OffsetDateTime::now_utc()));
        let is_text = head.header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/plain"));
        let body = if is_text { head.read_some(MAX_ERROR_BODY).await } else { Vec::new() };
        let body = String::from_utf8_lossy(&body);
        let line = body.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let words = Some(http_transport::shown(line)).filter(|line| !line.is_empty());
        HttpFileError::Status { url: self.shown(), status, retry_after, words }
    }

    /// Returns the URL without anything that may be secret.
    fn shown(&self) -> String {
        http_transport::shown_url(&self.url)
    }
}

impl Validators {
    fn of(head: &Head) -> Self {
        let text = |name: HeaderName| head.header(name).map(str::to_owned);
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// Returns the headers that ask for the file only if it is another one.
    fn conditions(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let pairs = [(IF_NONE_MATCH, &self.etag), (IF_MODIFIED_SINCE, &self.last_modified)];
        for (name, value) in pairs {
            // What was kept on disk may have become no header.
            if let Some(value) = value.as_deref().and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// Returns what `If-Range` can compare: a strong entity tag, else the date.
    fn if_range(&self) -> Option<HeaderValue> {
        let strong = self.etag.as_deref().filter(|etag| etag.starts_with('"'));
        HeaderValue::from_str(strong.or(self.last_modified.as_deref())?).ok()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.shown())
    }
}
