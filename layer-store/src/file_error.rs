//! The two faults that every operation of the store can meet: a file that cannot be used, and a record that cannot be read.
//!
//! Both name the path and keep their source; the operations' own error enums pass them through.

use std::io;
use std::path::{Path, PathBuf};

/// A system call on a file of the store that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("cannot {action} `{}`", .path.display())]
pub struct FileError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Why a record of the store could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum RecordError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{}` is not a record that this version reads", .path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("`{}` is larger than any record", .path.display())]
    TooLarge { path: PathBuf },
}

/// Turns what the system said into a [`FileError`] about `path`.
pub(crate) fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> FileError {
    move |source| FileError { action, path: path.to_owned(), source: source.into() }
}
