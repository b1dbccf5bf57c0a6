//! One directory of blobs, layers, images, tags and cache records.
//!
//! ```text
//! blob ──apply──▶ layer ──prepare──▶ active snapshot ──freeze──▶ frozen layer ──seal──▶ layer (tree) ──layer_blob──▶ blob
//!                            (overlay mount)          (rename)                (diff ID, rename)         (encoding)
//! entries ──begin_tar──▶ layer (tar, index) ──prepare, view──▶ (mounted, or a tree)         layer (tar) ──layer_blob──▶ blob
//! an image's directory ──fill──▶ volume
//! layers ──files──▶ what is at a path, without a mount
//! ```
//!
//! | file | what it holds |
//! |---|---|
//! | `store`, `version`, `lease`, `record`, `flushed` | the directory itself, and its layout's version; what running commands hold; small JSON files; what is on the disk |
//! | `blobs`, `blob_writer` | bytes as received or as pushed; downloads that resume |
//! | `layers`, `apply`, `tree_tar`, `compress`, `encoding` | layers, from a blob to a tree and back |
//! | `tar_layer`, `tar_output` | layers that are written as tars |
//! | `driver`, `tar_form`, `index`, `erofs`, `tree_form` | how layers that are tars are mounted: through an index, or as trees |
//! | `unpack`, `archive_files`, `archive_writer` | archives that are no layers |
//! | `spool` | bytes whose digest is not known before they have passed |
//! | `snapshot`, `overlay`, `implied`, `scratch` | mounted stacks of layers |
//! | `files` | the files of a stack without a mount |
//! | `cache_mounts` | directories that stay between builds |
//! | `images`, `listed_images`, `tags`, `find`, `manifest`, `cache`, `contexts` | images, their names and documents; build-cache records |
//! | `volumes`, `volume_name`, `volume_fill` | named volumes of containers, and what an image puts into them |
//! | `copy_up` | what volumes and caches start with |
//! | `usage`, `usage_details`, `needs`, `prune`, `cache_items`, `cache_choice`, `limit_cache`, `last_used`, `remove_image`, `remove_tree` | looking after the store |
//! | `check` | whether it is whole, and what mends it |
//!
//! Invariants: nothing is visible before it is complete (written in `tmp/`, then renamed); nothing is written down twice, so an unreadable
//! file costs only what it describes; the digits of a digest, of a cache key, names of volumes, and generated names are all that
//! paths are made of.

#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as layer_store;

mod apply;
mod archive_files;
mod archive_writer;
mod blob_writer;
mod blobs;
mod cache;
mod cache_choice;
mod cache_items;
mod cache_mounts;
mod check;
mod compress;
mod contexts;
mod copy_up;
mod driver;
mod encoding;
mod erofs;
mod file_error;
mod files;
mod find;
mod flushed;
mod images;
mod implied;
mod index;
mod last_used;
mod layers;
mod lease;
mod limit_cache;
mod listed_images;
mod manifest;
mod needs;
mod overlay;
mod prune;
mod record;
mod remove_image;
mod remove_tree;
mod scratch;
mod snapshot;
mod sockets;
mod spool;
mod store;
mod sys;
mod tags;
mod tar_form;
mod tar_layer;
mod tar_output;
mod tree_form;
mod tree_tar;
mod unpack;
mod usage;
mod usage_details;
mod version;
mod volume_fill;
mod volume_name;
mod volumes;

pub use apply::{ApplyError, TarError};
pub use archive_files::{ArchiveError, ArchiveFile, ArchiveFiles, RefusedEntry};
pub use archive_writer::ArchiveWriter;
pub use cache::{CacheError, CacheKey, CacheKeyError, CacheRecord};
pub use cache_items::CacheItemKind;
pub use cache_mounts::{CacheMount, CacheMountSpec, CacheSharing};
pub use check::{CheckError, Checked, Depth, Fault, MendError, Problem, Repair, Repaired, SubjectKind};
pub use compress::CompressError;
pub use copy_up::{CopyUp, CopyUpError};
pub use driver::{Driver, DriverChoice, DriverError, DriverInUse, DriverNameError};
pub use encoding::{Compression, Encoding, EncodingError};
pub use file_error::{FileError, RecordError};
pub use files::{LayerFile, LayerFileKind, LayerFiles, LayerFilesError};
pub use find::FindError;
pub use images::{Image, ImageError, ImageId, MAX_LAYERS};
pub use layers::{Form, LayerError, LayerRecord, Skipped};
pub use limit_cache::LimitedCache;
pub use listed_images::ListedImage;
pub use manifest::ManifestError;
pub use prune::{Freed, FreedKind, LabelFilter, Prune, PruneCache, PruneError, PruneImages};
pub use remove_image::RemoveError;
pub use scratch::ScratchDirectory;
pub use snapshot::{ActiveSnapshot, FrozenLayer, Lower, SealError, Skeleton, SnapshotError, View};
pub use spool::{SpoolError, SpooledFile};
pub use store::{OpenError, Store};
pub use tags::TagError;
pub use tar_layer::{TarEntry, TarKind, TarLayer, TarLayerError};
pub use tree_tar::TreeTarError;
pub use unpack::{Ownership, UnpackError, Unpacked};
pub use usage::{Share, Usage, UsageError};
pub use usage_details::{CacheUsage, ImageUsage, UsageDetails, VolumeUsage};
pub use volume_fill::{FillError, FilledVolume};
pub use volume_name::{VolumeName, VolumeNameError};
pub use volumes::{Volume, VolumeError, VolumePrune};
