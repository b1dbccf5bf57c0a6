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

use oci::{Algorithm, BlobError, BlobSource, Descriptor, DiffId, Digest, Hasher, MediaType};

use crate::file_error::failed;
use crate::layers::{Form, LayerRecord};
use crate::remove_tree::remove_tree;
use crate::{FileError, LayerError, Store};

pub(crate) use entries::Entries;
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
            Ok(_) => self.verify_blob(layer, diff_id)?,
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
        Ok(Hashing::new(tar, diff_id.0.algorithm()))
    }

    /// Reads a blob of this store to its end: it is what its digest says, and holds the layer `diff_id`.
    pub(crate) fn verify_blob(&self, layer: &Descriptor, diff_id: &DiffId) -> Result<(), ApplyError> {
        finish(&mut self.open_tar(layer, diff_id)?, diff_id).map(drop)
    }

    fn apply_in(&self, directory: &Path, layer: &Descriptor, diff_id: &DiffId) -> Result<(), ApplyError> {
        let record = self.unpack_layer(directory, layer, diff_id)?;
        self.place_layer(directory, &record)?;
        Ok(())
    }

    /// Unpacks a blob into `directory`, and returns the record of the layer that this is; nothing is visible yet.
    pub(crate) fn unpack_layer(
        &self,
        directory: &Path,
        layer: &Descriptor,
        diff_id: &DiffId,
    ) -> Result<LayerRecord, ApplyError> {
        let mut tar = self.open_tar(layer, diff_id)?;
        let broken = |source| ApplyError::Tar { diff_id: diff_id.clone(), source };
        let tree = directory.join("tree");
        std::fs::create_dir(&tree).map_err(failed("make", &tree))?;
        let mut builder = TreeBuilder::new(&tree, self.overlay_xattrs()?)?;
        let mut entries = Entries::new(&mut tar);
        while let Some(entry) = entries.next().map_err(broken)? {
            builder.add(&entry, &mut entries).map_err(|fault| fault.into_error(diff_id))?;
        }
        let record = builder.finish().map_err(|fault| fault.into_error(diff_id))?;

        let tar_size = finish(&mut tar, diff_id)?;
        Ok(LayerRecord { diff_id: diff_id.clone(), tar_size, form: Form::Tree, ..record })
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
