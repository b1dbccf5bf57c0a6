//! Receives blobs: downloads that resume across processes.
//!
//! ```text
//! begin ─lock tmp/partial-<algorithm>-<hex>─▶ hash what is there ─write…─▶ commit: digest, size ─rename─▶ blobs/
//! ```
//!
//! - One process receives a blob at a time: the partial file is locked, and who waited for it finds the blob.
//! - A partial file stays when its command ends, so that the next one continues it; `Store::open` removes it after a week.
//! - When the disk is full the partial file is removed: it would keep everything else from being written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use oci::{BlobError, BlobSink, BlobWriter, Descriptor, Hasher};
use rustix::fs::FlockOperation;

use crate::blobs::io_error;
use crate::lease::{Held, PARTIAL, no_follow};
use crate::{Store, sys};

/// Bytes read at once while the prefix is hashed again.
const BUFFER: usize = 256 << 10;

struct PartialBlob {
    store: Store,
    blob: Descriptor,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    received: u64,
}

impl BlobSink for Store {
    fn begin(&self, blob: &Descriptor) -> Result<Option<Box<dyn BlobWriter>>, BlobError> {
        if self.holds_blob(blob)? {
            return Ok(None);
        }
        let failed = |source| BlobError::Io { action: "receive", digest: blob.digest.clone(), source };
        let name = format!("{PARTIAL}{}-{}", blob.digest.algorithm().name(), blob.digest.hex());
        let path = self.root().join("tmp").join(name);
        loop {
            let file = open(&path).map_err(failed)?;
            sys::flock(&file, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
            // who held the lock may have finished the blob, or given up and removed the file
            if self.holds_blob(blob)? {
                return Ok(None);
            }
            if !is_still_at(&file, &path).map_err(failed)? {
                continue;
            }
            let hasher = Hasher::new(blob.digest.algorithm());
            let (store, blob) = (self.clone(), blob.clone());
            let mut partial = PartialBlob { store, blob, path, file, hasher, received: 0 };
            partial.hash_prefix()?;
            return Ok(Some(Box::new(partial)));
        }
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(no_follow());
    options.open(path)
}

fn is_still_at(file: &File, path: &PathBuf) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

impl PartialBlob {
    fn hash_prefix(&mut self) -> Result<(), BlobError> {
        let length = self.file.metadata().map_err(|error| self.failed(error))?.len();
        if length > self.blob.size {
            return self.restart();
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = self.file.read(&mut buffer).map_err(|error| self.failed(error))?;
            if count == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..count]);
            self.received += count as u64;
        }
    }

    fn failed(&self, source: io::Error) -> BlobError {
        BlobError::Io { action: "receive", digest: self.blob.digest.clone(), source }
    }

    fn remove(&self) {
        // a file that cannot be removed is continued or expires
        let _ = std::fs::remove_file(&self.path);
    }

    fn place(&self) -> Result<(), BlobError> {
        let digest = &self.blob.digest;
        let held = self.store.hold(Held::Blob(digest.clone()), &self.store.blob_path(digest));
        held.map_err(|error| io_error("hold", digest, error))?;
        self.store.place_blob(&self.path, digest).map_err(|error| self.failed(error))
    }
}

impl Write for PartialBlob {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.received + bytes.len() as u64 > self.blob.size {
            let (digest, expected) = (self.blob.digest.clone(), self.blob.size);
            let actual = self.received + bytes.len() as u64;
            let error = BlobError::SizeMismatch { digest, expected, actual };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        let count = self.file.write(bytes).inspect_err(|error| {
            if sys::is_full(error) {
                self.remove();
            }
        })?;
        self.hasher.update(&bytes[..count]);
        self.received += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for PartialBlob {
    fn received(&self) -> u64 {
        self.received
    }

    fn restart(&mut self) -> Result<(), BlobError> {
        self.file.set_len(0).map_err(|error| self.failed(error))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|error| self.failed(error))?;
        self.hasher = Hasher::new(self.blob.digest.algorithm());
        self.received = 0;
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), BlobError> {
        let (expected, digest) = (self.blob.size, self.blob.digest.clone());
        if self.received != expected {
            self.remove();
            return Err(BlobError::SizeMismatch { digest, expected, actual: self.received });
        }
        let actual = self.hasher.clone().finish();
        if actual != digest {
            self.remove();
            return Err(BlobError::DigestMismatch { expected: digest, actual });
        }
        self.place()
    }
}

#[cfg(test)]
mod tests {
    use oci::{Digest, MediaType};

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    #[test]
    fn an_interrupted_blob_continues_in_another_store() {
        let (directory, store) = store();
        let blob = Descriptor::of(MediaType::OCI_LAYER, b"hello world");
        let mut writer = store.begin(&blob).unwrap().unwrap();
        writer.write_all(b"hello").unwrap();
        drop((writer, store));
        let store = Store::open(directory.path()).unwrap();
        let mut writer = store.begin(&blob).unwrap().unwrap();
        assert_eq!(writer.received(), 5);
        writer.write_all(b" world").unwrap();
        writer.commit().unwrap();
        assert!(store.begin(&blob).unwrap().is_none());
        assert_eq!(store.read_blob(&blob.digest, 100).unwrap(), b"hello world");
        assert_eq!(crate::store::list(&store.root().join("tmp")).unwrap().len(), 1);
    }

    #[test]
    fn wrong_bytes_never_become_a_blob() {
        let (_directory, store) = store();
        let blob = Descriptor::of(MediaType::OCI_LAYER, b"hello");
        let mut writer = store.begin(&blob).unwrap().unwrap();
        assert!(writer.write_all(b"hello!").is_err());
        writer.write_all(b"hellO").unwrap();
        assert!(matches!(writer.commit(), Err(BlobError::DigestMismatch { .. })));
        let mut writer = store.begin(&blob).unwrap().unwrap();
        assert_eq!(writer.received(), 0);
        writer.write_all(b"hell").unwrap();
        assert!(matches!(writer.commit(), Err(BlobError::SizeMismatch { .. })));
        assert!(matches!(store.read_blob(&blob.digest, 9), Err(BlobError::NotFound { .. })));
    }

    #[test]
    fn two_that_want_the_same_blob_receive_it_once() {
        let (_directory, store) = store();
        let content = vec![7_u8; 100_000];
        let blob = Descriptor::of(MediaType::OCI_LAYER, &content);
        let receive = || match store.begin(&blob).unwrap() {
            None => 0,
            Some(mut writer) => {
                writer.restart().unwrap();
                content.chunks(1000).for_each(|chunk| writer.write_all(chunk).unwrap());
                writer.commit().unwrap();
                1
            }
        };
        let times: i32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(receive)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(times, 1);
    }

    #[test]
    fn a_blob_of_the_longer_algorithm_has_its_own_directory() {
        let (_directory, store) = store();
        let mut hasher = Hasher::new(oci::Algorithm::Sha512);
        hasher.update(b"x");
        let digest: Digest = hasher.finish();
        let mut writer = store.begin(&Descriptor::new(MediaType::OCI_LAYER, digest.clone(), 1)).unwrap().unwrap();
        writer.write_all(b"x").unwrap();
        writer.commit().unwrap();
        assert_eq!(store.read_blob(&digest, 1).unwrap(), b"x");
    }
}
