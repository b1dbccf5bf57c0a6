//! Records: small JSON files, each complete or absent.
//!
//! A record is written under the command's own directory in `tmp/` and renamed into place.
//!
//! | record | when power is cut |
//! |---|---|
//! | of an image, a name, a volume, the version | flushed, and its name too: it is there once the command goes on, before that the old one or the new one |
//! | of a layer, of the cache | `Store::add_image` flushes everything before an image names it; until then it may be there and empty |

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::file_error::failed;
use crate::flushed::flush_directory;
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

    /// Writes a record that must be there, whole, also after a power cut.
    pub(crate) fn write_lasting_record<T: Serialize>(&self, path: &Path, record: &T) -> Result<(), FileError> {
        let bytes = serde_json::to_vec(record).expect("records have string keys and no failing serialisers");
        self.write_and_rename(path, &bytes, File::sync_data)?;
        flush_directory(path.parent().unwrap_or(path))
    }

    /// Writes a small file, replacing the one that is there.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        self.write_and_rename(path, bytes, |_| Ok(()))
    }

    fn write_and_rename(
        &self,
        path: &Path,
        bytes: &[u8],
        flush: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let temporary = self.temporary("record")?;
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| flush(&file)))
            .map_err(failed("write", path))
            .and_then(|()| std::fs::rename(&temporary, path).map_err(failed("write", path)));
        if written.is_err() {
            // what remains goes with this command's directory in `tmp/`
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }
}
