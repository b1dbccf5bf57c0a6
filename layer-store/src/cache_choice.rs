//! Chooses which items of the build cache a prune removes.
//!
//! | policy | goes, if no running command uses it |
//! |---|---|
//! | unshared | what no image needs |
//! | all | the same, and the records of layers that images need: their layers stay |
//! | either, with a limit | of these the least recently used, until what is left is not above the limit |
//!
//! The limited size is that of the build cache in `usage`: layers and blobs that only cache records need, these records, what is
//! remembered of build contexts, and cache mounts. With a limit, what frees no layer goes last.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::cache_items::CacheItem;
use crate::needs::{Contents, Needed};
use crate::prune::{Prune, PruneCache};
use crate::usage::Sizes;
use crate::{FileError, Store};

/// What a choice depends on.
pub(crate) struct Choice<'a> {
    pub(crate) store: &'a Store,
    pub(crate) what: &'a Prune,
    pub(crate) contents: &'a Contents,
    /// What the images that stay need.
    pub(crate) by_images: &'a Needed,
}

/// The items that go, and why.
pub(crate) type Chosen = Vec<(CacheItem, &'static str)>;

impl Choice<'_> {
    /// Takes from `items` those that go; `sizes` are theirs, for a limit.
    pub(crate) fn of(&self, items: Vec<CacheItem>, sizes: &Sizes) -> Chosen {
        let why = match self.what.build_cache {
            PruneCache::None => return Vec::new(),
            PruneCache::Unshared => "no image or running command uses it",
            PruneCache::All => "the build cache is removed",
        };
        match self.what.keep_storage {
            None => items.into_iter().filter(|item| self.may_go(item)).map(|item| (item, why)).collect(),
            Some(limit) => self.least_used(limit, items, sizes),
        }
    }

    /// Measures what removing any of `items` can free.
    pub(crate) fn measure(&self, items: &[CacheItem]) -> Result<Sizes, FileError> {
        Sizes::of_paths(items.iter().flat_map(|item| self.parts(item)))
    }

    fn may_go(&self, item: &CacheItem) -> bool {
        let is_of_policy = self.what.build_cache == PruneCache::All || !self.is_shared(item);
        let is_meant = is_before(self.what.until, item.last_used) && self.what.is_for_unlabelled();
        is_meant && is_of_policy && !item.is_held
    }

    fn is_shared(&self, item: &CacheItem) -> bool {
        item.layer.as_ref().is_some_and(|diff_id| self.by_images.layers.contains(diff_id))
    }

    fn least_used(&self, limit: u64, items: Vec<CacheItem>, sizes: &Sizes) -> Chosen {
        let mut left = Left::default();
        items.iter().for_each(|item| left.add(self.parts(item), sizes));
        let mut candidates: Vec<CacheItem> = items.into_iter().filter(|item| self.may_go(item)).collect();
        candidates.sort_by_key(|item| (self.is_shared(item), item.last_used));
        let mut chosen = Vec::new();
        for item in candidates {
            if left.size <= limit {
                break;
            }
            left.remove(&self.parts(&item));
            chosen.push((item, "the build cache is above its limit, and this was used least recently"));
        }
        chosen
    }

    /// Returns the files and directories that nobody needs any more without this item, and others that name them.
    fn parts(&self, item: &CacheItem) -> Vec<PathBuf> {
        let mut parts = item.paths.clone();
        if let Some(diff_id) = item.layer.as_ref().filter(|_| !self.is_shared(item)) {
            parts.push(self.store.layer_path(diff_id));
            let blobs = self.contents.layers.get(diff_id).into_iter().flatten();
            let blobs = blobs.filter(|blob| !self.by_images.blobs.contains(*blob));
            parts.extend(blobs.map(|blob| self.store.blob_path(blob)));
        }
        parts
    }
}

/// What is left of the build cache while items are taken away.
#[derive(Default)]
struct Left {
    size: u64,
    /// Size of each part, and how many items name it.
    parts: BTreeMap<PathBuf, (u64, usize)>,
}

impl Left {
    fn add(&mut self, parts: Vec<PathBuf>, sizes: &Sizes) {
        for part in parts {
            let size = sizes.of(&part);
            let (_, named) = self.parts.entry(part).or_insert((size, 0));
            *named += 1;
            if *named == 1 {
                self.size += size;
            }
        }
    }

    fn remove(&mut self, parts: &[PathBuf]) {
        for part in parts {
            let Some((size, named)) = self.parts.get_mut(part) else { continue };
            *named -= 1;
            if *named == 0 {
                self.size -= *size;
            }
        }
    }
}

pub(crate) fn is_before(until: Option<SystemTime>, time: Option<SystemTime>) -> bool {
    until.is_none_or(|until| time.is_some_and(|time| time < until))
}
