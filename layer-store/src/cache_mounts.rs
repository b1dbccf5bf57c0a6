//! Cache mounts: directories that stay between builds, for `RUN --mount=type=cache`.
//!
//! ```text
//! mounts/<hex>/    lock, record.json, data/        <hex>: digest of id, mode, owner and the number among those of one id
//! ```
//!
//! | sharing | lock | while somebody else has it |
//! |---|---|---|
//! | shared | shared | both use it; of one who has it locked, it is waited for |
//! | locked | exclusive | waits |
//! | private | exclusive | uses the next of that id, which is made if there is none |
//!
//! - The lock goes with the process. It is tried for under the store's shared lock, so no prune is between finding and locking.
//! - A new one is made in `tmp/` and renamed.
//! - The time of the file `lock` is that of the last use.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci::Digest;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cache_items::{CacheItem, CacheItemKind, file_name};
use crate::file_error::failed;
use crate::last_used::{self, last_used};
use crate::lease::{StoreLock, no_follow, void};
use crate::store::list;
use crate::{CopyUp, CopyUpError, FileError, Store, record, sys};

/// Private caches of one id, at most.
const MOST_PRIVATE: u32 = 1000;

/// What a cache is found by, and made as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheMountSpec {
    /// Its name.
    pub id: String,
    /// Mode of its directory.
    pub mode: u32,
    /// Owner and group of its directory, as this user namespace knows them.
    pub owner: (u32, u32),
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table above says it")]
pub enum CacheSharing {
    Shared,
    Private,
    Locked,
}

/// A cache in use; dropped, it is free.
#[derive(Debug)]
pub struct CacheMount {
    data: PathBuf,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CacheMountRecord {
    #[serde(flatten)]
    spec: CacheMountSpec,
    number: u32,
}

impl CacheMount {
    /// Returns its directory.
    pub fn path(&self) -> &Path {
        &self.data
    }
}

impl Store {
    /// Takes the cache of `spec`, and makes it if there is none; `None` while somebody else has it.
    ///
    /// A new one starts with `copy_up`, complete before anybody sees it.
    ///
    /// # Errors
    ///
    /// [`CopyUpError`] when it cannot be made, opened or filled.
    pub fn cache_mount(
        &self,
        spec: &CacheMountSpec,
        sharing: CacheSharing,
        copy_up: Option<CopyUp<'_>>,
    ) -> Result<Option<CacheMount>, CopyUpError> {
        let last = if sharing == CacheSharing::Private { MOST_PRIVATE } else { 1 };
        for number in 0..last {
            let directory = self.root().join("mounts").join(name_of(spec, number));
            if !directory.exists() {
                self.make_cache_mount(&directory, spec, number, copy_up)?;
            }
            if let Some(found) = self.try_cache_mount(&directory, sharing)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn try_cache_mount(&self, directory: &Path, sharing: CacheSharing) -> Result<Option<CacheMount>, FileError> {
        let path = directory.join("lock");
        let _store = StoreLock::shared(self.root())?;
        let lock = match OpenOptions::new().read(true).write(true).custom_flags(no_follow()).open(&path) {
            Ok(lock) => lock,
            // pruned since it was made: whoever asks again makes it anew
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let operation = match sharing {
            CacheSharing::Shared => FlockOperation::NonBlockingLockShared,
            CacheSharing::Private | CacheSharing::Locked => FlockOperation::NonBlockingLockExclusive,
        };
        match sys::flock(&lock, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(failed("lock", &path)(error)),
        }
        rustix::fs::futimens(&lock, &last_used::NOW).map_err(failed("write", &path))?;
        Ok(Some(CacheMount { data: directory.join("data"), _lock: lock }))
    }

    fn make_cache_mount(
        &self,
        directory: &Path,
        spec: &CacheMountSpec,
        number: u32,
        copy_up: Option<CopyUp<'_>>,
    ) -> Result<(), CopyUpError> {
        let scratch = self.scratch("mount")?;
        let made = scratch.make("cache")?;
        let data = scratch.make("cache/data")?;
        if let Some(copy_up) = copy_up {
            copy_up.copy(&data, self.overlay_xattrs()?)?;
        }
        let (uid, gid) = spec.owner;
        std::os::unix::fs::chown(&data, Some(uid), Some(gid)).map_err(failed("change the owner of", &data))?;
        let mode = Permissions::from_mode(spec.mode & 0o7777);
        std::fs::set_permissions(&data, mode).map_err(failed("change the mode of", &data))?;
        let lock = made.join("lock");
        let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock);
        new.map_err(failed("write", &lock))?;
        self.write_record(&made.join("record.json"), &CacheMountRecord { spec: spec.clone(), number })?;
        match std::fs::rename(&made, directory) {
            Ok(()) => Ok(()),
            // somebody else was faster
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {
                Ok(())
            }
            Err(error) => Err(failed("make", directory)(error).into()),
        }
    }

    /// Lists the caches as parts of the build cache.
    pub(crate) fn cache_mount_items(&self) -> Result<Vec<CacheItem>, FileError> {
        let mut items = Vec::new();
        for path in list(&self.root().join("mounts"))? {
            let lock = path.join("lock");
            let record = record::read::<CacheMountRecord>(&path.join("record.json")).ok().flatten();
            let name = record.map_or_else(|| file_name(&path), |record| record.spec.id);
            let is_held = !is_free(&lock)?;
            let item = CacheItem::of_path(CacheItemKind::Mount, name, path, last_used(&lock));
            items.push(CacheItem { is_held, ..item });
        }
        Ok(items)
    }
}

/// Tells whether nobody uses the cache with this lock.
pub(crate) fn is_free(lock: &Path) -> Result<bool, FileError> {
    Ok(void(lock)?.is_some() || !lock.exists())
}

/// Names the directory of a cache: mode and owner are part of it, as with BuildKit.
fn name_of(spec: &CacheMountSpec, number: u32) -> String {
    let record = CacheMountRecord { spec: spec.clone(), number };
    let bytes = serde_json::to_vec(&record).expect("a record has string keys");
    Digest::of(&bytes).hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    use crate::{FreedKind, Prune, PruneCache};

    fn spec(id: &str) -> CacheMountSpec {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        CacheMountSpec { id: id.to_owned(), mode: 0o750, owner }
    }

    fn take(store: &Store, id: &str, sharing: CacheSharing) -> Option<CacheMount> {
        store.cache_mount(&spec(id), sharing, None).unwrap()
    }

    fn stores() -> (tempfile::TempDir, Store, Store) {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (Store::open(directory.path()).unwrap(), Store::open(directory.path()).unwrap());
        (directory, one, two)
    }

    #[test]
    fn a_cache_keeps_what_was_put_into_it() {
        let (_directory, one, two) = stores();
        let cache = take(&one, "/../a", CacheSharing::Shared).unwrap();
        std::fs::write(cache.path().join("x"), "kept").unwrap();
        assert_eq!(std::fs::metadata(cache.path()).unwrap().permissions().mode() & 0o7777, 0o750);
        drop(cache);
        let cache = take(&two, "/../a", CacheSharing::Locked).unwrap();
        assert_eq!(std::fs::read_to_string(cache.path().join("x")).unwrap(), "kept");
        let other = take(&two, "b", CacheSharing::Locked).unwrap();
        assert!(!other.path().join("x").exists());
    }

    #[test]
    fn sharing_says_who_uses_a_cache_at_the_same_time() {
        use CacheSharing::{Locked, Private, Shared};
        let (_directory, one, two) = stores();
        let shared = take(&one, "a", Shared).unwrap();
        let too = take(&two, "a", Shared).unwrap();
        assert_eq!(shared.path(), too.path());
        assert!(take(&two, "a", Locked).is_none(), "others use it");
        let private = take(&two, "a", Private).unwrap();
        assert_ne!(private.path(), shared.path());
        drop((shared, too));
        let locked = take(&one, "a", Locked).unwrap();
        assert!(take(&two, "a", Shared).is_none());
        drop(locked);
        let first = take(&one, "a", Private).unwrap();
        assert_ne!(first.path(), private.path(), "the first is free again");
    }

    #[test]
    fn a_new_cache_is_filled_before_it_is_seen() {
        let (_directory, one, two) = stores();
        let image = tempfile::tempdir().unwrap();
        std::fs::create_dir(image.path().join("d")).unwrap();
        std::fs::write(image.path().join("d/x"), "first").unwrap();
        let fill = Some(CopyUp { rootfs: image.path(), target: Path::new("/d") });
        let cache = one.cache_mount(&spec("a"), CacheSharing::Shared, fill).unwrap().unwrap();
        assert_eq!(std::fs::metadata(cache.path()).unwrap().permissions().mode() & 0o7777, 0o750);
        assert_eq!(std::fs::read_to_string(cache.path().join("x")).unwrap(), "first");
        std::fs::write(cache.path().join("x"), "changed").unwrap();
        drop(cache);
        let again = two.cache_mount(&spec("a"), CacheSharing::Shared, fill).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(again.path().join("x")).unwrap(), "changed");
    }

    #[test]
    fn a_prune_removes_the_caches_that_nobody_uses() {
        let (_directory, one, two) = stores();
        let used = take(&one, "used", CacheSharing::Shared).unwrap();
        let unused = take(&one, "unused", CacheSharing::Shared).unwrap().path().to_owned();
        let kept = Prune { build_cache: PruneCache::All, until: Some(SystemTime::UNIX_EPOCH), ..Prune::default() };
        assert_eq!(two.prune(&kept).unwrap(), []);
        let freed = two.prune(&Prune { build_cache: PruneCache::All, ..Prune::default() }).unwrap();
        let names: Vec<_> = freed.iter().map(|freed| (freed.what, freed.name.as_str())).collect();
        assert_eq!(names, [(FreedKind::CacheMount, "unused")]);
        assert!(used.path().exists() && !unused.exists());
        assert!(take(&one, "unused", CacheSharing::Locked).is_some());
    }
}
