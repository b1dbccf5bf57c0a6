//! When something of the build cache was last used: the time of its file, which whoever uses it renews.
//!
//! - At most once a minute, so that a build that finds everything in the cache writes next to nothing.
//! - No more than a hint for prunes: where it cannot be written it stays as it is.

use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};

/// Uses that follow each other so soon are one.
const STEP: Duration = Duration::from_secs(60);

/// Now, as the file system writes it.
pub(crate) const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
};

/// Notes that the file was used.
pub(crate) fn note_use(path: &Path) {
    if is_due(last_used(path), SystemTime::now()) {
        let _a_hint = rustix::fs::utimensat(CWD, path, &NOW, AtFlags::SYMLINK_NOFOLLOW);
    }
}

/// Returns when the file was last used; `None` when it is not there.
pub(crate) fn last_used(path: &Path) -> Option<SystemTime> {
    std::fs::symlink_metadata(path).and_then(|metadata| Metadata::modified(&metadata)).ok()
}

/// Tells whether a use `now` is noted; a time to come counts as none.
fn is_due(last_used: Option<SystemTime>, now: SystemTime) -> bool {
    last_used.is_some_and(|time| now.duration_since(time).map_or(true, |age| age >= STEP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_at_most_once_a_minute() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (age, expected) in [(0, false), (59, false), (60, true), (900, true)] {
            assert_eq!(is_due(Some(now - Duration::from_secs(age)), now), expected, "{age} s");
        }
        assert!(is_due(Some(now + STEP), now), "a clock that was wrong is put right");
        assert!(!is_due(None, now));
    }

    #[test]
    fn the_time_of_a_file_is_that_of_its_last_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("record");
        std::fs::write(&path, "").unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        std::fs::File::open(&path).unwrap().set_modified(old).unwrap();
        assert_eq!(last_used(&path), Some(old));
        note_use(&path);
        assert!(last_used(&path).is_some_and(|time| time > old + STEP));
        note_use(&directory.path().join("gone"));
        assert_eq!(last_used(&directory.path().join("gone")), None);
    }
}
