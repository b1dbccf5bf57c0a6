//! The context index: digests of the files of a build context, so that what did not change is not read again.
//!
//! ```text
//! magic │ count │ count × (digest, stamp, start of the path, age) │ paths │ BLAKE3 of all before
//! ```
//!
//! | rule | why |
//! |---|---|
//! | an entry counts only for a file with its stamp: size, mtime, ctime, device, inode, mode | anything that changes bytes or attributes changes the ctime |
//! | a file is noted only if its mtime and ctime are older than its reading by more than the clock's steps ([`is_settled`]) | a write in the same step would leave the same times |
//! | and only if it had the same stamp after it was read | it may have been written meanwhile |
//! | an index that is not whole is an empty one | it can be lost without harm |
//! | an entry that was not asked for while the index was written anew eight times is dropped | files come and go |
//!
//! Entries stand in the order of a walk, so that who asks in this order never searches. A stamp's ctime cannot be set by who
//! owns the file, but it comes from the clock of the file system: one whose clock lags behind this machine's is not caught.
//!
//! Not here: reading files (`content_digest.rs`, `copy.rs`), where the index is kept (the store).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Stat, Timespec};

use crate::file_tree::FileEntry;

const MAGIC: &[u8; 16] = b"wharf-context-1\n";
const HEADER: usize = MAGIC.len() + 4;
const DIGEST: usize = blake3::OUT_LEN;
const STAMP: usize = 52;
const RECORD: usize = DIGEST + STAMP + 4 + 1;
const MAX_AGE: u8 = 8;

/// What tells that a file did not change.
type Stamp = [u8; STAMP];

/// What is known of the files of one build context, and what was learnt of them since.
#[derive(Debug)]
pub(crate) struct ContextIndex {
    bytes: Vec<u8>,
    count: usize,
    news: Mutex<News>,
}

/// What came up since an index was read.
#[derive(Debug, Default)]
struct News {
    used: Vec<usize>,
    learnt: BTreeMap<Vec<u8>, (Stamp, blake3::Hash)>,
}

/// One pass over a context's files; what it learnt enters the index when it is dropped.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    index: Option<&'a ContextIndex>,
    cursor: usize,
    news: News,
}

impl ContextIndex {
    /// Reads an index; one that is not whole is empty.
    pub(crate) fn read(bytes: Vec<u8>) -> Self {
        let count = check(&bytes).unwrap_or(0);
        Self { bytes, count, news: Mutex::default() }
    }

    /// Returns the index with what was learnt, to be kept; `None` when nothing was.
    pub(crate) fn updated(&self) -> Option<Vec<u8>> {
        let mut news = std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner));
        if news.learnt.is_empty() {
            return None;
        }
        let mut is_used = vec![false; self.count];
        news.used.iter().for_each(|at| is_used[*at] = true);
        let mut entries: Vec<Entry<'_>> = Vec::with_capacity(self.count + news.learnt.len());
        for (at, is_used) in is_used.iter().enumerate() {
            let entry = self.entry(at);
            let age = if *is_used { 0 } else { entry.age.saturating_add(1) };
            if age <= MAX_AGE && !news.learnt.contains_key(entry.path) {
                entries.push(Entry { age, ..entry });
            }
        }
        let learnt = std::mem::take(&mut news.learnt);
        let learnt = learnt.iter().map(|(path, (stamp, digest))| Entry { path, stamp, digest: *digest, age: 0 });
        entries.extend(learnt);
        entries.sort_by(|a, b| walk_order(a.path, b.path));
        Some(write(&entries))
    }

    fn record(&self, at: usize) -> &[u8] {
        &self.bytes[HEADER + at * RECORD..][..RECORD]
    }

    fn path(&self, at: usize) -> &[u8] {
        let paths = &self.bytes[HEADER + self.count * RECORD..self.bytes.len() - DIGEST];
        let end = if at + 1 < self.count { start(self.record(at + 1)) } else { paths.len() };
        &paths[start(self.record(at))..end]
    }

    fn entry(&self, at: usize) -> Entry<'_> {
        let record = self.record(at);
        let stamp = record[DIGEST..].first_chunk().expect("a record holds a stamp");
        Entry { path: self.path(at), stamp, digest: digest(record), age: record[RECORD - 1] }
    }

    /// Finds the entry of a path, which is where a walk would find it next if `cursor` is right.
    fn find(&self, path: &[u8], cursor: usize) -> Result<usize, usize> {
        if cursor < self.count && self.path(cursor) == path {
            return Ok(cursor);
        }
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match walk_order(self.path(middle), path) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }
}

impl<'a> Pass<'a> {
    /// Begins a pass; without an index nothing is known and nothing is learnt.
    pub(crate) fn new(index: Option<&'a ContextIndex>) -> Self {
        Self { index, cursor: 0, news: News::default() }
    }

    /// Returns the digest of a file that did not change since it was noted.
    pub(crate) fn known(&mut self, entry: &FileEntry) -> Option<blake3::Hash> {
        let index = self.index?;
        let found = index.find(entry.path.as_os_str().as_bytes(), self.cursor);
        self.cursor = found.map_or_else(|next| next, |at| at + 1);
        let at = found.ok()?;
        let record = index.record(at);
        if record[DIGEST..][..STAMP] != stamp(&entry.stat) {
            return None;
        }
        self.news.used.push(at);
        Some(digest(record))
    }

    /// Notes what was read of a file, if it may be believed: `began` is before its reading, `after` what it was then.
    pub(crate) fn learn(&mut self, entry: &FileEntry, began: Timespec, after: &Stat, digest: blake3::Hash) {
        if self.index.is_some() && is_same(after, &entry.stat) && is_settled(after, began) {
            self.news.learnt.insert(entry.path.as_os_str().as_bytes().to_vec(), (stamp(after), digest));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            let mut news = index.news.lock().unwrap_or_else(PoisonError::into_inner);
            news.used.append(&mut self.news.used);
            news.learnt.append(&mut self.news.learnt);
        }
    }
}

/// Returns the moment from which a reading that starts now counts.
pub(crate) fn now() -> Timespec {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime)
}

/// Tells whether nothing says that a file changed between the two looks at it.
pub(crate) fn is_same(a: &Stat, b: &Stat) -> bool {
    stamp(a) == stamp(b)
}

/// Tells whether a file's times are so old that a write after `began` gives it others.
///
/// Linux takes them from a clock that moves with the timer, every 1 to 10 ms; file systems without fractions of a second have
/// steps of one second, or two (FAT).
pub(crate) fn is_settled(stat: &Stat, began: Timespec) -> bool {
    let times = [(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)), (stat.st_ctime, nanoseconds(stat.st_ctime_nsec))];
    let is_whole = times.iter().any(|(_, fraction)| *fraction == 0);
    let step = if is_whole { 2_000_000_000 } else { 20_000_000 };
    let began = nanoseconds_of(began.tv_sec, nanoseconds(began.tv_nsec));
    times.iter().all(|(seconds, fraction)| nanoseconds_of(*seconds, *fraction) < began - step)
}

fn nanoseconds(fraction: impl TryInto<u32>) -> u32 {
    fraction.try_into().unwrap_or_default()
}

fn nanoseconds_of(seconds: i64, fraction: u32) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(fraction)
}

fn stamp(stat: &Stat) -> Stamp {
    let mut stamp = [0; STAMP];
    stamp[0..8].copy_from_slice(&stat.st_size.to_le_bytes());
    stamp[8..16].copy_from_slice(&stat.st_mtime.to_le_bytes());
    stamp[16..20].copy_from_slice(&nanoseconds(stat.st_mtime_nsec).to_le_bytes());
    stamp[20..28].copy_from_slice(&stat.st_ctime.to_le_bytes());
    stamp[28..32].copy_from_slice(&nanoseconds(stat.st_ctime_nsec).to_le_bytes());
    stamp[32..40].copy_from_slice(&stat.st_ino.to_le_bytes());
    stamp[40..48].copy_from_slice(&stat.st_dev.to_le_bytes());
    stamp[48..52].copy_from_slice(&stat.st_mode.to_le_bytes());
    stamp
}

struct Entry<'a> {
    path: &'a [u8],
    stamp: &'a Stamp,
    digest: blake3::Hash,
    age: u8,
}

fn digest(record: &[u8]) -> blake3::Hash {
    blake3::Hash::from_bytes(*record.first_chunk().expect("a record holds a digest"))
}

fn start(record: &[u8]) -> usize {
    number(&record[DIGEST + STAMP..])
}

fn number(bytes: &[u8]) -> usize {
    let bytes = *bytes.first_chunk().expect("a number has four bytes");
    usize::try_from(u32::from_le_bytes(bytes)).expect("this machine addresses more than 32 bits")
}

/// Returns the number of entries if `bytes` is a whole index.
fn check(bytes: &[u8]) -> Option<usize> {
    let (all, digest) = bytes.split_last_chunk::<DIGEST>()?;
    if !all.starts_with(MAGIC) || all.len() < HEADER || blake3::hash(all) != blake3::Hash::from_bytes(*digest) {
        return None;
    }
    let count = number(&all[MAGIC.len()..]);
    let (records, paths) = all[HEADER..].split_at_checked(count.checked_mul(RECORD)?)?;
    let mut before = 0;
    for record in records.chunks_exact(RECORD) {
        if start(record) < before {
            return None;
        }
        before = start(record);
    }
    (before <= paths.len()).then_some(count)
}

fn write(entries: &[Entry<'_>]) -> Vec<u8> {
    let paths: usize = entries.iter().map(|entry| entry.path.len()).sum();
    let mut bytes = Vec::with_capacity(HEADER + entries.len() * RECORD + paths + DIGEST);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(0).to_le_bytes());
    let mut start = 0_u32;
    for entry in entries {
        bytes.extend_from_slice(entry.digest.as_bytes());
        bytes.extend_from_slice(entry.stamp);
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.push(entry.age);
        // what does not fit makes an index that is not whole, which is an empty one
        start = start.saturating_add(u32::try_from(entry.path.len()).unwrap_or(u32::MAX));
    }
    entries.iter().for_each(|entry| bytes.extend_from_slice(entry.path));
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// Compares paths as a walk meets them: what is in a directory comes right after it.
fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    let differing = a.iter().zip(b).find(|(a, b)| a != b);
    differing.map_or_else(|| a.len().cmp(&b.len()), |(a, b)| rank(*a).cmp(&rank(*b)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    use super::*;

    const NOW: Timespec = Timespec { tv_sec: 1_000_000, tv_nsec: 500 };

    /// A file of a size whose times are so many nanoseconds before [`NOW`].
    fn entry(path: &str, size: i64, age: i64) -> FileEntry {
        let mut stat = rustix::fs::stat("/").unwrap();
        let at = NOW.tv_sec * 1_000_000_000 + NOW.tv_nsec - age;
        (stat.st_size, stat.st_mtime, stat.st_ctime) = (size, at / 1_000_000_000, at / 1_000_000_000);
        let fraction = at % 1_000_000_000;
        (stat.st_mtime_nsec, stat.st_ctime_nsec) = (fraction.try_into().unwrap(), fraction.try_into().unwrap());
        FileEntry { path: PathBuf::from(path), stat, xattrs: Vec::new() }
    }

    const OLD: i64 = 60_000_000_001;

    fn index_of(paths: &[&str]) -> ContextIndex {
        let index = ContextIndex::read(Vec::new());
        learn(&index, paths);
        ContextIndex::read(index.updated().unwrap())
    }

    fn learn(index: &ContextIndex, paths: &[&str]) {
        let mut pass = Pass::new(Some(index));
        for path in paths {
            let entry = entry(path, 1, OLD);
            pass.learn(&entry, NOW, &entry.stat, blake3::hash(path.as_bytes()));
        }
    }

    fn known(index: &ContextIndex, entries: &[FileEntry]) -> Vec<bool> {
        let mut pass = Pass::new(Some(index));
        let known = |entry: &FileEntry| {
            let digest = pass.known(entry);
            let path = entry.path.as_os_str().as_bytes();
            assert!(digest.is_none_or(|digest| digest == blake3::hash(path)), "{path:?} got the digest of another");
            digest.is_some()
        };
        entries.iter().map(known).collect()
    }

    #[test]
    fn files_are_found_in_any_order() {
        let paths = ["a", "a.txt", "a/b", "a/b.c", "a/b/c", "z\u{ff}", "0"];
        let index = index_of(&paths);
        let entries: Vec<_> = paths.iter().map(|path| entry(path, 1, OLD)).collect();
        assert_eq!(known(&index, &entries), [true; 7]);
        let backwards: Vec<_> = entries.into_iter().rev().collect();
        assert_eq!(known(&index, &backwards), [true; 7]);
        assert_eq!(known(&index, &["", "b", "a/", "zz"].map(|path| entry(path, 1, OLD))), [false; 4]);
    }

    #[test]
    fn a_file_with_any_other_fact_is_not_known() {
        let index = index_of(&["f"]);
        let changes: [fn(&mut Stat); 8] = [
            |stat| stat.st_size += 1,
            |stat| stat.st_mtime += 1,
            |stat| stat.st_mtime_nsec += 1,
            |stat| stat.st_ctime += 1,
            |stat| stat.st_ctime_nsec += 1,
            |stat| stat.st_ino += 1,
            |stat| stat.st_dev += 1,
            |stat| stat.st_mode ^= 1,
        ];
        for change in changes {
            let mut entry = entry("f", 1, OLD);
            assert_eq!(known(&index, std::slice::from_ref(&entry)), [true]);
            change(&mut entry.stat);
            assert_eq!(known(&index, &[entry]), [false]);
        }
    }

    #[test]
    fn a_file_is_noted_only_when_its_times_are_old_enough_and_it_stayed_as_it_was() {
        let noted = |age: i64, change: fn(&mut Stat)| {
            let index = ContextIndex::read(Vec::new());
            let entry = entry("f", 1, age);
            let mut after = entry.stat;
            change(&mut after);
            Pass::new(Some(&index)).learn(&entry, NOW, &after, blake3::hash(b""));
            index.updated().is_some()
        };
        let same: fn(&mut Stat) = |_| {};
        assert!(noted(30_000_000, same));
        assert!(!noted(10_000_000, same));
        assert!(!noted(-OLD, same), "a time to come is no old one");
        // a fraction of zero may be a file system without fractions
        assert!(!noted(500 + 1_000_000_000, same));
        assert!(noted(500 + 3_000_000_000, same));
        assert!(!noted(OLD, |stat| stat.st_ctime_nsec += 1));
        assert!(!noted(OLD, |stat| stat.st_size += 1));
    }

    #[test]
    fn an_index_that_is_not_whole_is_empty() {
        let whole = index_of(&["a", "b/c"]).bytes;
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            assert_eq!(ContextIndex::read(broken).count, 0, "byte {at}");
            assert_eq!(ContextIndex::read(whole[..at].to_vec()).count, 0, "cut at {at}");
        }
        let claims = |count: u32, starts: &[u32]| {
            let mut bytes = [&MAGIC[..], &count.to_le_bytes()].concat();
            for start in starts {
                bytes.extend([&[0; DIGEST + STAMP][..], &start.to_le_bytes(), &[0]].concat());
            }
            bytes.extend(b"paths");
            let digest = blake3::hash(&bytes);
            ContextIndex::read([&bytes[..], digest.as_bytes()].concat()).count
        };
        assert_eq!(claims(2, &[0, 5]), 2);
        assert_eq!([claims(3, &[0, 5]), claims(2, &[0, 6]), claims(2, &[3, 2]), claims(u32::MAX, &[])], [0; 4]);
    }

    #[test]
    fn what_nobody_asks_for_is_dropped_after_a_while() {
        let mut index = index_of(&["asked", "forgotten"]);
        for round in 0..10 {
            assert_eq!(known(&index, &[entry("asked", 1, OLD)]), [true]);
            learn(&index, &[&format!("new{round}")]);
            index = ContextIndex::read(index.updated().unwrap());
        }
        assert_eq!(known(&index, &["asked", "forgotten"].map(|path| entry(path, 1, OLD))), [true, false]);
        assert_eq!(index.updated(), None);
    }

    #[test]
    fn a_write_that_races_with_reading_is_never_missed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let file = std::fs::File::create(&path).unwrap();
        let stat = || rustix::fs::stat(&path).unwrap();
        let look = || FileEntry { path: PathBuf::from("f"), stat: stat(), xattrs: Vec::new() };
        for round in 0..40_u32 {
            file.write_all_at(&round.to_le_bytes(), 0).unwrap();
            let index = ContextIndex::read(Vec::new());
            // the first moment at which it may be noted is the one at which a write could be missed
            let bytes = loop {
                let (entry, began) = (look(), now());
                let digest = blake3::hash(&std::fs::read(Path::new(&path)).unwrap());
                Pass::new(Some(&index)).learn(&entry, began, &look().stat, digest);
                if let Some(bytes) = index.updated() {
                    break bytes;
                }
            };
            file.write_all_at(&(!round).to_le_bytes(), 0).unwrap();
            let index = ContextIndex::read(bytes);
            assert_eq!(Pass::new(Some(&index)).known(&look()), None, "round {round}");
        }
    }
}
