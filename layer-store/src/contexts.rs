//! What builders remember of build contexts and of fetched files: one file each, whose content is theirs alone.
//!
//! Disposable by construction, as the build cache that it belongs to: one that is gone only costs time. The time of a file is that of
//! its last use (`last_used`).

use std::io;
use std::path::PathBuf;

use crate::file_error::failed;
use crate::last_used::note_use;
use crate::{CacheKey, FileError, Store};

impl Store {
    /// Returns what was kept for the context `name`; `None` when nothing is.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it is there and cannot be read.
    pub fn read_context(&self, name: &CacheKey) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.context_path(name);
        match std::fs::read(&path) {
            Ok(bytes) => {
                note_use(&path);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Keeps `bytes` for the context `name`, in place of what was kept before.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it cannot be written; what was there before then still is.
    pub fn write_context(&self, name: &CacheKey, bytes: &[u8]) -> Result<(), FileError> {
        self.replace(&self.context_path(name), bytes)
    }

    fn context_path(&self, name: &CacheKey) -> PathBuf {
        self.root().join("contexts").join(name.to_string())
    }
}
