//! Build-cache records: cache key → layer, with the recipe of the key.
//!
//! Disposable by construction: a record that cannot be read, or whose layer is gone, is a miss. So is one that was written before the
//! machine was started anew and never flushed: its layer may be short of what was written last (`flushed`). The time of its file is that
//! of its last use (`last_used`), by which prunes choose.

use std::fmt;
use std::str::FromStr;

use oci::DiffId;
use serde::{Deserialize, Serialize};

use crate::last_used::note_use;
use crate::store::list;
use crate::{FileError, LayerError, Store, record};

/// A cache key: 64 lowercase hexadecimal digits of a BLAKE3 hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(Box<str>);

/// Why a text is not a cache key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{}` is not a cache key (want 64 lowercase hexadecimal digits)", .text.escape_debug())]
pub struct CacheKeyError {
    /// What was given, cut to 200 characters.
    pub text: String,
}

/// What a cache key led to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The layer that the step made; `None` when it had nothing to change.
    pub diff_id: Option<DiffId>,
    /// What the key was computed from, for whoever explains a miss.
    pub recipe: serde_json::Value,
    /// When the step ran, as its builder writes times.
    pub created: String,
}

/// Why a cache record could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CacheError {
    #[error("a cache record needs its layer")]
    Layer(#[from] LayerError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The file in `cache/`.
#[derive(Serialize, Deserialize)]
struct Kept<R> {
    #[serde(flatten)]
    record: R,
    /// The start of the machine in which it was written.
    #[serde(default)]
    boot: String,
}

impl FromStr for CacheKey {
    type Err = CacheKeyError;

    fn from_str(text: &str) -> Result<Self, CacheKeyError> {
        let is_hex = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex {
            return Err(CacheKeyError { text: text.chars().take(200).collect() });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Store {
    /// Returns what the key led to before; `None` is a miss. The layer stays until this command ends.
    pub fn recall(&self, key: &CacheKey) -> Option<CacheRecord> {
        let path = self.cache_path(key);
        let Kept { record, boot } = record::read::<Kept<CacheRecord>>(&path).ok().flatten()?;
        if boot != self.boot() && !self.is_flushed(&path) {
            return None;
        }
        let is_here = record.diff_id.as_ref().is_none_or(|diff_id| self.layer(diff_id).is_ok());
        if !is_here {
            return None;
        }
        note_use(&path);
        Some(record)
    }

    /// Keeps what the key leads to; a later record of the same key replaces it.
    ///
    /// # Errors
    ///
    /// [`CacheError::Layer`] when the layer is not here.
    pub fn remember(&self, key: &CacheKey, record: &CacheRecord) -> Result<(), CacheError> {
        record.diff_id.as_ref().map(|diff_id| self.layer(diff_id)).transpose()?;
        let boot = self.boot().to_owned();
        Ok(self.write_record(&self.cache_path(key), &Kept { record, boot })?)
    }

    /// Lists the records of the build cache; those that cannot be read are left out.
    ///
    /// # Errors
    ///
    /// [`FileError`] when the directory cannot be read.
    pub fn cache_records(&self) -> Result<Vec<(CacheKey, CacheRecord)>, FileError> {
        let paths = list(&self.root().join("cache"))?;
        let records = paths.iter().filter_map(|path| {
            let key: CacheKey = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
            Some((key, record::read(path).ok().flatten()?))
        });
        Ok(records.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_of_a_hash_are_a_key() {
        assert!("0123456789abcdef".repeat(4).parse::<CacheKey>().is_ok());
        for text in ["", "../../etc/passwd", &"A".repeat(64), &"a".repeat(63), &"a".repeat(65), &"/".repeat(64)] {
            assert!(text.parse::<CacheKey>().is_err(), "{text}");
        }
    }
}
