//! Blobs in memory: the other end of a transfer in tests.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use oci::{BlobError, BlobSink, BlobSource, BlobWriter, Descriptor, Digest, Hasher, MediaType, Verified};

/// A blob source and sink that holds its blobs, and the beginnings of unfinished ones, in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs {
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    blobs: BTreeMap<Digest, Vec<u8>>,
    partial: BTreeMap<Digest, Vec<u8>>,
    restarts: usize,
}

impl MemoryBlobs {
    /// Holds `bytes` and describes them.
    pub fn put(&self, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        self.held().blobs.insert(descriptor.digest.clone(), bytes.to_vec());
        descriptor
    }

    /// Holds `bytes` as the blob `digest` without checking them.
    pub fn put_as(&self, digest: Digest, bytes: &[u8]) {
        self.held().blobs.insert(digest, bytes.to_vec());
    }

    /// Holds `bytes` as what an earlier attempt received of `digest`.
    pub fn put_partial(&self, digest: Digest, bytes: &[u8]) {
        self.held().partial.insert(digest, bytes.to_vec());
    }

    /// Returns a finished blob.
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.held().blobs.get(digest).cloned()
    }

    /// Returns what was received of an unfinished blob.
    pub fn partial(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.held().partial.get(digest).cloned()
    }

    /// Counts how often a writer was told to start again.
    pub fn restarts(&self) -> usize {
        self.held().restarts
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no test panics while it holds the blobs")
    }
}

impl BlobSource for MemoryBlobs {
    fn open(&self, blob: &Descriptor) -> Result<Verified<Box<dyn Read + Send>>, BlobError> {
        let bytes = self.blob(&blob.digest).ok_or_else(|| BlobError::NotFound { digest: blob.digest.clone() })?;
        Ok(Verified::new(Box::new(Cursor::new(bytes)), blob))
    }
}

impl BlobSink for MemoryBlobs {
    fn begin(&self, blob: &Descriptor) -> Result<Option<Box<dyn BlobWriter>>, BlobError> {
        let mut held = self.held();
        if held.blobs.contains_key(&blob.digest) {
            return Ok(None);
        }
        let bytes = held.partial.remove(&blob.digest).unwrap_or_default();
        Ok(Some(Box::new(MemoryWriter { blobs: self.clone(), blob: blob.clone(), bytes, is_kept: true })))
    }
}

struct MemoryWriter {
    blobs: MemoryBlobs,
    blob: Descriptor,
    bytes: Vec<u8>,
    is_kept: bool,
}

impl Write for MemoryWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemoryWriter {
    fn received(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn restart(&mut self) -> Result<(), BlobError> {
        self.bytes.clear();
        self.blobs.held().restarts += 1;
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), BlobError> {
        self.is_kept = false;
        let (digest, expected, actual) = (self.blob.digest.clone(), self.blob.size, self.received());
        if actual != expected {
            return Err(BlobError::SizeMismatch { digest, expected, actual });
        }
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&self.bytes);
        let actual = hasher.finish();
        if actual != digest {
            return Err(BlobError::DigestMismatch { expected: digest, actual });
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.blobs.held().blobs.insert(digest, bytes);
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if self.is_kept && !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.blobs.held().partial.insert(self.blob.digest.clone(), bytes);
        }
    }
}
