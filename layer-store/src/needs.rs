//! What the store holds, and which of it somebody needs.
//!
//! ```text
//! tag ─▶ image ─┬─▶ config, manifests, the blobs they name
//!               └─▶ layers ─▶ the blobs their records name
//! cache record ───▶ layer  ─▶ …
//! lease ──────────▶ layers, blobs, images ─▶ …
//! ```
//!
//! Everything else is garbage. An image whose record cannot be read still needs its layers: its config says which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci::{DiffId, Digest, Reference};

use crate::last_used::last_used;
use crate::lease::{Held, Holds};
use crate::store::{digest_of_name, list};
use crate::{CacheKey, CacheRecord, FileError, ImageId, Store, record};

/// Everything in the store, read once.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) images: BTreeMap<ImageId, ImageNeeds>,
    pub(crate) tags: BTreeMap<Reference, ImageId>,
    pub(crate) cache: Vec<CacheFile>,
    /// Layer → the blobs that its record names.
    pub(crate) layers: BTreeMap<DiffId, Vec<Digest>>,
    pub(crate) blobs: BTreeSet<Digest>,
}

#[derive(Debug, Default)]
pub(crate) struct ImageNeeds {
    pub(crate) layers: Vec<DiffId>,
    pub(crate) blobs: Vec<Digest>,
    /// `None` when the record cannot be read.
    pub(crate) stored: Option<SystemTime>,
}

/// A file in `cache/`.
#[derive(Debug)]
pub(crate) struct CacheFile {
    pub(crate) path: PathBuf,
    /// `None` when it cannot be read.
    pub(crate) record: Option<CacheRecord>,
    pub(crate) last_used: Option<SystemTime>,
}

impl CacheFile {
    /// Returns the layer that it leads to.
    pub(crate) fn layer(&self) -> Option<&DiffId> {
        self.record.as_ref()?.diff_id.as_ref()
    }

    /// Returns why it leads nowhere; `None` when it does.
    pub(crate) fn fault(&self, contents: &Contents) -> Option<&'static str> {
        match &self.record {
            None => Some("it cannot be read"),
            Some(_) if self.layer().is_some_and(|diff_id| !contents.layers.contains_key(diff_id)) => {
                Some("its layer is gone")
            }
            Some(_) => None,
        }
    }
}

/// Layers and blobs that somebody needs.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    pub(crate) layers: BTreeSet<DiffId>,
    pub(crate) blobs: BTreeSet<Digest>,
}

impl Needed {
    /// Returns what of it `others` do not need.
    pub(crate) fn without(&self, others: &Self) -> Self {
        Self {
            layers: self.layers.difference(&others.layers).cloned().collect(),
            blobs: self.blobs.difference(&others.blobs).cloned().collect(),
        }
    }
}

impl Contents {
    pub(crate) fn read(store: &Store) -> Result<Self, FileError> {
        let mut images = BTreeMap::new();
        for id in store.image_ids()?.into_iter().flatten() {
            let needs = image_needs(store, &id);
            images.insert(id, needs);
        }
        let mut layers = BTreeMap::new();
        for path in list(&store.root().join("layers"))? {
            let Some(digest) = path.file_name().and_then(digest_of_name) else { continue };
            let diff_id = DiffId(digest);
            // a record that cannot be read names no blobs; the layer is there nevertheless
            let blobs = store.read_layer(&diff_id).map(|record| record.blobs).unwrap_or_default();
            layers.insert(diff_id, blobs.into_iter().map(|blob| blob.digest).collect());
        }
        let mut blobs = BTreeSet::new();
        for directory in list(&store.root().join("blobs"))? {
            let digests = list(&directory)?;
            blobs.extend(digests.iter().filter_map(|path| path.file_name().and_then(digest_of_name)));
        }
        let cache = list(&store.root().join("cache"))?.into_iter().filter_map(cache_file).collect();
        Ok(Self { images, tags: store.tags()?, cache, layers, blobs })
    }

    /// Returns what `images`, `cached` layers and running commands need.
    pub(crate) fn needed<'a>(
        &self,
        images: impl Iterator<Item = &'a ImageId>,
        cached: impl Iterator<Item = &'a DiffId>,
        holds: &Holds,
    ) -> Needed {
        let mut needed = Needed::default();
        let mut add_image = |id: &ImageId| {
            if let Some(image) = self.images.get(id) {
                needed.layers.extend(image.layers.iter().cloned());
                needed.blobs.extend(image.blobs.iter().cloned());
            }
        };
        images.for_each(&mut add_image);
        let all_held = || holds.own.iter().chain(&holds.others);
        all_held().filter_map(|held| if let Held::Image(id) = held { Some(id) } else { None }).for_each(&mut add_image);
        needed.layers.extend(cached.cloned());
        for held in all_held() {
            match held {
                Held::Layer(diff_id) => drop(needed.layers.insert(diff_id.clone())),
                Held::Blob(digest) => drop(needed.blobs.insert(digest.clone())),
                Held::Image(_) | Held::Volume(_) => {}
            }
        }
        for blobs in needed.layers.iter().filter_map(|diff_id| self.layers.get(diff_id)) {
            needed.blobs.extend(blobs.iter().cloned());
        }
        needed
    }

    pub(crate) fn cached_layers(&self) -> impl Iterator<Item = &DiffId> {
        self.cache.iter().filter_map(CacheFile::layer)
    }

    pub(crate) fn tags_of(&self, id: &ImageId) -> impl Iterator<Item = &Reference> {
        self.tags.iter().filter(move |(_, image)| *image == id).map(|(name, _)| name)
    }
}

fn image_needs(store: &Store, id: &ImageId) -> ImageNeeds {
    if let Ok(record) = store.read_image(id) {
        let blobs = record.blobs().cloned().collect();
        return ImageNeeds { blobs, stored: Some(record.stored()), layers: record.layers };
    }
    // the config is looked at by path: nothing is held while the store is only surveyed
    let config = std::fs::read(store.blob_path(&id.0)).ok().filter(|bytes| Digest::of(bytes) == id.0);
    let config = config.and_then(|bytes| serde_json::from_slice::<oci::ImageConfig>(&bytes).ok());
    let layers = config.map(|config| config.rootfs.diff_ids).unwrap_or_default();
    ImageNeeds { layers, blobs: vec![id.0.clone()], stored: None }
}

fn cache_file(path: PathBuf) -> Option<CacheFile> {
    key_of(&path)?;
    let record = record::read(&path).ok().flatten();
    let last_used = last_used(&path);
    Some(CacheFile { path, record, last_used })
}

pub(crate) fn key_of(path: &Path) -> Option<CacheKey> {
    path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}
