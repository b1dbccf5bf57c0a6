//! Unpacks an archive that is no layer, such as one that ADD names or a build context, into a directory of its own.
//!
//! - The same reader, limits and anchoring as for layers (`apply`).
//! - The archive is read to its end, also behind the entries: a broken one is an error, and a pipe's writer is not cut off.
//! - Names that mean whiteouts in a layer are refused: in an archive they would be files, and files of such names cannot be in a
//!   layer.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::apply::entries::{Entries, Entry, Kind};
use crate::apply::tree::{Fault, ForeignOwner, TreeBuilder};
use crate::file_error::failed;
use crate::implied;
use crate::scratch::Scratch;
use crate::{ApplyError, FileError, Store, TarError};

/// The bits of a directory and of a file that its owner needs to read it and to remove it.
const PASSABLE: u32 = 0o700;
const READABLE: u32 = 0o400;

/// The files of an archive; dropped, they are removed.
#[derive(Debug)]
pub struct Unpacked {
    scratch: Scratch,
    /// Directories without an entry.
    implied: HashSet<PathBuf>,
}

/// Whose the files of an archive are once they are unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Their owners' in the archive.
    Kept,
    /// The calling process's, for who does not ask for owners. One that is not root, and so has to heed the modes, may read
    /// everything: it gets the owner's permissions that this takes.
    Caller,
}

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum UnpackError {
    #[error("it is not a tar archive that can be read")]
    Tar { source: TarError },
    #[error("entry `{}` has a name that is reserved for whiteouts", .path.display())]
    Whiteout { path: PathBuf },
    #[error(transparent)]
    Entry(#[from] ApplyError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Unpacks `tar` into a directory of its own in the store's `tmp/`.
    ///
    /// # Errors
    ///
    /// [`UnpackError::Tar`] when it cannot be read, [`UnpackError::Whiteout`] or [`UnpackError::Entry`] with the entry that cannot
    /// be a file. Nothing is left of it then.
    pub fn unpack(&self, tar: impl Read, ownership: Ownership) -> Result<Unpacked, UnpackError> {
        let mut unpacked = Unpacked { scratch: self.scratch("archive")?, implied: HashSet::new() };
        let tree = unpacked.path();
        std::fs::create_dir(&tree).map_err(failed("make", &tree))?;
        let mut builder = TreeBuilder::new(&tree, self.overlay_xattrs()?, ForeignOwner::Refused)?;
        let mut entries = Entries::new(tar);
        let read = |source| UnpackError::Tar { source };
        while let Some(mut entry) = entries.next().map_err(read)? {
            if entry.path.split(|byte| *byte == b'/').any(|name| name.starts_with(b".wh.")) {
                return Err(UnpackError::Whiteout { path: PathBuf::from(OsStr::from_bytes(&entry.path)) });
            }
            if ownership == Ownership::Caller {
                make_own(&mut entry);
            }
            builder.add(&entry, &mut entries).map_err(refused)?;
        }
        entries.pass_rest().map_err(read)?;
        let record = builder.finish().map_err(refused)?;
        let implied = record.implied.iter().filter_map(|path| implied::read_path(path));
        unpacked.implied = implied.map(|path| PathBuf::from(OsString::from_vec(path))).collect();
        Ok(unpacked)
    }
}

/// Makes the calling process the owner of an entry.
fn make_own(entry: &mut Entry) {
    let caller = rustix::process::geteuid();
    entry.uid = caller.as_raw();
    entry.gid = rustix::process::getegid().as_raw();
    if !caller.is_root() {
        entry.mode |= if matches!(entry.kind, Kind::Directory) { PASSABLE } else { READABLE };
    }
}

fn refused(fault: Fault) -> UnpackError {
    match fault {
        Fault::Tar(source) => UnpackError::Tar { source },
        Fault::Apply(error) => error.into(),
    }
}

impl Unpacked {
    /// Returns the directory with the archive's files.
    pub fn path(&self) -> PathBuf {
        self.scratch.directory.join("tree")
    }

    /// Tells whether the archive has no entry for a directory (its path in the archive, without links), only for what is in it.
    pub fn implies(&self, directory: &Path) -> bool {
        self.implied.contains(directory)
    }
}
