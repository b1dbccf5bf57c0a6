//! The header of one entry: a ustar block, and a PAX header before it for what does not fit.
//!
//! | field | fits in ustar when | else |
//! |---|---|---|
//! | path | at most 100 bytes, or split at a slash into a prefix of at most 155 and a name of at most 100 | PAX `path` |
//! | link target | at most 100 bytes | PAX `linkpath` |
//! | uid, gid | below 2^21 | PAX `uid`, `gid`; 0 in the header |
//! | size | below 2^33 | PAX `size`; 0 in the header |
//! | mtime | whole seconds from 0 to 2^33 - 1 | PAX `mtime`, to the nanosecond without trailing zeros; cut to that range in the header |
//! | extended attributes | never | PAX `SCHILY.xattr.<name>` |
//!
//! The PAX records stand in this order of this table. The PAX header itself is called `././@PaxHeader`, has mode 0644, and
//! zero for everything else.

use rustix::fs::{self, FileType, Stat};

use crate::sys::{self, Time, Xattrs};

pub(crate) const BLOCK: usize = 512;
const MAX_ID: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;
const NAME: usize = 100;
const PREFIX: usize = 155;

/// What an entry's header says.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) xattrs: Xattrs,
    /// The type flag.
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    pub(crate) device: (u32, u32),
}

impl Header {
    /// The header of an empty file of owner 0 and time 0: a whiteout.
    pub(crate) fn file(path: &[u8]) -> Self {
        Self { path: path.to_vec(), kind: b'0', mode: 0o644, ..Self::default() }
    }

    /// The header of what `stat` tells, still without names and extended attributes.
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = sys::kind(stat);
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let is_file = kind == FileType::RegularFile;
        Self {
            kind: type_flag(kind),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            modified: sys::modified(stat),
            device: if is_device { (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)) } else { (0, 0) },
            ..Self::default()
        }
    }

    /// Makes this the header of a further name of `first`.
    pub(crate) fn link_to(&mut self, first: Vec<u8>) {
        (self.kind, self.size, self.device) = (b'1', 0, (0, 0));
        self.link = first;
    }

    /// Returns the blocks of the header, with those of its PAX header before.
    pub(crate) fn blocks(&self) -> Vec<u8> {
        let (prefix, name, is_whole) = split(&self.path);
        let mut blocks = Vec::new();
        let records = self.records(!is_whole);
        if !records.is_empty() {
            let pax = Self { kind: b'x', mode: 0o644, size: records.len() as u64, ..Self::default() };
            blocks.extend(pax.block(b"", b"././@PaxHeader"));
            blocks.extend(&records);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        blocks.extend(self.block(prefix, name));
        blocks
    }

    fn records(&self, has_path: bool) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| records.extend(record(key, value));
        if has_path {
            add(b"path", &self.path);
        }
        if self.link.len() > NAME {
            add(b"linkpath", &self.link);
        }
        if self.uid > MAX_ID {
            add(b"uid", self.uid.to_string().as_bytes());
        }
        if self.gid > MAX_ID {
            add(b"gid", self.gid.to_string().as_bytes());
        }
        if self.size > MAX_SIZE {
            add(b"size", self.size.to_string().as_bytes());
        }
        if self.modified.nanoseconds != 0
            || u64::try_from(self.modified.seconds).is_ok_and(|s| s > MAX_SIZE)
            || self.modified.seconds < 0
        {
            add(b"mtime", decimal(self.modified).as_bytes());
        }
        for (name, value) in &self.xattrs {
            add(&[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        records
    }

    fn block(&self, prefix: &[u8], name: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let id = |id: u32| u64::from(if id > MAX_ID { 0 } else { id });
        let seconds = u64::try_from(self.modified.seconds).unwrap_or(0).min(MAX_SIZE);
        put(&mut block, 0, name);
        octal(&mut block, 100, 8, self.mode.into());
        octal(&mut block, 108, 8, id(self.uid));
        octal(&mut block, 116, 8, id(self.gid));
        octal(&mut block, 124, 12, if self.size > MAX_SIZE { 0 } else { self.size });
        octal(&mut block, 136, 12, seconds);
        put(&mut block, 148, b"        ");
        put(&mut block, 156, &[self.kind]);
        put(&mut block, 157, &self.link[..self.link.len().min(NAME)]);
        put(&mut block, 257, b"ustar\x0000");
        octal(&mut block, 329, 8, self.device.0.into());
        octal(&mut block, 337, 8, self.device.1.into());
        put(&mut block, 345, prefix);
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        put(&mut block, 148, format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

fn type_flag(kind: FileType) -> u8 {
    match kind {
        FileType::Symlink => b'2',
        FileType::CharacterDevice => b'3',
        FileType::BlockDevice => b'4',
        FileType::Directory => b'5',
        FileType::Fifo => b'6',
        _ => b'0',
    }
}

/// Splits a path into ustar's prefix and name; false when it does not fit, and is cut.
fn split(path: &[u8]) -> (&[u8], &[u8], bool) {
    if path.len() <= NAME {
        return (b"", path, true);
    }
    // the name may be a directory's, whose last slash splits nothing
    let last = path.len() - 1;
    let slashes = path[..last].iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let fitting = slashes.filter(|at| *at > 0 && *at <= PREFIX && last - at <= NAME).max();
    match fitting {
        Some(slash) => (&path[..slash], &path[slash + 1..], true),
        None => (b"", &path[..NAME], false),
    }
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Writes `width - 1` octal digits and a NUL.
fn octal(block: &mut [u8; BLOCK], at: usize, width: usize, value: u64) {
    put(block, at, format!("{value:0digits$o}", digits = width - 1).as_bytes());
}

/// Makes a PAX record, whose length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn decimal(time: Time) -> String {
    // -1.5 is second -2 and half a second after it
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, nanoseconds) => ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
        (false, nanoseconds) => ("", time.seconds.unsigned_abs(), nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_length_counts_itself() {
        assert_eq!(record(b"path", b"foo/bar.txt"), b"20 path=foo/bar.txt\n");
        for length in [1, 90, 91, 92, 93, 990, 991, 992] {
            let bytes = record(b"key", &vec![b'x'; length]);
            let stated: usize = String::from_utf8_lossy(&bytes).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, bytes.len());
        }
    }

    #[test]
    fn times_are_written_as_decimals() {
        let cases = [
            (0, 1, "0.000000001"),
            (12, 500_000_000, "12.5"),
            (-2, 500_000_000, "-1.5"),
            (-1, 750_000_000, "-0.25"),
            (-10, 0, "-10"),
        ];
        for (seconds, nanoseconds, text) in cases {
            assert_eq!(decimal(Time { seconds, nanoseconds }), text);
        }
    }

    #[test]
    fn a_path_is_split_only_where_it_must_and_can() {
        let long = |length: usize| "x".repeat(length);
        let check = |path: String, prefix: usize, name: usize, is_whole: bool| {
            let (a, b, c) = split(path.as_bytes());
            assert_eq!((a.len(), b.len(), c), (prefix, name, is_whole), "{path}");
        };
        check(long(100), 0, 100, true);
        check(long(101), 0, 100, false);
        check(format!("{}/{}", long(50), long(60)), 50, 60, true);
        check(format!("{}/{}", long(155), long(100)), 155, 100, true);
        check(format!("{}/{}", long(156), long(60)), 0, 100, false);
        check(format!("{}/{}/", long(90), long(60)), 90, 61, true);
        check(format!("{}/{}/", long(90), long(100)), 0, 100, false);
    }
}
