//! Finds and makes the places where mounts go, in a root filesystem that nobody trusts.
//!
//! ```text
//! target ─walk, one component at a time─▶ real path      `/etc/resolv.conf` → ../run/x  ⇒  run/x
//! ```
//!
//! - The walk follows links itself; each directory is opened from the handle of the mount that holds it, with `RESOLVE_IN_ROOT` and
//!   no links. So nothing is made or found outside, whatever the links say.
//! - It knows the mounts that will lie above the root filesystem, and goes on inside the one that covers a path.
//! - What is made is remembered by handle, and removed when the container has ended: only what we made, only if it is still what
//!   we made and empty. The directory that held it gets its modification time back if nobody else changed it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

const MOST_LINKS: usize = 40;

/// What a mount needs at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

/// Why a target cannot be used.
#[derive(Debug)]
pub(crate) enum TargetError {
    /// It is the root, or not absolute.
    Path,
    /// It is `/proc`, `/sys`, or below one of them.
    OfTheKernel,
    /// A directory where a file is needed, or the other way round.
    Kind,
    /// A system call failed.
    System(Errno),
}

impl From<Errno> for TargetError {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

/// The file tree of a container as it will be: the root filesystem and the mounts above it.
#[derive(Debug)]
pub(crate) struct Targets {
    places: Vec<Place>,
    made: MadeTargets,
}

#[derive(Debug)]
struct Place {
    at: Vec<OsString>,
    /// `None`: a filesystem of the kernel, nothing is mounted there.
    root: Option<OwnedFd>,
}

/// A file or directory that was made for a mount.
#[derive(Debug)]
struct Made {
    parent: OwnedFd,
    name: OsString,
    kind: Kind,
    identity: (u64, u64),
    before: Timespec,
    after: Timespec,
}

impl Targets {
    pub(crate) fn new(rootfs: OwnedFd) -> Self {
        Self { places: vec![Place { at: Vec::new(), root: Some(rootfs) }], made: MadeTargets(Vec::new()) }
    }

    /// Says that what lies at `path` from now on is `mount`; `None` for a filesystem of the kernel.
    pub(crate) fn cover(&mut self, path: &Path, mount: Option<OwnedFd>) {
        self.places.push(Place { at: path.iter().map(OsStr::to_owned).collect(), root: mount });
    }

    /// Returns the real path of `target`, relative to the root, after making what is missing.
    pub(crate) fn ensure(&mut self, target: &Path, kind: Kind) -> Result<PathBuf, TargetError> {
        if !target.is_absolute() {
            return Err(TargetError::Path);
        }
        let mut rest: VecDeque<OsString> = components(target).collect();
        let mut at: Vec<OsString> = Vec::new();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let wanted = if rest.is_empty() { kind } else { Kind::Directory };
            if let Some(link) = self.step(&mut at, name, wanted)? {
                links += 1;
                if links > MOST_LINKS {
                    return Err(TargetError::System(Errno::LOOP));
                }
                if link.is_absolute() {
                    at.clear();
                }
                components(&link).rev().for_each(|name| rest.push_front(name));
            }
        }
        if at.is_empty() { Err(TargetError::Path) } else { Ok(at.iter().collect()) }
    }

    /// Goes one component down, making it if it is missing; or returns where the link that is there points.
    fn step(&mut self, at: &mut Vec<OsString>, name: OsString, wanted: Kind) -> Result<Option<PathBuf>, TargetError> {
        at.push(name);
        if let Some(place) = self.places.iter().rev().find(|place| place.at == *at) {
            let Some(root) = &place.root else { return Err(TargetError::OfTheKernel) };
            return require(&rustix::fs::fstat(root)?, wanted).map(|()| None);
        }
        let name = at.pop().unwrap_or_default();
        let parent = self.open(at)?;
        let link = match rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is(&stat, FileType::Symlink) => {
                Some(PathBuf::from(OsStr::from_bytes(rustix::fs::readlinkat(&parent, &name, Vec::new())?.as_bytes())))
            }
            Ok(stat) => {
                require(&stat, wanted)?;
                None
            }
            Err(Errno::NOENT) => {
                self.made.0.push(make(parent, &name, wanted)?);
                None
            }
            Err(error) => return Err(error.into()),
        };
        if link.is_none() {
            at.push(name);
        }
        Ok(link)
    }

    /// Opens the directory at a real path, in the mount that holds it.
    fn open(&self, at: &[OsString]) -> Result<OwnedFd, TargetError> {
        let place = self.places.iter().rev().find(|place| at.starts_with(&place.at));
        let place = place.ok_or(TargetError::Path)?;
        let root = place.root.as_ref().ok_or(TargetError::OfTheKernel)?;
        let below: PathBuf = at.get(place.at.len()..).unwrap_or_default().iter().collect();
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { &below };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(root, below, flags, Mode::empty(), resolve)?)
    }

    /// Ends the walk; what comes back removes what was made.
    pub(crate) fn into_made(self) -> MadeTargets {
        self.made
    }
}

/// Everything that was made for the mounts of one container; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct MadeTargets(Vec<Made>);

impl Drop for MadeTargets {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(remove);
    }
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.as_os_str()
        .as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsStr::from_bytes(name).to_owned())
}

fn is(stat: &Stat, file_type: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == file_type
}

fn require(stat: &Stat, wanted: Kind) -> Result<(), TargetError> {
    let found = if is(stat, FileType::Directory) { Kind::Directory } else { Kind::File };
    if found == wanted { Ok(()) } else { Err(TargetError::Kind) }
}

fn make(parent: OwnedFd, name: &OsStr, kind: Kind) -> Result<Made, TargetError> {
    let before = modified(&rustix::fs::fstat(&parent)?);
    match kind {
        Kind::Directory => {
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
            // by a handle: who shares a volume may swap the name for a link
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
        }
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o600))?;
            rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644))?;
        }
    }
    let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let after = modified(&rustix::fs::fstat(&parent)?);
    Ok(Made { parent, name: name.to_owned(), kind, identity: (stat.st_dev, stat.st_ino), before, after })
}

/// Removes one made target. Failures leave it: it is then no longer ours, or somebody uses it.
fn remove(made: &Made) {
    let Ok(stat) = rustix::fs::statat(&made.parent, &made.name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let untouched = made.kind == Kind::Directory || stat.st_size == 0;
    if (stat.st_dev, stat.st_ino) != made.identity || !untouched {
        return;
    }
    let alone = rustix::fs::fstat(&made.parent).is_ok_and(|stat| modified(&stat) == made.after);
    let flags = if made.kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    let removed = rustix::fs::unlinkat(&made.parent, &made.name, flags).is_ok();
    if removed && alone {
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: omit, last_modification: made.before };
        let _only_cosmetic = rustix::fs::utimensat(made.parent.as_fd(), ".", &times, AtFlags::empty());
    }
}

#[expect(clippy::unnecessary_cast, reason = "the fields differ in sign between architectures")]
fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as i64 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    use super::*;

    #[test]
    fn a_target_that_is_swapped_for_a_link_while_it_is_made_changes_nothing_outside() {
        let directory = tempfile::tempdir().unwrap();
        let (canary, link, target) = ["canary", "link", "root/sub"].map(|name| directory.path().join(name)).into();
        std::fs::create_dir(directory.path().join("root")).unwrap();
        std::fs::write(&canary, "x").unwrap();
        std::fs::set_permissions(&canary, PermissionsExt::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&canary, &link).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _not_there_yet = renameat_with(CWD, &link, CWD, &target, RenameFlags::EXCHANGE);
                }
            });
            for _ in 0..3000 {
                let root = rustix::fs::open(directory.path().join("root"), OFlags::PATH, Mode::empty()).unwrap();
                let _refused_or_made = Targets::new(root).ensure(Path::new("/sub"), Kind::Directory);
                for path in [&target, &link] {
                    let _one_of_them = std::fs::remove_dir(path);
                }
                // whatever is left is the link, in one of the two places
                let _it_is_there = std::fs::rename(&target, &link);
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(canary.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
