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

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::file_error::failed;
use crate::lease::{Held, Holds, PARTIAL, StoreLock, exists, void};
use crate::needs::{CacheFile, Contents, key_of};
use crate::remove_tree::remove_tree;
use crate::store::list;
use crate::{FileError, ImageId, Store, sys, usage};

/// What to remove besides layers and blobs that nobody needs.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Which images.
    pub images: PruneImages,
    /// Whether cache records go, what is remembered of build contexts, cache mounts, and downloads that were interrupted.
    pub build_cache: bool,
    /// Whether to tell only what would be removed.
    pub dry_run: bool,
    /// Only images and cache records that came into the store before this time, and cache mounts last used before it.
    pub until: Option<SystemTime>,
    /// Only images for which all of these hold.
    pub labels: Vec<LabelFilter>,
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

/// A condition on the labels of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are a label's own")]
pub enum LabelFilter {
    /// The label is set, to this value if one is given.
    Has { key: String, value: Option<String> },
    /// The label is not set, or not to this value.
    HasNot { key: String, value: Option<String> },
}

/// Something that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freed {
    /// What it was.
    pub what: FreedKind,
    /// Its name: a reference, an image ID, a diff ID, a digest, a cache key, a file.
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
        if what.dry_run {
            let victims = self.victims(what, &self.read_holds()?)?;
            return Ok(victims.into_iter().filter_map(|victim| measured(victim.freed, &victim.path)).collect());
        }
        let trash = self.trash()?;
        let lock = StoreLock::exclusive(self.root())?;
        let victims = self.victims(what, &self.holds(&lock)?)?;
        Ok(remove(victims, trash.as_deref(), lock)?)
    }

    fn victims(&self, what: &Prune, holds: &Holds) -> Result<Vec<Victim>, FileError> {
        let contents = Contents::read(self)?;
        let mut victims = Vec::new();
        let images = self.images_to_prune(what, &contents, holds);
        let goes = |id: &ImageId| images.iter().any(|(image, _)| *image == id);
        for (name, id) in &contents.tags {
            let why = match (goes(id), contents.images.contains_key(id)) {
                (true, _) => "its image is removed",
                (false, false) => "the image it means is gone",
                (false, true) => continue,
            };
            victims.push(Victim::new(FreedKind::Tag, name, why, self.tag_path(name)));
        }
        for (id, why) in &images {
            victims.push(Victim::new(FreedKind::Image, id, why, self.image_path(id)));
        }
        let mut kept = Vec::new();
        for file in &contents.cache {
            match self.why_forget(what, file, &contents) {
                Some(why) => {
                    victims.push(Victim::new(FreedKind::CacheRecord, cache_name(file), why, file.path.clone()))
                }
                None => kept.extend(file.record.as_ref().and_then(|record| record.diff_id.as_ref())),
            }
        }
        let images = contents.images.keys().filter(|id| !goes(id));
        let needed = contents.needed(images, kept.into_iter(), holds);
        let why = "no image, cache record or running command needs it";
        for diff_id in contents.layers.keys().filter(|diff_id| !needed.layers.contains(*diff_id)) {
            victims.push(Victim::new(FreedKind::Layer, diff_id, why, self.layer_path(diff_id)));
        }
        for digest in contents.blobs.difference(&needed.blobs) {
            victims.push(Victim::new(FreedKind::Blob, digest, why, self.blob_path(digest)));
        }
        if what.build_cache {
            victims.extend(self.contexts(what)?);
            victims.extend(self.unused_cache_mounts(what.until)?);
            victims.extend(self.interrupted()?);
        }
        Ok(victims)
    }

    fn images_to_prune<'a>(
        &self,
        what: &Prune,
        contents: &'a Contents,
        holds: &Holds,
    ) -> Vec<(&'a ImageId, &'static str)> {
        let why = match what.images {
            PruneImages::None => return Vec::new(),
            PruneImages::Dangling => "no name means it",
            PruneImages::All => "all images are removed",
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
        filters.iter().all(|filter| match filter {
            LabelFilter::Has { key, value } => has_label(&config, key, value.as_deref()),
            LabelFilter::HasNot { key, value } => !has_label(&config, key, value.as_deref()),
        })
    }

    fn why_forget(&self, what: &Prune, file: &CacheFile, contents: &Contents) -> Option<&'static str> {
        let Some(record) = &file.record else { return Some("it cannot be read") };
        if record.diff_id.as_ref().is_some_and(|diff_id| !contents.layers.contains_key(diff_id)) {
            return Some("its layer is gone");
        }
        (what.build_cache && is_before(what.until, file.stored)).then_some("the build cache is removed")
    }

    /// Lists what is remembered of build contexts.
    fn contexts(&self, what: &Prune) -> Result<Vec<Victim>, FileError> {
        let mut paths = list(&self.root().join("contexts"))?;
        paths.retain(|path| {
            let written = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
            is_before(what.until, written)
        });
        let victim = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Victim::new(FreedKind::CacheRecord, name, "the build cache is removed", path)
        };
        Ok(paths.into_iter().map(victim).collect())
    }

    /// Lists partial downloads that nobody is writing.
    fn interrupted(&self) -> Result<Vec<Victim>, FileError> {
        let mut victims = Vec::new();
        for path in list(&self.root().join("tmp"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(PARTIAL) && void(&path)?.is_some() {
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
        if freed.what == FreedKind::Layer {
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

fn is_before(until: Option<SystemTime>, stored: Option<SystemTime>) -> bool {
    until.is_none_or(|until| stored.is_some_and(|stored| stored < until))
}

fn has_label(config: &oci::ImageConfig, key: &str, value: Option<&str>) -> bool {
    config.config.labels.get(key).is_some_and(|label| value.is_none_or(|value| label == value))
}

fn cache_name(file: &CacheFile) -> String {
    key_of(&file.path).map(|key| key.to_string()).unwrap_or_default()
}
