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
//! - The copy is the one that layers are made with: owners, modes, times, links, holes, extended attributes. So is the anchoring:
//!   the place is found inside the root filesystem, and nothing is opened by path below it.

use std::collections::BTreeMap;
use std::io::{self, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::apply::entries::Entries;
use crate::apply::tree::{Fault, TreeBuilder};
use crate::file_error::failed;
use crate::implied::Metadata;
use crate::overlay::OverlayXattrs;
use crate::scratch::Scratch;
use crate::tree_tar::{self, TreeTarError};
use crate::volumes::make_data;
use crate::{ApplyError, FileError, Store, TarError, VolumeError, VolumeName, sys};

/// What a volume starts with: a directory of a mounted root filesystem.
#[derive(Clone, Copy, Debug)]
pub struct CopyUp<'a> {
    /// Where the root filesystem is mounted.
    pub rootfs: &'a Path,
    /// The directory in it, links resolved inside; nothing is copied if it is not there or no directory.
    pub target: &'a Path,
}

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
    #[error("cannot find `{}` in the image", .target.display())]
    Find { target: PathBuf, source: io::Error },
    #[error("cannot read what the image has in `{}`", .target.display())]
    Read { target: PathBuf, source: TreeTarError },
    #[error("cannot copy what the image has in `{}`", .target.display())]
    Write { target: PathBuf, source: ApplyError },
    #[error("cannot copy what the image has in `{}`", .target.display())]
    Tar { target: PathBuf, source: TarError },
    #[error("cannot copy what the image has in `{}`", .target.display())]
    Pipe { target: PathBuf, source: io::Error },
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
        let Some(from) = copy_up.open()?.filter(|_| there.is_empty()) else { return Ok(()) };
        let scratch = self.scratch("fill")?;
        let made = make_data(&scratch.directory)?;
        copy(&from, &made, self.overlay_xattrs()?).map_err(|fault| fault.at(copy_up.target))?;
        let metadata = Metadata::read(&from).map_err(|errno| copy_up.find_error(errno))?;
        let root = sys::open_directory(&made).map_err(failed("open", &made))?;
        metadata.write(&root).map_err(failed("write", &made))?;
        Ok(std::fs::rename(&made, data).map_err(failed("fill", data))?)
    }
}

impl CopyUp<'_> {
    fn open(&self) -> Result<Option<OwnedFd>, FillError> {
        let root = sys::open_directory(self.rootfs).map_err(failed("open", self.rootfs))?;
        match sys::open_in_root(root.as_fd(), self.target.as_os_str().as_bytes()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.find_error(errno)),
        }
    }

    fn find_error(&self, errno: Errno) -> FillError {
        FillError::Find { target: self.target.to_owned(), source: errno.into() }
    }
}

/// What went wrong with a copy, on either side.
enum CopyFault {
    Read(TreeTarError),
    Write(ApplyError),
    Tar(TarError),
    Pipe(io::Error),
}

impl CopyFault {
    fn at(self, target: &Path) -> FillError {
        let target = target.to_owned();
        match self {
            Self::Read(source) => FillError::Read { target, source },
            Self::Write(source) => FillError::Write { target, source },
            Self::Tar(source) => FillError::Tar { target, source },
            Self::Pipe(source) => FillError::Pipe { target, source },
        }
    }
}

impl From<Fault> for CopyFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Tar(source) => Self::Tar(source),
            Fault::Apply(source) => Self::Write(source),
        }
    }
}

/// Copies all that is in `from` into the directory `to`.
fn copy(from: &OwnedFd, to: &Path, xattrs: OverlayXattrs) -> Result<(), CopyFault> {
    let (reader, writer) = io::pipe().map_err(CopyFault::Pipe)?;
    let read = |mut writer: PipeWriter| tree_tar::write(from, xattrs, &mut writer);
    let (read, written) = thread::scope(|scope| {
        let reading = scope.spawn(move || read(writer));
        let written = write(reader, to, xattrs);
        (reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), written)
    });
    match (read, written) {
        // who reads is cut off when the other side fails, and the other way round
        (Ok(_) | Err(TreeTarError::Write(_)), written) => written,
        (Err(error), _) => Err(CopyFault::Read(error)),
    }
}

fn write(tar: impl Read, to: &Path, xattrs: OverlayXattrs) -> Result<(), CopyFault> {
    let mut builder = TreeBuilder::new(to, xattrs).map_err(|error| CopyFault::Write(error.into()))?;
    let mut entries = Entries::new(tar);
    while let Some(entry) = entries.next().map_err(CopyFault::Tar)? {
        builder.add(&entry, &mut entries)?;
    }
    entries.pass_rest().map_err(CopyFault::Tar)?;
    builder.finish()?;
    Ok(())
}
