//! What is in a directory of a tree, less what is left out.

use rustix::fs::FileType;

use super::{SelectError, list, name_below};
use crate::dockerignore::Dockerignore;
use crate::file_tree::{FileEntry, FileTree};
use crate::source_file::Xattrs;

/// A walk through a tree.
pub(super) struct Walk<'a> {
    pub(super) tree: &'a FileTree,
    /// What is left out beside what the tree itself does not show, by names below each source.
    pub(super) exclude: &'a Dockerignore,
}

impl Walk<'_> {
    /// Adds what is below `directory`, whose attributes it returns; `root` is the source whose names patterns see.
    ///
    /// A directory that is left out is added only when something below it is kept.
    pub(super) fn below(
        &self,
        directory: &FileEntry,
        root: &FileEntry,
        children: &mut Vec<FileEntry>,
    ) -> Result<Xattrs, SelectError> {
        let (entries, xattrs) = list(self.tree, &directory.path)?;
        for entry in entries {
            self.add(entry, root, children)?;
        }
        Ok(xattrs)
    }

    /// Adds an entry with what is below it.
    pub(super) fn add(
        &self,
        entry: FileEntry,
        root: &FileEntry,
        children: &mut Vec<FileEntry>,
    ) -> Result<(), SelectError> {
        let is_excluded = self.is_excluded(name_below(&entry, root));
        if entry.kind() != FileType::Directory {
            if !is_excluded {
                children.push(entry);
            }
            return Ok(());
        }
        if is_excluded && !self.exclude.has_exceptions() {
            return Ok(());
        }
        let before = children.len();
        children.push(entry.clone());
        children[before].xattrs = self.below(&entry, root, children)?;
        if (is_excluded || self.tree.is_ignored(&entry)) && children.len() == before + 1 {
            children.pop();
        }
        Ok(())
    }

    /// Tells whether `--exclude` names a path below a source.
    pub(super) fn is_excluded(&self, name: &[u8]) -> bool {
        !self.exclude.is_empty() && self.exclude.is_ignored(name)
    }
}
