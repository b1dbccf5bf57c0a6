//! Directories that a layer only implies take their metadata from the layers below.
//!
//! ```text
//! a tar with `usr/bin/tool` and no entry for `usr/`      its tree has a directory `usr`, with some metadata
//! overlay shows the topmost directory's metadata          so `usr` of the layer below, mode 0700, would be shown as 0755
//!
//! layers/<diff-id>/implied-<chain hex>/                   a lower directory to be put above the layer: only the implied
//!                                                         directories, with the metadata they have on this chain
//! ```
//!
//! It belongs to a chain (the layers below), not to the diff ID alone, and is kept for it: an empty one says that nothing
//! differs. What counts as "below" ends where a layer hides the rest: a whiteout, something that is no directory, an opaque parent.
//!
//! The root directory is never among them: [`crate::snapshot`] gives it to the topmost directory of a mount.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, FileType, Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use crate::overlay::{OverlayXattrs, is_host_label, is_overlay_private};
use crate::sys::{self, Time, Xattrs};

/// A layer of a stack, open.
pub(crate) struct Opened {
    pub(crate) tree: OwnedFd,
    /// Paths of the directories that the layer only implies, sorted.
    pub(crate) implied: Vec<Vec<u8>>,
}

/// What `stat` and `listxattr` tell of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    pub(crate) xattrs: Xattrs,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, modified: Time::default(), xattrs: Vec::new() }
    }
}

impl Metadata {
    pub(crate) fn read(directory: &OwnedFd) -> Result<Self, Errno> {
        let stat = fs::fstat(directory)?;
        let keep = |name: &[u8]| !is_overlay_private(name) && !is_host_label(name);
        let xattrs = sys::xattrs(&sys::through(directory.as_fd(), b"."), keep)?;
        let mode = stat.st_mode & 0o7777;
        Ok(Self { mode, uid: stat.st_uid, gid: stat.st_gid, modified: sys::modified(&stat), xattrs })
    }

    pub(crate) fn write(&self, directory: &OwnedFd) -> Result<(), Errno> {
        fs::fchown(directory, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        fs::fchmod(directory, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.xattrs {
            fs::fsetxattr(directory, OsStr::from_bytes(name), value, XattrFlags::empty())?;
        }
        fs::futimens(directory, &sys::timestamps(self.modified))
    }
}

/// What one layer says of a path.
enum Seen {
    Nothing,
    /// The layer hides what is below it.
    Hidden,
    Directory {
        open: OwnedFd,
        is_hiding: bool,
    },
}

/// Fills `into` with the directories that `layer` implies and that look different above `below` (lowest first).
pub(crate) fn build(layer: &Opened, below: &[Opened], xattrs: OverlayXattrs, into: &Path) -> Result<(), Errno> {
    let mut found: BTreeMap<&[u8], Metadata> = BTreeMap::new();
    for path in &layer.implied {
        let Seen::Directory { open, is_hiding: false } = look(&layer.tree, path, xattrs)? else { continue };
        let Some(metadata) = find_below(path, below, xattrs)? else { continue };
        if metadata != Metadata::read(&open)? {
            found.insert(path, metadata);
        }
    }
    let into = sys::open_directory(into)?;
    let mut all: BTreeMap<&[u8], Metadata> = BTreeMap::new();
    for (path, metadata) in &found {
        for parent in ancestors(path) {
            if !found.contains_key(parent) && !all.contains_key(parent) {
                let Seen::Directory { open, .. } = look(&layer.tree, parent, xattrs)? else { continue };
                all.insert(parent, Metadata::read(&open)?);
            }
        }
        all.insert(path, metadata.clone());
    }
    for path in all.keys() {
        let (parent, name) = split(path);
        fs::mkdirat(sys::walk(&into, parent)?, name, Mode::RWXU)?;
    }
    // deepest first: making a directory changes its parent's time
    all.iter().rev().try_for_each(|(path, metadata)| metadata.write(&sys::walk(&into, path)?))
}

fn find_below(path: &[u8], below: &[Opened], xattrs: OverlayXattrs) -> Result<Option<Metadata>, Errno> {
    for layer in below.iter().rev() {
        match look(&layer.tree, path, xattrs)? {
            Seen::Nothing => {}
            Seen::Hidden => return Ok(None),
            Seen::Directory { open, is_hiding } => {
                if layer.implied.binary_search_by(|implied| implied[..].cmp(path)).is_err() {
                    return Metadata::read(&open).map(Some);
                }
                if is_hiding {
                    return Ok(None);
                }
            }
        }
    }
    Ok(None)
}

/// Looks at `path` in one layer; `is_hiding`: one of its parents is opaque there.
fn look(tree: &OwnedFd, path: &[u8], xattrs: OverlayXattrs) -> Result<Seen, Errno> {
    let mut is_hiding = false;
    let mut current = tree.try_clone().map_err(|_| Errno::MFILE)?;
    let mut components = path.split(|byte| *byte == b'/').peekable();
    while let Some(name) = components.next() {
        let kind = sys::look(&current, name)?.map(|stat| sys::kind(&stat));
        match kind {
            None if is_hiding => return Ok(Seen::Hidden),
            None => return Ok(Seen::Nothing),
            Some(FileType::Directory) => current = sys::open_directory_at(&current, name)?,
            Some(_) => return Ok(Seen::Hidden),
        }
        // an opaque directory hides what is in it, not itself
        let is_parent = components.peek().is_some();
        is_hiding |= is_parent && xattrs.is_opaque(&sys::through(current.as_fd(), b"."))?;
    }
    Ok(Seen::Directory { open: current, is_hiding })
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// Writes a path for a record: bytes that are not printable ASCII, and `%`, as `%xx`.
pub(crate) fn write_path(path: &[u8]) -> String {
    path.iter().fold(String::with_capacity(path.len()), |mut text, byte| {
        if byte.is_ascii_graphic() && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            text.push_str(&hex::encode([*byte]));
        }
        text
    })
}

/// Reads a path back from a record; `None` when it is no path that is written there.
pub(crate) fn read_path(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.extend(hex::decode(digits).ok()?);
        rest = after;
    }
    let is_component = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    bytes.split(|byte| *byte == b'/').all(is_component).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_bytes_survive_a_record() {
        for path in [&b"usr/bin"[..], b"a b/\xff\n%", b"%41"] {
            let text = write_path(path);
            assert!(text.is_ascii());
            assert_eq!(read_path(&text).unwrap(), path);
        }
        for text in ["", "/a", "a//b", "../a", "a/..", "%", "%4", "%zz", "a%00"] {
            assert_eq!(read_path(text), None, "{text}");
        }
    }
}
