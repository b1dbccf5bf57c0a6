//! What is on the disk, and not only in the machine's memory.
//!
//! ```text
//! layers, blobs, cache records ─▶ add_image: syncfs ─▶ `flushed` gets the time before it ─▶ record of the image, flushed by itself
//! ```
//!
//! - An image never names what a power cut can take. It is one flush for all that a command has made, and none when that is nothing.
//! - Of cache records, those count that are older than the last flush or were written since the machine was started: only who has
//!   lost its memory in between can have lost anything else.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use crate::file_error::failed;
use crate::{FileError, Store};

const FILE: &str = "flushed";

impl Store {
    /// Notes that this command has made a layer or a blob.
    pub(crate) fn note_new(&self) {
        self.0.has_new.store(true, Ordering::Release);
    }

    /// Writes to the disk what this command has made, once for all files.
    pub(crate) fn flush_new(&self) -> Result<(), FileError> {
        if !self.0.has_new.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let before = SystemTime::now();
        self.flush().inspect_err(|_| self.note_new())?;
        let path = self.root().join(FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        file.and_then(|file| file.set_modified(before)).map_err(failed("write", &path))
    }

    /// Writes everything on the store's file system to the disk.
    pub(crate) fn flush(&self) -> Result<(), FileError> {
        let directory = File::open(self.root()).map_err(failed("open", self.root()))?;
        rustix::fs::syncfs(directory).map_err(failed("flush", self.root()))
    }

    /// Tells whether the file was written before the last flush.
    pub(crate) fn is_flushed(&self, path: &Path) -> bool {
        let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
        matches!((modified(path), modified(&self.root().join(FILE))), (Ok(written), Ok(flushed)) if written < flushed)
    }

    /// Returns what names this start of the machine; nothing on a system that does not tell.
    pub(crate) fn boot(&self) -> &str {
        self.0.boot.get_or_init(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
            id.map(|id| id.trim().to_owned()).unwrap_or_default()
        })
    }
}

/// Writes the names in a directory to the disk.
pub(crate) fn flush_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("flush", directory))
}
