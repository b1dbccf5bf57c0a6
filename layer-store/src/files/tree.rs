//! Looks at the files of a layer that is a tree, from its handle: links are never followed, and nothing outside is reached.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{LayerFile, LayerFileKind, LayerFilesError, Seen, names_as_text, unreadable};
use crate::implied::Metadata;
use crate::overlay::{OverlayXattrs, is_host_label, is_overlay_private};
use crate::sys;

/// A tree that is looked into.
#[derive(Debug)]
pub(super) struct TreeFiles {
    tree: Arc<OwnedFd>,
    xattrs: OverlayXattrs,
    /// The directory that was looked into last: its files are often asked for one after the other.
    last: Mutex<Option<(Vec<u8>, Parent)>>,
}

/// What a layer has where a directory is wanted.
#[derive(Clone, Debug)]
enum Parent {
    /// `is_hiding`: it or one above it is opaque.
    Directory {
        open: Arc<OwnedFd>,
        is_hiding: bool,
    },
    Missing,
    Hidden,
}

impl TreeFiles {
    pub(super) fn new(tree: OwnedFd, xattrs: OverlayXattrs) -> Self {
        Self { tree: Arc::new(tree), xattrs, last: Mutex::default() }
    }

    pub(super) fn root(&self) -> Result<Metadata, Errno> {
        Metadata::read(&self.tree)
    }

    pub(super) fn look(&self, path: &[u8]) -> Result<Seen, LayerFilesError> {
        let (parent, name) = split(path);
        let (directory, is_hiding) = match self.parent(parent).map_err(unreadable(path))? {
            Parent::Directory { open, is_hiding } => (open, is_hiding),
            Parent::Missing => return Ok(Seen::Nothing),
            Parent::Hidden => return Ok(Seen::Hidden),
        };
        match sys::look(&directory, name).map_err(unreadable(path))? {
            None if is_hiding => Ok(Seen::Hidden),
            None => Ok(Seen::Nothing),
            Some(stat) if sys::is_whiteout(&stat) => Ok(Seen::Hidden),
            Some(stat) => {
                let file = describe(&directory, name, &stat, path)?;
                Ok(match file.kind {
                    LayerFileKind::Directory => Seen::Directory { file, is_hidden_below: is_hiding },
                    _ => Seen::File(file),
                })
            }
        }
    }

    pub(super) fn read(&self, path: &[u8], size: u64) -> Result<Vec<u8>, LayerFilesError> {
        let (parent, name) = split(path);
        let Parent::Directory { open, .. } = self.parent(parent).map_err(unreadable(path))? else {
            return Err(unreadable(path)(Errno::NOENT));
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = fs::openat(&open, name, flags, Mode::empty()).map_err(unreadable(path))?;
        let mut bytes = Vec::new();
        File::from(file).take(size).read_to_end(&mut bytes).map_err(unreadable(path))?;
        Ok(bytes)
    }

    fn parent(&self, path: &[u8]) -> Result<Parent, Errno> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, parent)) = last.as_ref().filter(|(known, _)| known == path) {
            return Ok(parent.clone());
        }
        let parent = self.walk(path)?;
        *last = Some((path.to_vec(), parent.clone()));
        Ok(parent)
    }

    fn walk(&self, path: &[u8]) -> Result<Parent, Errno> {
        let mut current = Arc::clone(&self.tree);
        let mut is_hiding = false;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let next = match sys::open_directory_at(&current, name) {
                Ok(next) => next,
                Err(Errno::NOENT) if is_hiding => return Ok(Parent::Hidden),
                Err(Errno::NOENT) => return Ok(Parent::Missing),
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(Parent::Hidden),
                Err(error) => return Err(error),
            };
            is_hiding |= self.xattrs.is_opaque(&sys::through(next.as_fd(), b"."))?;
            current = Arc::new(next);
        }
        Ok(Parent::Directory { open: current, is_hiding })
    }
}

fn describe(directory: &OwnedFd, name: &[u8], stat: &Stat, path: &[u8]) -> Result<LayerFile, LayerFilesError> {
    let kind = match sys::kind(stat) {
        FileType::Directory => LayerFileKind::Directory,
        FileType::RegularFile => LayerFileKind::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
        FileType::Symlink => {
            let target = fs::readlinkat(directory, name, Vec::new()).map_err(unreadable(path))?;
            LayerFileKind::Symlink { target: PathBuf::from(OsString::from_vec(target.into_bytes())) }
        }
        _ => LayerFileKind::Other,
    };
    let keep = |name: &[u8]| !is_overlay_private(name) && !is_host_label(name);
    let xattrs = sys::xattrs(&sys::through(directory.as_fd(), name), keep).map_err(unreadable(path))?;
    let time = sys::modified(stat);
    Ok(LayerFile {
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (time.seconds, time.nanoseconds),
        xattrs: names_as_text(xattrs, path)?,
    })
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
