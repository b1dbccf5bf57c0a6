//! What an entry of a layer asks for, before anything is made of it: the same for trees (`tree`) and for indexes (`crate::index`).
//!
//! | entry | meaning |
//! |---|---|
//! | `.`, `/`, `a/..` | the metadata of the root directory |
//! | `d/.wh..wh..opq` | `d` hides what lower layers have in it |
//! | other `.wh..wh.*` | nothing: notes of a storage driver to itself |
//! | `d/.wh.name` | lower layers' `d/name` is deleted |
//! | character device 0:0 | nothing: it would hide a file of lower layers |
//! | anything else | a directory, a further name of a file, or something new at its path |
//!
//! A path is its components without `.` and empty ones; `..` stops at the root. What no file system could hold is refused here.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::ApplyError;
use super::entries::{Entry, Kind};

/// Bytes of holes in all sparse files of a layer, at most.
pub(crate) const MAX_HOLES: u64 = 1 << 40;
/// Directories without an entry in one layer, at most.
pub(crate) const MAX_IMPLIED: usize = 100_000;
/// Links that point to missing directories, followed on the way to one parent.
pub(crate) const MAX_LINKS: usize = 40;
/// The longest path that the kernel takes at once, and the longest target of a link.
pub(crate) const PATH_MAX: usize = 4095;
/// The longest name.
pub(crate) const NAME_MAX: usize = 255;

/// Why a hard link to nothing is refused.
pub(crate) const MISSING_TARGET: &str = "is a hard link to something that this layer does not have before it";

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What an entry asks for; paths are clean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'a> {
    Root,
    Opaque {
        parent: &'a [u8],
    },
    Note,
    Whiteout {
        parent: &'a [u8],
        hidden: &'a [u8],
    },
    /// A character device 0:0.
    NullDevice,
    Directory {
        parent: &'a [u8],
        name: &'a [u8],
    },
    HardLink {
        parent: &'a [u8],
        name: &'a [u8],
        target_parent: Vec<u8>,
        target_name: Vec<u8>,
    },
    /// A file, a symbolic link, a device or a pipe.
    Other {
        parent: &'a [u8],
        name: &'a [u8],
    },
}

/// Returns the path of an entry as components joined by `/`.
pub(crate) fn clean_path(entry: &Entry) -> Result<Vec<u8>, ApplyError> {
    clean(&entry.path).ok_or_else(|| refused(&entry.path, "has a NUL in its name"))
}

/// Finds out what the entry with the clean path `path` asks for.
pub(crate) fn meaning<'a>(entry: &Entry, path: &'a [u8]) -> Result<Meaning<'a>, ApplyError> {
    let is_directory = matches!(entry.kind, Kind::Directory);
    let Some((parent, name)) = split(path) else {
        let is_refused = (!is_directory).then(|| refused(b"/", "is the root directory, but not a directory"));
        return is_refused.map_or(Ok(Meaning::Root), Err);
    };
    let mut parents = parent.split(|byte| *byte == b'/');
    if parents.clone().any(|component| component.starts_with(WHITEOUT)) {
        return Err(refused(path, "is below a name that is reserved for whiteouts"));
    }
    let shown = name.strip_prefix(WHITEOUT).unwrap_or(name);
    if parents.any(|component| component.len() > NAME_MAX) || shown.len() > NAME_MAX {
        return Err(refused(path, "has a name of more than 255 bytes"));
    }
    if name.starts_with(WHITEOUT) {
        return whiteout(path, parent, name);
    }
    match &entry.kind {
        Kind::Directory => Ok(Meaning::Directory { parent, name }),
        Kind::HardLink(target) => {
            let target = clean(target).ok_or_else(|| refused(path, "is a link to nothing"))?;
            let Some((target_parent, target_name)) = split(&target) else {
                return Err(refused(path, "is a hard link to a directory"));
            };
            let (target_parent, target_name) = (target_parent.to_vec(), target_name.to_vec());
            Ok(Meaning::HardLink { parent, name, target_parent, target_name })
        }
        Kind::Device { major: 0, minor: 0, is_block: false } => Ok(Meaning::NullDevice),
        kind => check_kind(kind, path).map(|()| Meaning::Other { parent, name }),
    }
}

fn whiteout<'a>(path: &[u8], parent: &'a [u8], name: &'a [u8]) -> Result<Meaning<'a>, ApplyError> {
    if name == OPAQUE {
        return Ok(Meaning::Opaque { parent });
    }
    match &name[WHITEOUT.len()..] {
        b"" | b"." | b".." => Err(refused(path, "is a whiteout of no name")),
        hidden if hidden.starts_with(WHITEOUT) => Ok(Meaning::Note),
        hidden => Ok(Meaning::Whiteout { parent, hidden }),
    }
}

fn check_kind(kind: &Kind, path: &[u8]) -> Result<(), ApplyError> {
    match kind {
        Kind::Symlink(target) if target.is_empty() || target.contains(&0) => Err(refused(path, "is a link to nothing")),
        Kind::Symlink(target) if target.len() > PATH_MAX => {
            Err(refused(path, "is a link to a path of more than 4095 bytes"))
        }
        // more would be cut, to 0:0 for instance
        Kind::Device { major, minor, .. } if *major >= 1 << 12 || *minor >= 1 << 20 => {
            Err(refused(path, "is a device with a number that Linux does not have"))
        }
        _ => Ok(()),
    }
}

/// Returns the path as components joined by `/`, without `.`, `..` or empty ones; `..` stops at the root.
pub(crate) fn clean(path: &[u8]) -> Option<Vec<u8>> {
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
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    })
}

/// An entry that may not be, and why.
pub(crate) fn refused(path: &[u8], reason: &'static str) -> ApplyError {
    ApplyError::Refused { path: shown(path), reason }
}

/// What could not be done at the path of an entry.
pub(crate) fn write<E: Into<io::Error>>(action: &'static str, path: &[u8]) -> impl FnOnce(E) -> ApplyError {
    move |source| ApplyError::Write { action, path: shown(path), source: source.into() }
}

/// Shows a path inside the layer.
pub(crate) fn shown(path: &[u8]) -> PathBuf {
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
