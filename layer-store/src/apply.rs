//! Applies a layer: a blob becomes a layer of the store that can be mounted.
//!
//! ```text
//!                                             ┌─▶ driver `erofs`: kept, and indexed   (`tar_form`) ─┐
//! blob ─verify─▶ decompress ─hash (diff ID)─▶ tar                                                   tmp/ ─rename─▶ layers/<diff-id>/
//!                                             └─▶ driver `tree`: entries become files (`tree`) ─────┘
//! ```
//!
//! - Everything streams through fixed buffers; limits bound the number of entries, their metadata, and holes.
//! - The blob's digest and the layer's diff ID are compared before anything is visible; a failed apply leaves nothing.
//! - Layers are independent of each other: none is looked at while another is applied.
//! - Of several commands that apply the same blob one does it, and the others wait and find the layer.
//!
//! In `decompress`: gzip and zstd. In `entries`: the tar reader. In `meaning`: what an entry asks for. In `tree`: how it becomes a file.

pub(crate) mod decompress;
pub(crate) mod entries;
pub(crate) mod meaning;
mod pax;
pub(crate) mod tree;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::{Algorithm, BlobError, BlobSource, Descriptor, DiffId, Digest, Hasher, MediaType};

use rustix::fs::FlockOperation;

use crate::driver::Driver;
use crate::file_error::failed;
use crate::index::IndexFault;
use crate::layers::{Form, LayerRecord};
use crate::spool::SpooledFile;
use crate::tar_form::{self, TAR};
use crate::{DriverError, FileError, LayerError, Store, sys};

pub(crate) use entries::Entries;
pub use entries::TarError;
use tree::{ForeignOwner, TreeBuilder};

/// Why a layer could not be applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ApplyError {
    #[error("media type `{media_type}` is no layer that can be applied")]
    MediaType { media_type: MediaType },
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("layer {diff_id} is not a tar that can be applied")]
    Tar { diff_id: DiffId, source: TarError },
    #[error("layer entry `{}` {reason}", .path.display())]
    Refused { path: PathBuf, reason: &'static str },
    #[error("cannot {action} `{}`", .path.display())]
    Write { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot give `{}` the owner {uid}:{gid}, which this user namespace does not map", .path.display())]
    Owner { path: PathBuf, uid: u32, gid: u32, source: io::Error },
    #[error("layer unpacks to {actual}, but the image config says {expected}")]
    DiffIdMismatch { expected: DiffId, actual: DiffId },
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Unpacks a blob of this store as the layer `diff_id`.
    ///
    /// When the layer is here already, the blob is only verified to hold it, once, so that it may go out as that layer.
    /// The layers of an image may be applied in any order and at the same time.
    ///
    /// Spec: image-spec 1.1, layer.md "Applying Changesets".
    ///
    /// # Errors
    ///
    /// [`ApplyError::Blob`] when the blob is not here, [`ApplyError::Tar`] when it cannot be read, [`ApplyError::Refused`] with
    /// the entry that may not be, [`ApplyError::DiffIdMismatch`] when the tar is not the one the config names,
    /// [`ApplyError::Write`] with the path inside the layer for any I/O failure.
    pub fn apply(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<(), ApplyError> {
        let _turn = self.lock_blob(layer)?;
        match self.layer(diff_id) {
            Ok(record) if record.blobs.iter().any(|known| known.digest == layer.digest) => return Ok(()),
            Ok(_) => self.verify_blob(layer, diff_id)?,
            // one whose record cannot be read is made anew
            Err(_) => {
                let scratch = self.scratch("layer")?;
                let record = self.make_layer(&scratch.directory, layer, diff_id)?;
                self.place_layer(&scratch.directory, &record)?;
            }
        }
        Ok(self.note_blob(diff_id, layer)?)
    }

    /// Makes a layer of a tar that was written by others and came without a blob, and keeps it: its bytes cannot be made again.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), but for the blob.
    pub fn apply_tar(&self, tar: &SpooledFile, diff_id: &DiffId) -> Result<(), ApplyError> {
        check(DiffId(tar.digest().clone()), diff_id)?;
        if self.layer(diff_id).is_ok() {
            return Ok(());
        }
        let scratch = self.scratch("layer")?;
        tar.link(&scratch.directory.join(TAR))?;
        let indexed = match self.driver()?.driver {
            Driver::Erofs => tar_form::index(tar.open()?, tar.size(), diff_id, &self.0.indexing)?.ok(),
            Driver::Tree => None,
        };
        let record = match indexed {
            Some((record, image)) => {
                tar_form::write_index(&scratch.directory, &image)?;
                LayerRecord { diff_id: diff_id.clone(), tar_size: tar.size(), form: Form::Tar, ..record }
            }
            None => {
                let record = self.unpack_layer(&scratch.directory, tar.open()?, diff_id)?;
                LayerRecord { form: Form::Both, ..record }
            }
        };
        self.place_layer(&scratch.directory, &record)?;
        Ok(())
    }

    /// Waits until nobody else applies this blob.
    fn lock_blob(&self, blob: &Descriptor) -> Result<Option<File>, FileError> {
        let path = self.blob_path(&blob.digest);
        match File::open(&path) {
            Ok(file) => {
                sys::flock(&file, FlockOperation::LockExclusive).map_err(failed("lock", &path))?;
                Ok(Some(file))
            }
            // reading it says so too
            Err(_) => Ok(None),
        }
    }

    fn open_tar(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<Box<dyn Read + Send>, ApplyError> {
        if layer.media_type.layer_compression().is_none() {
            return Err(ApplyError::MediaType { media_type: layer.media_type.clone() });
        }
        let blob = BlobSource::open(self, layer)?;
        decompress::decompress(blob).map_err(|error| unreadable(error, diff_id))
    }

    /// Reads a blob of this store to its end: it holds the layer `diff_id`.
    pub(crate) fn verify_blob(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<(), ApplyError> {
        finish(&mut Hashing::new(self.open_tar(layer, diff_id)?, diff_id.0.algorithm()), diff_id).map(drop)
    }

    /// Makes a layer of a blob in `directory`, and returns its record; nothing is visible yet.
    pub(crate) fn make_layer(
        &self,
        directory: &Path,
        layer: &Descriptor,
        diff_id: &DiffId,
    ) -> Result<LayerRecord, ApplyError> {
        let tar = self.open_tar(layer, diff_id)?;
        match self.driver()?.driver {
            Driver::Erofs => self.keep_layer(directory, tar, diff_id),
            Driver::Tree => self.unpack_layer(directory, tar, diff_id),
        }
    }

    /// Unpacks a blob into `directory`, whatever form its layer has.
    pub(crate) fn unpack_blob(&self, directory: &Path, layer: &Descriptor, diff_id: &DiffId) -> Result<(), ApplyError> {
        self.unpack_layer(directory, self.open_tar(layer, diff_id)?, diff_id).map(drop)
    }

    /// Keeps the tar, with its index; a tar that an index cannot show is unpacked.
    fn keep_layer(&self, directory: &Path, tar: impl Read, diff_id: &DiffId) -> Result<LayerRecord, ApplyError> {
        let kept = tar_form::keep(directory, tar, diff_id, &self.0.indexing)?;
        check(DiffId(kept.digest), diff_id)?;
        let indexed = kept.index.map_err(IndexFault::Unsuitable).and_then(|index| index.finish(kept.size));
        match indexed {
            Ok((record, image)) => {
                tar_form::write_index(directory, &image)?;
                Ok(LayerRecord { diff_id: diff_id.clone(), tar_size: kept.size, form: Form::Tar, ..record })
            }
            Err(IndexFault::Apply(error)) => Err(error),
            Err(IndexFault::Unsuitable(_)) => {
                let path = directory.join(TAR);
                let tar = File::open(&path).map_err(failed("open", &path))?;
                let record = self.unpack_layer(directory, tar.take(kept.size), diff_id)?;
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
                Ok(record)
            }
        }
    }

    fn unpack_layer(&self, directory: &Path, tar: impl Read, diff_id: &DiffId) -> Result<LayerRecord, ApplyError> {
        let mut tar = Hashing::new(tar, diff_id.0.algorithm());
        let broken = |source| ApplyError::Tar { diff_id: diff_id.clone(), source };
        let tree = directory.join("tree");
        std::fs::create_dir(&tree).map_err(failed("make", &tree))?;
        let mut builder = TreeBuilder::new(&tree, self.overlay_xattrs()?, ForeignOwner::Counted)?;
        let mut entries = Entries::new(&mut tar);
        while let Some(entry) = entries.next().map_err(broken)? {
            builder.add(&entry, &mut entries).map_err(|fault| fault.into_error(diff_id))?;
        }
        let record = builder.finish().map_err(|fault| fault.into_error(diff_id))?;
        let tar_size = finish(&mut tar, diff_id)?;
        Ok(LayerRecord { diff_id: diff_id.clone(), tar_size, form: Form::Tree, ..record })
    }
}

/// Reads what is left, compares the diff ID, and returns the bytes of the whole tar.
///
/// What follows the end of the archive still counts, for the diff ID and for the blob's digest.
fn finish<R: Read>(tar: &mut Hashing<R>, diff_id: &DiffId) -> Result<u64, ApplyError> {
    io::copy(tar, &mut io::sink()).map_err(|error| unreadable(error, diff_id))?;
    check(DiffId(tar.hasher.clone().finish()), diff_id)?;
    Ok(tar.size)
}

fn check(actual: DiffId, expected: &DiffId) -> Result<(), ApplyError> {
    if actual == *expected { Ok(()) } else { Err(ApplyError::DiffIdMismatch { expected: expected.clone(), actual }) }
}

fn unreadable(error: io::Error, diff_id: &DiffId) -> ApplyError {
    ApplyError::Tar { diff_id: diff_id.clone(), source: TarError::Read(error) }
}

/// Hashes and counts what is read.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R> Hashing<R> {
    pub(crate) fn new(inner: R, algorithm: Algorithm) -> Self {
        Self { inner, hasher: Hasher::new(algorithm), size: 0 }
    }

    /// Returns the digest of what was read.
    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
