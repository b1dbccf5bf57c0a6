//! Finds and makes the directories that entries go into.
//!
//! The last one is kept open, since the entries of a directory usually follow each other. Its modification time is noted when
//! it is entered and restored when it is left, so no list of times grows with the layer.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::ApplyError;
use crate::apply::meaning::{MAX_IMPLIED, MAX_LINKS, PATH_MAX, refused, split, write};
use crate::overlay::OverlayXattrs;
use crate::sys::{self, Time};

pub(super) struct Parents {
    root: OwnedFd,
    xattrs: OverlayXattrs,
    entered: Option<Entered>,
    /// Inode number → path of the directories that were made without an entry.
    implied: BTreeMap<u64, Vec<u8>>,
}

struct Entered {
    path: Vec<u8>,
    directory: Rc<OwnedFd>,
    modified: Time,
}

impl Parents {
    pub(super) fn new(root: OwnedFd, xattrs: OverlayXattrs) -> Self {
        Self { root, xattrs, entered: None, implied: BTreeMap::new() }
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Returns the directory `path`, and makes what is missing on the way.
    pub(super) fn enter(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, ApplyError> {
        if let Some(entered) = self.entered.as_ref().filter(|entered| entered.path == path) {
            return Ok(Rc::clone(&entered.directory));
        }
        self.leave()?;
        let directory = match sys::open_in_root(&self.root, path) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => self.make(path, 0)?,
            Err(error) => return Err(write("open", path)(error)),
        };
        let modified = sys::modified(&fs::fstat(&directory).map_err(write("open", path))?);
        let directory = Rc::new(directory);
        self.entered = Some(Entered { path: path.to_vec(), directory: Rc::clone(&directory), modified });
        Ok(directory)
    }

    /// Opens the directory `path` of this layer, and makes nothing.
    pub(super) fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        if path.len() <= PATH_MAX {
            return sys::open_in_root(&self.root, path);
        }
        let mut components = path.split(|byte| *byte == b'/');
        let first = components.next().unwrap_or_default();
        let start = sys::open_directory_at(&self.root, first)?;
        components.try_fold(start, |directory, component| sys::open_directory_at(&directory, component))
    }

    /// Tells whether the directory that was entered last is the root, under whatever name.
    pub(super) fn is_in_root(&self) -> Result<bool, ApplyError> {
        let Some(entered) = &self.entered else { return Ok(false) };
        let stat = |file: &OwnedFd| fs::fstat(file).map_err(write("open", &entered.path));
        Ok(stat(&entered.directory)?.st_ino == stat(&self.root)?.st_ino)
    }

    /// Restores the time of the directory that was entered last.
    pub(super) fn leave(&mut self) -> Result<(), ApplyError> {
        let Some(entered) = self.entered.take() else { return Ok(()) };
        fs::futimens(&entered.directory, &sys::timestamps(entered.modified)).map_err(write("write", &entered.path))
    }

    /// Something was replaced: what the entered path leads to may have changed with it.
    pub(super) fn changed(&mut self) {
        if let Some(entered) = &mut self.entered {
            // a name no entry has: the next one enters anew, and this directory's time is restored then
            entered.path = b"/".to_vec();
        }
    }

    /// Notes that a directory has an entry of its own.
    pub(super) fn is_explicit(&mut self, directory: &OwnedFd) -> Result<(), ApplyError> {
        if !self.implied.is_empty() {
            let stat = fs::fstat(directory).map_err(write("open", b"a directory"))?;
            self.implied.remove(&stat.st_ino);
        }
        Ok(())
    }

    /// Returns the paths of the directories that have no entry, sorted.
    pub(super) fn finish(&mut self) -> Result<Vec<Vec<u8>>, ApplyError> {
        self.leave()?;
        let mut paths = Vec::new();
        for (inode, path) in std::mem::take(&mut self.implied) {
            // some were replaced later, and their inodes may live again elsewhere
            let (parent, name) = split(&path).unwrap_or((b"", b"."));
            let there = self.open(parent).and_then(|parent| sys::look(parent, name)).unwrap_or(None);
            if there.is_some_and(|stat| stat.st_ino == inode && sys::kind(&stat) == FileType::Directory) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    /// Walks to `path` component by component, making what is missing.
    fn make(&mut self, path: &[u8], links: usize) -> Result<OwnedFd, ApplyError> {
        let mut current = self.root.try_clone().map_err(write("open", path))?;
        let mut end = 0;
        for component in path.split(|byte| *byte == b'/') {
            end += component.len();
            let prefix = &path[..end];
            end += 1;
            if matches!(component, b"" | b".") {
                continue;
            }
            current = match self.step(&current, component, prefix) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_one(&current, component, prefix, links)?,
                Err(error) => return Err(write("open", prefix)(error)),
            };
        }
        Ok(current)
    }

    /// Opens one component; a link is followed from the root, unless its path is too long for that.
    fn step(&self, current: &OwnedFd, component: &[u8], prefix: &[u8]) -> Result<OwnedFd, Errno> {
        if component == b".." {
            return sys::open_in_root(&self.root, prefix);
        }
        match sys::open_directory_at(current, component) {
            Err(Errno::LOOP | Errno::NOTDIR) if prefix.len() <= PATH_MAX => sys::open_in_root(&self.root, prefix),
            opened => opened,
        }
    }

    fn make_one(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], links: usize) -> Result<OwnedFd, ApplyError> {
        let there = sys::look(parent, name).map_err(write("find", path))?;
        let stat = fs::fstat(parent).map_err(write("open", path))?;
        let mut is_opaque = false;
        match there {
            None => {}
            Some(there) if sys::is_whiteout(&there) => {
                fs::unlinkat(parent, name, AtFlags::empty()).map_err(write("replace", path))?;
                is_opaque = true;
            }
            Some(there) if sys::kind(&there) == FileType::Symlink => return self.follow(parent, name, path, links),
            Some(_) => return Err(refused(path, "is no directory, but has entries below it")),
        }
        fs::mkdirat(parent, name, Mode::RWXU).map_err(write("make", path))?;
        let made = sys::open_directory_at(parent, name).map_err(write("open", path))?;
        fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(write("write", path))?;
        fs::futimens(&made, &sys::timestamps(Time::default())).map_err(write("write", path))?;
        fs::futimens(parent, &sys::timestamps(sys::modified(&stat))).map_err(write("write", path))?;
        if is_opaque {
            // nothing below it is seen, so its metadata comes from nowhere else
            self.xattrs.set_opaque(&made).map_err(write("write", path))?;
        } else {
            self.note(&made, path)?;
        }
        Ok(made)
    }

    fn note(&mut self, made: &OwnedFd, path: &[u8]) -> Result<(), ApplyError> {
        let inode = fs::fstat(made).map_err(write("open", path))?.st_ino;
        let real = match self.path_in_root(made) {
            // too deep for the kernel to tell; `finish` drops the path if it is another directory's
            Err(Errno::NAMETOOLONG) => path.to_vec(),
            real => real.map_err(write("find", path))?,
        };
        self.implied.insert(inode, real);
        if self.implied.len() > MAX_IMPLIED {
            return Err(refused(path, "is one of more than 100,000 directories that have no entry"));
        }
        Ok(())
    }

    /// Makes the directory that a link of this layer points to, as if the root were `/`.
    fn follow(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8], links: usize) -> Result<OwnedFd, ApplyError> {
        if links == MAX_LINKS {
            return Err(refused(path, "leads through too many links"));
        }
        let target = fs::readlinkat(parent, name, Vec::new()).map_err(write("read", path))?.into_bytes();
        let target = match target.strip_prefix(b"/") {
            Some(absolute) => absolute.to_vec(),
            None => {
                let parent = self.path_in_root(parent).map_err(write("find", path))?;
                [&parent, &b"/"[..], &target].concat()
            }
        };
        self.make(&target, links + 1)
    }

    fn path_in_root(&self, directory: &OwnedFd) -> Result<Vec<u8>, Errno> {
        let root = sys::path_of(self.root.as_fd())?;
        let mut full = sys::path_of(directory.as_fd())?;
        let inside = full.split_off(root.len().min(full.len()));
        Ok(inside.strip_prefix(b"/").map_or_else(Vec::new, <[u8]>::to_vec))
    }
}
