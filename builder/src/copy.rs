//! Copies selected files into a snapshot and digests them in the same pass.
//!
//! | destination | one file | a directory, several sources, a wildcard with several matches |
//! |---|---|---|
//! | ends in `/` or is a directory | below it | into it |
//! | does not exist | under this name | made, then into it |
//! | is a file | replaces it | error |
//!
//! - A directory that is there keeps its mode and owner; one that is made for a source directory takes the source's.
//! - Owner first, then mode, then attributes, then times: each undoes the later ones.
//! - Names that share an inode in the tree share one in the copy. A socket is skipped: no layer can hold one.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use layer_store::UnpackError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

use crate::content_digest::{ContentDigest, ContentHasher, Facts, ReadError, facts, named_entries};
use crate::file_tree::{FileEntry, FileTree};
use crate::graph::InlineFile;
use crate::rootfs::{Owner, Rootfs, WriteError, chown_at, kind_at};
use crate::select::{Selected, Selection};

/// How files are changed on their way.
#[derive(Clone, Debug)]
pub(crate) struct CopyOptions {
    /// Absolute; a trailing slash says that it is a directory.
    pub(crate) destination: String,
    /// The owner of everything written; `None` keeps the tree's.
    pub(crate) owner: Option<Owner>,
    /// The permission bits of everything written; `None` keeps the tree's.
    pub(crate) mode: Option<u32>,
}

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CopyError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot unpack `{}`", .path.display())]
    Unpack { path: PathBuf, source: UnpackError },
    #[error("`{destination}` must end in `/` to take several files")]
    NeedsDirectory { destination: String },
}

/// Copies `selection` from `tree` into `rootfs` and returns the digest of what was read.
pub(crate) fn copy(
    tree: &FileTree,
    selection: &Selection,
    rootfs: &Rootfs,
    options: &CopyOptions,
) -> Result<ContentDigest, CopyError> {
    let mut copy = Copy {
        tree,
        rootfs,
        options,
        hasher: ContentHasher::default(),
        links: HashMap::new(),
        directories: Vec::new(),
        buffer: vec![0; 256 << 10],
    };
    let names_directory = options.destination.ends_with('/');
    if selection.needs_directory && !names_directory && !copy.is_directory()? {
        return Err(CopyError::NeedsDirectory { destination: options.destination.clone() });
    }
    for source in &selection.sources {
        if source.entry.kind() == FileType::Directory {
            copy.directory(source)?;
        } else {
            copy.single(source, !selection.needs_directory)?;
        }
    }
    copy.finish()
}

/// Writes a here-document as a file with mode 0644, unless the options say another.
pub(crate) fn write_inline(
    file: &InlineFile,
    rootfs: &Rootfs,
    options: &CopyOptions,
    is_single: bool,
) -> Result<(), CopyError> {
    let (parent, name) = options.target(rootfs, Path::new(&file.name), is_single)?;
    let full = Path::new(&options.destination).join(&file.name);
    let at = || WriteError::at(&full);
    make_room(&parent, &name, &full)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o600)).map_err(at())?;
    let write = |source| WriteError::Write { path: full.clone(), source };
    File::from(fd).write_all(file.content.as_bytes()).map_err(write)?;
    chown_at(&parent, &name, options.parent_owner()).map_err(at())?;
    let mode = Mode::from_raw_mode(options.mode.unwrap_or(0o644) & 0o7777);
    Ok(rustix::fs::chmodat(&parent, &name, mode, AtFlags::empty()).map_err(at())?)
}

impl CopyOptions {
    /// Returns the owner of directories that have to be made.
    fn parent_owner(&self) -> Owner {
        self.owner.unwrap_or((0, 0))
    }

    /// Returns where one file goes: under the destination's own name if it is `single`, unless that is or must be a directory.
    fn target(&self, rootfs: &Rootfs, file: &Path, is_single: bool) -> Result<(OwnedFd, OsString), WriteError> {
        let destination = Path::new(&self.destination);
        let below = || file.to_owned().into_os_string();
        if !is_single || self.destination.ends_with('/') {
            return Ok((rootfs.make_directory(destination, self.parent_owner())?.fd, below()));
        }
        let place = rootfs.place(destination, self.parent_owner())?;
        if place.kind != Some(FileType::Directory) {
            return Ok((place.parent, place.name));
        }
        let directory = open_directory(&place.parent, &place.name).map_err(WriteError::at(destination))?;
        Ok((directory, below()))
    }
}

/// Removes what stands where a file goes; a directory stays and is an error.
fn make_room(parent: &OwnedFd, name: &OsStr, full: &Path) -> Result<(), WriteError> {
    match kind_at(parent, name).map_err(WriteError::at(full))? {
        Some(FileType::Directory) => Err(WriteError::IsADirectory { path: full.to_owned() }),
        Some(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty()).map_err(WriteError::at(full)),
        None => Ok(()),
    }
}

struct Copy<'a> {
    tree: &'a FileTree,
    rootfs: &'a Rootfs,
    options: &'a CopyOptions,
    hasher: ContentHasher,
    links: HashMap<(u64, u64), (OwnedFd, OsString)>,
    directories: Vec<(OwnedFd, Timestamps, PathBuf)>,
    buffer: Vec<u8>,
}

/// A directory that is being filled: its path below the destination and its handle.
type Level = (PathBuf, OwnedFd);

impl Copy<'_> {
    fn destination(&self) -> &Path {
        Path::new(&self.options.destination)
    }

    fn is_directory(&self) -> Result<bool, WriteError> {
        let place = self.rootfs.place(self.destination(), self.options.parent_owner())?;
        Ok(place.kind == Some(FileType::Directory))
    }

    fn single(&mut self, source: &Selected, is_single: bool) -> Result<(), CopyError> {
        let (parent, name) = self.options.target(self.rootfs, &source.name, is_single)?;
        let facts = facts(self.tree, &source.entry)?;
        self.write(&parent, &name, (&source.name, &source.entry), facts)
    }

    fn directory(&mut self, source: &Selected) -> Result<(), CopyError> {
        let root = self.rootfs.make_directory(self.destination(), self.options.parent_owner())?;
        let mut levels: Vec<Level> = vec![(PathBuf::new(), root.fd)];
        for (path, entry) in named_entries(source) {
            let parent = path.parent().unwrap_or(Path::new(""));
            while levels.len() > 1 && levels.last().is_some_and(|(level, _)| level != parent) {
                levels.pop();
            }
            let (_, handle) = levels.last().expect("the destination's level is never popped");
            let name = path.file_name().unwrap_or_default().to_owned();
            let facts = facts(self.tree, entry)?;
            if facts.kind == FileType::Directory {
                self.hasher.add(&path, &facts, None);
                let made = self.enter(handle, &name, (&path, entry), &facts)?;
                levels.push((path, made));
            } else {
                self.write(handle, &name, (&path, entry), facts)?;
            }
        }
        Ok(())
    }

    /// Opens or makes a directory below the destination.
    fn enter(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        (path, entry): (&Path, &FileEntry),
        facts: &Facts,
    ) -> Result<OwnedFd, WriteError> {
        let full = self.destination().join(path);
        let at = || WriteError::at(&full);
        match kind_at(parent, name).map_err(at())? {
            None => {
                rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(at())?;
                let handle = open_directory(parent, name).map_err(at())?;
                self.set_owner_and_mode(parent, name, facts).map_err(at())?;
                self.directories.push((clone(&handle, &full)?, times(entry), full));
                Ok(handle)
            }
            Some(FileType::Directory) => open_directory(parent, name).map_err(at()),
            Some(_) => Ok(self.rootfs.make_directory(&full, self.options.parent_owner())?.fd),
        }
    }

    /// Writes anything but a directory.
    fn write(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        (path, entry): (&Path, &FileEntry),
        mut facts: Facts,
    ) -> Result<(), CopyError> {
        let full = self.destination().join(path);
        let at = || WriteError::at(&full);
        make_room(parent, name, &full)?;
        let content = match facts.kind {
            FileType::RegularFile => Some(self.file(parent, name, (&full, entry), &mut facts)?),
            FileType::Symlink => {
                let target = facts.target.as_deref().unwrap_or(Path::new(""));
                rustix::fs::symlinkat(target, parent, name).map_err(at())?;
                None
            }
            FileType::Socket => return Ok(()),
            kind => {
                let mode = Mode::from_raw_mode(facts.mode);
                rustix::fs::mknodat(parent, name, kind, mode, facts.device).map_err(at())?;
                None
            }
        };
        self.hasher.add(path, &facts, content);
        self.set_owner_and_mode(parent, name, &facts).map_err(at())?;
        set_xattrs(parent, name, &facts).map_err(at())?;
        rustix::fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(at())?;
        Ok(())
    }

    /// Writes a regular file, or links it to its first name; returns the digest of its bytes.
    fn file(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        (path, entry): (&Path, &FileEntry),
        facts: &mut Facts,
    ) -> Result<blake3::Hash, CopyError> {
        let inode = (entry.stat.st_dev, entry.stat.st_ino);
        let first = self.links.get(&inode).filter(|_| entry.stat.st_nlink > 1);
        let mut target = match first {
            Some((first_parent, first_name)) => {
                rustix::fs::linkat(first_parent, first_name, parent, name, AtFlags::empty())
                    .map_err(WriteError::at(path))?;
                None
            }
            None => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(WriteError::at(path))?;
                Some(File::from(fd))
            }
        };
        if first.is_none() && entry.stat.st_nlink > 1 {
            self.links.insert(inode, (clone(parent, path)?, name.to_owned()));
        }
        let source = facts.file.as_mut().expect("a regular file's facts hold it open");
        let is_sparse = u64::try_from(entry.stat.st_blocks).unwrap_or_default() * 512
            < u64::try_from(entry.stat.st_size).unwrap_or_default();
        let mut stream = Stream { buffer: &mut self.buffer, is_sparse };
        stream.run(source, target.as_mut()).map_err(|error| match error {
            StreamError::Read(source) => ReadError { path: entry.path.clone(), source }.into(),
            StreamError::Write(source) => WriteError::Write { path: path.to_owned(), source }.into(),
        })
    }

    fn set_owner_and_mode(&self, parent: &OwnedFd, name: &OsStr, facts: &Facts) -> Result<(), rustix::io::Errno> {
        chown_at(parent, name, self.options.owner.unwrap_or(facts.owner))?;
        if facts.kind == FileType::Symlink {
            return Ok(());
        }
        let mode = self.options.mode.unwrap_or(facts.mode) & 0o7777;
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())
    }

    /// Sets the times of the directories that were made, which their contents have changed.
    fn finish(self) -> Result<ContentDigest, CopyError> {
        for (handle, times, path) in self.directories.iter().rev() {
            rustix::fs::futimens(handle, times).map_err(WriteError::at(path))?;
        }
        Ok(self.hasher.finish())
    }
}

enum StreamError {
    Read(io::Error),
    Write(io::Error),
}

/// One pass over a file's bytes: digest them and write them, leaving holes where a sparse file has zeros.
struct Stream<'a> {
    buffer: &'a mut [u8],
    is_sparse: bool,
}

impl Stream<'_> {
    fn run(&mut self, source: &mut File, mut target: Option<&mut File>) -> Result<blake3::Hash, StreamError> {
        let mut hasher = blake3::Hasher::new();
        let mut length = 0;
        loop {
            let count = source.read(self.buffer).map_err(StreamError::Read)?;
            if count == 0 {
                break;
            }
            length += count as u64;
            hasher.update(&self.buffer[..count]);
            if let Some(target) = &mut target {
                self.write(target, count).map_err(StreamError::Write)?;
            }
        }
        if let Some(target) = target.filter(|_| self.is_sparse) {
            target.set_len(length).map_err(StreamError::Write)?;
        }
        Ok(hasher.finalize())
    }

    fn write(&self, target: &mut File, count: usize) -> io::Result<()> {
        let bytes = &self.buffer[..count];
        if self.is_sparse && bytes.iter().all(|byte| *byte == 0) {
            return target.seek(SeekFrom::Current(i64::try_from(count).unwrap_or(i64::MAX))).map(|_| ());
        }
        target.write_all(bytes)
    }
}

fn set_xattrs(parent: &OwnedFd, name: &OsStr, facts: &Facts) -> Result<(), rustix::io::Errno> {
    if facts.xattrs.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    facts
        .xattrs
        .iter()
        .try_for_each(|(name, value)| rustix::fs::fsetxattr(fd.as_fd(), name.as_str(), value, XattrFlags::empty()))
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn clone(fd: &OwnedFd, path: &Path) -> Result<OwnedFd, WriteError> {
    fd.try_clone().map_err(|source| WriteError::Write { path: path.to_owned(), source })
}

fn times(entry: &FileEntry) -> Timestamps {
    let time =
        Timespec { tv_sec: entry.stat.st_mtime, tv_nsec: i64::try_from(entry.stat.st_mtime_nsec).unwrap_or_default() };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::dockerignore::Dockerignore;
    use crate::file_tree::Owners;
    use crate::select::select;

    /// Makes `dir/`, `link>target` and `file=text` below `root`.
    fn make(root: &Path, entries: &[&str]) {
        for entry in entries {
            if let Some((path, target)) = entry.split_once('>') {
                std::os::unix::fs::symlink(target, root.join(path)).unwrap();
            } else if let Some((path, text)) = entry.split_once('=') {
                std::fs::write(root.join(path), text).unwrap();
            } else {
                std::fs::create_dir_all(root.join(entry)).unwrap();
            }
        }
    }

    fn list(root: &Path, below: &Path, found: &mut Vec<String>) {
        let mut paths: Vec<_> =
            std::fs::read_dir(root.join(below)).unwrap().map(|entry| below.join(entry.unwrap().file_name())).collect();
        paths.sort();
        for path in paths {
            let (full, shown) = (root.join(&path), path.display());
            let kind = full.symlink_metadata().unwrap().file_type();
            if kind.is_symlink() {
                found.push(format!("{shown}>{}", std::fs::read_link(full).unwrap().display()));
            } else if kind.is_dir() {
                found.push(format!("{shown}/"));
                list(root, &path, found);
            } else {
                found.push(format!("{shown}={}", std::fs::read_to_string(full).unwrap()));
            }
        }
    }

    /// A context and a root filesystem in a directory of their own.
    struct Site(tempfile::TempDir);

    impl Site {
        fn new(context: &[&str], root: &[&str]) -> Self {
            let site = Self(tempfile::tempdir().unwrap());
            make(site.0.path(), &["context", "root"]);
            make(&site.context(), context);
            make(&site.root(), root);
            site
        }

        fn context(&self) -> PathBuf {
            self.0.path().join("context")
        }

        fn root(&self) -> PathBuf {
            self.0.path().join("root")
        }

        fn copy(&self, sources: &[&str], options: &CopyOptions) -> Result<ContentDigest, CopyError> {
            let tree = FileTree::open(&self.context(), Dockerignore::default(), Owners::Root).unwrap();
            let sources: Vec<String> = sources.iter().map(|&source| source.to_owned()).collect();
            let selection = select(&tree, &sources).unwrap();
            let digest = copy(&tree, &selection, &Rootfs::open(&self.root()).unwrap(), options)?;
            assert_eq!(digest, crate::content_digest::content_digest(&tree, &selection).unwrap());
            Ok(digest)
        }
    }

    fn to(destination: &str) -> CopyOptions {
        CopyOptions { destination: destination.to_owned(), owner: None, mode: None }
    }

    fn check(root: &[&str], sources: &[&str], destination: &str, expected: &[&str]) {
        let site = Site::new(&["d/e", "d/e/y=y", "d/x=x", "a=a", "b=b", "d/l>x", "la>a", "ld>d"], root);
        site.copy(sources, &to(destination)).unwrap();
        let mut found = Vec::new();
        list(&site.root(), Path::new(""), &mut found);
        assert_eq!(found, expected, "{sources:?} to {destination}");
    }

    #[test]
    fn the_destination_decides_where_a_file_goes() {
        check(&[], &["a"], "/x", &["x=a"]);
        check(&[], &["a"], "/x/", &["x/", "x/a=a"]);
        check(&["x"], &["a"], "/x", &["x/", "x/a=a"]);
        check(&["x=old"], &["a"], "/x", &["x=a"]);
        check(&[], &["a"], "/p/q/x", &["p/", "p/q/", "p/q/x=a"]);
        check(&[], &["a", "b"], "/x/", &["x/", "x/a=a", "x/b=b"]);
        check(&[], &["la"], "/x", &["x=a"]);
        check(&["r", "k>r"], &["a"], "/k/", &["k>r", "r/", "r/a=a"]);
        check(&["r", "k>/r"], &["a"], "/k", &["k>/r", "r/", "r/a=a"]);
        check(&["k>r/s"], &["a"], "/k", &["k>r/s", "r/", "r/s=a"]);
        check(&[], &["nothing*"], "/x", &[]);
    }

    #[test]
    fn a_directory_gives_its_contents() {
        let all = ["x/", "x/e/", "x/e/y=y", "x/l>x", "x/x=x"];
        check(&[], &["d"], "/x", &all);
        check(&[], &["d/"], "/x/", &all);
        check(&[], &["ld"], "/x", &all);
        check(&["x", "x/e", "x/e/old=o"], &["d"], "/x", &["x/", "x/e/", "x/e/old=o", "x/e/y=y", "x/l>x", "x/x=x"]);
        check(&["x", "r", "x/e>../r"], &["d"], "/x", &["r/", "r/y=y", "x/", "x/e>../r", "x/l>x", "x/x=x"]);
    }

    #[test]
    fn what_is_in_the_way_is_an_error() {
        let fails = |root: &[&str], sources: &[&str], destination: &str| {
            let site = Site::new(&["d/e", "d/x=x", "a=a", "b=b"], root);
            site.copy(sources, &to(destination)).unwrap_err().to_string()
        };
        assert_eq!(fails(&["x=old"], &["d"], "/x"), "`/x` is not a directory in the image");
        assert_eq!(fails(&["x", "x/e=old"], &["d"], "/x"), "`/x/e` is not a directory in the image");
        assert_eq!(
            fails(&["x", "x/x"], &["d"], "/x"),
            "`/x/x` is a directory in the image, and a file cannot replace it"
        );
        assert_eq!(fails(&[], &["a", "b"], "/x"), "`/x` must end in `/` to take several files");
    }

    #[test]
    fn owner_mode_times_and_shared_inodes_are_kept_or_set() {
        let site = Site::new(&["d", "d/one=1", "d/s=s"], &["old"]);
        let (one, suid) = (site.context().join("d/one"), site.context().join("d/s"));
        std::fs::hard_link(&one, site.context().join("d/two")).unwrap();
        std::fs::set_permissions(&suid, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        std::os::unix::fs::chown(site.context().join("d"), Some(7), Some(7)).unwrap();
        std::fs::File::open(&one).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let kept = CopyOptions { owner: Some((601, 602)), ..to("/new/x") };
        site.copy(&["d"], &kept).unwrap();
        let stat = |path: &str| site.root().join(path).symlink_metadata().unwrap();
        assert_eq!((stat("new/x/one").ino(), stat("new/x/one").mtime()), (stat("new/x/two").ino(), 0));
        assert_eq!((stat("new/x/s").mode() & 0o7777, stat("new/x/s").uid(), stat("new/x/s").gid()), (0o4755, 601, 602));
        assert_eq!((stat("new").uid(), stat("new").mode() & 0o7777), (601, 0o755));
        site.copy(&["d"], &CopyOptions { mode: Some(0o640), ..to("/old") }).unwrap();
        assert_eq!((stat("old/s").mode() & 0o7777, stat("old/s").uid()), (0o640, 0));
        assert_eq!((stat("old").mode() & 0o7777, stat("old").uid()), (0o755, 0));
    }

    #[test]
    fn holes_stay_holes() {
        let site = Site::new(&[], &[]);
        let file = std::fs::File::create(site.context().join("sparse")).unwrap();
        file.set_len(64 << 20).unwrap();
        site.copy(&["sparse"], &to("/x")).unwrap();
        let stat = site.root().join("x").metadata().unwrap();
        assert!(stat.len() == 64 << 20 && stat.blocks() < 1024, "{} blocks", stat.blocks());
    }

    #[test]
    fn a_here_document_is_a_file_of_its_name() {
        let site = Site::new(&[], &["etc", "there=old", "l", "l/EOF>/there"]);
        let file = InlineFile { name: "EOF".to_owned(), content: "text\n".to_owned() };
        let rootfs = Rootfs::open(&site.root()).unwrap();
        for (destination, is_single, path) in [
            ("/etc", true, "etc/EOF"),
            ("/new", true, "new"),
            ("/there", true, "there"),
            ("/d/", false, "d/EOF"),
            ("/l", true, "l/EOF"),
        ] {
            write_inline(&file, &rootfs, &to(destination), is_single).unwrap();
            let full = site.root().join(path);
            assert_eq!(std::fs::read_to_string(&full).unwrap(), "text\n");
            assert_eq!(full.metadata().unwrap().mode() & 0o7777, 0o644);
        }
    }
}
