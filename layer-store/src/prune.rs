//! Prunes: removes what nobody needs, and says what and why.
//!
//! ```text
//! survey ─▶ victims ─exclusive lock: rename into tmp/─▶ unlock ─▶ delete           dry run: survey, measure, nothing else
//! ```
//!
//! - Names go first, then images and cache records, then layers, then blobs: killed in between, what is left is garbage, and
//!   nothing that is visible misses a part.
//! - What a running command holds stays. Layers and blobs that nobody needs always go.
//! - On a full disk nothing can be renamed into `tmp/`: then victims are deleted in place, each record before its content.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cache_choice::{Choice, Chosen, is_before};
use crate::cache_items::{CacheItemKind, file_name};
use crate::file_error::failed;
use crate::last_used::last_used;
use crate::lease::{Held, Holds, PARTIAL, StoreLock, exists, void};
use crate::needs::{CacheFile, Contents, Needed, key_of};
use crate::remove_tree::remove_tree;
use crate::store::list;
use crate::usage::Sizes;
use crate::{FileError, ImageId, Store, sys, usage};

/// What to remove besides layers and blobs that nobody needs.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Which images.
    pub images: PruneImages,
    /// Which cache records, and what is remembered of build contexts, and cache mounts.
    pub build_cache: PruneCache,
    /// Of these only the least recently used, until the build cache takes no more than this on disk; in bytes.
    ///
    /// With `None`, downloads that were interrupted belong to the build cache too.
    pub keep_storage: Option<u64>,
    /// Whether to tell only what would be removed.
    pub dry_run: bool,
    /// Only images that came into the store before this time, and only what of the build cache was last used before it.
    pub until: Option<SystemTime>,
    /// Only what these labels hold for; nothing in the build cache has any.
    pub labels: Vec<LabelFilter>,
}

impl Prune {
    /// Tells whether it is meant for what has no labels.
    pub(crate) fn is_for_unlabelled(&self) -> bool {
        self.labels.iter().all(|filter| filter.holds(&BTreeMap::new()))
    }
}

/// Which images to remove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneImages {
    /// None.
    #[default]
    None,
    /// Those without a name.
    Dangling,
    /// All of them.
    All,
}

/// Which part of the build cache to remove; what running commands use stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PruneCache {
    /// None.
    #[default]
    None,
    /// What no image needs.
    Unshared,
    /// All of it.
    All,
}

/// A condition on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are a label's own")]
pub enum LabelFilter {
    /// The label is set, to this value if one is given.
    Has { key: String, value: Option<String> },
    /// The label is not set, or not to this value.
    HasNot { key: String, value: Option<String> },
}

impl LabelFilter {
    /// Tells whether it holds of these labels.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |key: &String, value: &Option<String>| {
            labels.get(key).is_some_and(|label| value.as_ref().is_none_or(|value| label == value))
        };
        match self {
            Self::Has { key, value } => has(key, value),
            Self::HasNot { key, value } => !has(key, value),
        }
    }
}

/// Something that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freed {
    /// What it was.
    pub what: FreedKind,
    /// Its name: a reference, an image ID, a diff ID, a digest, a cache key, a file, a volume's.
    pub name: String,
    /// Why nobody needs it.
    pub why: &'static str,
    /// Bytes on disk, as `du` counts them.
    pub size: u64,
}

/// The kinds of things that are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum FreedKind {
    Tag,
    Image,
    CacheRecord,
    CacheMount,
    Layer,
    Blob,
    Temporary,
    Volume,
}

/// Why a store could not be pruned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum PruneError {
    #[error(transparent)]
    File(#[from] FileError),
}

/// Something to remove, and where it is.
#[derive(Debug)]
pub(crate) struct Victim {
    pub(crate) freed: Freed,
    pub(crate) path: PathBuf,
}

impl Victim {
    pub(crate) fn new(what: FreedKind, name: impl ToString, why: &'static str, path: PathBuf) -> Self {
        Self { freed: Freed { what, name: name.to_string(), why, size: 0 }, path }
    }
}

impl Store {
    /// Removes what nobody needs, and returns it; nothing that a running command uses is touched.
    ///
    /// # Errors
    ///
    /// [`PruneError::File`] when the store cannot be read or something cannot be removed; what was removed before stays so.
    pub fn prune(&self, what: &Prune) -> Result<Vec<Freed>, PruneError> {
        // measuring takes a while: nobody is kept from using the store meanwhile
        let sizes = if what.keep_storage.is_some() { self.measure_cache(what)? } else { Sizes::default() };
        if what.dry_run {
            let victims = self.victims(what, &sizes, &self.read_holds()?)?;
            return Ok(victims.into_iter().filter_map(|victim| measured(victim.freed, &victim.path)).collect());
        }
        self.prune_measured(what, &sizes)
    }

    /// Does the work of [`Store::prune`]; `sizes` are those of the build cache, for a limit.
    pub(crate) fn prune_measured(&self, what: &Prune, sizes: &Sizes) -> Result<Vec<Freed>, PruneError> {
        let trash = self.trash()?;
        let lock = StoreLock::exclusive(self.root())?;
        let victims = self.victims(what, sizes, &self.holds(&lock)?)?;
        Ok(remove(victims, trash.as_deref(), lock)?)
    }

    /// Measures what a prune can free of the build cache.
    pub(crate) fn measure_cache(&self, what: &Prune) -> Result<Sizes, FileError> {
        let (contents, holds) = (Contents::read(self)?, self.read_holds()?);
        let images = self.images_to_prune(what, &contents, &holds);
        let by_images = needed_by_others(&contents, &images);
        let choice = Choice { store: self, what, contents: &contents, by_images: &by_images };
        choice.measure(&self.cache_items(&contents, &holds)?)
    }

    fn victims(&self, what: &Prune, sizes: &Sizes, holds: &Holds) -> Result<Vec<Victim>, FileError> {
        let contents = Contents::read(self)?;
        let images = self.images_to_prune(what, &contents, holds);
        let mut victims = self.names_and_images(&contents, &images);
        let chosen = {
            let by_images = needed_by_others(&contents, &images);
            let choice = Choice { store: self, what, contents: &contents, by_images: &by_images };
            choice.of(self.cache_items(&contents, holds)?, sizes)
        };
        let (records, rest) = cache_victims(&contents, chosen);
        let forgotten: BTreeSet<&Path> = records.iter().map(|victim| victim.path.as_path()).collect();
        let kept = contents.cache.iter().filter(|file| !forgotten.contains(file.path.as_path()));
        let remaining = contents.images.keys().filter(|id| !images.contains_key(id));
        let needed = contents.needed(remaining, kept.filter_map(CacheFile::layer), holds);
        drop(forgotten);
        victims.extend(records);
        let why = "no image, cache record or running command needs it";
        for diff_id in contents.layers.keys().filter(|diff_id| !needed.layers.contains(*diff_id)) {
            victims.push(Victim::new(FreedKind::Layer, diff_id, why, self.layer_path(diff_id)));
        }
        for digest in contents.blobs.difference(&needed.blobs) {
            victims.push(Victim::new(FreedKind::Blob, digest, why, self.blob_path(digest)));
        }
        victims.extend(rest);
        if what.build_cache != PruneCache::None && what.keep_storage.is_none() && what.is_for_unlabelled() {
            victims.extend(self.interrupted(what.until)?);
        }
        Ok(victims)
    }

    fn names_and_images(&self, contents: &Contents, images: &Doomed<'_>) -> Vec<Victim> {
        let mut victims = Vec::new();
        for (name, id) in &contents.tags {
            let why = match (images.contains_key(id), contents.images.contains_key(id)) {
                (true, _) => "its image is removed",
                (false, false) => "the image it means is gone",
                (false, true) => continue,
            };
            victims.push(Victim::new(FreedKind::Tag, name, why, self.tag_path(name)));
        }
        for (id, why) in images {
            victims.push(Victim::new(FreedKind::Image, id, why, self.image_path(id)));
        }
        victims
    }

    fn images_to_prune<'a>(&self, what: &Prune, contents: &'a Contents, holds: &Holds) -> Doomed<'a> {
        let why = match what.images {
            PruneImages::None => return Doomed::new(),
            PruneImages::Dangling => "no name means it",
            PruneImages::All => "no running command uses it",
        };
        let is_meant = |id: &ImageId| what.images == PruneImages::All || contents.tags_of(id).next().is_none();
        let images = contents.images.iter();
        let images = images.filter(|(id, image)| is_before(what.until, image.stored) && is_meant(id));
        let images = images.filter(|(id, _)| !holds.has(&Held::Image((*id).clone())));
        images.filter(|(id, _)| self.has_labels(id, &what.labels)).map(|(id, _)| (id, why)).collect()
    }

    fn has_labels(&self, id: &ImageId, filters: &[LabelFilter]) -> bool {
        if filters.is_empty() {
            return true;
        }
        let bytes = std::fs::read(self.blob_path(&id.0)).unwrap_or_default();
        // an image whose config cannot be read has no labels that could be asked for
        let Ok(config) = serde_json::from_slice::<oci::ImageConfig>(&bytes) else { return false };
        filters.iter().all(|filter| filter.holds(&config.config.labels))
    }

    /// Lists partial downloads that nobody is writing.
    fn interrupted(&self, until: Option<SystemTime>) -> Result<Vec<Victim>, FileError> {
        let mut victims = Vec::new();
        for path in list(&self.root().join("tmp"))? {
            let name = file_name(&path);
            if name.starts_with(PARTIAL) && is_before(until, last_used(&path)) && void(&path)?.is_some() {
                let why = "its download was interrupted";
                victims.push(Victim::new(FreedKind::Temporary, name, why, path));
            }
        }
        Ok(victims)
    }

    /// Makes the directory that victims are moved to; `None` when the disk has no room for one.
    pub(crate) fn trash(&self) -> Result<Option<PathBuf>, FileError> {
        match self.temporary_directory("trash") {
            Ok(trash) => Ok(Some(trash)),
            Err(error) if sys::is_full(&error.source) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Removes `victims`: renames them under the lock, and deletes them after it.
pub(crate) fn remove(victims: Vec<Victim>, trash: Option<&Path>, lock: StoreLock) -> Result<Vec<Freed>, FileError> {
    let Some(trash) = trash else { return remove_in_place(victims, lock) };
    let mut moved = Vec::new();
    let mut result = Ok(());
    for (at, victim) in victims.into_iter().enumerate() {
        let to = trash.join(at.to_string());
        match std::fs::rename(&victim.path, &to) {
            Ok(()) => moved.push((victim.freed, to)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                result = Err(failed("remove", &victim.path)(error));
                break;
            }
        }
    }
    drop(lock);
    let freed = moved.into_iter().filter_map(|(freed, path)| measured(freed, &path)).collect();
    remove_tree(trash)?;
    result.map(|()| freed)
}

fn remove_in_place(victims: Vec<Victim>, _lock: StoreLock) -> Result<Vec<Freed>, FileError> {
    let mut all = Vec::new();
    for Victim { freed, path } in victims {
        let Some(freed) = measured(freed, &path) else { continue };
        if matches!(freed.what, FreedKind::Layer | FreedKind::Volume) {
            let record = path.join("record.json");
            if exists(&record)? {
                std::fs::remove_file(&record).map_err(failed("remove", &record))?;
            }
        }
        remove_tree(&path)?;
        all.push(freed);
    }
    Ok(all)
}

/// Adds what it takes on disk; `None` when it is gone.
pub(crate) fn measured(freed: Freed, path: &Path) -> Option<Freed> {
    let size = usage::disk_size(path).ok().flatten()?;
    Some(Freed { size, ..freed })
}

/// Images that go, and why.
type Doomed<'a> = BTreeMap<&'a ImageId, &'static str>;

/// Returns what the images that stay need.
fn needed_by_others(contents: &Contents, doomed: &Doomed<'_>) -> Needed {
    let remaining = contents.images.keys().filter(|id| !doomed.contains_key(id));
    contents.needed(remaining, std::iter::empty(), &Holds::default())
}

/// Lists the cache records that go, those that lead nowhere among them, and what else of the build cache goes.
fn cache_victims(contents: &Contents, chosen: Chosen) -> (Vec<Victim>, Vec<Victim>) {
    let broken = contents.cache.iter().filter_map(|file| {
        let name = key_of(&file.path)?;
        Some(Victim::new(FreedKind::CacheRecord, name, file.fault(contents)?, file.path.clone()))
    });
    let (mut records, mut rest): (Vec<Victim>, Vec<Victim>) = (broken.collect(), Vec::new());
    for (item, why) in chosen {
        for path in item.paths {
            match item.kind {
                CacheItemKind::Layer => {
                    records.push(Victim::new(FreedKind::CacheRecord, record_name(&path), why, path));
                }
                CacheItemKind::Context => rest.push(Victim::new(FreedKind::CacheRecord, &item.name, why, path)),
                CacheItemKind::Mount => rest.push(Victim::new(FreedKind::CacheMount, &item.name, why, path)),
            }
        }
    }
    (records, rest)
}

fn record_name(path: &Path) -> String {
    key_of(path).map(|key| key.to_string()).unwrap_or_default()
}
