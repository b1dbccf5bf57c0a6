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
    /// Opens `blob` for reading; the reader fails when the bytes turn out not to be the blob's, as far as they are not known to be.
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
    check: Check,
    digest: Digest,
    size: u64,
    read: u64,
}

/// What is still to be compared when the bytes end.
#[derive(Debug)]
enum Check {
    Digest(Box<Hasher>),
    Size,
    Done,
}

impl<R: Read> Verified<R> {
    /// Reads `inner` as the content of `blob`.
    pub fn new(inner: R, blob: &Descriptor) -> Self {
        Self::with(inner, blob, Check::Digest(Box::new(Hasher::new(blob.digest.algorithm()))))
    }

    /// Reads `inner` as the content of `blob`, whose digest was compared when the bytes were kept: only their number is compared.
    pub fn known(inner: R, blob: &Descriptor) -> Self {
        Self::with(inner, blob, Check::Size)
    }

    fn with(inner: R, blob: &Descriptor, check: Check) -> Self {
        Self { inner, check, digest: blob.digest.clone(), size: blob.size, read: 0 }
    }

    /// Reads through `wrap` from here on; what it hands out is verified as before.
    pub fn map<S>(self, wrap: impl FnOnce(R) -> S) -> Verified<S> {
        let Self { inner, check, digest, size, read } = self;
        Verified { inner: wrap(inner), check, digest, size, read }
    }

    fn finish(&mut self) -> io::Result<()> {
        let check = std::mem::replace(&mut self.check, Check::Done);
        if matches!(check, Check::Done) {
            return Ok(());
        }
        if self.read != self.size {
            let (digest, expected, actual) = (self.digest.clone(), self.size, self.read);
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                BlobError::SizeMismatch { digest, expected, actual },
            ));
        }
        let Check::Digest(hasher) = check else { return Ok(()) };
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
        if let Check::Digest(hasher) = &mut self.check {
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

    #[test]
    fn of_known_bytes_only_the_number_is_compared() {
        let blob = Descriptor::of(MediaType::OCI_LAYER, b"hello");
        let read = |content: &'static [u8]| Verified::known(content, &blob).read_to_end(&mut Vec::new());
        assert_eq!(read(b"hellO").unwrap(), 5);
        assert!(read(b"hell").is_err() && read(b"hello!").is_err());
    }
}
