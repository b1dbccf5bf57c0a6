//! `--parents`: sources keep the directories above them, up to `/./` where the pattern has one.
//!
//! - `**` spans any depth; a wildcard matches whole paths below the pivot, and a directory that matches counts with its contents.
//! - Links are entries here, never ways: nothing is found behind one, because it would get another name. A plain name that leads
//!   through one is an error.
//!
//! Spec: Dockerfile reference, "COPY --parents".

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use rustix::fs::FileType;

use super::glob::{glob, is_wildcard, path_regex};
use super::walk::Walk;
use super::{SelectError, Selected, absent, clean, file_name, find, list, name_below};
use crate::file_tree::FileEntry;

/// Finds what a pattern stands for: for each pivot, a source in which only that is found.
pub(super) fn with_parents(walk: &Walk<'_>, (place, pattern): (usize, &str)) -> Result<Vec<Selected>, SelectError> {
    let (pivot, below) = pattern.split_once("/./").unwrap_or(("", pattern));
    let (pivot, below) = (clean(pivot), clean(below));
    let is_plain = !is_wildcard(&pivot) && !is_wildcard(&below);
    let search = Search { walk, parts: parts(&below), regex: path_regex(pattern, &below)? };
    let mut sources = Vec::new();
    for root in pivots(walk, pattern, &pivot)? {
        let mut children = Vec::new();
        if below.as_os_str().is_empty() {
            walk.below(&root, &root, &mut children)?;
        } else {
            search.below(&root, &root, &mut Vec::new(), &mut children)?;
        }
        if children.is_empty() && is_plain {
            check_plain(walk, pattern, &pivot.join(&below))?;
        }
        sources.push(Selected { pattern: place, name: PathBuf::new(), entry: root, children });
    }
    Ok(sources)
}

/// Finds the directories from which on names are kept.
fn pivots(walk: &Walk<'_>, pattern: &str, pivot: &Path) -> Result<Vec<FileEntry>, SelectError> {
    let mut found: Vec<FileEntry> = if is_wildcard(pivot) {
        glob(walk.tree, pattern, pivot)?.into_iter().map(|(_, entry)| entry).collect()
    } else {
        let entry = find(walk.tree, pivot)?.filter(|entry| entry.kind() == FileType::Directory);
        vec![entry.ok_or_else(|| absent(walk.tree, pattern, pivot))?]
    };
    found.retain(|entry| entry.kind() == FileType::Directory);
    Ok(found)
}

/// Says why a plain name stands for nothing: it is not there, or behind a link; it may also be excluded, which is no error.
fn check_plain(walk: &Walk<'_>, pattern: &str, path: &Path) -> Result<(), SelectError> {
    let parents: Vec<&Path> = path.ancestors().skip(1).collect();
    for parent in parents.into_iter().rev() {
        if find(walk.tree, parent)?.is_some_and(|entry| entry.path != parent) {
            return Err(SelectError::LinkedParent { pattern: pattern.to_owned(), path: parent.to_owned() });
        }
    }
    match find(walk.tree, path)? {
        Some(_) => Ok(()),
        None => Err(absent(walk.tree, pattern, path)),
    }
}

/// What is looked for below a pivot.
struct Search<'a> {
    walk: &'a Walk<'a>,
    /// The parts of the pattern before the first `**`.
    parts: Parts,
    regex: Regex,
}

/// The parts of a pattern that say which directories can hold a match.
struct Parts {
    /// From the first on; `None` for a wildcard.
    names: Vec<Option<Vec<u8>>>,
    /// Whether a match may be deeper than these.
    is_open: bool,
}

fn parts(pattern: &Path) -> Parts {
    let all: Vec<&[u8]> = pattern.iter().map(OsStrExt::as_bytes).collect();
    let spans = |part: &&[u8]| part.windows(2).any(|two| two == b"**");
    let closed = all.iter().position(spans).unwrap_or(all.len());
    let name = |part: &&[u8]| (!is_wildcard(Path::new(OsStr::from_bytes(part)))).then(|| part.to_vec());
    Parts { names: all[..closed].iter().map(name).collect(), is_open: closed < all.len() }
}

impl Search<'_> {
    /// Adds what matches below `directory`, with the directories above it that are not added yet (`above`).
    fn below(
        &self,
        directory: &FileEntry,
        root: &FileEntry,
        above: &mut Vec<FileEntry>,
        children: &mut Vec<FileEntry>,
    ) -> Result<(), SelectError> {
        let depth = name_below(directory, root).split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
        if depth >= self.parts.names.len() && !self.parts.is_open {
            return Ok(());
        }
        let wanted = self.parts.names.get(depth).and_then(Option::as_ref);
        let (entries, xattrs) = list(self.walk.tree, &directory.path)?;
        if let Some(itself) = above.last_mut().filter(|last| last.path == directory.path) {
            itself.xattrs = xattrs;
        }
        for entry in entries {
            let name = file_name(&entry.path);
            if wanted.is_some_and(|wanted| wanted != name.as_os_str().as_bytes()) {
                continue;
            }
            if self.regex.is_match(name_below(&entry, root)) {
                self.take(entry, root, above, children)?;
            } else if entry.kind() == FileType::Directory {
                above.push(entry.clone());
                self.below(&entry, root, above, children)?;
                // whoever was added took the directories above along
                above.pop();
            }
        }
        Ok(())
    }

    /// Adds a match.
    fn take(
        &self,
        entry: FileEntry,
        root: &FileEntry,
        above: &mut Vec<FileEntry>,
        children: &mut Vec<FileEntry>,
    ) -> Result<(), SelectError> {
        let before = children.len();
        children.append(&mut above.clone());
        let with_parents = children.len();
        self.walk.add(entry, root, children)?;
        if children.len() == with_parents {
            children.truncate(before);
        } else {
            above.clear();
        }
        Ok(())
    }
}
