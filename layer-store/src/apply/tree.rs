//! Turns the entries of one layer into files of an overlay lower directory.
//!
//! What an entry asks for is `meaning`'s to tell.
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
//! - An owner that this user namespace does not have is an error where files are all that stays of the entries. The files of a layer may
//!   belong to somebody else here, which is counted: its blob or tar still tells the true owners, and is what goes out.
//! - Links of this layer are followed on the way to a parent; other layers are not consulted.
//! - The modification time of a directory is restored when the next entry is in another one.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use oci::{DiffId, Digest};
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::ApplyError;
use super::entries::{Entries, Entry, Kind, TarError};
use super::meaning::{MAX_HOLES, MISSING_TARGET, Meaning, clean_path, meaning, refused, shown, write};
use crate::FileError;
use crate::file_error::failed;
use crate::implied;
use crate::layers::{Form, LayerRecord, Origin, Skipped};
use crate::overlay::{OverlayXattrs, is_kept};
use crate::remove_tree::remove_at;
use crate::sys::{self, Time};

mod parents;
use parents::Parents;

/// Bytes that become a hole when all of them are zero.
const HOLE: usize = 32 << 10;

/// A tree that a layer's entries are added to.
pub(crate) struct TreeBuilder {
    parents: Parents,
    xattrs: OverlayXattrs,
    foreign_owner: ForeignOwner,
    holes: u64,
    content_size: u64,
    entries: u64,
    skipped: Skipped,
    has_root: bool,
    is_opaque: bool,
}

/// What becomes of a file whose owner this user namespace does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForeignOwner {
    /// It is refused.
    Refused,
    /// It belongs to the namespace's root, and is counted.
    Counted,
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
    pub(crate) fn new(tree: &Path, xattrs: OverlayXattrs, foreign_owner: ForeignOwner) -> Result<Self, FileError> {
        let root = sys::open_directory(tree).map_err(failed("open", tree))?;
        fs::fchmod(&root, Mode::from_raw_mode(0o755)).map_err(failed("write", tree))?;
        fs::futimens(&root, &sys::timestamps(Time::default())).map_err(failed("write", tree))?;
        let parents = Parents::new(root, xattrs);
        let skipped = Skipped::default();
        let (holes, content_size, entries) = (0, 0, 0);
        let (has_root, is_opaque) = (false, false);
        Ok(Self { parents, xattrs, foreign_owner, holes, content_size, entries, skipped, has_root, is_opaque })
    }

    /// Adds one entry, reading its content from `entries`.
    pub(crate) fn add<R: Read>(&mut self, entry: &Entry, entries: &mut Entries<R>) -> Result<(), Fault> {
        self.entries += 1;
        let path = clean_path(entry)?;
        match meaning(entry, &path)? {
            Meaning::Root => self.add_root(entry)?,
            Meaning::Opaque { parent } => self.add_opaque(&path, parent)?,
            Meaning::Note => {}
            Meaning::Whiteout { parent, hidden } => self.add_whiteout(&path, parent, hidden)?,
            Meaning::NullDevice => self.skipped.devices += 1,
            Meaning::Directory { parent, name } => self.add_directory(&path, parent, name, entry)?,
            Meaning::HardLink { parent, name, target_parent, target_name } => {
                let directory = self.parents.open(&target_parent).map_err(|_| refused(&path, MISSING_TARGET))?;
                let target = Place { directory: &directory, name: &target_name, path: &path };
                self.add_hard_link(target, parent, name)?;
            }
            Meaning::Other { parent, name } => {
                let directory = self.parents.enter(parent)?;
                let place = Place { directory: &directory, name, path: &path };
                if self.make(place, entry, entries)? {
                    self.parents.changed();
                }
            }
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
            origin: Origin::Received,
            implied: implied.iter().map(|path| implied::write_path(path)).collect(),
            has_root: self.has_root,
            is_opaque: self.is_opaque,
        })
    }

    fn add_root(&mut self, entry: &Entry) -> Result<(), ApplyError> {
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

    fn add_opaque(&mut self, path: &[u8], parent: &[u8]) -> Result<(), ApplyError> {
        let directory = self.parents.enter(parent)?;
        self.xattrs.set_opaque(&directory).map_err(write("write", path))?;
        self.is_opaque |= self.parents.is_in_root()?;
        Ok(())
    }

    fn add_whiteout(&mut self, path: &[u8], parent: &[u8], hidden: &[u8]) -> Result<(), ApplyError> {
        let directory = self.parents.enter(parent)?;
        match fs::mknodat(&directory, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {}
            made => {
                made.map_err(write("make", path))?;
                return self.xattrs.set_origin(&directory).map_err(write("write", path));
            }
        }
        let there = sys::look(&directory, hidden).map_err(write("find", path))?;
        if there.is_some_and(|stat| sys::kind(&stat) == FileType::Directory) {
            let own = sys::open_directory_at(&directory, hidden).map_err(write("open", path))?;
            self.xattrs.set_opaque(&own).map_err(write("write", path))?;
        }
        Ok(())
    }

    /// Gives `target` the further name `name` in `parent`.
    fn add_hard_link(&mut self, target: Place<'_>, parent: &[u8], name: &[u8]) -> Result<(), ApplyError> {
        let path = target.path;
        let found = sys::look(target.directory, target.name).map_err(write("find", path))?;
        let found = found.filter(|stat| !sys::is_whiteout(stat)).ok_or_else(|| refused(path, MISSING_TARGET))?;
        if sys::kind(&found) == FileType::Directory {
            return Err(refused(path, "is a hard link to a directory"));
        }
        let directory = self.parents.enter(parent)?;
        let link = || fs::linkat(target.directory, target.name, &directory, name, AtFlags::empty());
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
        self.set_owner(path, entry, |uid, gid| fs::fchown(file, uid, gid))?;
        fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(write("write", path))?;
        self.set_xattrs(entry, path, |name, value| fs::fsetxattr(file, name, value, XattrFlags::empty()))?;
        fs::futimens(file, &sys::timestamps(entry.modified)).map_err(write("write", path))
    }

    fn set_directory(&mut self, directory: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), ApplyError> {
        self.set_owner(path, entry, |uid, gid| fs::fchown(directory, uid, gid))?;
        fs::fchmod(directory, Mode::from_raw_mode(entry.mode)).map_err(write("write", path))?;
        self.set_xattrs(entry, path, |name, value| fs::fsetxattr(directory, name, value, XattrFlags::empty()))?;
        fs::futimens(directory, &sys::timestamps(entry.modified)).map_err(write("write", path))
    }

    fn set_other(&mut self, place: Place<'_>, entry: &Entry) -> Result<(), ApplyError> {
        let Place { directory, name, path } = place;
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        self.set_owner(path, entry, |uid, gid| fs::chownat(directory, name, uid, gid, no_follow))?;
        if !matches!(entry.kind, Kind::Symlink(_)) {
            // follows nothing: this process has just made `name`, and nobody else writes here
            fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(write("write", path))?;
        }
        let through = sys::through(directory.as_fd(), name);
        self.set_xattrs(entry, path, |name, value| fs::lsetxattr(&through, name, value, XattrFlags::empty()))?;
        fs::utimensat(directory, name, &sys::timestamps(entry.modified), no_follow).map_err(write("write", path))
    }

    fn set_owner(
        &mut self,
        path: &[u8],
        entry: &Entry,
        chown: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> Result<(), ApplyError> {
        let (uid, gid) = (entry.uid, entry.gid);
        match chown(Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))) {
            Ok(()) => Ok(()),
            Err(Errno::INVAL) if self.foreign_owner == ForeignOwner::Counted => {
                self.skipped.owners += 1;
                Ok(())
            }
            Err(Errno::INVAL) => Err(ApplyError::Owner { path: shown(path), uid, gid, source: Errno::INVAL.into() }),
            Err(error) => Err(write("give an owner to", path)(error)),
        }
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
