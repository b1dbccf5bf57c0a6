//! A directory of unfinished work in the store's `tmp/`; dropped, it is removed.

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
