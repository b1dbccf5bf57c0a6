//! The store: one directory, shared by any number of processes.
//!
//! ```text
//! ROOT/                          0700
//!   version.json                 of which version the layout is (see `version`)
//!   flushed                      its time: when everything before was on the disk (see `flushed`)
//!   blobs/sha256/<hex>           bytes as received or as pushed
//!   layers/<diff-id hex>/        tree/, or layer.tar and layer.erofs; record.json, implied-<chain hex>/ (see `implied`)
//!   images/<hex>.json            one image: config digest, layers, manifests
//!   tags/<digest of name>.json   name → image
//!   cache/<key>.json             cache key → layer
//!   contexts/<hex>               what builders remember of a build context or a fetched file
//!   skeletons/                   what lies below the layers of snapshots (see `snapshot`)
//!   mounts/<hex>/                cache mounts (see `cache_mounts`)
//!   volumes/<name>/              _data/ and record.json: a named volume of containers
//!   leases/                      `lock`, and one locked file per running command
//!   tmp/<lease>/                 a running command's unfinished work;  tmp/partial-…: downloads that can resume
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use oci::{DiffId, Digest, Reference};
use rustix::io::Errno;

use crate::driver::{DriverChoice, DriverInUse};
use crate::erofs::MountedIndex;
use crate::file_error::failed;
use crate::index::IndexFile;
use crate::lease::{self, Lease};
use crate::overlay::OverlayXattrs;
use crate::tar_form::Indexing;
use crate::version::{self, Marked};
use crate::{CacheKey, FileError, ImageId, RecordError, VolumeName, sys};

/// A directory of blobs, layers, images, tags and cache records.
///
/// Clones share one lease: what any of them hands out, finds or makes stays until the last is dropped. A program that
/// does several independent things opens the directory once for each.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) lease: Mutex<Option<Arc<Lease>>>,
    pub(crate) purpose: Purpose,
    /// Whether the disk had no room for one: it is not tried again, under a lock that the first try does not expect.
    is_without_lease: AtomicBool,
    pub(crate) overlay_xattrs: Mutex<Option<OverlayXattrs>>,
    pub(crate) driver_choice: DriverChoice,
    pub(crate) driver: Mutex<Option<DriverInUse>>,
    /// The layers that this command has mounted.
    pub(crate) mounted: Mutex<BTreeMap<DiffId, MountedIndex>>,
    /// The indexes that this command has read.
    pub(crate) indexes: Mutex<BTreeMap<DiffId, Arc<IndexFile>>>,
    pub(crate) indexing: Indexing,
    /// Whether this command has made layers or blobs that may not be on the disk yet.
    pub(crate) has_new: AtomicBool,
    pub(crate) boot: OnceLock<String>,
}

/// What a store was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// What is handed out stays until the command ends.
    Use,
    /// Nothing is held: it is only told of.
    Look,
}

/// Why a directory could not be opened as a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum OpenError {
    #[error("`{}` is a store of version {version}, and this program reads stores up to version {known}", .root.display())]
    Newer { root: PathBuf, version: u32, known: u32 },
    #[error("the version of the store cannot be read")]
    Version(#[from] RecordError),
    #[error(transparent)]
    File(#[from] FileError),
}

const DIRECTORIES: [&str; 12] = [
    "blobs",
    "blobs/sha256",
    "layers",
    "images",
    "tags",
    "cache",
    "contexts",
    "mounts",
    "skeletons",
    "volumes",
    "leases",
    "tmp",
];

impl Store {
    /// Opens the store in `root`, and makes it if it is not there.
    ///
    /// Removes what dead commands left: their leases, their unfinished work, and downloads that nobody continued for a week.
    ///
    /// # Errors
    ///
    /// [`OpenError::Newer`] for a store of a later version of this program, [`OpenError::File`] when the directory cannot be made
    /// or read.
    pub fn open(root: &Path) -> Result<Self, OpenError> {
        Self::open_with(root, DriverChoice::Auto)
    }

    /// Opens the store in `root` as [`open`](Self::open) does, to be used with a certain driver.
    ///
    /// # Errors
    ///
    /// As `open`; whether the driver works is seen when it is needed.
    pub fn open_with(root: &Path, choice: DriverChoice) -> Result<Self, OpenError> {
        let root = std::path::absolute(root).map_err(failed("find", root))?;
        let marked = version::check(&root)?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&root).map_err(failed("make", &root))?;
        for name in DIRECTORIES {
            let path = root.join(name);
            builder.create(&path).map_err(failed("make", &path))?;
        }
        lease::sweep(&root)?;
        let store = Self::new(root, Purpose::Use, choice);
        if marked == Marked::No {
            store.mark_version()?;
        }
        Ok(store)
    }

    /// Opens the store in `root` to look at it; a directory that is not there is an empty store.
    ///
    /// Writes nothing, takes no lock, and holds nothing: what is found may be removed at any moment. For listings.
    ///
    /// # Errors
    ///
    /// As `open`, but for what is written.
    pub fn look(root: &Path) -> Result<Self, OpenError> {
        let root = std::path::absolute(root).map_err(failed("find", root))?;
        version::check(&root)?;
        lease::exists(&root.join(DIRECTORIES[0]))?;
        Ok(Self::new(root, Purpose::Look, DriverChoice::Auto))
    }

    fn new(root: PathBuf, purpose: Purpose, choice: DriverChoice) -> Self {
        Self(Arc::new(Inner {
            root,
            lease: Mutex::new(None),
            purpose,
            is_without_lease: AtomicBool::new(false),
            overlay_xattrs: Mutex::new(None),
            driver_choice: choice,
            driver: Mutex::default(),
            mounted: Mutex::default(),
            indexes: Mutex::default(),
            indexing: Indexing::default(),
            has_new: AtomicBool::new(false),
            boot: OnceLock::new(),
        }))
    }

    /// Returns the store's directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    pub(crate) fn layer_path(&self, diff_id: &DiffId) -> PathBuf {
        self.root().join("layers").join(diff_id.0.hex())
    }

    pub(crate) fn image_path(&self, id: &ImageId) -> PathBuf {
        self.root().join("images").join(format!("{}.json", id.0.hex()))
    }

    pub(crate) fn tag_path(&self, name: &Reference) -> PathBuf {
        let file = format!("{}.json", Digest::of(name.to_string().as_bytes()).hex());
        self.root().join("tags").join(file)
    }

    pub(crate) fn cache_path(&self, key: &CacheKey) -> PathBuf {
        self.root().join("cache").join(format!("{key}.json"))
    }

    pub(crate) fn volume_path(&self, name: &VolumeName) -> PathBuf {
        self.root().join("volumes").join(name.as_str())
    }

    /// Returns this command's lease, and takes it out on first use.
    pub(crate) fn lease(&self) -> Result<Arc<Lease>, FileError> {
        let mut lease = self.0.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = &*lease {
            return Ok(Arc::clone(lease));
        }
        if self.0.is_without_lease.load(Ordering::Acquire) {
            return Err(failed("write", &self.root().join("leases"))(Errno::NOSPC));
        }
        let new = Lease::new(self.root()).inspect_err(|error| {
            self.0.is_without_lease.store(sys::is_full(&error.source), Ordering::Release);
        });
        let new = Arc::new(new?);
        *lease = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Returns a fresh path in this command's directory of unfinished work.
    pub(crate) fn temporary(&self, purpose: &'static str) -> Result<PathBuf, FileError> {
        Ok(self.lease()?.fresh(purpose))
    }

    /// Makes a fresh directory for unfinished work.
    pub(crate) fn temporary_directory(&self, purpose: &'static str) -> Result<PathBuf, FileError> {
        let path = self.temporary(purpose)?;
        std::fs::create_dir(&path).map_err(failed("make", &path))?;
        Ok(path)
    }

    /// Tells which extended attributes overlay reads here: `trusted.overlay.*`, or `user.overlay.*` in a user namespace.
    pub(crate) fn overlay_xattrs(&self) -> Result<OverlayXattrs, FileError> {
        let mut known = self.0.overlay_xattrs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *known {
            return Ok(known);
        }
        let found = OverlayXattrs::probe(&self.lease()?.directory);
        *known = Some(found);
        Ok(found)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.root).finish()
    }
}

/// Lists the files of a directory of the store; those that vanish meanwhile are left out.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut paths = Vec::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(paths),
        Err(error) => return Err(failed("list", directory)(error)),
    };
    for entry in entries {
        paths.push(entry.map_err(failed("list", directory))?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Reads a digest back from the digits in a file's name; the number of digits tells the algorithm.
pub(crate) fn digest_of_name(name: &OsStr) -> Option<Digest> {
    let hex = name.to_str()?;
    let algorithm = if hex.len() == 128 { "sha512" } else { "sha256" };
    format!("{algorithm}:{hex}").parse().ok()
}
