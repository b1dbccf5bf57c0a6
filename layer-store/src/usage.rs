//! What the store takes on disk: allocated bytes, as `du` counts them, and who needs them.
//!
//! | share | what |
//! |---|---|
//! | images | layers and blobs that an image needs, records of images and names |
//! | build cache | layers and blobs that only cache records need, these records, what is remembered of build contexts, and cache mounts |
//! | volumes | named volumes, with their records |
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

use crate::file_error::failed;
use crate::lease::{Held, Holds};
use crate::needs::{Contents, Needed};
use crate::store::list;
use crate::{FileError, ImageId, Store, sys};

/// What the store takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Images, with their layers and blobs.
    pub images: Share,
    /// Build-cache records, with the layers and blobs that only they need, what is remembered of build contexts, and cache mounts.
    pub build_cache: Share,
    /// Named volumes.
    pub volumes: Share,
    /// Everything else, in bytes.
    pub other: u64,
}

/// One part of a [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many images, items of the build cache or volumes there are.
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
        self.images.size + self.build_cache.size + self.volumes.size + self.other
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

/// Bytes of files and trees of the store.
#[derive(Debug, Default)]
pub(crate) struct Sizes(BTreeMap<PathBuf, u64>);

impl Sizes {
    /// Measures files and trees; those that are not there are left out.
    pub(crate) fn of_paths(paths: impl Iterator<Item = PathBuf>) -> Result<Self, FileError> {
        let mut sizes = Self::default();
        let mut seen = HashSet::new();
        for path in paths {
            if !sizes.0.contains_key(&path) {
                sizes.add(path, &mut seen)?;
            }
        }
        Ok(sizes)
    }

    /// Returns what a file or tree takes; what was not measured is nothing.
    pub(crate) fn of(&self, path: &Path) -> u64 {
        self.0.get(path).copied().unwrap_or(0)
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PathBuf, &u64)> {
        self.0.iter()
    }

    fn add(&mut self, path: PathBuf, seen: &mut HashSet<(u64, u64)>) -> Result<(), FileError> {
        let size = measure(&path, seen).map_err(failed("measure", &path))?;
        self.0.extend(size.map(|size| (path, size)));
        Ok(())
    }
}

/// What every part of the store takes on disk.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) layers: Sizes,
    pub(crate) blobs: Sizes,
    pub(crate) images: Sizes,
    pub(crate) tags: Sizes,
    /// Cache records, what is remembered of build contexts, cache mounts.
    pub(crate) cache: Sizes,
    pub(crate) volumes: Sizes,
    /// All of it, with the directories themselves.
    pub(crate) total: u64,
}

impl Measured {
    /// Measures `store`; a file with several names counts where it is seen first.
    pub(crate) fn read(store: &Store) -> Result<Self, FileError> {
        let root = store.root();
        let mut seen = HashSet::new();
        let mut all = |directories: &[PathBuf]| {
            let mut sizes = Sizes::default();
            for directory in directories {
                list(directory)?.into_iter().try_for_each(|path| sizes.add(path, &mut seen))?;
            }
            Ok(sizes)
        };
        Ok(Self {
            layers: all(&[root.join("layers")])?,
            blobs: all(&list(&root.join("blobs"))?)?,
            images: all(&[root.join("images")])?,
            tags: all(&[root.join("tags")])?,
            cache: all(&["cache", "contexts", "mounts"].map(|name| root.join(name)))?,
            volumes: all(&[root.join("volumes")])?,
            total: disk_size(root).map_err(failed("measure", root))?.unwrap_or(0),
        })
    }

    /// Returns what a file or tree of any part takes.
    pub(crate) fn of(&self, path: &Path) -> u64 {
        let parts = [&self.layers, &self.blobs, &self.images, &self.tags, &self.cache, &self.volumes];
        parts.into_iter().map(|part| part.of(path)).sum()
    }

    /// Returns what these layers and blobs take.
    pub(crate) fn of_needed(&self, store: &Store, needed: &Needed) -> u64 {
        let of_layers = needed.layers.iter().map(|diff_id| self.layers.of(&store.layer_path(diff_id)));
        let of_blobs = needed.blobs.iter().map(|digest| self.blobs.of(&store.blob_path(digest)));
        of_layers.chain(of_blobs).sum()
    }

    /// Returns what an image's own files take: its record and its names.
    pub(crate) fn of_records(&self, store: &Store, contents: &Contents, id: &ImageId) -> u64 {
        let names = contents.tags_of(id).map(|name| self.tags.of(&store.tag_path(name)));
        self.images.of(&store.image_path(id)) + names.sum::<u64>()
    }
}

impl Store {
    /// Measures the store.
    ///
    /// # Errors
    ///
    /// [`UsageError::File`] when something cannot be read.
    pub fn usage(&self) -> Result<Usage, UsageError> {
        Ok(self.shares(&Measured::read(self)?, &Contents::read(self)?, &self.read_holds()?)?)
    }

    /// Tells who needs what was measured.
    pub(crate) fn shares(&self, all: &Measured, contents: &Contents, holds: &Holds) -> Result<Usage, FileError> {
        let images = self.images_share(all, contents, holds);
        let build_cache = self.cache_share(all, contents, holds)?;
        let volumes = self.volumes_share(&all.volumes, holds);
        let known = images.size + build_cache.size + volumes.size;
        Ok(Usage { images, build_cache, volumes, other: all.total.saturating_sub(known) })
    }

    fn images_share(&self, all: &Measured, contents: &Contents, holds: &Holds) -> Share {
        let by_images = by_images(contents, &Holds::default());
        let held = held_images(contents, holds);
        let without_images = contents.needed(held.iter(), contents.cached_layers(), holds);
        let records = all.images.sum() + all.tags.sum();
        let held_records: u64 = held.iter().map(|id| all.of_records(self, contents, id)).sum();
        let freed = all.of_needed(self, &by_images.without(&without_images));
        Share {
            count: contents.images.len() as u64,
            active: held.len() as u64,
            size: all.of_needed(self, &by_images) + records,
            reclaimable: freed + records - held_records,
        }
    }

    fn cache_share(&self, all: &Measured, contents: &Contents, holds: &Holds) -> Result<Share, FileError> {
        let by_cache = contents.needed(std::iter::empty(), contents.cached_layers(), &Holds::default());
        let only_by_cache = by_cache.without(&by_images(contents, &Holds::default()));
        let freed = by_cache.without(&by_images(contents, holds));
        let items = self.cache_items(contents, holds)?;
        let held: Vec<_> = items.iter().filter(|item| item.is_held).collect();
        let held_paths = held.iter().flat_map(|item| &item.paths);
        let held_size: u64 = held_paths.map(|path| all.cache.of(path)).sum();
        Ok(Share {
            count: items.len() as u64,
            active: held.len() as u64,
            size: all.of_needed(self, &only_by_cache) + all.cache.sum(),
            reclaimable: all.of_needed(self, &freed) + all.cache.sum() - held_size,
        })
    }

    fn volumes_share(&self, sizes: &Sizes, holds: &Holds) -> Share {
        let is_held = |path: &&PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            name.is_some_and(|name| holds.has(&Held::Volume(name)))
        };
        let held: Vec<&PathBuf> = sizes.0.keys().filter(is_held).collect();
        let held_size: u64 = held.iter().map(|path| sizes.of(path)).sum();
        let (count, active, size) = (sizes.0.len() as u64, held.len() as u64, sizes.sum());
        Share { count, active, size, reclaimable: size - held_size }
    }
}

/// Returns what all images and running commands need.
pub(crate) fn by_images(contents: &Contents, holds: &Holds) -> Needed {
    contents.needed(contents.images.keys(), std::iter::empty(), holds)
}

/// Images that a running command holds, themselves or all that they consist of.
fn held_images(contents: &Contents, holds: &Holds) -> BTreeSet<ImageId> {
    contents.images.keys().filter(|id| holds.has(&Held::Image((*id).clone()))).cloned().collect()
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
