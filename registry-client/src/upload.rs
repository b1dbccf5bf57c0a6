//! Putting one blob into a repository, with as few bytes as possible.
//!
//! ```text
//! HEAD ─here▶ done
//!   │ not here
//! POST ?mount&from ─201▶ done          one try per other repository of this registry
//!   │ 202: a session, as POST gives
//! PUT the whole blob ─201▶ done
//!   │ cut, 5xx, 429: HEAD again, then GET the session: how much arrived?
//!   ├─ some: PATCH the rest, PUT nothing
//!   └─ unknown, or the session is lost: a new session
//! ```
//!
//! Spec: distribution-spec 1.1, end-2, end-4, end-5, end-6, end-11, end-13, end-14.

use std::sync::Arc;

use http_transport::{Answer, ExchangeError, Failure as _, Payload as _, shown_url};
use oci::{BlobError, BlobSource, Descriptor};
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use url::Url;

use crate::error::RequestError;
use crate::origin::Repository;
use crate::payload::{BlobPayload, Payload};
use crate::push::Outcome;
use crate::transport::{Access, Call, Transport};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// An attempt that got this far on does not count as failed.
const PROGRESS: u64 = 1 << 20;

/// A blob on its way.
pub(crate) struct Upload<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) access: &'a Access,
    pub(crate) blob: &'a Descriptor,
    pub(crate) from: &'a Arc<dyn BlobSource>,
    pub(crate) mount_from: &'a [Repository],
}

/// Why an upload failed.
pub(crate) enum UploadFailure {
    Request(RequestError),
    Blob(BlobError),
}

impl From<RequestError> for UploadFailure {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

/// Where the registry takes the bytes, and how many it has.
#[derive(Clone)]
struct Session {
    url: Url,
    received: u64,
}

enum Mount {
    Mounted,
    Session(Session),
    Unavailable,
}

impl Upload<'_> {
    pub(crate) async fn run(&self) -> Result<Outcome, UploadFailure> {
        if self.exists().await? {
            return Ok(Outcome::Existed);
        }
        let session = match self.mount().await {
            Mount::Mounted => return Ok(Outcome::Mounted),
            Mount::Session(session) => Some(session),
            Mount::Unavailable => None,
        };
        self.upload(session).await
    }

    async fn exists(&self) -> Result<bool, RequestError> {
        let url = self.access.repository.url(&format!("blobs/{}", self.blob.digest));
        match self.transport.retried(self.access, &Call::new(Method::HEAD, url)).await {
            Ok(_) => Ok(true),
            // Where even that is refused, the next request is too, and its answer has words.
            Err(error) if error.is_not_found() || error.is_denied() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tries to have the blob linked from other repositories. It is only a shortcut: whatever fails is seen again on the way
    /// around it.
    async fn mount(&self) -> Mount {
        let mut left = Mount::Unavailable;
        for other in self.mount_from {
            let access = self.access.and_pull(other);
            let mut url = self.access.repository.url("blobs/uploads/");
            let digest = self.blob.digest.to_string();
            url.query_pairs_mut().append_pair("mount", &digest).append_pair("from", &other.path);
            let Ok(answer) = self.transport.exchange(&access, &Call::new(Method::POST, url)).await else { continue };
            if answer.status() == 201 {
                self.cancel(left).await;
                return Mount::Mounted;
            }
            if let Ok(session) = self.session(&answer) {
                self.cancel(std::mem::replace(&mut left, Mount::Session(session))).await;
            }
        }
        left
    }

    /// Tells the registry that a session is not needed. It would end by itself some day.
    async fn cancel(&self, mount: Mount) {
        if let Mount::Session(session) = mount {
            drop(self.transport.exchange(self.access, &Call::new(Method::DELETE, session.url)).await);
        }
    }

    async fn upload(&self, mut session: Option<Session>) -> Result<Outcome, UploadFailure> {
        let mut attempts = self.transport.attempts();
        let mut best = 0;
        loop {
            let mut current = match session.take() {
                Some(session) => session,
                None => self.start().await?,
            };
            let is_resumed = current.received > 0;
            let error = match self.send(&mut current).await {
                Ok(()) => return Ok(Outcome::Uploaded),
                Err(UploadFailure::Request(error)) => error,
                Err(failure) => return Err(failure),
            };
            if error.is_transient() || error.is_not_found() || is_resumed {
                attempts.after_any(error).await?;
            } else {
                return Err(error.into());
            }
            // The answer may be all that was lost.
            if self.exists().await? {
                return Ok(Outcome::Uploaded);
            }
            session = if is_resumed { None } else { self.resumable(&current).await };
            let received = session.as_ref().map_or(0, |session| session.received);
            if received >= best + PROGRESS {
                best = received;
                attempts.reset();
            }
        }
    }

    async fn start(&self) -> Result<Session, RequestError> {
        let url = self.access.repository.url("blobs/uploads/");
        let answer = self.transport.retried(self.access, &Call::new(Method::POST, url)).await?;
        self.session(&answer)
    }

    /// Sends what the registry does not have.
    async fn send(&self, session: &mut Session) -> Result<(), UploadFailure> {
        let payload = BlobPayload::new(Arc::clone(self.from), self.blob.clone(), session.received);
        let body = Payload::Blob(Box::new(payload.clone()));
        let sent = if session.received == 0 {
            self.finish(session, body).await
        } else {
            self.patch_and_finish(session, body).await
        };
        match (sent, payload.take_failure()) {
            (Ok(()), _) => Ok(()),
            (Err(_), Some(failure)) => Err(UploadFailure::Blob(failure)),
            (Err(error), None) => Err(error.into()),
        }
    }

    async fn patch_and_finish(&self, session: &mut Session, rest: Payload) -> Result<(), RequestError> {
        if rest.size() > 0 {
            let range = format!("{}-{}", session.received, self.blob.size - 1);
            let range = HeaderValue::from_str(&range).unwrap_or(HeaderValue::from_static(""));
            let call = Call::new(Method::PATCH, session.url.clone()).header(CONTENT_TYPE, OCTETS);
            let call = call.header(CONTENT_RANGE, range).payload(rest);
            let answer = self.transport.exchange(self.access, &call).await?;
            session.url = self.session(&answer)?.url;
        }
        self.finish(session, Payload::Empty).await
    }

    async fn finish(&self, session: &Session, body: Payload) -> Result<(), RequestError> {
        let mut url = session.url.clone();
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let call = Call::new(Method::PUT, url).header(CONTENT_TYPE, OCTETS).payload(body);
        let answer = self.transport.exchange(self.access, &call).await?;
        if answer.status() == 202 {
            return Err(RequestError::Protocol { at: answer.at, reason: "it takes the blob for unfinished" });
        }
        Ok(())
    }

    /// Asks how much of the blob arrived; `None` when the session cannot be continued.
    async fn resumable(&self, session: &Session) -> Option<Session> {
        let answer = self.transport.exchange(self.access, &Call::new(Method::GET, session.url.clone())).await.ok()?;
        let last: u64 = answer.header(RANGE)?.rsplit_once('-')?.1.trim().parse().ok()?;
        // `0-0` is also what registries say when nothing arrived.
        let received = Some(last + 1).filter(|received| last > 0 && *received <= self.blob.size)?;
        let url = self.session(&answer).map_or_else(|_| session.url.clone(), |session| session.url);
        Some(Session { url, received })
    }

    /// Reads where a session goes on.
    fn session(&self, answer: &Answer) -> Result<Session, RequestError> {
        let at = answer.at.clone();
        let Some(url) = answer.location() else {
            return Err(RequestError::Protocol { at, reason: "it has no usable `Location`" });
        };
        match self.access.repository.objection(answer.url(), &url) {
            Some(reason) => Err(ExchangeError::Redirect { at, to: shown_url(&url), reason }.into()),
            None => Ok(Session { url, received: 0 }),
        }
    }
}
