//! Copies a directory of a mounted root filesystem: what a new volume or cache starts with.
//!
//! ```text
//! the image's directory ─tar─▶ pipe ─entries─▶ a directory of the store
//! ```
//!
//! The copy is the one that layers are made with: owners, modes, times, links, holes, extended attributes. So is the anchoring: the
//! place is found inside the root filesystem, and nothing is opened by path below it.

use std::io::{self, PipeWriter, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::io::Errno;

use crate::apply::entries::Entries;
use crate::apply::tree::{Fault, ForeignOwner, TreeBuilder};
use crate::file_error::failed;
use crate::implied::Metadata;
use crate::overlay::OverlayXattrs;
use crate::tree_tar::{self, TreeTarError};
use crate::{ApplyError, FileError, TarError, sys};

/// A directory of a mounted root filesystem that something new starts with.
#[derive(Clone, Copy, Debug)]
pub struct CopyUp<'a> {
    /// Where the root filesystem is mounted.
    pub rootfs: &'a Path,
    /// The directory in it, links resolved inside; nothing is copied if it is not there or no directory.
    pub target: &'a Path,
}

/// Whether there was anything to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    /// There is no such directory.
    Nothing,
    /// All that is in it.
    All,
}

/// Why a directory could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CopyUpError {
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
    File(#[from] FileError),
}

impl CopyUp<'_> {
    /// Copies it into the empty directory `to`, which gets its metadata.
    pub(crate) fn copy(&self, to: &Path, xattrs: OverlayXattrs) -> Result<Copied, CopyUpError> {
        let Some(from) = self.open()? else { return Ok(Copied::Nothing) };
        copy(&from, to, xattrs).map_err(|fault| fault.at(self.target))?;
        let metadata = Metadata::read(&from).map_err(|errno| self.find_error(errno))?;
        let root = sys::open_directory(to).map_err(failed("open", to))?;
        metadata.write(&root).map_err(failed("write", to))?;
        Ok(Copied::All)
    }

    fn open(&self) -> Result<Option<OwnedFd>, CopyUpError> {
        let root = sys::open_directory(self.rootfs).map_err(failed("open", self.rootfs))?;
        match sys::open_in_root(root.as_fd(), self.target.as_os_str().as_bytes()) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.find_error(errno)),
        }
    }

    fn find_error(&self, errno: Errno) -> CopyUpError {
        CopyUpError::Find { target: self.target.to_owned(), source: errno.into() }
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
    fn at(self, target: &Path) -> CopyUpError {
        let target = target.to_owned();
        match self {
            Self::Read(source) => CopyUpError::Read { target, source },
            Self::Write(source) => CopyUpError::Write { target, source },
            Self::Tar(source) => CopyUpError::Tar { target, source },
            Self::Pipe(source) => CopyUpError::Pipe { target, source },
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
    let mut builder =
        TreeBuilder::new(to, xattrs, ForeignOwner::Refused).map_err(|error| CopyFault::Write(error.into()))?;
    let mut entries = Entries::new(tar);
    while let Some(entry) = entries.next().map_err(CopyFault::Tar)? {
        builder.add(&entry, &mut entries)?;
    }
    entries.pass_rest().map_err(CopyFault::Tar)?;
    builder.finish()?;
    Ok(())
}
