//! What the build cache consists of: items that are removed as a whole, and shown as one.
//!
//! | item | what it is | last used (see `last_used`) |
//! |---|---|---|
//! | layer | a layer that a step made, with all records that lead to it | when the latest of these was |
//! | nothing | a record of a step that changed nothing | when it was |
//! | context | what is remembered of a build context or of a fetched file | when it was |
//! | mount | a cache mount | when its lock was taken |
//!
//! A record that cannot be read, or whose layer is gone, belongs to no item: it is garbage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci::DiffId;

use crate::last_used::last_used;
use crate::lease::{Held, Holds};
use crate::needs::{CacheFile, Contents, key_of};
use crate::store::list;
use crate::{FileError, Store};

/// The kinds of things in the build cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table above says it; a step that changed nothing has a layer of none")]
pub enum CacheItemKind {
    Layer,
    Context,
    Mount,
}

/// One thing of the build cache.
#[derive(Debug)]
pub(crate) struct CacheItem {
    pub(crate) kind: CacheItemKind,
    /// A cache key, or the id of a cache mount.
    pub(crate) name: String,
    /// The layer that its records lead to.
    pub(crate) layer: Option<DiffId>,
    /// What goes with it, beside the layer.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) last_used: Option<SystemTime>,
    /// Whether a running command uses it.
    pub(crate) is_held: bool,
}

impl CacheItem {
    /// Makes an item that is one file or directory of the build cache.
    pub(crate) fn of_path(kind: CacheItemKind, name: String, path: PathBuf, last_used: Option<SystemTime>) -> Self {
        Self { kind, name, layer: None, paths: vec![path], last_used, is_held: false }
    }
}

impl Store {
    /// Lists what the build cache consists of.
    pub(crate) fn cache_items(&self, contents: &Contents, holds: &Holds) -> Result<Vec<CacheItem>, FileError> {
        let mut items = records(contents, holds);
        items.extend(list(&self.root().join("contexts"))?.into_iter().map(context));
        items.extend(self.cache_mount_items()?);
        Ok(items)
    }
}

fn records(contents: &Contents, holds: &Holds) -> Vec<CacheItem> {
    let mut of_layers: BTreeMap<&DiffId, CacheItem> = BTreeMap::new();
    let mut items = Vec::new();
    for file in contents.cache.iter().filter(|file| file.fault(contents).is_none()) {
        let item = record(file);
        match file.layer() {
            None => items.push(item),
            Some(diff_id) => {
                let is_held = holds.has(&Held::Layer(diff_id.clone()));
                let new = || CacheItem { layer: Some(diff_id.clone()), is_held, paths: Vec::new(), ..record(file) };
                let known = of_layers.entry(diff_id).or_insert_with(new);
                known.paths.extend(item.paths);
                known.last_used = known.last_used.max(item.last_used);
            }
        }
    }
    items.extend(of_layers.into_values());
    items
}

fn record(file: &CacheFile) -> CacheItem {
    let name = key_of(&file.path).map(|key| key.to_string()).unwrap_or_default();
    CacheItem::of_path(CacheItemKind::Layer, name, file.path.clone(), file.last_used)
}

fn context(path: PathBuf) -> CacheItem {
    let last_used = last_used(&path);
    CacheItem::of_path(CacheItemKind::Context, file_name(&path), path, last_used)
}

/// Returns the last component of a path of the store.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
