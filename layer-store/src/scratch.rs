//! Directories of unfinished work in the store's `tmp/`; dropped, they are removed.

use std::path::{Path, PathBuf};

use crate::file_error::failed;
use crate::remove_tree::remove_tree;
use crate::{FileError, Store};

/// A directory of unfinished work; dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) store: Store,
    pub(crate) directory: PathBuf,
}

impl Store {
    pub(crate) fn scratch(&self, purpose: &'static str) -> Result<Scratch, FileError> {
        Ok(Scratch { directory: self.temporary_directory(purpose)?, store: self.clone() })
    }
}

impl Scratch {
    pub(crate) fn make(&self, name: impl AsRef<Path>) -> Result<PathBuf, FileError> {
        let path = self.directory.join(name);
        std::fs::create_dir(&path).map_err(failed("make", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // what fails here goes with this command's directory in `tmp/`
        let _ = remove_tree(&self.directory);
    }
}

/// A directory for files that are not the store's own, such as what a build fetches; dropped, it is removed.
#[derive(Debug)]
pub struct ScratchDirectory(Scratch);

impl Store {
    /// Makes an empty directory on the store's file system.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it cannot be made.
    pub fn scratch_directory(&self) -> Result<ScratchDirectory, FileError> {
        self.scratch("files").map(ScratchDirectory)
    }
}

impl ScratchDirectory {
    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.0.directory
    }
}
