//! Unpacks an archive that is no layer, such as one that ADD names, into a directory of its own.
//!
//! - The same reader, limits and anchoring as for layers (`apply`).
//! - Names that mean whiteouts in a layer are refused: in an archive they would be files, and files of such names cannot be in a
//!   layer.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::apply::entries::Entries;
use crate::apply::tree::{Fault, TreeBuilder};
use crate::file_error::failed;
use crate::implied;
use crate::remove_tree::remove_tree;
use crate::{ApplyError, FileError, Store, TarError};

/// The files of an archive; dropped, they are removed.
#[derive(Debug)]
pub struct Unpacked {
    directory: PathBuf,
    /// Directories without an entry.
    implied: HashSet<PathBuf>,
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
    pub fn unpack(&self, tar: impl Read) -> Result<Unpacked, UnpackError> {
        let mut unpacked = Unpacked { directory: self.temporary_directory("archive")?, implied: HashSet::new() };
        let tree = unpacked.path();
        std::fs::create_dir(&tree).map_err(failed("make", &tree))?;
        let mut builder = TreeBuilder::new(&tree, self.overlay_xattrs()?)?;
        let mut entries = Entries::new(tar);
        while let Some(entry) = entries.next().map_err(|source| UnpackError::Tar { source })? {
            if entry.path.split(|byte| *byte == b'/').any(|name| name.starts_with(b".wh.")) {
                return Err(UnpackError::Whiteout { path: PathBuf::from(OsStr::from_bytes(&entry.path)) });
            }
            builder.add(&entry, &mut entries).map_err(refused)?;
        }
        let record = builder.finish().map_err(refused)?;
        let implied = record.implied.iter().filter_map(|path| implied::read_path(path));
        unpacked.implied = implied.map(|path| PathBuf::from(OsString::from_vec(path))).collect();
        Ok(unpacked)
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
        self.directory.join("tree")
    }

    /// Tells whether the archive has no entry for a directory (its path in the archive, without links), only for what is in it.
    pub fn implies(&self, directory: &Path) -> bool {
        self.implied.contains(directory)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // what fails here goes with this command's directory in `tmp/`
        let _ = remove_tree(&self.directory);
    }
}
