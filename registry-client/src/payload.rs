//! What a request carries, in a form that can be sent again.
//!
//! A blob is read on a blocking thread, one chunk ahead of what is sent: the last chunk leaves only after the whole blob turned
//! out to be the one described, so a spoilt blob is never sent whole.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use oci::{BlobError, BlobSource, Descriptor};
use reqwest::Body;
use tokio::sync::mpsc;

const CHUNK: usize = 256 << 10;
const CHUNKS_AHEAD: usize = 4;

/// The body of a request.
#[derive(Clone)]
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes),
    Blob(Box<BlobPayload>),
}

/// A blob from `offset` to its end.
#[derive(Clone)]
pub(crate) struct BlobPayload {
    source: Arc<dyn BlobSource>,
    blob: Descriptor,
    offset: u64,
    failure: Arc<Mutex<Option<BlobError>>>,
    sent: Arc<AtomicU64>,
}

impl http_transport::Payload for Payload {
    fn size(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(payload) => payload.size(),
        }
    }

    fn body(&self) -> Body {
        match self {
            Self::Blob(payload) if payload.size() > 0 => Body::wrap_stream(payload.chunks()),
            Self::Empty | Self::Blob(_) => Body::from(Bytes::new()),
            Self::Bytes(bytes) => Body::from(bytes.clone()),
        }
    }

    fn sent(&self) -> Option<u64> {
        match self {
            Self::Blob(payload) => Some(payload.sent.load(Ordering::Relaxed)),
            Self::Empty | Self::Bytes(_) => None,
        }
    }
}

impl BlobPayload {
    pub(crate) fn new(source: Arc<dyn BlobSource>, blob: Descriptor, offset: u64) -> Self {
        Self { source, blob, offset, failure: Arc::default(), sent: Arc::default() }
    }

    fn size(&self) -> u64 {
        self.blob.size.saturating_sub(self.offset)
    }

    /// Takes the reason why the blob could not be read, if that is why a request failed.
    pub(crate) fn take_failure(&self) -> Option<BlobError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn chunks(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
        let payload = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = payload.read(&send) {
                *payload.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                // A body that ends in an error cannot pass for a whole one.
                let _ = send.blocking_send(Err(io::ErrorKind::InvalidData.into()));
            }
        });
        let sent = Arc::clone(&self.sent);
        stream::unfold(receive, move |mut receive| {
            let sent = Arc::clone(&sent);
            async move {
                let chunk: io::Result<Bytes> = receive.recv().await?;
                let length = chunk.as_ref().map_or(0, Bytes::len);
                sent.fetch_add(length as u64, Ordering::Relaxed);
                Some((chunk, receive))
            }
        })
    }

    fn read(&self, send: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), BlobError> {
        let mut reader = self.source.open(&self.blob)?;
        let mut skip = self.offset;
        let mut held = Bytes::new();
        loop {
            let chunk = Bytes::from(self.chunk(&mut reader)?);
            let is_last = chunk.is_empty();
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= skipped as u64;
            let ready = std::mem::replace(&mut held, chunk.slice(skipped..));
            let is_unwanted = !ready.is_empty() && send.blocking_send(Ok(ready)).is_err();
            if is_last || is_unwanted {
                return Ok(());
            }
        }
    }

    /// Reads a full chunk, or what is left; nothing at the verified end.
    fn chunk(&self, reader: &mut impl Read) -> Result<Vec<u8>, BlobError> {
        let mut chunk = Vec::with_capacity(CHUNK);
        match reader.take(CHUNK as u64).read_to_end(&mut chunk) {
            Ok(_) => Ok(chunk),
            Err(source) => Err(into_blob_error(source, &self.blob)),
        }
    }
}

/// Finds the blob error that a verifying reader wrapped, or wraps an I/O error into one.
fn into_blob_error(error: io::Error, blob: &Descriptor) -> BlobError {
    match error.downcast::<BlobError>() {
        Ok(error) => error,
        Err(source) => BlobError::Io { action: "read", digest: blob.digest.clone(), source },
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use oci::{Digest, MediaType};
    use test_support::MemoryBlobs;

    use super::*;

    async fn send(content: &[u8], described: &[u8], offset: u64) -> (Vec<u8>, bool, Option<BlobError>) {
        let blobs = MemoryBlobs::default();
        blobs.put_as(Digest::of(described), content);
        let blob = Descriptor::of(MediaType::OCI_LAYER, described);
        let payload = BlobPayload::new(Arc::new(blobs), blob, offset);
        let chunks: Vec<_> = payload.chunks().collect().await;
        let is_whole = chunks.iter().all(Result::is_ok);
        let bytes = chunks.into_iter().flatten().flatten().collect();
        (bytes, is_whole, payload.take_failure())
    }

    #[tokio::test]
    async fn a_blob_is_sent_from_any_offset() {
        let content: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for offset in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, content.len() - 1, content.len()] {
            let (bytes, is_whole, failure) = send(&content, &content, offset as u64).await;
            assert!(bytes == content[offset..] && is_whole && failure.is_none(), "offset {offset}");
        }
    }

    #[tokio::test]
    async fn a_spoilt_blob_is_never_sent_whole() {
        let described = vec![7_u8; CHUNK * 2];
        let mut content = described.clone();
        content[0] = 8;
        let (bytes, is_whole, failure) = send(&content, &described, 0).await;
        assert!(bytes.len() < described.len() && !is_whole);
        assert!(matches!(failure, Some(BlobError::DigestMismatch { .. })), "{failure:?}");
    }
}
