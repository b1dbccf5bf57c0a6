//! Puts files where they belong: the subdir becomes the root, and all get the modes and the time that make layers equal.
//!
//! The files are a stranger's, so nothing is opened by path below the directory that git wrote: a symbolic link leads nowhere
//! outside of it, and the last component is never followed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fchmod, open, openat, openat2,
    renameat, statat, utimensat,
};
use rustix::io::Errno;
use tempfile::TempDir;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// What is to be placed where.
pub(super) struct Place {
    pub(super) work_tree: PathBuf,
    pub(super) git_dir: Option<PathBuf>,
    pub(super) subdir: String,
    pub(super) into: PathBuf,
    /// The time of every file, in seconds since 1970.
    pub(super) time: i64,
}

/// Why files could not be placed.
pub(super) enum TreeFault {
    NoSubdir { reason: &'static str },
    Write { path: PathBuf, source: io::Error },
}

impl Place {
    /// Moves the files; `scratch` is where they are now, and is removed.
    pub(super) fn run(self, scratch: TempDir) -> Result<(), TreeFault> {
        let fail = |source: io::Error| TreeFault::Write { path: self.into.clone(), source };
        let tree = open(&self.work_tree, DIRECTORY, Mode::empty()).map_err(|error| fail(error.into()))?;
        let from = open_subdir(&tree, &self.subdir)?;
        let into = open(&self.into, DIRECTORY, Mode::empty()).map_err(|error| fail(error.into()))?;
        move_entries(&from, &into).map_err(|error| fail(error.into()))?;
        if let Some(git_dir) = &self.git_dir {
            renameat(CWD, git_dir, &into, ".git").map_err(|error| fail(error.into()))?;
        }
        scratch.close().map_err(fail)?;
        settle(into.as_fd(), self.time).map_err(|error| fail(error.into()))
    }
}

/// Makes sure that `path` is a directory in the tree, reached without a link.
pub(super) fn check_directory(tree: &Path, path: &str) -> io::Result<()> {
    let tree = open(tree, DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(tree, path, DIRECTORY, Mode::empty(), resolve)?;
    Ok(())
}

fn open_subdir(tree: &OwnedFd, subdir: &str) -> Result<OwnedFd, TreeFault> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    openat2(tree, subdir, flags, Mode::empty(), resolve).map_err(|error| match error {
        Errno::NOENT => TreeFault::NoSubdir { reason: "nothing is there" },
        Errno::NOTDIR => TreeFault::NoSubdir { reason: "it is a file, or below one" },
        Errno::XDEV => TreeFault::NoSubdir { reason: "a symbolic link leads out of the repository" },
        Errno::LOOP => TreeFault::NoSubdir { reason: "its symbolic links lead in circles" },
        Errno::NAMETOOLONG => TreeFault::NoSubdir { reason: "its name is too long" },
        error => TreeFault::Write { path: subdir.into(), source: error.into() },
    })
}

fn move_entries(from: &OwnedFd, into: &OwnedFd) -> Result<(), Errno> {
    for name in names(from.as_fd())? {
        renameat(from, &*name, into, &*name)?;
    }
    Ok(())
}

/// Gives a directory and all below it their modes and times; what is deepest first.
fn settle(directory: BorrowedFd<'_>, time: i64) -> Result<(), Errno> {
    for name in names(directory)? {
        let stat = statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => settle(openat(directory, &*name, DIRECTORY, Mode::empty())?.as_fd(), time)?,
            FileType::Symlink => utimensat(directory, &*name, &times(time), AtFlags::SYMLINK_NOFOLLOW)?,
            _ => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
                let file = openat(directory, &*name, flags, Mode::empty())?;
                fchmod(&file, widened(stat.st_mode))?;
                rustix::fs::futimens(&file, &times(time))?;
            }
        }
    }
    fchmod(directory, Mode::from_raw_mode(0o755))?;
    rustix::fs::futimens(directory, &times(time))
}

/// Gives everybody what the owner has, but for writing; the umask of this process does not matter then.
fn widened(mode: u32) -> Mode {
    let owner = (mode >> 6) & 0o7;
    let others = owner & 0o5;
    Mode::from_raw_mode(owner << 6 | others << 3 | others)
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Lists a directory before anything in it is changed.
fn names(directory: BorrowedFd<'_>) -> Result<Vec<Box<CStr>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().into());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_the_owner() {
        for (mode, expected) in [(0o100_600, 0o644), (0o100_700, 0o755), (0o100_400, 0o444), (0o106_755, 0o755)] {
            assert_eq!(widened(mode), Mode::from_raw_mode(expected), "{mode:o}");
        }
    }
}
