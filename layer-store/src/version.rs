//! The version of the store's layout, so that nobody reads a store of a newer one as something it is not.
//!
//! `version.json` is the first file that is read and the last that a new store gets. A store without one is of version 1: those
//! that were made before the file was. What is added to the layout so that older programs still read all of it right needs no
//! new version; what they would misread does.
//!
//! | version | what is new |
//! |---|---|
//! | 1 | – |
//! | 2 | layers that others wrote may be tars |

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{FileError, OpenError, Store, record, sys};

/// The layout that this program reads and writes.
const VERSION: u32 = 2;
const FILE: &str = "version.json";

#[derive(Debug, Serialize, Deserialize)]
struct VersionRecord {
    version: u32,
}

/// Whether a store says which version it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    Yes,
    No,
}

/// Refuses a store whose layout is newer than ours.
pub(crate) fn check(root: &Path) -> Result<Marked, OpenError> {
    let path = root.join(FILE);
    match record::read::<VersionRecord>(&path)? {
        None => Ok(Marked::No),
        Some(VersionRecord { version }) if version > VERSION => {
            Err(OpenError::Newer { root: root.to_owned(), version, known: VERSION })
        }
        // all of an older one is read; what is added from now on its own program would misread
        Some(VersionRecord { version }) if version < VERSION => Ok(Marked::No),
        Some(_) => Ok(Marked::Yes),
    }
}

impl Store {
    /// Writes which version the store has.
    pub(crate) fn mark_version(&self) -> Result<(), FileError> {
        match self.write_lasting_record(&self.root().join(FILE), &VersionRecord { version: VERSION }) {
            // a later command does it: one that cannot write needs no mark, and one that frees a full disk must not fail here
            Err(FileError { source, .. })
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem || sys::is_full(&source) =>
            {
                Ok(())
            }
            written => written,
        }
    }
}
