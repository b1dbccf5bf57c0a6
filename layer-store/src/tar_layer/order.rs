//! The order of a layer's entries, and what may stand where: checked, since another order would be another diff ID.
//!
//! | entry | needs |
//! |---|---|
//! | any | a path of real names; its parent's entry before it; a place after the entry before it |
//! | hard link | an entry before it that is no link itself, with the same metadata |
//! | a second one of the same path | refused, also where other entries are in between: a file `a` and a directory `a/` |
//!
//! Paths are remembered as hashes: a layer of a million files must not cost the memory of their names.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{TarEntry, TarKind, TarLayerError};
use crate::tree_tar::header::Header;

/// The longest name that a directory can hold.
const MAX_NAME: usize = 255;

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The key of the last entry.
    last: Vec<u8>,
    /// The directory that the last entry was in, or was, with a slash at its end; empty for the root.
    directory: Vec<u8>,
    hashes: RandomState,
    /// Path of what is no directory → what a further name must repeat; `None` when it can have none.
    files: HashMap<u64, Option<u64>>,
}

impl Order {
    /// Checks the next entry.
    pub(super) fn next(&mut self, entry: &TarEntry<'_>, header: &Header) -> Result<(), TarLayerError> {
        let path = entry.path.as_os_str().as_bytes();
        check_path(path).map_err(|fault| fault(entry.path.to_owned()))?;
        let key = key(path, entry.kind);
        let place = self.hashes.hash_one(path);
        let is_opaque = entry.kind == TarKind::Opaque;
        if (key <= self.last) || (!is_opaque && self.files.contains_key(&place)) {
            return Err(TarLayerError::Order { path: entry.path.to_owned() });
        }
        let parent_end = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let parent = if is_opaque { &header.path[..=path.len()] } else { &path[..parent_end] };
        if !self.directory.starts_with(parent) {
            return Err(TarLayerError::NoParent { path: entry.path.to_owned() });
        }
        self.directory.truncate(parent.len());
        if entry.kind == TarKind::Directory {
            self.directory.clone_from(&header.path);
        }
        self.last = key;
        self.remember(entry, header, place)
    }

    fn remember(&mut self, entry: &TarEntry<'_>, header: &Header, place: u64) -> Result<(), TarLayerError> {
        let metadata = (header.mode, header.uid, header.gid, header.modified.seconds, header.modified.nanoseconds);
        let metadata = self.hashes.hash_one(metadata);
        match entry.kind {
            TarKind::Directory | TarKind::Opaque => {}
            TarKind::Whiteout => drop(self.files.insert(place, None)),
            TarKind::HardLink { to } => {
                let is_first_name = self.files.get(&self.place_of(to)) == Some(&Some(metadata));
                if !is_first_name || !header.xattrs.is_empty() {
                    return Err(TarLayerError::Link { path: entry.path.to_owned(), to: to.to_owned() });
                }
                self.files.insert(place, None);
            }
            _ => drop(self.files.insert(place, Some(metadata))),
        }
        Ok(())
    }

    fn place_of(&self, path: &Path) -> u64 {
        self.hashes.hash_one(path.as_os_str().as_bytes())
    }
}

type PathFault = fn(PathBuf) -> TarLayerError;

fn check_path(path: &[u8]) -> Result<(), PathFault> {
    for name in path.split(|byte| *byte == b'/') {
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) || name.len() > MAX_NAME {
            return Err(|path| TarLayerError::Path { path });
        }
        if name.starts_with(b".wh.") {
            return Err(|path| TarLayerError::ReservedName { path });
        }
    }
    Ok(())
}

/// Returns bytes that compare as the entries are ordered: before each name stands its rank, after a directory's a slash.
fn key(path: &[u8], kind: TarKind<'_>) -> Vec<u8> {
    const REST: u8 = 2;
    let mut key = Vec::with_capacity(path.len() + 8);
    for name in path.split(|byte| *byte == b'/') {
        key.push(REST);
        key.extend_from_slice(name);
        key.push(b'/');
    }
    let last = key.len() - 1;
    match kind {
        TarKind::Directory => {}
        TarKind::Opaque => key.push(0),
        TarKind::Whiteout => {
            key.truncate(last);
            let name = path.iter().rposition(|byte| *byte == b'/').map_or(path.len(), |slash| path.len() - slash - 1);
            key[last - name - 1] = 1;
        }
        _ => key.truncate(last),
    }
    key
}
