//! Records: small JSON files, each complete or absent.
//!
//! A record is written under the command's own directory in `tmp/` and renamed into place. It is not flushed to disk here:
//! [`Store::sync`] does that once for everything.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::file_error::failed;
use crate::{FileError, RecordError, Store};

/// No record is larger: a layer's list of directories that it only implies is bounded (`apply`).
const MAX_RECORD: u64 = 64 << 20;

/// Most records are smaller, and then read at once.
const USUAL_RECORD: usize = 4 << 10;

/// Reads a record; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error).into()),
    };
    let mut bytes = Vec::with_capacity(USUAL_RECORD);
    file.take(MAX_RECORD + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() as u64 > MAX_RECORD {
        return Err(RecordError::TooLarge { path: path.to_owned() });
    }
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| RecordError::Json { path: path.to_owned(), source })
}

impl Store {
    /// Writes a record, replacing the one that is there.
    pub(crate) fn write_record<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(record).expect("records have string keys and no failing serialisers");
        self.replace(path, &bytes)
    }

    /// Writes a small file, replacing the one that is there.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let temporary = self.temporary("record")?;
        let written = std::fs::write(&temporary, bytes)
            .map_err(failed("write", path))
            .and_then(|()| std::fs::rename(&temporary, path).map_err(failed("write", path)));
        if written.is_err() {
            // what remains goes with this command's directory in `tmp/`
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}
