//! Gives containers their volumes, filled with what the image has at their place ("copy-up").
//!
//! ```text
//! the image's directory ─tar─▶ pipe ─entries─▶ tmp/<lease>/fill-<n>/_data ─rename onto the empty one─▶ volumes/<name>/_data
//! ```
//!
//! | volume | is filled |
//! |---|---|
//! | named, empty, used by nobody else | yes |
//! | named, not empty, or used by another command | no: what is there stays, and no directory is taken from under a container |
//! | anonymous: ends with the command | yes |
//! | `nocopy` | no |
//!
//! - Killed at any moment, a volume is empty or complete.
//! - A lock on the volume's directory, exclusive while it is filled and shared while it is used, makes the others wait.
//! - What is copied, and how: `copy_up`.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::copy_up::Copied;
use crate::file_error::failed;
use crate::scratch::Scratch;
use crate::volumes::make_data;
use crate::{CopyUp, CopyUpError, FileError, Store, VolumeError, VolumeName, sys};

/// A volume for one container; dropped, an anonymous one is removed, and a named one may be.
#[derive(Debug)]
pub struct FilledVolume {
    data: PathBuf,
    _kept: Kept,
}

#[derive(Debug)]
#[expect(dead_code, reason = "they are only dropped")]
enum Kept {
    Lock(OwnedFd, Store),
    Scratch(Scratch),
}

/// Why a container could not get a volume.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum FillError {
    #[error(transparent)]
    CopyUp(#[from] CopyUpError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl FilledVolume {
    /// Returns the directory that the container is to see.
    pub fn path(&self) -> &Path {
        &self.data
    }
}

impl Store {
    /// Finds or makes a named volume and fills it.
    ///
    /// `labels` are those of a volume that is made; `copy_up` is `None` for `nocopy`. Waits while another command fills it.
    ///
    /// # Errors
    ///
    /// [`FillError`] when it cannot be made or filled; it is then as it was, or new and empty.
    pub fn use_volume(
        &self,
        name: &VolumeName,
        labels: &BTreeMap<String, String>,
        copy_up: Option<CopyUp<'_>>,
    ) -> Result<FilledVolume, FillError> {
        let data = self.make_volume(name, labels)?.data;
        let path = self.volume_path(name);
        let directory = sys::open_directory(&path).map_err(failed("open", &path))?;
        if let Some(copy_up) = copy_up {
            match sys::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => self.fill(&data, copy_up)?,
                // who has it fills it, or uses it as it is
                Err(Errno::WOULDBLOCK) => {}
                Err(error) => return Err(failed("lock", &path)(error).into()),
            }
        }
        sys::flock(&directory, FlockOperation::LockShared).map_err(failed("lock", &path))?;
        Ok(FilledVolume { data, _kept: Kept::Lock(directory, self.clone()) })
    }

    /// Makes and fills a volume that ends with this command, also if that is killed.
    ///
    /// # Errors
    ///
    /// [`FillError`] when it cannot be made or filled.
    pub fn anonymous_volume(&self, copy_up: Option<CopyUp<'_>>) -> Result<FilledVolume, FillError> {
        let scratch = self.scratch("volume")?;
        let data = make_data(&scratch.directory)?;
        if let Some(copy_up) = copy_up {
            self.fill(&data, copy_up)?;
        }
        Ok(FilledVolume { data, _kept: Kept::Scratch(scratch) })
    }

    /// Puts a copy in the place of `data`, if that is empty.
    fn fill(&self, data: &Path, copy_up: CopyUp<'_>) -> Result<(), FillError> {
        let there = sys::open_directory(data).and_then(sys::names).map_err(failed("read", data))?;
        if !there.is_empty() {
            return Ok(());
        }
        let scratch = self.scratch("fill")?;
        let made = make_data(&scratch.directory)?;
        if copy_up.copy(&made, self.overlay_xattrs()?)? == Copied::Nothing {
            return Ok(());
        }
        Ok(std::fs::rename(&made, data).map_err(failed("fill", data))?)
    }
}
