//! Turns the entries of one layer into files of an overlay lower directory.
//!
//! | entry | in the tree |
//! |---|---|
//! | `d/.wh.name` | a character device 0:0 `d/name`; if this layer has a directory `name`, that becomes opaque instead |
//! | `d/.wh..wh..opq` | `d` gets overlay's opaque attribute: it hides lower layers, never this one |
//! | other `.wh..wh.*` | nothing: notes of a storage driver to itself |
//! | a directory where this layer had something else | an opaque directory: what was there hid the lower layers' too |
//! | character device 0:0, overlay's attributes | nothing: they would hide files of lower layers |
//! | an entry whose parents have no entries | the parents are made, and listed in the record (see `implied`) |
//!
//! - Nothing is opened by path. The parent of an entry is resolved from the handle of the root, as if that were `/`; the last
//!   component is never followed.
//! - Links of this layer are followed on the way to a parent; other layers are not consulted.
//! - The modification time of a directory is restored when the next entry is in another one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::{DiffId, Digest};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::ApplyError;
use super::entries::{Entries, Entry, Kind, TarError};
use crate::FileError;
use crate::file_error::failed;
use crate::implied;
use crate::layers::{Form, LayerRecord, Skipped};
use crate::overlay::{OverlayXattrs, is_kept};
use crate::remove_tree::remove_at;
use crate::sys::{self, Time};

mod parents;
use parents::Parents;

/// Bytes of holes in all sparse files of a layer, at most.
const MAX_HOLES: u64 = 1 << 40;
/// Bytes that become a hole when all of them are zero.
const HOLE: usize = 32 << 10;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A tree that a layer's entries are added to.
pub(crate) struct TreeBuilder {
    parents: Parents,
    xattrs: OverlayXattrs,
    holes: u64,
    content_size: u64,
    entries: u64,
    skipped: Skipped,
    has_root: bool,
    is_opaque: bool,
}

/// What went wrong with one entry: its bytes, itself, or the file system.
pub(crate) enum Fault {
    Tar(TarError),
    Apply(ApplyError),
}

impl Fault {
    pub(crate) fn into_error(self, diff_id: &DiffId) -> ApplyError {
        match self {
            Self::Tar(source) => ApplyError::Tar { diff_id: diff_id.clone(), source },
            Self::Apply(error) => error,
        }
    }
}

impl From<TarError> for Fault {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

impl From<ApplyError> for Fault {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

/// A place for an entry: the open directory and the name in it.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: &'a OwnedFd,
    name: &'a [u8],
    /// The path inside the layer, for messages.
    path: &'a [u8],
}

impl TreeBuilder {
    pub(crate) fn new(tree: &Path, xattrs: OverlayXattrs) -> Result<Self, FileError> {
        let root = sys::open_directory(tree).map_err(failed("open", tree))?;
        fs::fchmod(&root, Mode::from_raw_mode(0o755)).map_err(failed("write", tree))?;
        fs::futimens(&root, &sys::timestamps(Time::default())).map_err(failed("write", tree))?;
        let parents = Parents::new(root, xattrs);
        let skipped = Skipped::default();
        Ok(Self { parents, xattrs, holes: 0, content_size: 0, entries: 0, skipped, has_root: false, is_opaque: false })
    }

    /// Adds one entry, reading its content from `entries`.
    pub(crate) fn add<R: Read>(&mut self, entry: &Entry, entries: &mut Entries<R>) -> Result<(), Fault> {
        self.entries += 1;
        let path = clean(&entry.path).ok_or_else(|| refused(&entry.path, "has a NUL in its name"))?;
        let Some((parent, name)) = split(&path) else { return Ok(self.add_root(entry)?) };
        if parent.split(|byte| *byte == b'/').any(|component| component.starts_with(WHITEOUT)) {
            return Err(refused(&path, "is below a name that is reserved for whiteouts").into());
        }
        if name.starts_with(WHITEOUT) {
            return Ok(self.add_whiteout(&path, parent, name)?);
        }
        if let Kind::Directory = entry.kind {
            return Ok(self.add_directory(&path, parent, name, entry)?);
        }
        let link = match &entry.kind {
            Kind::HardLink(target) => return Ok(self.add_hard_link(&path, target)?),
            Kind::Device { major: 0, minor: 0, is_block: false } => {
                self.skipped.devices += 1;
                return Ok(());
            }
            Kind::Symlink(target) => Some(target),
            _ => None,
        };
        if link.is_some_and(|target| target.is_empty() || target.contains(&0)) {
            return Err(refused(&path, "is a link to nothing").into());
        }
        let directory = self.parents.enter(parent)?;
        let place = Place { directory: &directory, name, path: &path };
        if self.make(place, entry, entries)? {
            self.parents.changed();
        }
        Ok(())
    }

    /// Ends the tree and returns what is known of the layer; diff ID and tar size are the caller's to fill in.
    pub(crate) fn finish(mut self) -> Result<LayerRecord, Fault> {
        let implied = self.parents.finish()?;
        Ok(LayerRecord {
            diff_id: DiffId(Digest::of(b"")),
            form: Form::Tree,
            content_size: self.content_size,
            tar_size: 0,
            entries: self.entries,
            blobs: Vec::new(),
            encoded: BTreeMap::new(),
            skipped: self.skipped,
            implied: implied.iter().map(|path| implied::write_path(path)).collect(),
            has_root: self.has_root,
            is_opaque: self.is_opaque,
        })
    }

    fn add_root(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if !matches!(entry.kind, Kind::Directory) {
            return Err(refused(b"/", "is the root directory, but not a directory"));
        }
        self.has_root = true;
        self.parents.leave()?;
        let root = self.parents.root().try_clone().map_err(write("open", b"/"))?;
        self.set_directory(&root, b"/", entry)
    }

    fn add_directory(&mut self, path: &[u8], parent: &[u8], name: &[u8], entry: &Entry) -> Result<(), ApplyError> {
        let directory = self.parents.enter(parent)?;
        let made = fs::mkdirat(&directory, name, Mode::RWXU);
        let mut is_opaque = false;
        match made {
            Err(Errno::EXIST) => {
                let there = sys::look(&directory, name).map_err(write("find", path))?;
                if there.is_some_and(|stat| sys::kind(&stat) != FileType::Directory) {
                    fs::unlinkat(&directory, name, AtFlags::empty()).map_err(write("replace", path))?;
                    fs::mkdirat(&directory, name, Mode::RWXU).map_err(write("make", path))?;
                    is_opaque = true;
                }
            }
            made => made.map_err(write("make", path))?,
        }
        let child = sys::open_directory_at(&directory, name).map_err(write("open", path))?;
        if is_opaque {
            self.xattrs.set_opaque(&child).map_err(write("write", path))?;
        }
        // the directory may be the one that was entered last, under another name
        self.parents.leave()?;
        self.parents.is_explicit(&child)?;
        self.set_directory(&child, path, entry)
    }

    fn add_whiteout(&mut self, path: &[u8], parent: &[u8], name: &[u8]) -> Result<(), ApplyError> {
        if name == OPAQUE {
            let directory = self.parents.enter(parent)?;
            self.xattrs.set_opaque(&directory).map_err(write("write", path))?;
            self.is_opaque |= self.parents.is_in_root()?;
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(path, "is a whiteout of no name"));
        }
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        let directory = self.parents.enter(parent)?;
        match fs::mknodat(&directory, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {}
            made => return made.map_err(write("make", path)),
        }
        let there = sys::look(&directory, hidden).map_err(write("find", path))?;
        if there.is_some_and(|stat| sys::kind(&stat) == FileType::Directory) {
            let own = sys::open_directory_at(&directory, hidden).map_err(write("open", path))?;
            self.xattrs.set_opaque(&own).map_err(write("write", path))?;
        }
        Ok(())
    }

    fn add_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), ApplyError> {
        let target = clean(target).ok_or_else(|| refused(path, "is a link to nothing"))?;
        let Some((target_parent, target_name)) = split(&target) else {
            return Err(refused(path, "is a hard link to a directory"));
        };
        let missing = "is a hard link to something that this layer does not have before it";
        let from = self.parents.open(target_parent).map_err(|_| refused(path, missing))?;
        let found = sys::look(&from, target_name).map_err(write("find", &target))?;
        let found = found.filter(|stat| !sys::is_whiteout(stat)).ok_or_else(|| refused(path, missing))?;
        if sys::kind(&found) == FileType::Directory {
            return Err(refused(path, "is a hard link to a directory"));
        }
        let (parent, name) = split(path).unwrap_or((b"", path));
        let directory = self.parents.enter(parent)?;
        let link = || fs::linkat(&from, target_name, &directory, name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {}
            linked => return linked.map_err(write("link", path)),
        }
        let there = sys::look(&directory, name).map_err(write("find", path))?;
        if there.is_some_and(|stat| (stat.st_dev, stat.st_ino) == (found.st_dev, found.st_ino)) {
            return Ok(());
        }
        remove_at(directory.as_fd(), name).map_err(write("replace", path))?;
        link().map_err(write("link", path))?;
        self.parents.changed();
        Ok(())
    }

    /// Makes anything but directories and hard links; true when something else had to go.
    fn make<R: Read>(&mut self, place: Place<'_>, entry: &Entry, entries: &mut Entries<R>) -> Result<bool, Fault> {
        let Place { directory, name, path } = place;
        let mut has_replaced = false;
        loop {
            let made = match &entry.kind {
                Kind::File { .. } => create(directory, name).map(Some),
                Kind::Symlink(target) => fs::symlinkat(&target[..], directory, name).map(|()| None),
                Kind::Fifo => fs::mknodat(directory, name, FileType::Fifo, Mode::RUSR, 0).map(|()| None),
                Kind::Device { is_block, major, minor } => {
                    let kind = if *is_block { FileType::BlockDevice } else { FileType::CharacterDevice };
                    fs::mknodat(directory, name, kind, Mode::RUSR, fs::makedev(*major, *minor)).map(|()| None)
                }
                Kind::Directory | Kind::HardLink(_) => return Ok(false),
            };
            match made {
                Ok(Some(file)) => {
                    self.fill(&file, path, entry, entries)?;
                    self.set_file(&file, path, entry)?;
                }
                Ok(None) => self.set_other(place, entry)?,
                Err(Errno::EXIST) if !has_replaced => {
                    remove_at(directory.as_fd(), name).map_err(write("replace", path))?;
                    has_replaced = true;
                    continue;
                }
                Err(Errno::PERM) if matches!(entry.kind, Kind::Device { .. }) => self.skipped.devices += 1,
                Err(error) => return Err(write("make", path)(error).into()),
            }
            return Ok(has_replaced);
        }
    }

    /// Writes a file's content; what a sparse file does not have stays a hole.
    fn fill<R: Read>(
        &mut self,
        mut file: &File,
        path: &[u8],
        entry: &Entry,
        entries: &mut Entries<R>,
    ) -> Result<(), Fault> {
        let Kind::File { size, regions } = &entry.kind else { return Ok(()) };
        self.content_size = self.content_size.saturating_add(*size);
        let Some(regions) = regions else {
            let mut ends_in_hole = false;
            loop {
                let content = entries.content()?;
                if content.is_empty() {
                    break;
                }
                ends_in_hole = write_or_skip(file, content).map_err(write("write", path))?;
            }
            let end = if ends_in_hole { file.set_len(*size) } else { Ok(()) };
            return Ok(end.map_err(write("write", path))?);
        };
        let stored: u64 = regions.iter().map(|region| region.length).sum();
        self.holes = self.holes.saturating_add(size - stored);
        if self.holes > MAX_HOLES {
            return Err(refused(path, "brings the holes of this layer to more than 1 TiB").into());
        }
        for region in regions {
            file.seek(SeekFrom::Start(region.offset)).map_err(write("write", path))?;
            let mut left = region.length;
            while left > 0 {
                let content = entries.content()?;
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(content.len());
                file.write_all(&content[..count]).map_err(write("write", path))?;
                let rest = content.len() - count;
                entries.put_back(rest);
                left -= count as u64;
            }
        }
        Ok(file.set_len(*size).map_err(write("write", path))?)
    }

    fn set_file(&mut self, file: &File, path: &[u8], entry: &Entry) -> Result<(), ApplyError> {
        fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(owner(path, entry))?;
        fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(write("write", path))?;
        self.set_xattrs(entry, path, |name, value| fs::fsetxattr(file, name, value, XattrFlags::empty()))?;
        fs::futimens(file, &sys::timestamps(entry.modified)).map_err(write("write", path))
    }

    fn set_directory(&mut self, directory: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), ApplyError> {
        fs::fchown(directory, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(owner(path, entry))?;
        fs::fchmod(directory, Mode::from_raw_mode(entry.mode)).map_err(write("write", path))?;
        self.set_xattrs(entry, path, |name, value| fs::fsetxattr(directory, name, value, XattrFlags::empty()))?;
        fs::futimens(directory, &sys::timestamps(entry.modified)).map_err(write("write", path))
    }

    fn set_other(&mut self, place: Place<'_>, entry: &Entry) -> Result<(), ApplyError> {
        let Place { directory, name, path } = place;
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        fs::chownat(directory, name, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)), no_follow)
            .map_err(owner(path, entry))?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            // follows nothing: this process has just made `name`, and nobody else writes here
            fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(write("write", path))?;
        }
        let through = sys::through(directory.as_fd(), name);
        self.set_xattrs(entry, path, |name, value| fs::lsetxattr(&through, name, value, XattrFlags::empty()))?;
        fs::utimensat(directory, name, &sys::timestamps(entry.modified), no_follow).map_err(write("write", path))
    }

    fn set_xattrs(
        &mut self,
        entry: &Entry,
        path: &[u8],
        set: impl Fn(&OsStr, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), ApplyError> {
        for (name, value) in &entry.xattrs {
            if !is_kept(name, value) {
                self.skipped.xattrs += 1;
                continue;
            }
            match set(OsStr::from_bytes(name), value) {
                // not this user's to set, or not on this file system or kind of file
                Err(Errno::PERM | Errno::OPNOTSUPP) => self.skipped.xattrs += 1,
                result => result.map_err(write("write an extended attribute of", path))?,
            }
        }
        Ok(())
    }
}

fn create(directory: &OwnedFd, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Writes what comes next in a file; long runs of zeros are left out, so that they take no disk. True when it ends in one.
fn write_or_skip(mut file: &File, content: &[u8]) -> io::Result<bool> {
    let mut ends_in_hole = false;
    for piece in content.chunks(HOLE) {
        ends_in_hole = piece.len() == HOLE && sys::is_zero(piece);
        if ends_in_hole {
            file.seek_relative(HOLE as i64)?;
        } else {
            file.write_all(piece)?;
        }
    }
    Ok(ends_in_hole)
}

/// Returns the path as components joined by `/`, without `.`, `..` or empty ones; `..` stops at the root.
fn clean(path: &[u8]) -> Option<Vec<u8>> {
    let mut components: Vec<&[u8]> = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            _ if component.contains(&0) => return None,
            _ => components.push(component),
        }
    }
    Some(components.join(&b'/'))
}

/// Splits a clean path into its parent and its name; `None` for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}

fn refused(path: &[u8], reason: &'static str) -> ApplyError {
    ApplyError::Refused { path: shown(path), reason }
}

fn write<E: Into<io::Error>>(action: &'static str, path: &[u8]) -> impl FnOnce(E) -> ApplyError {
    move |source| ApplyError::Write { action, path: shown(path), source: source.into() }
}

fn owner(path: &[u8], entry: &Entry) -> impl FnOnce(Errno) -> ApplyError {
    let (uid, gid) = (entry.uid, entry.gid);
    move |error| match error {
        Errno::INVAL => ApplyError::Owner { path: shown(path), uid, gid, source: error.into() },
        error => write("give an owner to", path)(error),
    }
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_never_leave_the_root() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"a/b", b"a/b"),
            (b"./a//b/.", b"a/b"),
            (b"/a", b"a"),
            (b"../../a", b"a"),
            (b"a/../../b", b"b"),
            (b"a/b/../c/", b"a/c"),
            (b"./", b""),
            (b"/", b""),
            (b"..", b""),
        ];
        for (given, expected) in cases {
            assert_eq!(clean(given).unwrap(), expected, "{}", given.escape_ascii());
        }
        assert_eq!(clean(b"a\0b"), None);
        assert_eq!(split(b"a/b/c"), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
        assert_eq!(split(b""), None);
    }
}
