//! Layers: their records, and how a finished one becomes visible.
//!
//! ```text
//! layers/<diff-id hex>/record.json   what the layer is, in which form, and which blobs hold it
//! layers/<diff-id hex>/tree/         its files as an overlay lower directory (forms `tree` and `both`)
//! layers/<diff-id hex>/layer.tar     its tar (forms `tar` and `both`)
//! layers/<diff-id hex>/layer.erofs   the index of the tar, which can be made again at any time (`tar_form`)
//! ```
//!
//! A layer is its diff ID and is here in one of several forms. What a step wrote is a tree; what is written entry by entry
//! (`tar_layer`) is a tar, and so is what came from elsewhere where the kernel can mount it (`driver`). Elsewhere that is
//! unpacked, and a tar becomes a tree when somebody mounts it (`tree_form`). The record says what is there, and only that is believed.
//! The directory is made in `tmp/` and renamed as a whole, so a layer without a record does not exist.

use std::collections::BTreeMap;
use std::path::Path;

use oci::{Descriptor, DiffId, Digest};
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::file_error::failed;
use crate::lease::{Held, StoreLock, exists};
use crate::remove_tree::remove_tree;
use crate::tree_tar::Written;
use crate::{Compression, Encoding, FileError, RecordError, Store, record};

/// How a layer is kept so that it can be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Form {
    /// An overlay lower directory.
    Tree,
    /// A tar with an index, which the kernel reads, or which becomes a tree when somebody mounts it.
    Tar,
    /// Both: the tree would not give the tar's bytes again on this file system, or for this user.
    Both,
}

impl Form {
    /// Tells whether the layer's files are an overlay lower directory.
    pub fn has_tree(self) -> bool {
        matches!(self, Self::Tree | Self::Both)
    }

    /// Tells whether the layer's tar is here as a file.
    pub fn has_tar(self) -> bool {
        matches!(self, Self::Tar | Self::Both)
    }
}

/// Who wrote a layer's tar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// This store, in the format of `tree_tar`: a tree of the same files gives its bytes again.
    #[default]
    Built,
    /// Somebody else.
    Received,
}

/// What could not be kept from a layer's tar, and was counted instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Devices that this user may not make, and character devices 0:0, which would hide files of lower layers.
    pub devices: u64,
    /// Extended attributes that this user may not set, and those that belong to overlay.
    pub xattrs: u64,
    /// Files of owners that this user namespace does not have, which belong to its root instead.
    #[serde(default)]
    pub owners: u64,
}

/// What the store knows of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The digest of the layer's tar.
    pub diff_id: DiffId,
    /// How it is kept.
    pub form: Form,
    /// Bytes of all files together; a file with several names counts once.
    pub content_size: u64,
    /// Bytes of the tar.
    pub tar_size: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// The blobs that hold this layer's tar, compressed or not; one that is not here is not forgotten.
    pub blobs: Vec<Descriptor>,
    /// Which of them were made here, by the [`Encoding`] that gave them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) encoded: BTreeMap<String, Digest>,
    /// What was left out.
    #[serde(default)]
    pub skipped: Skipped,
    /// Who wrote its tar.
    #[serde(default)]
    pub(crate) origin: Origin,
    /// Directories that the tar has no entry for, as [`crate::implied`] writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) implied: Vec<String>,
    /// Whether the tar has an entry for the root directory.
    #[serde(default)]
    pub(crate) has_root: bool,
    /// Whether the layer hides everything below it.
    #[serde(default)]
    pub(crate) is_opaque: bool,
}

impl LayerRecord {
    /// Makes the record of a layer that was written here: it has an entry for every directory but the root, and no blob yet.
    pub(crate) fn built(diff_id: DiffId, form: Form, written: &Written) -> Self {
        Self {
            diff_id,
            form,
            content_size: written.content_size,
            tar_size: written.tar_size,
            entries: written.entries,
            blobs: Vec::new(),
            encoded: BTreeMap::new(),
            skipped: Skipped::default(),
            origin: Origin::Built,
            implied: Vec::new(),
            has_root: false,
            is_opaque: false,
        }
    }
}

/// Why a layer is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum LayerError {
    #[error("layer {diff_id} is not here")]
    NotFound { diff_id: DiffId },
    #[error("layer {diff_id} cannot be used")]
    Record { diff_id: DiffId, source: RecordError },
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Tells whether the layer is here and can be mounted; if so it stays until this command ends.
    ///
    /// # Errors
    ///
    /// [`LayerError::Record`] when it is here and its record cannot be read.
    pub fn has_layer(&self, diff_id: &DiffId) -> Result<bool, LayerError> {
        match self.layer(diff_id) {
            Ok(_) => Ok(true),
            Err(LayerError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns what is known of a layer; it stays until this command ends.
    ///
    /// # Errors
    ///
    /// [`LayerError::NotFound`], or [`LayerError::Record`] when its record cannot be read.
    pub fn layer(&self, diff_id: &DiffId) -> Result<LayerRecord, LayerError> {
        let path = self.layer_path(diff_id);
        if !self.hold(Held::Layer(diff_id.clone()), &path)? {
            return Err(LayerError::NotFound { diff_id: diff_id.clone() });
        }
        self.read_layer(diff_id)
    }

    /// Reads a layer's record without holding the layer.
    pub(crate) fn read_layer(&self, diff_id: &DiffId) -> Result<LayerRecord, LayerError> {
        let unusable = |source| LayerError::Record { diff_id: diff_id.clone(), source };
        let found = record::read::<LayerRecord>(&self.layer_path(diff_id).join("record.json")).map_err(unusable)?;
        match found {
            Some(record) if record.diff_id == *diff_id => Ok(record),
            _ => Err(LayerError::NotFound { diff_id: diff_id.clone() }),
        }
    }

    /// Makes a finished layer visible: `directory` holds its files in the record's form. False when the layer is here already.
    pub(crate) fn place_layer(&self, directory: &Path, record: &LayerRecord) -> Result<bool, FileError> {
        self.write_record(&directory.join("record.json"), record)?;
        let path = self.layer_path(&record.diff_id);
        self.hold(Held::Layer(record.diff_id.clone()), &path)?;
        self.note_new();
        match rustix::fs::renameat_with(rustix::fs::CWD, directory, rustix::fs::CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(error) => return Err(failed("make", &path)(error)),
        }
        if self.read_layer(&record.diff_id).is_ok() {
            return Ok(false);
        }
        self.replace_broken_layer(directory, &path)
    }

    /// Makes a finished layer visible in the place of one that is broken, or gone.
    pub(crate) fn replace_layer(&self, directory: &Path, record: &LayerRecord) -> Result<(), FileError> {
        let path = self.layer_path(&record.diff_id);
        if !exists(&path)? {
            return self.place_layer(directory, record).map(drop);
        }
        self.write_record(&directory.join("record.json"), record)?;
        self.hold(Held::Layer(record.diff_id.clone()), &path)?;
        self.replace_broken_layer(directory, &path).map(drop)
    }

    fn replace_broken_layer(&self, directory: &Path, path: &Path) -> Result<bool, FileError> {
        let trash = self.temporary("trash")?;
        {
            let _lock = StoreLock::exclusive(self.root())?;
            std::fs::rename(path, &trash).map_err(failed("replace", path))?;
            std::fs::rename(directory, path).map_err(failed("make", path))?;
        }
        remove_tree(&trash)?;
        Ok(true)
    }

    /// Notes that `blob` holds the layer's tar, which its caller has verified.
    pub(crate) fn note_blob(&self, diff_id: &DiffId, blob: &Descriptor) -> Result<(), LayerError> {
        // what only the manifest it came from says is not the layer's
        let blob = Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size);
        if self.layer(diff_id)?.blobs.iter().any(|known| known.digest == blob.digest) {
            return Ok(());
        }
        let _lock = StoreLock::exclusive(self.root())?;
        let mut record = self.read_layer(diff_id)?;
        record.blobs.retain(|known| known.digest != blob.digest);
        record.blobs.push(blob);
        Ok(self.write_record(&self.layer_path(diff_id).join("record.json"), &record)?)
    }

    /// Notes that `blob` is what `encoding` made of the layer. One in which the layer came stays that.
    pub(crate) fn note_encoded(
        &self,
        diff_id: &DiffId,
        encoding: Encoding,
        blob: &Descriptor,
    ) -> Result<(), LayerError> {
        let _lock = StoreLock::exclusive(self.root())?;
        let mut record = self.read_layer(diff_id)?;
        if !record.blobs.iter().any(|known| known.digest == blob.digest) {
            record.blobs.push(blob.clone());
        } else if !record.encoded.values().any(|made| *made == blob.digest) {
            return Ok(());
        }
        record.encoded.insert(encoding.to_string(), blob.digest.clone());
        Ok(self.write_record(&self.layer_path(diff_id).join("record.json"), &record)?)
    }

    /// Returns the blobs that are here and that the layer may go out as: those it came in, else the one that the encoding
    /// makes. They are held.
    pub(crate) fn outgoing(
        &self,
        record: &LayerRecord,
        compression: Compression,
    ) -> Result<Vec<Descriptor>, FileError> {
        let is_made = |blob: &&Descriptor| record.encoded.values().any(|made| *made == blob.digest);
        let received = record.blobs.iter().filter(|blob| !is_made(blob) && compression.keeps(blob));
        let received = self.kept(received)?;
        if !received.is_empty() {
            return Ok(received);
        }
        let made = record.encoded.get(&compression.encoding.to_string());
        self.kept(record.blobs.iter().filter(|blob| Some(&blob.digest) == made))
    }

    /// Returns those of `blobs` that are here; they are held.
    pub(crate) fn kept<'a>(&self, blobs: impl Iterator<Item = &'a Descriptor>) -> Result<Vec<Descriptor>, FileError> {
        let mut kept = Vec::new();
        for blob in blobs {
            let path = self.blob_path(&blob.digest);
            let is_whole = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|file| file.len() == blob.size);
            if exists(&path)? && self.hold(Held::Blob(blob.digest.clone()), &path)? && is_whole(&path) {
                kept.push(blob.clone());
            }
        }
        Ok(kept)
    }
}
