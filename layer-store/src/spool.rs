//! Bytes on their way into the store, whose digest is not known before they have passed.
//!
//! ```text
//! reader ─hash─▶ tmp/<lease>/spool-<n> ─┬─ keep_blob ─link─▶ blobs/sha256/<hex>
//!                                       └─ apply_tar ─link─▶ layers/<diff-id>/layer.tar, and the tree beside it
//! ```
//!
//! - Nothing of it is visible before somebody asks for it by its digest; dropped, the file is gone.
//! - What is kept is linked, not copied: the bytes are written once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use oci::{Algorithm, BlobError, Descriptor, Digest, Hasher, MediaType};

use crate::blobs::io_error;
use crate::file_error::failed;
use crate::lease::Held;
use crate::{FileError, Store};

const BUFFER: usize = 256 << 10;

/// A file in the store's `tmp/` and the digest of its bytes; dropped, it is removed.
#[derive(Debug)]
pub struct SpooledFile {
    path: PathBuf,
    digest: Digest,
    size: u64,
    /// The directory that the file is in goes with its lease.
    _store: Store,
}

/// Why bytes could not be spooled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SpoolError {
    #[error("its bytes cannot be read")]
    Read(#[source] io::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Writes everything that `content` has into a file of `tmp/`, and digests it.
    ///
    /// # Errors
    ///
    /// [`SpoolError::Read`] when `content` fails, [`SpoolError::File`] when the file cannot be written.
    pub fn spool(&self, content: &mut dyn Read, algorithm: Algorithm) -> Result<SpooledFile, SpoolError> {
        let path = self.temporary("spool")?;
        let mut file = File::create_new(&path).map_err(failed("write", &path))?;
        let (digest, _store) = (Digest::of(b""), self.clone());
        let mut spooled = SpooledFile { path, digest, size: 0, _store };
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; BUFFER];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    file.write_all(&buffer[..count]).map_err(failed("write", &spooled.path))?;
                    hasher.update(&buffer[..count]);
                    spooled.size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SpoolError::Read(error)),
            }
        }
        spooled.digest = hasher.finish();
        Ok(spooled)
    }

    /// Keeps the file as a blob and describes it; repeatable.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`] when it cannot be kept.
    pub fn keep_blob(&self, file: &SpooledFile, media_type: MediaType) -> Result<Descriptor, BlobError> {
        let blob = Descriptor::new(media_type, file.digest.clone(), file.size);
        if self.holds_blob(&blob)? {
            return Ok(blob);
        }
        let path = self.blob_path(&blob.digest);
        let kept = self.temporary("blob").and_then(|link| {
            file.link(&link)?;
            self.hold(Held::Blob(blob.digest.clone()), &path)?;
            self.place_blob(&link, &blob.digest).map_err(failed("keep", &path))
        });
        kept.map_err(|error| io_error("keep", &blob.digest, error))?;
        Ok(blob)
    }
}

impl SpooledFile {
    /// Returns the digest of its bytes.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Returns the number of its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens it for reading, from its first byte.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it cannot be opened.
    pub fn open(&self) -> Result<File, FileError> {
        File::open(&self.path).map_err(failed("open", &self.path))
    }

    /// Gives it a further name.
    pub(crate) fn link(&self, path: &Path) -> Result<(), FileError> {
        std::fs::hard_link(&self.path, path).map_err(failed("make", path))
    }
}

impl Drop for SpooledFile {
    fn drop(&mut self) {
        // what fails here goes with this command's directory in `tmp/`
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spooled_becomes_a_blob_without_a_copy_and_goes_when_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let spooled = store.spool(&mut &b"hello"[..], Algorithm::Sha256).unwrap();
        assert_eq!((spooled.digest(), spooled.size()), (&Digest::of(b"hello"), 5));
        assert!(!store.blob_path(spooled.digest()).exists());
        let blob = store.keep_blob(&spooled, MediaType::OCI_LAYER_GZIP).unwrap();
        assert_eq!(store.keep_blob(&spooled, MediaType::OCI_LAYER_GZIP).unwrap(), blob);
        let path = spooled.path.clone();
        drop(spooled);
        assert!(!path.exists());
        assert_eq!(store.read_blob(&blob.digest, 5).unwrap(), b"hello");
    }

    #[test]
    fn bytes_that_cannot_be_read_leave_no_file() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::InvalidData.into())
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let error = store.spool(&mut (&b"some"[..]).chain(Broken), Algorithm::Sha256).unwrap_err();
        assert!(matches!(error, SpoolError::Read(_)));
        let left = std::fs::read_dir(store.temporary("x").unwrap().parent().unwrap()).unwrap().count();
        assert_eq!(left, 0);
    }
}
