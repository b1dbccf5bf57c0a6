//! Applies a layer: a blob becomes a tree in the store.
//!
//! ```text
//! blob ─verify─▶ decompress ─hash (diff ID)─▶ tar ─entries─▶ tree in tmp/ ─rename─▶ layers/<diff-id>/
//! ```
//!
//! - Everything streams through fixed buffers; limits bound the number of entries, their metadata, and holes.
//! - The blob's digest and the layer's diff ID are compared before anything is visible; a failed apply leaves nothing.
//! - Layers are independent of each other: none is looked at while another is applied.
//!
//! In `decompress`: gzip and zstd. In `entries`: the tar reader. In `tree`: how an entry becomes a file.

mod decompress;
pub(crate) mod entries;
mod pax;
pub(crate) mod tree;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci::{BlobError, BlobSource, Descriptor, DiffId, Hasher, MediaType};

use crate::file_error::failed;
use crate::layers::{Form, LayerRecord};
use crate::remove_tree::remove_tree;
use crate::spool::SpooledFile;
use crate::tar_layer::TAR;
use crate::{FileError, LayerError, Store};

use entries::Entries;
pub use entries::TarError;
use tree::TreeBuilder;

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
        match self.layer(diff_id) {
            Ok(record) if record.blobs.iter().any(|known| known.digest == layer.digest) => return Ok(()),
            Ok(_) => {
                let mut tar = self.open_tar(layer, diff_id)?;
                finish(&mut tar, diff_id)?;
            }
            // one whose record cannot be read is made anew
            Err(_) => {
                let directory = self.temporary_directory("layer")?;
                let applied = self.apply_in(&directory, layer, diff_id);
                // the tree has moved away, or failed, or somebody else was faster
                let removed = remove_tree(&directory);
                applied?;
                removed?;
            }
        }
        Ok(self.note_blob(diff_id, layer)?)
    }

    fn open_tar(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<LayerTar, ApplyError> {
        let compression = layer.media_type.layer_compression();
        let compression = compression.ok_or_else(|| ApplyError::MediaType { media_type: layer.media_type.clone() })?;
        let blob = BlobSource::open(self, layer)?;
        let tar = decompress::decompress(blob, compression).map_err(|error| unreadable(error, diff_id))?;
        Ok(Hashing { inner: tar, hasher: Hasher::new(diff_id.0.algorithm()), size: 0 })
    }

    /// Unpacks a tar as the layer `diff_id`, and keeps it beside the tree: it was written by others, and its bytes cannot be
    /// made again.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), but for the blob.
    pub fn apply_tar(&self, tar: &SpooledFile, diff_id: &DiffId) -> Result<(), ApplyError> {
        if *tar.digest() != diff_id.0 {
            let actual = DiffId(tar.digest().clone());
            return Err(ApplyError::DiffIdMismatch { expected: diff_id.clone(), actual });
        }
        if self.layer(diff_id).is_ok() {
            return Ok(());
        }
        let directory = self.temporary_directory("layer")?;
        let applied = self.apply_tar_in(&directory, tar, diff_id);
        let removed = remove_tree(&directory);
        applied?;
        Ok(removed?)
    }

    fn apply_tar_in(&self, directory: &Path, tar: &SpooledFile, diff_id: &DiffId) -> Result<(), ApplyError> {
        let record = self.unpack_layer(directory, tar.open()?, diff_id)?;
        tar.link(&directory.join(TAR))?;
        let record = LayerRecord { diff_id: diff_id.clone(), tar_size: tar.size(), form: Form::Both, ..record };
        self.place_layer(directory, &record)?;
        Ok(())
    }

    fn apply_in(&self, directory: &Path, layer: &Descriptor, diff_id: &DiffId) -> Result<(), ApplyError> {
        let mut tar = self.open_tar(layer, diff_id)?;
        let record = self.unpack_layer(directory, &mut tar, diff_id)?;
        let tar_size = finish(&mut tar, diff_id)?;
        let record = LayerRecord { diff_id: diff_id.clone(), tar_size, form: Form::Tree, ..record };
        self.place_layer(directory, &record)?;
        Ok(())
    }

    /// Makes the tree of a tar in `directory`; of the record, digest, size and form are the caller's.
    fn unpack_layer(&self, directory: &Path, tar: impl Read, diff_id: &DiffId) -> Result<LayerRecord, ApplyError> {
        let tree = directory.join("tree");
        std::fs::create_dir(&tree).map_err(failed("make", &tree))?;
        let mut builder = TreeBuilder::new(&tree, self.overlay_xattrs()?)?;
        let mut entries = Entries::new(tar);
        let broken = |source| ApplyError::Tar { diff_id: diff_id.clone(), source };
        while let Some(entry) = entries.next().map_err(broken)? {
            builder.add(&entry, &mut entries).map_err(|fault| fault.into_error(diff_id))?;
        }
        builder.finish().map_err(|fault| fault.into_error(diff_id))
    }
}

type LayerTar = Hashing<Box<dyn Read + Send>>;

/// Reads what is left, compares the diff ID, and returns the bytes of the whole tar.
///
/// What follows the end of the archive still counts, for the diff ID and for the blob's digest.
fn finish(tar: &mut LayerTar, diff_id: &DiffId) -> Result<u64, ApplyError> {
    io::copy(tar, &mut io::sink()).map_err(|error| unreadable(error, diff_id))?;
    let actual = DiffId(tar.hasher.clone().finish());
    if actual != *diff_id {
        return Err(ApplyError::DiffIdMismatch { expected: diff_id.clone(), actual });
    }
    Ok(tar.size)
}

fn unreadable(error: io::Error, diff_id: &DiffId) -> ApplyError {
    ApplyError::Tar { diff_id: diff_id.clone(), source: TarError::Read(error) }
}

/// Hashes and counts what is read.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
    size: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.size += count as u64;
        Ok(count)
    }
}
