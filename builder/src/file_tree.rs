//! A directory that COPY and ADD read from: the build context, or the files of a stage or image.
//!
//! - Nothing is opened by path: every name is resolved from the directory's handle, and links never lead out of it.
//! - Only `find` follows links; what it or `list` returned is opened again without any, so a directory that is swapped for a
//!   link meanwhile is an error.
//! - What the ignore file leaves out does not exist here, also when a link points at it.

use std::any::Any;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use layer_store::CacheKey;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::context_index::ContextIndex;
use crate::dockerignore::Dockerignore;
use crate::source_file::{Xattrs, copied_xattrs};

/// For paths that were found before and have no links in them: one that has one now was changed meanwhile.
const LINKLESS: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// Bytes of names that are asked for at once.
const NAMES_BUFFER: usize = 32 << 10;

/// Who owns what is copied out of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// 0:0, as from a build context.
    Root,
    /// The owner in the tree, as from another stage.
    Kept,
}

impl Owners {
    /// Returns who owns the copy of an entry.
    pub(crate) fn of(self, entry: &FileEntry) -> (u32, u32) {
        match self {
            Self::Root => (0, 0),
            Self::Kept => (entry.stat.st_uid, entry.stat.st_gid),
        }
    }
}

/// An opened directory with its ignore file.
#[derive(Debug)]
pub struct FileTree {
    root: OwnedFd,
    root_path: PathBuf,
    device: u64,
    inode: u64,
    ignore: Dockerignore,
    owners: Owners,
    index: OnceLock<ContextIndex>,
    lifetime: Lifetime,
}

/// Whether a directory is there for longer than one build.
#[derive(Debug)]
enum Lifetime {
    Lasting,
    /// As long as this is kept.
    Passing {
        _keeper: Box<dyn Any + Send + Sync>,
    },
}

/// One file, directory or link of a tree.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Where it stands, from the root of the tree, without links in it.
    pub path: PathBuf,
    /// What it is, not following links.
    pub stat: Stat,
    /// The attributes that are copied of a directory, once somebody has looked into it.
    pub(crate) xattrs: Xattrs,
}

impl FileEntry {
    /// Returns what kind of file it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Returns which device it stands for; 0 for other files.
    pub(crate) fn device(&self) -> u64 {
        let is_device = matches!(self.kind(), FileType::CharacterDevice | FileType::BlockDevice);
        if is_device { self.stat.st_rdev } else { 0 }
    }

    /// Returns its bytes, as far as it has any.
    pub fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
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
        let stat = rustix::fs::fstat(&fd)?;
        let (device, inode) = (stat.st_dev, stat.st_ino);
        Ok(Self {
            root: fd,
            root_path,
            device,
            inode,
            ignore,
            owners,
            index: OnceLock::new(),
            lifetime: Lifetime::Lasting,
        })
    }

    /// Takes what keeps a directory that was made for this build: it goes with the tree, so nothing of it is worth remembering.
    pub fn kept_by(self, keeper: impl Any + Send + Sync) -> Self {
        Self { lifetime: Lifetime::Passing { _keeper: Box::new(keeper) }, ..self }
    }

    /// Gives the tree its ignore file, which may have been read from it.
    pub fn with_ignore(self, ignore: Dockerignore) -> Self {
        Self { ignore, ..self }
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
        Ok(self.find_any(path)?.filter(|entry| self.is_seen(entry)))
    }

    /// Finds `path` as [`find`](Self::find) does, also when it is left out.
    ///
    /// # Errors
    ///
    /// Any other error of looking at it.
    pub fn find_any(&self, path: &Path) -> io::Result<Option<FileEntry>> {
        let fd = match self.open_at(path, OFlags::PATH, ResolveFlags::IN_ROOT) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(FileEntry { path: self.path_of(&fd)?, stat: rustix::fs::fstat(&fd)?, xattrs: Vec::new() }))
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
        self.list_with_xattrs(directory).map(|(entries, _)| entries)
    }

    /// Lists a directory as [`list`](Self::list) does, and returns the attributes of it that are copied.
    pub(crate) fn list_with_xattrs(&self, directory: &Path) -> io::Result<(Vec<FileEntry>, Xattrs)> {
        let fd = self.open_directory(directory)?;
        let mut entries = entries(&fd, directory)?;
        entries.retain(|entry| self.is_seen(entry));
        Ok((entries, copied_xattrs(&fd)?))
    }

    /// Lists a directory as [`list`](Self::list) does, and what is left out too.
    ///
    /// # Errors
    ///
    /// Any error of reading the directory.
    pub fn list_all(&self, directory: &Path) -> io::Result<Vec<FileEntry>> {
        entries(&self.open_directory(directory)?, directory)
    }

    fn open_directory(&self, directory: &Path) -> io::Result<OwnedFd> {
        self.open_at(directory, OFlags::RDONLY | OFlags::DIRECTORY, LINKLESS)
    }

    /// Tells whether an entry itself is left out, though something below it may not be.
    pub fn is_ignored(&self, entry: &FileEntry) -> bool {
        !self.ignore.is_empty()
            && !entry.path.as_os_str().is_empty()
            && self.ignore.is_ignored(entry.path.as_os_str().as_bytes())
    }

    /// Opens a regular file of the tree for reading.
    ///
    /// # Errors
    ///
    /// Any error of opening it; a link anywhere on the way is one.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        self.open_at(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, LINKLESS).map(Into::into)
    }

    /// Reads where a link of the tree points to, and what the link itself is.
    ///
    /// # Errors
    ///
    /// Any error of reading it.
    pub fn link_target(&self, path: &Path) -> io::Result<(PathBuf, Stat)> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, LINKLESS)?;
        let target = rustix::fs::readlinkat(&fd, "", Vec::new())?;
        Ok((PathBuf::from(OsString::from_vec(target.into_bytes())), rustix::fs::fstat(&fd)?))
    }

    fn open_at(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Ok(open_below(&self.root, path, flags, resolve)?)
    }

    fn path_of(&self, fd: &OwnedFd) -> io::Result<PathBuf> {
        let path = real_path(fd.as_fd())?;
        let inside = path.strip_prefix(&self.root_path);
        inside.map(Path::to_owned).map_err(|_| io::Error::other("it is not inside the directory any more"))
    }

    /// Gives the tree what is known of its files, unless it has that already or goes with this build.
    pub(crate) fn set_index(&self, read: impl FnOnce() -> ContextIndex) {
        if matches!(self.lifetime, Lifetime::Lasting) {
            self.index.get_or_init(read);
        }
    }

    /// Returns what is known of the tree's files.
    pub(crate) fn index(&self) -> Option<&ContextIndex> {
        self.index.get()
    }

    /// Returns the name under which the index is kept: the same as long as it is the same directory at the same place.
    pub(crate) fn name(&self) -> CacheKey {
        let mut frames = self.root_path.as_os_str().as_bytes().to_vec();
        frames.extend_from_slice(&self.device.to_le_bytes());
        frames.extend_from_slice(&self.inode.to_le_bytes());
        blake3::hash(&frames).to_hex().as_str().parse().expect("BLAKE3 gives 64 hexadecimal digits")
    }
}

/// Opens `path` from the handle `root`, by no link of the kernel's own.
pub(crate) fn open_below(root: &OwnedFd, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let (flags, resolve) = (flags | OFlags::CLOEXEC, resolve | ResolveFlags::NO_MAGICLINKS);
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // a rename or mount elsewhere on the system raced with a `..`
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Lists the directory `fd` of a tree, whose path there is `directory`, in bytewise order of the names.
fn entries(fd: &OwnedFd, directory: &Path) -> io::Result<Vec<FileEntry>> {
    let mut prefix = directory.as_os_str().as_bytes().to_vec();
    if !prefix.is_empty() {
        prefix.push(b'/');
    }
    let mut buffer = [MaybeUninit::uninit(); NAMES_BUFFER];
    let mut names = RawDir::new(fd, &mut buffer);
    let mut entries = Vec::new();
    while let Some(name) = names.next() {
        let name = name?;
        let bytes = name.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        let stat = rustix::fs::statat(fd, name.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
        let path = PathBuf::from(OsString::from_vec([&prefix, bytes].concat()));
        entries.push(FileEntry { path, stat, xattrs: Vec::new() });
    }
    entries.sort_unstable_by(|a, b| name_of(a, &prefix).cmp(name_of(b, &prefix)));
    Ok(entries)
}

/// The name of an entry of the directory whose path, with its slash, is `prefix`.
fn name_of<'a>(entry: &'a FileEntry, prefix: &[u8]) -> &'a [u8] {
    &entry.path.as_os_str().as_bytes()[prefix.len()..]
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
    fn nothing_is_remembered_of_a_directory_that_goes_with_the_build() {
        let (_directory, tree) = tree("");
        let tree = tree.kept_by(());
        tree.set_index(|| ContextIndex::read(Vec::new()));
        assert!(tree.index().is_none());
    }

    #[test]
    fn what_is_ignored_is_not_found_also_through_a_link() {
        let (_directory, tree) = tree("secret\nd\n!d/e/f\n");
        assert_eq!(found(&tree, "secret"), None);
        assert_eq!(found(&tree, "link"), None);
        assert_eq!(found(&tree, "dir/e/f").as_deref(), Some("d/e/f"));
        let names: Vec<_> = tree.list(Path::new("")).unwrap().into_iter().map(|entry| entry.path).collect();
        assert_eq!(names, ["abs", "d", "dir", "link", "out"].map(PathBuf::from));
        assert_eq!(tree.list_all(Path::new("")).unwrap().len(), 6);
        assert!(tree.find_any(Path::new("link")).unwrap().is_some());
    }
}
