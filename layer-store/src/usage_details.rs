//! What each image, volume and item of the build cache takes on disk.
//!
//! ```text
//! images          = Σ unique of images + what several images share, once
//! build cache     = Σ unique of items  + what several items but no image share, once
//! du of the store = images + volumes + build cache + other                                (see `usage`)
//! ```
//!
//! Everything an image needs is either shared (another image needs it too) or unique. Of an item of the build cache, what an image
//! needs is shared as well.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache_items::{CacheItem, CacheItemKind, file_name};
use crate::lease::{Held, Holds};
use crate::needs::Contents;
use crate::usage::{Measured, Usage, UsageError};
use crate::{ImageId, Store, VolumeName};

/// What the store takes on disk, by what it is for.
#[derive(Clone, Debug, Default)]
pub struct UsageDetails {
    /// The sums.
    pub usage: Usage,
    /// By image.
    pub images: Vec<ImageUsage>,
    /// Bytes that several images need, each counted once.
    pub images_shared: u64,
    /// By item of the build cache.
    pub cache: Vec<CacheUsage>,
    /// Bytes that several items of the build cache need and no image does, each counted once.
    pub cache_shared: u64,
    /// By volume.
    pub volumes: Vec<VolumeUsage>,
}

/// What an image takes on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// The image.
    pub id: ImageId,
    /// Bytes that other images need too.
    pub shared: u64,
    /// Bytes that only this image needs, its record and names among them.
    pub unique: u64,
    /// How many running commands use it.
    pub users: u64,
}

/// What an item of the build cache takes on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheUsage {
    /// What it is.
    pub kind: CacheItemKind,
    /// A cache key, or the id of a cache mount.
    pub name: String,
    /// Bytes that other items or images need too.
    pub shared: u64,
    /// Bytes that only this item needs.
    pub unique: u64,
    /// When it came into the store; `None` where the file system does not tell.
    pub created: Option<SystemTime>,
    /// When it was last used.
    pub last_used: Option<SystemTime>,
    /// Whether a running command uses it.
    pub is_held: bool,
}

/// What a volume takes on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Its name.
    pub name: VolumeName,
    /// Bytes.
    pub size: u64,
    /// How many running commands use it.
    pub users: u64,
}

/// How many there are that need a file or a tree.
#[derive(Debug, Default)]
struct Users(HashMap<PathBuf, u64>);

impl Users {
    fn of<'a>(all: impl Iterator<Item = &'a Vec<PathBuf>>) -> Self {
        let mut users = Self::default();
        all.flatten().for_each(|part| *users.0.entry(part.clone()).or_insert(0) += 1);
        users
    }

    fn has_several(&self, part: &Path) -> bool {
        self.0.get(part).is_some_and(|users| *users > 1)
    }

    /// Returns the bytes that several need, each once; without those of `others`.
    fn shared(&self, all: &Measured, others: &Self) -> u64 {
        let shared = self.0.iter().filter(|(part, users)| **users > 1 && !others.0.contains_key(*part));
        shared.map(|(part, _)| all.of(part)).sum()
    }
}

impl Store {
    /// Measures the store, and everything in it.
    ///
    /// # Errors
    ///
    /// [`UsageError::File`] when something cannot be read.
    pub fn usage_details(&self) -> Result<UsageDetails, UsageError> {
        let all = Measured::read(self)?;
        let (contents, holds) = (Contents::read(self)?, self.read_holds()?);
        let items = self.cache_items(&contents, &holds)?;
        let images: Vec<_> = contents.images.keys().map(|id| (id, self.parts_of_image(&contents, id))).collect();
        let of_items: Vec<_> = items.iter().map(|item| self.parts_of_item(&contents, item)).collect();
        let by_images = Users::of(images.iter().map(|(_, parts)| parts));
        let by_items = Users::of(of_items.iter());
        let image_usage = |(id, parts): &(&ImageId, Vec<PathBuf>)| {
            let (shared, unique) = split(&all, parts, |part| by_images.has_several(part));
            ImageUsage { id: (*id).clone(), shared, unique, users: holds.users(&Held::Image((*id).clone())) }
        };
        let cache_usage = |(item, parts): (CacheItem, &Vec<PathBuf>)| {
            let (shared, unique) =
                split(&all, parts, |part| by_items.has_several(part) || by_images.0.contains_key(part));
            let CacheItem { kind, name, last_used, is_held, .. } = item;
            CacheUsage { kind, name, shared, unique, created: created(&item.paths), last_used, is_held }
        };
        Ok(UsageDetails {
            usage: self.shares(&all, &contents, &holds)?,
            images: images.iter().map(image_usage).collect(),
            images_shared: by_images.shared(&all, &Users::default()),
            cache: items.into_iter().zip(&of_items).map(cache_usage).collect(),
            cache_shared: by_items.shared(&all, &by_images),
            volumes: volumes(&all, &holds),
        })
    }

    fn parts_of_image(&self, contents: &Contents, id: &ImageId) -> Vec<PathBuf> {
        let needed = contents.needed(std::iter::once(id), std::iter::empty(), &Holds::default());
        let layers = needed.layers.iter().map(|diff_id| self.layer_path(diff_id));
        let blobs = needed.blobs.iter().map(|digest| self.blob_path(digest));
        let names = contents.tags_of(id).map(|name| self.tag_path(name));
        layers.chain(blobs).chain(names).chain([self.image_path(id)]).collect()
    }

    fn parts_of_item(&self, contents: &Contents, item: &CacheItem) -> Vec<PathBuf> {
        let mut parts = item.paths.clone();
        if let Some(diff_id) = &item.layer {
            parts.push(self.layer_path(diff_id));
            let blobs = contents.layers.get(diff_id).into_iter().flatten();
            parts.extend(blobs.map(|blob| self.blob_path(blob)));
        }
        parts
    }
}

/// Returns the bytes of the parts that are shared, and of the others.
fn split(all: &Measured, parts: &[PathBuf], is_shared: impl Fn(&Path) -> bool) -> (u64, u64) {
    let (shared, unique): (Vec<_>, Vec<_>) = parts.iter().partition(|part| is_shared(part));
    let sum = |parts: Vec<&PathBuf>| parts.into_iter().map(|part| all.of(part)).sum();
    (sum(shared), sum(unique))
}

fn created(paths: &[PathBuf]) -> Option<SystemTime> {
    let born = |path: &PathBuf| std::fs::symlink_metadata(path).and_then(|metadata| metadata.created()).ok();
    paths.iter().filter_map(born).min()
}

fn volumes(all: &Measured, holds: &Holds) -> Vec<VolumeUsage> {
    let volume = |(path, size): (&PathBuf, &u64)| {
        let name: VolumeName = file_name(path).parse().ok()?;
        let users = holds.users(&Held::Volume(name.clone()));
        Some(VolumeUsage { name, size: *size, users })
    };
    all.volumes.iter().filter_map(volume).collect()
}
