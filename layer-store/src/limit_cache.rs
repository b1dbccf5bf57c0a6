//! Keeps the build cache below a limit: what a build does before it writes.
//!
//! - Only what neither an image nor a running command needs can go, the least recently used first: what a build has found in the
//!   cache, it holds, and so it stays. What then is left may still be above the limit.
//! - Below the limit nothing is removed and nobody is kept from using the store.

use crate::{Freed, Prune, PruneCache, PruneError, Store};

/// What came of a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitedCache {
    /// What was removed.
    pub freed: Vec<Freed>,
    /// Bytes on disk that the build cache takes now.
    pub size: u64,
}

impl Store {
    /// Removes the least recently used of the build cache until it takes at most `limit` bytes on disk.
    ///
    /// # Errors
    ///
    /// [`PruneError::File`] when the store cannot be read or something cannot be removed; what was removed before stays so.
    pub fn limit_cache(&self, limit: u64) -> Result<LimitedCache, PruneError> {
        let what = Prune { build_cache: PruneCache::Unshared, keep_storage: Some(limit), ..Prune::default() };
        let sizes = self.measure_cache(&what)?;
        if sizes.sum() <= limit {
            return Ok(LimitedCache { freed: Vec::new(), size: sizes.sum() });
        }
        let freed = self.prune_measured(&what, &sizes)?;
        Ok(LimitedCache { freed, size: self.measure_cache(&what)?.sum() })
    }
}
