//! What the store takes on disk: allocated bytes, as `du` counts them, and who needs them.
//!
//! | share | what |
//! |---|---|
//! | images | layers and blobs that an image needs, records of images and names |
//! | build cache | layers and blobs that only cache records need, these records, what is remembered of build contexts, and cache mounts |
//! | other | everything else: unfinished work, interrupted downloads, garbage, the directories themselves |
//!
//! Their sum is what `du -s --block-size=1` finds: every file once however many names it has, every directory, and nothing on
//! another file system.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::cache_mounts::is_free;
use crate::file_error::failed;
use crate::lease::{Held, Holds};
use crate::needs::{Contents, Needed};
use crate::store::list;
use crate::{FileError, Store, sys};

/// What the store takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images, with their layers and blobs.
    pub images: Share,
    /// Build-cache records, with the layers and blobs that only they need, what is remembered of build contexts, and cache mounts.
    pub build_cache: Share,
    /// Everything else, in bytes.
    pub other: u64,
}

/// One part of a [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many images or records there are.
    pub count: u64,
    /// How many of them running commands use.
    pub active: u64,
    /// Bytes on disk.
    pub size: u64,
    /// Bytes that removing all of them would free now.
    pub reclaimable: u64,
}

impl Usage {
    /// Returns all bytes on disk.
    pub fn total(&self) -> u64 {
        self.images.size + self.build_cache.size + self.other
    }
}

/// Why the store could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum UsageError {
    #[error(transparent)]
    File(#[from] FileError),
}

/// Bytes of everything in one directory of the store.
#[derive(Debug, Default)]
struct Sizes(BTreeMap<PathBuf, u64>);

impl Sizes {
    fn of(&self, path: &Path) -> u64 {
        self.0.get(path).copied().unwrap_or(0)
    }

    fn sum(&self) -> u64 {
        self.0.values().sum()
    }
}

impl Store {
    /// Measures the store.
    ///
    /// # Errors
    ///
    /// [`UsageError::File`] when something cannot be read.
    pub fn usage(&self) -> Result<Usage, UsageError> {
        let mut seen = HashSet::new();
        let mut measure = |directory: &str| self.sizes(directory, &mut seen);
        let (layers, blobs) = (measure("layers")?, self.blob_sizes(&mut seen)?);
        let mut measure = |directory: &str| self.sizes(directory, &mut seen);
        let (images, tags) = (measure("images")?, measure("tags")?);
        let mounts = measure("mounts")?;
        let cached = measure("cache")?.sum() + measure("contexts")?.sum() + mounts.sum();
        let used = used_mounts(&mounts)?;
        let total = disk_size(self.root()).map_err(failed("measure", self.root()))?.unwrap_or(0);
        let contents = Contents::read(self)?;
        let holds = self.read_holds()?;

        let sum = |needed: &Needed| -> u64 {
            let of_layers = needed.layers.iter().map(|diff_id| layers.of(&self.layer_path(diff_id)));
            let of_blobs = needed.blobs.iter().map(|digest| blobs.of(&self.blob_path(digest)));
            of_layers.chain(of_blobs).sum()
        };
        let nobody = Holds::default();
        let by_images = contents.needed(contents.images.keys(), std::iter::empty(), &nobody);
        let by_cache = contents.needed(std::iter::empty(), contents.cached_layers(), &nobody);
        let held = held_images(&contents, &holds);
        let without_images = contents.needed(held.iter(), contents.cached_layers(), &holds);
        let without_cache = contents.needed(contents.images.keys(), std::iter::empty(), &holds);

        let held_records: u64 = held.iter().map(|id| images.of(&self.image_path(id))).sum();
        let held_tags = held.iter().flat_map(|id| contents.tags_of(id));
        let held_tags: u64 = held_tags.map(|name| tags.of(&self.tag_path(name))).sum();
        let images = Share {
            count: contents.images.len() as u64,
            active: held.len() as u64,
            size: sum(&by_images) + images.sum() + tags.sum(),
            reclaimable: sum(&minus(&by_images, &without_images)) + images.sum() - held_records + tags.sum()
                - held_tags,
        };
        let build_cache = Share {
            count: contents.cache.len() as u64 + mounts.0.len() as u64,
            active: active_records(&contents, &holds) + used.0.len() as u64,
            size: sum(&minus(&by_cache, &by_images)) + cached,
            reclaimable: sum(&minus(&by_cache, &without_cache)) + cached - used.sum(),
        };
        Ok(Usage { images, build_cache, other: total.saturating_sub(images.size + build_cache.size) })
    }

    fn sizes(&self, directory: &str, seen: &mut HashSet<(u64, u64)>) -> Result<Sizes, FileError> {
        sizes_in(&self.root().join(directory), seen)
    }

    fn blob_sizes(&self, seen: &mut HashSet<(u64, u64)>) -> Result<Sizes, FileError> {
        let mut sizes = Sizes::default();
        for directory in list(&self.root().join("blobs"))? {
            sizes.0.extend(sizes_in(&directory, seen)?.0);
        }
        Ok(sizes)
    }
}

fn sizes_in(directory: &Path, seen: &mut HashSet<(u64, u64)>) -> Result<Sizes, FileError> {
    let mut sizes = Sizes::default();
    for path in list(directory)? {
        let size = measure(&path, seen).map_err(failed("measure", &path))?;
        sizes.0.extend(size.map(|size| (path, size)));
    }
    Ok(sizes)
}

/// Returns the cache mounts that somebody uses.
fn used_mounts(mounts: &Sizes) -> Result<Sizes, FileError> {
    let mut used = Sizes::default();
    for (path, size) in &mounts.0 {
        if !is_free(&path.join("lock"))? {
            used.0.insert(path.clone(), *size);
        }
    }
    Ok(used)
}

fn minus(from: &Needed, what: &Needed) -> Needed {
    let layers = from.layers.difference(&what.layers).cloned().collect();
    Needed { layers, blobs: from.blobs.difference(&what.blobs).cloned().collect() }
}

/// Images that a running command holds, themselves or all that they consist of.
fn held_images(contents: &Contents, holds: &Holds) -> BTreeSet<crate::ImageId> {
    contents.images.keys().filter(|id| holds.has(&Held::Image((*id).clone()))).cloned().collect()
}

fn active_records(contents: &Contents, holds: &Holds) -> u64 {
    contents.cached_layers().filter(|diff_id| holds.has(&Held::Layer((*diff_id).clone()))).count() as u64
}

/// Returns what a file or a tree takes on disk; `None` when it is not there.
pub(crate) fn disk_size(path: &Path) -> Result<Option<u64>, Errno> {
    measure(path, &mut HashSet::new())
}

fn measure(path: &Path, seen: &mut HashSet<(u64, u64)>) -> Result<Option<u64>, Errno> {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or(b".");
    let parent = match sys::open_directory(path.parent().unwrap_or(Path::new("/"))) {
        Err(Errno::NOENT) => return Ok(None),
        parent => parent?,
    };
    let Some(stat) = sys::look(&parent, name)? else { return Ok(None) };
    let mut total = 0;
    count(&stat, seen, &mut total);
    if sys::kind(&stat) == FileType::Directory {
        let top = sys::open_directory_at(&parent, name)?;
        Walk { device: stat.st_dev, seen, total: &mut total }.directory(top)?;
    }
    Ok(Some(total))
}

fn count(stat: &Stat, seen: &mut HashSet<(u64, u64)>, total: &mut u64) {
    let is_directory = sys::kind(stat) == FileType::Directory;
    if is_directory || stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)) {
        *total += sys::allocated(stat);
    }
}

struct Walk<'a> {
    device: u64,
    seen: &'a mut HashSet<(u64, u64)>,
    total: &'a mut u64,
}

/// Returns the directory above; `None` when it was moved or removed meanwhile: what is left of it is measured next time.
fn reopen_parent(child: &OwnedFd, identity: (u64, u64)) -> Result<Option<OwnedFd>, Errno> {
    let parent = match sys::open_directory_at(child, b"..") {
        Err(Errno::NOENT) => return Ok(None),
        parent => parent?,
    };
    let stat = rustix::fs::fstat(&parent)?;
    Ok(Some(parent).filter(|_| identity == (stat.st_dev, stat.st_ino)))
}

/// A directory that is being walked.
struct Level {
    directories: std::vec::IntoIter<Vec<u8>>,
    identity: (u64, u64),
}

impl Walk<'_> {
    /// Walks a tree with one directory open at a time: neither its depth nor its width costs open files.
    fn directory(&mut self, top: OwnedFd) -> Result<(), Errno> {
        let mut current = top;
        let mut levels = vec![self.list(&current)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.directories.next() else {
                levels.pop();
                let Some(above) = levels.last() else { break };
                let Some(parent) = reopen_parent(&current, above.identity)? else { break };
                current = parent;
                continue;
            };
            match sys::open_directory_at(&current, &name) {
                Ok(child) => {
                    levels.push(self.list(&child)?);
                    current = child;
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Adds the entries of a directory, and returns the directories among them.
    fn list(&mut self, directory: &OwnedFd) -> Result<Level, Errno> {
        let mut directories = Vec::new();
        let names = match sys::names(directory) {
            // it is being removed
            Err(Errno::NOENT) => Vec::new(),
            names => names?,
        };
        for name in names {
            let Some(stat) = sys::look(directory, &name.bytes)? else { continue };
            if stat.st_dev != self.device {
                continue;
            }
            count(&stat, self.seen, self.total);
            if name.is_directory() {
                directories.push(name.bytes);
            }
        }
        let stat = rustix::fs::fstat(directory)?;
        Ok(Level { directories: directories.into_iter(), identity: (stat.st_dev, stat.st_ino) })
    }
}
