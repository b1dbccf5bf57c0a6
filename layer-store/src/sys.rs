//! The system calls that the standard library does not have, anchored to directory handles.
//!
//! `rustix` wraps them safely, so nothing here is `unsafe`. Extended attributes have no `*at` calls on the kernels this must
//! run on: a last component that may not be opened is named through its parent's entry in `/proc/self/fd`, which the kernel
//! resolves to the handle itself, not to a path.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

/// A point in time as the file system keeps it: seconds since 1970, possibly negative, and nanoseconds after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Names and values of extended attributes.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a directory tells of an entry without looking at it.
pub(crate) struct Name {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: FileType,
}

impl Name {
    pub(crate) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }
}

/// The extended attribute that gives a program capabilities.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a directory by path.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    fs::open(path, DIRECTORY, Mode::empty())
}

/// Opens a directory below `parent` without following a link in its last component.
pub(crate) fn open_directory_at(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens a directory below `root`, component by component and through no link; the empty path is `root` itself.
pub(crate) fn walk(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let start = root.try_clone().map_err(|_| Errno::MFILE)?;
    let mut components = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    components.try_fold(start, |directory, name| open_directory_at(&directory, name))
}

/// Opens a directory below `root`, whose links are resolved as if `root` were `/`.
pub(crate) fn open_in_root(root: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match fs::openat2(&root, path, DIRECTORY, Mode::empty(), resolve) {
            // a rename elsewhere on the system may have raced with the lookup
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Looks at an entry without following it; `None` when there is none.
pub(crate) fn look(parent: impl AsFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Tells whether `stat` is an overlay whiteout: a character device 0:0.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn modified(stat: &Stat) -> Time {
    #[allow(clippy::unnecessary_cast, reason = "its type differs between architectures")]
    let seconds = stat.st_mtime as i64;
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Time { seconds, nanoseconds }
}

/// Returns what a file takes on disk, as `du` counts it.
pub(crate) fn allocated(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}

/// Returns the timestamps that set the modification time and leave the access time.
pub(crate) fn timestamps(time: Time) -> Timestamps {
    let last_access = Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT };
    let last_modification = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access, last_modification }
}

/// Lists a directory, sorted by name.
pub(crate) fn names(directory: impl AsFd) -> Result<Vec<Name>, Errno> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => look(&directory, bytes)?.map_or(FileType::Unknown, |stat| kind(&stat)),
            kind => kind,
        };
        names.push(Name { bytes: bytes.to_vec(), kind });
    }
    names.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes));
    Ok(names)
}

/// Names an entry of `parent` for the calls that only take a path.
pub(crate) fn through(parent: BorrowedFd<'_>, name: &[u8]) -> PathBuf {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    PathBuf::from(OsString::from_vec(path))
}

/// Returns where an open file is at the moment.
pub(crate) fn path_of(file: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::readlink(link.as_str(), Vec::new()).map(std::ffi::CString::into_bytes)
}

/// Reads the extended attributes of an entry, sorted by name; those for which `keep` is false are not read.
pub(crate) fn xattrs(path: &Path, keep: impl Fn(&[u8]) -> bool) -> Result<Xattrs, Errno> {
    let list = match read_growing(256, |buffer| fs::llistxattr(path, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        list => list?,
    };
    let mut xattrs = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && keep(name)) {
        match read_growing(256, |buffer| fs::lgetxattr(path, OsStr::from_bytes(name), buffer)) {
            Ok(value) => xattrs.push((name.to_vec(), value)),
            // the kernel stores an empty one, and then says that it is none
            Err(Errno::INVAL) if name == CAPABILITY => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// Reads one extended attribute; `None` when it is not set.
pub(crate) fn xattr(path: &Path, name: &str) -> Result<Option<Vec<u8>>, Errno> {
    match read_growing(16, |buffer| fs::lgetxattr(path, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_growing(start: usize, read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; start];
    loop {
        match read(&mut buffer) {
            Ok(size) => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            // the kernel's own limit is 64 KiB for both lists and values
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Takes or drops a lock on an open file; a lock of another process is waited for.
pub(crate) fn flock(file: impl AsFd, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match fs::flock(&file, operation) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Tells whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Tells whether an error says that the file system has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
