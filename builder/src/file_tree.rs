//! A directory that COPY and ADD read from: the build context, or the files of a stage or image.
//!
//! - Nothing is opened by path: every name is resolved from the directory's handle, and links never lead out of it.
//! - What the ignore file leaves out does not exist here, also when a link points at it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::dockerignore::Dockerignore;

/// Who owns what is copied out of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// 0:0, as from a build context.
    Root,
    /// The owner in the tree, as from another stage.
    Kept,
}

/// An opened directory with its ignore file.
#[derive(Debug)]
pub struct FileTree {
    root: OwnedFd,
    root_path: PathBuf,
    ignore: Dockerignore,
    owners: Owners,
}

/// One file, directory or link of a tree.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Where it stands, from the root of the tree, without links in it.
    pub path: PathBuf,
    /// What it is, not following links.
    pub stat: Stat,
}

impl FileEntry {
    /// Returns what kind of file it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

impl FileTree {
    /// Opens `root`.
    ///
    /// # Errors
    ///
    /// Any error of opening it as a directory.
    pub fn open(root: &Path, ignore: Dockerignore, owners: Owners) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())?;
        let root_path = real_path(fd.as_fd())?;
        Ok(Self { root: fd, root_path, ignore, owners })
    }

    /// Returns the ignore file.
    pub fn ignore(&self) -> &Dockerignore {
        &self.ignore
    }

    /// Returns who owns what is copied out.
    pub fn owners(&self) -> Owners {
        self.owners
    }

    /// Finds `path`, following links inside the tree; `None` when it is not there or left out.
    ///
    /// # Errors
    ///
    /// Any other error of looking at it.
    pub fn find(&self, path: &Path) -> io::Result<Option<FileEntry>> {
        let fd = match self.open_at(path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let entry = FileEntry { path: self.path_of(&fd)?, stat: rustix::fs::fstat(&fd)? };
        Ok(Some(entry).filter(|entry| self.is_seen(entry)))
    }

    /// Tells whether an entry exists for who reads the tree: it is not ignored, or something below it may be kept.
    fn is_seen(&self, entry: &FileEntry) -> bool {
        !self.is_ignored(entry) || (entry.kind() == FileType::Directory && self.ignore.has_exceptions())
    }

    /// Lists a directory of the tree in bytewise order of the names; what is left out is left out.
    ///
    /// An ignored directory is listed while the ignore file has exceptions, because one may stand below it.
    ///
    /// # Errors
    ///
    /// Any error of reading the directory.
    pub fn list(&self, directory: &Path) -> io::Result<Vec<FileEntry>> {
        let fd = self.open_at(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        names.iter().filter_map(|name| self.listed(&fd, directory, name).transpose()).collect()
    }

    fn listed(&self, fd: &OwnedFd, directory: &Path, name: &OsStr) -> io::Result<Option<FileEntry>> {
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let entry = FileEntry { path: directory.join(name), stat };
        Ok(Some(entry).filter(|entry| self.is_seen(entry)))
    }

    /// Tells whether an entry itself is left out, though something below it may not be.
    pub fn is_ignored(&self, entry: &FileEntry) -> bool {
        !entry.path.as_os_str().is_empty() && self.ignore.is_ignored(entry.path.as_os_str().as_bytes())
    }

    /// Opens a regular file of the tree for reading.
    ///
    /// # Errors
    ///
    /// Any error of opening it.
    pub fn open_file(&self, path: &Path) -> io::Result<std::fs::File> {
        self.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK).map(Into::into)
    }

    /// Reads where a link of the tree points to.
    ///
    /// # Errors
    ///
    /// Any error of reading it.
    pub fn link_target(&self, path: &Path) -> io::Result<PathBuf> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    fn path_of(&self, fd: &OwnedFd) -> io::Result<PathBuf> {
        let path = real_path(fd.as_fd())?;
        let inside = path.strip_prefix(&self.root_path);
        inside.map(Path::to_owned).map_err(|_| io::Error::other("it is not inside the directory any more"))
    }
}

fn real_path(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Tells whether an error says that there is no such path.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(ignore: &str) -> (tempfile::TempDir, FileTree) {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join("context").join(path);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::write(at("d/e/f"), "f").unwrap();
        std::fs::write(at("secret"), "s").unwrap();
        std::fs::write(directory.path().join("outside"), "o").unwrap();
        for (target, link) in [("secret", "link"), ("../outside", "out"), ("/d", "abs"), ("d", "dir")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let ignore = Dockerignore::parse(ignore).unwrap();
        let tree = FileTree::open(&at(""), ignore, Owners::Root).unwrap();
        (directory, tree)
    }

    fn found(tree: &FileTree, path: &str) -> Option<String> {
        tree.find(Path::new(path)).unwrap().map(|entry| entry.path.display().to_string())
    }

    #[test]
    fn links_are_followed_inside_the_tree_and_never_out_of_it() {
        let (_directory, tree) = tree("");
        assert_eq!(found(&tree, "abs/e/f").as_deref(), Some("d/e/f"));
        assert_eq!(found(&tree, "dir/e").as_deref(), Some("d/e"));
        assert_eq!(found(&tree, "../../secret").as_deref(), Some("secret"));
        assert_eq!(found(&tree, "out"), None);
        assert_eq!(found(&tree, "").as_deref(), Some(""));
    }

    #[test]
    fn what_is_ignored_is_not_found_also_through_a_link() {
        let (_directory, tree) = tree("secret\nd\n!d/e/f\n");
        assert_eq!(found(&tree, "secret"), None);
        assert_eq!(found(&tree, "link"), None);
        assert_eq!(found(&tree, "dir/e/f").as_deref(), Some("d/e/f"));
        let names: Vec<_> = tree.list(Path::new("")).unwrap().into_iter().map(|entry| entry.path).collect();
        assert_eq!(names, ["abs", "d", "dir", "link", "out"].map(PathBuf::from));
    }
}
