//! Removes the sockets that a step left: no layer can hold one.
//!
//! ```text
//! overlay's upper directory ─walk─▶ a socket ─unlink in the mount─▶ nothing; or a whiteout, if a lower layer has its name
//! ```
//!
//! - Only the mount knows what is below. A whiteout for every socket would not do: in a directory that no other layer has,
//!   overlay lists the names of whiteouts, and then has no such files (`ls -l` and `cp -r` fail).
//! - The next step finds none, whether this one has just run or its layer comes from the cache or a registry.
//! - The modification time of the directory stays: a socket that is left out is no change of the step's.
//! - The depth of the tree costs no open files.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use crate::FileError;
use crate::file_error::failed;
use crate::sys::{self, Name};

/// A directory that is being walked: the directories in it that are left, and the length of its path.
struct Level {
    directories: std::vec::IntoIter<Name>,
    path_length: usize,
}

/// Removes the sockets in `upper`, the writable layer of what is mounted on `merged`.
pub(crate) fn remove_sockets(upper: &Path, merged: &Path) -> Result<(), FileError> {
    let mut path = Vec::new();
    walk(upper, merged, &mut path).map_err(|error| {
        let path = merged.join(OsStr::from_bytes(&path));
        failed("remove sockets from", &path)(error)
    })
}

fn walk(upper: &Path, merged: &Path, path: &mut Vec<u8>) -> Result<(), Errno> {
    let mut current = sys::open_directory(upper)?;
    let mut levels = vec![enter(&current, merged, path)?];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path_length);
        if let Some(name) = level.directories.next() {
            path.extend_from_slice(&name.bytes);
            path.push(b'/');
            current = sys::open_directory_at(&current, &name.bytes)?;
            levels.push(enter(&current, merged, path)?);
            continue;
        }
        levels.pop();
        if !levels.is_empty() {
            current = sys::open_directory_at(&current, b"..")?;
        }
    }
    Ok(())
}

fn enter(directory: &OwnedFd, merged: &Path, path: &[u8]) -> Result<Level, Errno> {
    let mut names = sys::names(directory)?;
    if names.iter().any(|name| name.kind == FileType::Socket) {
        let there = sys::walk(&sys::open_directory(merged)?, path)?;
        let modified = sys::modified(&fs::fstat(&there)?);
        for socket in names.iter().filter(|name| name.kind == FileType::Socket) {
            fs::unlinkat(&there, &socket.bytes[..], AtFlags::empty())?;
        }
        fs::futimens(&there, &sys::timestamps(modified))?;
    }
    names.retain(Name::is_directory);
    Ok(Level { directories: names.into_iter(), path_length: path.len() })
}
