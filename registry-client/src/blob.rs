//! Pulling a blob: into a sink, through a bounded channel, resumed where the registry allows it.
//!
//! ```text
//! GET (Range: what is missing) ─chunks▶ channel ─▶ blocking thread ─▶ writer ─▶ commit (digest and size compared)
//!        ▲                                                              │
//!        └────── lost connection, stall, 5xx: from `received()` on ─────┘
//! ```
//!
//! - Never more than the descriptor's size is written.
//! - A range is continued only when the answer's `Content-Range` says exactly that; otherwise the writer starts again.
//! - A blob that was continued from an earlier attempt and turns out wrong is fetched once more as a whole.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http_transport::Answer;
use oci::{BlobError, BlobSink, BlobWriter, Descriptor, Reference};
use reqwest::Method;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderValue, RANGE};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::error::{PullError, RequestError};
use crate::transport::{Access, Call, Transport};

const CHUNKS_AHEAD: usize = 16;
/// An attempt that got this far on does not count as failed.
const PROGRESS: u64 = 1 << 20;

/// What pulling a blob took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// The sink had it already.
    Existed,
    /// It was received, `bytes` of it now; the rest was there from an earlier attempt.
    #[expect(missing_docs, reason = "the variant says it")]
    Received { bytes: u64 },
}

type Writer = Box<dyn BlobWriter>;

impl Client {
    /// Pulls a blob of the repository of `name` into a sink, which verifies it.
    ///
    /// How far it is can be seen by wrapping the sink. Dropping the future keeps what the sink keeps of unfinished blobs.
    ///
    /// # Errors
    ///
    /// [`PullError::BlobNotFound`], [`PullError::Request`], [`PullError::TooLong`]; [`PullError::Blob`] when the bytes are not
    /// the blob's or the sink cannot keep them.
    pub async fn pull_blob(
        &self,
        name: &Reference,
        blob: &Descriptor,
        into: Arc<dyn BlobSink>,
    ) -> Result<Transferred, PullError> {
        let access = self.transport.access(name, "pull");
        let access = access.map_err(|source| PullError::of_blob(name, &blob.digest, source))?;
        let pull = Pull { transport: &self.transport, access, blob, into };
        match pull.run().await {
            Ok(transferred) => Ok(transferred),
            Err(Failure::Request(source)) => Err(PullError::of_blob(name, &blob.digest, source)),
            Err(Failure::Blob(source)) => {
                Err(PullError::Blob { name: Box::new(name.clone()), digest: blob.digest.clone(), source })
            }
            Err(Failure::TooLong) => {
                Err(PullError::TooLong { name: Box::new(name.clone()), digest: blob.digest.clone(), size: blob.size })
            }
        }
    }
}

struct Pull<'a> {
    transport: &'a Transport,
    access: Access,
    blob: &'a Descriptor,
    into: Arc<dyn BlobSink>,
}

enum Failure {
    Request(RequestError),
    Blob(BlobError),
    TooLong,
}

/// How one attempt ended, when the writer is unharmed.
enum Attempt {
    Complete,
    /// Bytes are missing; the next attempt may continue.
    Cut(RequestError),
    /// The registry does not continue as asked; the next attempt must start again.
    NoRanges(RequestError),
    Refused(RequestError),
    TooLong,
}

impl Pull<'_> {
    async fn run(&self) -> Result<Transferred, Failure> {
        let Some(writer) = self.begin().await? else { return Ok(Transferred::Existed) };
        let held = writer.received();
        let (writer, bytes) = self.fill(writer).await?;
        match commit(writer).await {
            Err(BlobError::DigestMismatch { .. } | BlobError::SizeMismatch { .. }) if held > 0 => self.again().await,
            committed => committed.map(|()| Transferred::Received { bytes }).map_err(Failure::Blob),
        }
    }

    /// Pulls the whole blob, because what was there from an earlier attempt was not its beginning.
    async fn again(&self) -> Result<Transferred, Failure> {
        let Some(mut writer) = self.begin().await? else { return Ok(Transferred::Existed) };
        writer.restart().map_err(Failure::Blob)?;
        let (writer, bytes) = self.fill(writer).await?;
        commit(writer).await.map(|()| Transferred::Received { bytes }).map_err(Failure::Blob)
    }

    async fn begin(&self) -> Result<Option<Writer>, Failure> {
        let (sink, blob) = (Arc::clone(&self.into), self.blob.clone());
        blocking(move || sink.begin(&blob)).await.map_err(Failure::Blob)
    }

    /// Fills the writer up to the blob's size, in as many attempts as are allowed; returns the bytes that were received.
    async fn fill(&self, mut writer: Writer) -> Result<(Writer, u64), Failure> {
        let mut attempts = self.transport.attempts();
        let mut total = 0;
        let mut has_ranges = true;
        loop {
            if writer.received() == self.blob.size {
                return Ok((writer, total));
            }
            if writer.received() > self.blob.size || !has_ranges {
                writer = restart(writer).await?;
            }
            let (back, got, attempt) = self.attempt(writer).await?;
            writer = back;
            total += got;
            if got >= PROGRESS {
                attempts.reset();
            }
            match attempt {
                Attempt::Complete => {}
                Attempt::Refused(error) => attempts.after(error).await.map_err(Failure::Request)?,
                Attempt::Cut(error) => attempts.after_any(error).await.map_err(Failure::Request)?,
                Attempt::NoRanges(error) => {
                    has_ranges = false;
                    attempts.after_any(error).await.map_err(Failure::Request)?;
                }
                Attempt::TooLong => return Err(Failure::TooLong),
            }
        }
    }

    async fn attempt(&self, writer: Writer) -> Result<(Writer, u64, Attempt), Failure> {
        let offset = writer.received();
        let answer = match self.transport.exchange(&self.access, &self.call(offset)).await {
            Ok(answer) => answer,
            Err(error) if error.status() == Some(416) => return Ok((writer, 0, Attempt::NoRanges(error))),
            Err(error) => return Ok((writer, 0, Attempt::Refused(error))),
        };
        if let Some(reason) = self.objection(&answer, offset) {
            let error = RequestError::Protocol { at: answer.at.clone(), reason };
            let attempt = if offset > 0 { Attempt::NoRanges(error) } else { Attempt::Refused(error) };
            return Ok((writer, 0, attempt));
        }
        let (writer, offset) = if answer.status() == 206 { (writer, offset) } else { (restart(writer).await?, 0) };
        let (send, thread) = write_on_a_thread(writer);
        let (got, attempt) = self.receive(answer, offset, send).await;
        let (writer, written) = joined(thread).await;
        let fail = |source| BlobError::Io { action: "write", digest: self.blob.digest.clone(), source };
        written.map_err(|source| Failure::Blob(fail(source)))?;
        Ok((writer, got, attempt))
    }

    fn call(&self, offset: u64) -> Call {
        let url = self.access.repository.url(&format!("blobs/{}", self.blob.digest));
        let call = Call::new(Method::GET, url).header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        match HeaderValue::from_str(&format!("bytes={offset}-")) {
            Ok(range) if offset > 0 => call.header(RANGE, range),
            _ => call,
        }
    }

    /// Says why an answer cannot be used; `None` when it can.
    fn objection(&self, answer: &Answer, offset: u64) -> Option<&'static str> {
        if answer.header(CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Some("it is encoded, though that was not asked for");
        }
        match answer.status() {
            200 => None,
            206 if offset > 0 && continues(answer.header(CONTENT_RANGE), offset, self.blob.size) => None,
            206 => Some("it is not the range that was asked for"),
            _ => Some("it is neither a blob nor a part of one"),
        }
    }

    /// Hands the body on until the blob is complete; returns how many bytes that were.
    async fn receive(&self, mut answer: Answer, offset: u64, send: mpsc::Sender<Bytes>) -> (u64, Attempt) {
        let missing = self.blob.size - offset;
        if answer.content_length().is_some_and(|length| length > missing) {
            return (0, Attempt::TooLong);
        }
        let mut got = 0;
        loop {
            let chunk = match answer.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if got == missing => return (got, Attempt::Complete),
                Ok(None) => {
                    let (received, expected) = (offset + got, self.blob.size);
                    return (got, Attempt::Cut(RequestError::Cut { at: answer.at, received, expected }));
                }
                // All that was described is here; how the rest fails does not matter.
                Err(_) if got == missing => return (got, Attempt::Complete),
                Err(error) => return (got, Attempt::Cut(error.into())),
            };
            if got + chunk.len() as u64 > missing {
                return (got, Attempt::TooLong);
            }
            got += chunk.len() as u64;
            if send.send(chunk).await.is_err() {
                // The writer failed, and says so when it is joined.
                return (got, Attempt::Complete);
            }
        }
    }
}

/// Tells whether a `Content-Range` is that of the bytes from `offset` to the end of a blob of `size` bytes.
fn continues(range: Option<&str>, offset: u64, size: u64) -> bool {
    let parts = || {
        let (range, total) = range?.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.trim().split_once('-')?;
        let is_total = total.trim() == "*" || total.trim().parse() == Ok(size);
        Some((first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?, is_total))
    };
    parts().is_some_and(|(first, last, is_total)| first == offset && last >= first && last < size && is_total)
}

type Written = (Writer, std::io::Result<()>);

fn write_on_a_thread(mut writer: Writer) -> (mpsc::Sender<Bytes>, JoinHandle<Written>) {
    let (send, mut receive) = mpsc::channel::<Bytes>(CHUNKS_AHEAD);
    let thread = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receive.blocking_recv() {
            if let Err(error) = writer.write_all(&chunk) {
                return (writer, Err(error));
            }
        }
        let flushed = writer.flush();
        (writer, flushed)
    });
    (send, thread)
}

async fn restart(mut writer: Writer) -> Result<Writer, Failure> {
    if writer.received() == 0 {
        return Ok(writer);
    }
    blocking(move || writer.restart().map(|()| writer)).await.map_err(Failure::Blob)
}

async fn commit(writer: Writer) -> Result<(), BlobError> {
    blocking(move || writer.commit()).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work)).await
}

/// Waits for a blocking thread; its panic is ours.
async fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_range_that_was_asked_for_is_continued() {
        let check = |range: &str, is_good: bool| assert_eq!(continues(Some(range), 10, 100), is_good, "{range}");
        check("bytes 10-99/100", true);
        check("bytes 10-49/100", true);
        check("bytes 10-99/*", true);
        for range in ["", "bytes", "bytes 0-99/100", "bytes 11-99/100", "bytes 10-100/100", "bytes 10-99/101"] {
            check(range, false);
        }
        for range in ["bytes 10-9/100", "bytes */100", "10-99/100", "bytes 10--1/100", "items 10-99/100"] {
            check(range, false);
        }
        assert!(!continues(None, 10, 100));
    }
}
