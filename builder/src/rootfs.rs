//! Makes a directory in a mounted root filesystem, for a process that is to start there.
//!
//! - A path is walked one component at a time from the root's handle; links, absolute or not, stay inside the root, also
//!   dangling ones, whose missing parts are made.
//! - `..` goes back along the handles that were walked, so it cannot pass the root.
//!
//! Not here: what file ops write (`draft.rs`), which mounts nothing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use layer_store::LayerFilesError;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

pub(crate) const MAX_LINKS: usize = 40;

/// Uid and gid.
pub(crate) type Owner = (u32, u32);

/// A root filesystem opened for writing.
#[derive(Debug)]
pub(crate) struct Rootfs {
    root: OwnedFd,
}

/// Why a path inside a root filesystem cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum WriteError {
    #[error("`{}` is not a directory in the image", .path.display())]
    NotADirectory { path: PathBuf },
    #[error("`{}` is a directory in the image, and a file cannot replace it", .path.display())]
    IsADirectory { path: PathBuf },
    #[error("`{}` goes through too many links in the image", .path.display())]
    TooManyLinks { path: PathBuf },
    #[error("cannot look at `{}` in the image", .path.display())]
    Look { path: PathBuf, source: LayerFilesError },
    #[error("cannot write `{}` in the image", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl WriteError {
    fn at(path: &Path) -> impl FnOnce(Errno) -> Self {
        let path = path.to_owned();
        move |errno| Self::Write { path, source: errno.into() }
    }
}

impl Rootfs {
    pub(crate) fn open(root: &Path) -> Result<Self, WriteError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(WriteError::at(root))?;
        Ok(Self { root })
    }

    /// Makes the directory `path` with what is missing of it, with mode 0755 and this owner.
    pub(crate) fn make_directory(&self, path: &Path, owner: Owner) -> Result<(), WriteError> {
        let mut walk = Walk::new(self, path, owner)?;
        while let Some(name) = walk.queue.pop_front() {
            walk.enter(&name)?;
        }
        Ok(())
    }
}

/// A walk down from a root, one component at a time.
struct Walk<'a> {
    path: &'a Path,
    owner: Owner,
    queue: VecDeque<OsString>,
    handles: Vec<OwnedFd>,
    links: usize,
}

impl<'a> Walk<'a> {
    fn new(rootfs: &Rootfs, path: &'a Path, owner: Owner) -> Result<Self, WriteError> {
        let root = rootfs.root.try_clone().map_err(|source| WriteError::Write { path: path.to_owned(), source })?;
        let queue = names(path).collect();
        Ok(Self { path, owner, queue, handles: vec![root], links: 0 })
    }

    fn top(&self) -> &OwnedFd {
        self.handles.last().expect("the root's handle is never popped")
    }

    fn enter(&mut self, name: &OsStr) -> Result<(), WriteError> {
        if name == ".." {
            if self.handles.len() > 1 {
                self.handles.pop();
            }
            return Ok(());
        }
        match kind_at(self.top(), name).map_err(WriteError::at(self.path))? {
            Some(FileType::Symlink) => return self.follow(name),
            Some(FileType::Directory) => {}
            Some(_) => return Err(WriteError::NotADirectory { path: self.path.to_owned() }),
            None => return self.make(name),
        }
        let handle = self.open(name)?;
        self.handles.push(handle);
        Ok(())
    }

    fn open(&self, name: &OsStr) -> Result<OwnedFd, WriteError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(self.top(), name, flags, Mode::empty()).map_err(WriteError::at(self.path))
    }

    fn follow(&mut self, name: &OsStr) -> Result<(), WriteError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(WriteError::TooManyLinks { path: self.path.to_owned() });
        }
        let target = rustix::fs::readlinkat(self.top(), name, Vec::new()).map_err(WriteError::at(self.path))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.handles.truncate(1);
        }
        for name in names(&target).collect::<Vec<_>>().into_iter().rev() {
            self.queue.push_front(name);
        }
        Ok(())
    }

    /// Makes a directory and enters it; whoever shares it may swap the name for a link, so its attributes go to the handle.
    fn make(&mut self, name: &OsStr) -> Result<(), WriteError> {
        let at = || WriteError::at(self.path);
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(self.top(), name, mode).map_err(at())?;
        let made = self.open(name)?;
        let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
        rustix::fs::fchmod(&made, mode).map_err(at())?;
        rustix::fs::fchown(&made, Some(uid), Some(gid)).map_err(at())?;
        self.handles.push(made);
        Ok(())
    }
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

/// Returns what stands under `name`, not following links.
fn kind_at(parent: &OwnedFd, name: &OsStr) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rootfs() -> (tempfile::TempDir, Rootfs) {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join("root").join(path);
        std::fs::create_dir_all(at("usr/lib")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for (target, link) in [
            ("/usr/lib", "lib"),
            ("../../../../escape", "out"),
            ("loop", "loop"),
            ("file", "to-file"),
            ("/new/x", "new-link"),
        ] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let rootfs = Rootfs::open(&at("")).unwrap();
        (directory, rootfs)
    }

    #[test]
    fn links_and_dots_stay_inside_the_root() {
        let (directory, rootfs) = rootfs();
        for (path, made) in [
            ("lib/a", "usr/lib/a"),
            ("/out/b", "escape/b"),
            ("../../c", "c"),
            ("lib/../d", "usr/d"),
            ("new-link/e", "new/x/e"),
        ] {
            rootfs.make_directory(Path::new(path), (0, 0)).unwrap();
            assert!(directory.path().join("root").join(made).is_dir(), "{path} is not {made}");
        }
        assert!(!directory.path().join("escape").exists());
        rootfs.make_directory(Path::new("/usr/lib"), (0, 0)).unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let (_directory, rootfs) = rootfs();
        let make = |path: &str| rootfs.make_directory(Path::new(path), (0, 0));
        assert!(matches!(make("file/x"), Err(WriteError::NotADirectory { .. })));
        assert!(matches!(make("to-file"), Err(WriteError::NotADirectory { .. })));
        assert!(matches!(make("loop/x"), Err(WriteError::TooManyLinks { .. })));
    }
}
