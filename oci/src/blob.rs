//! How blobs move: a place that hands out verified bytes, and a place that takes them.
//!
//! Both traits are blocking. The store is a source and a sink; tests have their own.

use std::io::{self, Read, Write};

use crate::{Descriptor, Digest, Hasher};

/// Why a blob could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum BlobError {
    #[error("blob {digest} is not here")]
    NotFound { digest: Digest },
    #[error("content has digest {actual}, but {expected} was asked for")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("blob {digest} has {actual} bytes, but its descriptor says {expected}")]
    SizeMismatch { digest: Digest, expected: u64, actual: u64 },
    #[error("cannot {action} blob {digest}")]
    Io { action: &'static str, digest: Digest, source: io::Error },
}

/// A place that holds blobs.
pub trait BlobSource: Send + Sync {
    /// Opens `blob` for reading; the reader fails when the bytes turn out not to be the blob's.
    ///
    /// # Errors
    ///
    /// [`BlobError::NotFound`] when the blob is not here, [`BlobError::Io`] when it cannot be opened.
    fn open(&self, blob: &Descriptor) -> Result<Verified<Box<dyn Read + Send>>, BlobError>;
}

/// A place that blobs are written to.
pub trait BlobSink: Send + Sync {
    /// Starts to receive `blob`; `None` when it is here already.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`] when nothing can be written.
    fn begin(&self, blob: &Descriptor) -> Result<Option<Box<dyn BlobWriter>>, BlobError>;
}

/// One blob on its way into a sink.
///
/// Dropped without [`commit`](Self::commit), the blob is not in the sink; what was received may be kept for a later attempt.
pub trait BlobWriter: Write + Send {
    /// Returns how many bytes are held already, from an earlier attempt or from this one; writing continues there.
    fn received(&self) -> u64;

    /// Forgets what was received; writing continues at the first byte.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`] when what was received cannot be dropped.
    fn restart(&mut self) -> Result<(), BlobError>;

    /// Checks digest and size, and makes the blob visible.
    ///
    /// # Errors
    ///
    /// [`BlobError::DigestMismatch`] or [`BlobError::SizeMismatch`] when the bytes are not the blob's (they are dropped),
    /// [`BlobError::Io`] when they cannot be kept.
    fn commit(self: Box<Self>) -> Result<(), BlobError>;
}

/// A reader that ends in an error unless its bytes are those of a descriptor.
///
/// No byte beyond the descriptor's size is handed out.
#[derive(Debug)]
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    read: u64,
}

impl<R: Read> Verified<R> {
    /// Reads `inner` as the content of `blob`.
    pub fn new(inner: R, blob: &Descriptor) -> Self {
        let hasher = Some(Hasher::new(blob.digest.algorithm()));
        Self { inner, hasher, digest: blob.digest.clone(), size: blob.size, read: 0 }
    }

    /// Reads through `wrap` from here on; what it hands out is verified as before.
    pub fn map<S>(self, wrap: impl FnOnce(R) -> S) -> Verified<S> {
        let Self { inner, hasher, digest, size, read } = self;
        Verified { inner: wrap(inner), hasher, digest, size, read }
    }

    fn finish(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.read != self.size {
            let (digest, expected, actual) = (self.digest.clone(), self.size, self.read);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                BlobError::SizeMismatch { digest, expected, actual },
            ));
        }
        let actual = hasher.finish();
        if actual != self.digest {
            let expected = self.digest.clone();
            return Err(io::Error::new(io::ErrorKind::InvalidData, BlobError::DigestMismatch { expected, actual }));
        }
        Ok(())
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        self.read += count as u64;
        if count == 0 || self.read > self.size {
            return self.finish().map(|()| 0);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    fn read(content: &[u8], described: &[u8]) -> io::Result<Vec<u8>> {
        let blob = Descriptor::of(MediaType::OCI_LAYER, described);
        let mut bytes = Vec::new();
        Verified::new(content, &blob).read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn only_the_described_bytes_are_read_to_their_end() {
        assert_eq!(read(b"hello", b"hello").unwrap(), b"hello");
        assert_eq!(read(b"", b"").unwrap(), b"");
        assert!(read(b"hellO", b"hello").is_err());
        assert!(read(b"hell", b"hello").is_err());
        assert!(read(b"hello!", b"hello").is_err());
    }
}
