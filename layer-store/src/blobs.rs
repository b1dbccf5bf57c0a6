//! Blobs: bytes as received or as pushed, under their digest.
//!
//! A blob that is handed out is held under this command's lease first, so a prune beside it cannot take it away. A file whose
//! size is not the descriptor's is no blob (a machine that lost power leaves such files): it is received again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use oci::{BlobError, BlobSource, Descriptor, Digest, MediaType, Verified};

use crate::lease::{Held, no_follow};
use crate::{FileError, Store};

impl Store {
    /// Keeps `bytes` as a blob and describes it; repeatable.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`] when it cannot be written.
    pub fn put_blob(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, BlobError> {
        let blob = Descriptor::of(media_type, bytes);
        if self.holds_blob(&blob)? {
            return Ok(blob);
        }
        let kept = self.temporary("blob").and_then(|temporary| {
            let written = File::create_new(&temporary).and_then(|mut file| file.write_all(bytes));
            let kept = written.and_then(|()| self.place_blob(&temporary, &blob.digest));
            kept.map_err(|source| {
                let _ = std::fs::remove_file(&temporary);
                FileError { action: "write", path: self.blob_path(&blob.digest), source }
            })
        });
        kept.map_err(|error| io_error("write", &blob.digest, error))?;
        Ok(blob)
    }

    /// Reads a blob of at most `limit` bytes and verifies it.
    ///
    /// # Errors
    ///
    /// [`BlobError::NotFound`], [`BlobError::DigestMismatch`], or [`BlobError::Io`], also for a blob that is larger.
    pub fn read_blob(&self, digest: &Digest, limit: usize) -> Result<Vec<u8>, BlobError> {
        let file = self.open_blob(digest)?;
        let failed = |source| BlobError::Io { action: "read", digest: digest.clone(), source };
        let size = file.metadata().map_err(failed)?.len();
        if size > limit as u64 {
            let reason = format!("it has {size} bytes, more than the {limit} that are read");
            return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, reason)));
        }
        let blob = Descriptor::new(MediaType::OCI_LAYER, digest.clone(), size);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(limit) + 1);
        Verified::new(file, &blob).read_to_end(&mut bytes).map_err(|error| mismatch(error, digest))?;
        Ok(bytes)
    }

    /// Tells whether the blob is here with its size; if so it is held.
    pub(crate) fn holds_blob(&self, blob: &Descriptor) -> Result<bool, BlobError> {
        let path = self.blob_path(&blob.digest);
        let held = self.hold(Held::Blob(blob.digest.clone()), &path);
        if !held.map_err(|error| io_error("hold", &blob.digest, error))? {
            return Ok(false);
        }
        let metadata = std::fs::symlink_metadata(&path);
        Ok(metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == blob.size))
    }

    /// Moves a finished file of this command to where the blob belongs.
    pub(crate) fn place_blob(&self, from: &Path, digest: &Digest) -> io::Result<()> {
        let path = self.blob_path(digest);
        self.note_new();
        match std::fs::rename(from, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && from.exists() => {
                let directory = path.parent().unwrap_or(&path);
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                std::fs::rename(from, &path)
            }
            result => result,
        }
    }

    fn open_blob(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.blob_path(digest);
        let held = self.hold(Held::Blob(digest.clone()), &path).map_err(|error| io_error("hold", digest, error))?;
        if !held {
            return Err(BlobError::NotFound { digest: digest.clone() });
        }
        match OpenOptions::new().read(true).custom_flags(no_follow()).open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BlobError::NotFound { digest: digest.clone() })
            }
            Err(source) => Err(BlobError::Io { action: "open", digest: digest.clone(), source }),
        }
    }
}

impl BlobSource for Store {
    fn open(&self, blob: &Descriptor) -> Result<Verified<Box<dyn Read + Send>>, BlobError> {
        let file = self.open_blob(&blob.digest)?;
        // its bytes were hashed when they were kept; a layer's diff ID, and who it is sent to, compare them again
        Ok(Verified::known(Box::new(file) as Box<dyn Read + Send>, blob))
    }
}

/// Wraps a fault of the store's files as one of a blob.
pub(crate) fn io_error(action: &'static str, digest: &Digest, error: FileError) -> BlobError {
    let source = io::Error::new(error.source.kind(), error);
    BlobError::Io { action, digest: digest.clone(), source }
}

/// Takes the verdict of a [`Verified`] reader out of the I/O error that carries it.
fn mismatch(error: io::Error, digest: &Digest) -> BlobError {
    match error.downcast::<BlobError>() {
        Ok(verdict) => verdict,
        Err(source) => BlobError::Io { action: "read", digest: digest.clone(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_read_back_verified_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let blob = store.put_blob(MediaType::OCI_CONFIG, b"hello").unwrap();
        assert_eq!(store.put_blob(MediaType::OCI_CONFIG, b"hello").unwrap(), blob);
        assert_eq!(store.read_blob(&blob.digest, 5).unwrap(), b"hello");
        assert!(matches!(store.read_blob(&blob.digest, 4), Err(BlobError::Io { .. })));
        assert!(matches!(store.read_blob(&Digest::of(b"x"), 5), Err(BlobError::NotFound { .. })));
        std::fs::write(store.blob_path(&blob.digest), "hellO").unwrap();
        assert!(matches!(store.read_blob(&blob.digest, 5), Err(BlobError::DigestMismatch { .. })));
        let shorter = Descriptor { size: 4, ..blob };
        assert!(BlobSource::open(&store, &shorter).unwrap().read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_file_of_the_wrong_size_is_no_blob() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let blob = store.put_blob(MediaType::OCI_CONFIG, b"hello").unwrap();
        std::fs::write(store.blob_path(&blob.digest), "").unwrap();
        assert!(!store.holds_blob(&blob).unwrap());
        store.put_blob(MediaType::OCI_CONFIG, b"hello").unwrap();
        assert_eq!(store.read_blob(&blob.digest, 5).unwrap(), b"hello");
    }
}
