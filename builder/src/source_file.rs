//! One file of a tree, read once and watched: what changes while it is read is an error, not half of two files.
//!
//! - It is opened again without links, and must be the file that was looked at when it was selected.
//! - What it holds is digested from the same bytes that are copied, unless the context index knows the digest.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{FileType, Stat, Timespec};

use crate::content_digest::{Frames, ReadError};
use crate::context_index::{Pass, is_same, now};
use crate::file_tree::{FileEntry, FileTree};

/// Names and values of extended attributes, sorted.
pub(crate) type Xattrs = Vec<(String, Vec<u8>)>;

/// A regular file, open for reading.
#[derive(Debug)]
pub(crate) struct SourceFile<'a> {
    entry: &'a FileEntry,
    file: File,
    began: Timespec,
    /// Bytes that are still to come.
    left: u64,
    /// The digest that is known without reading.
    known: Option<blake3::Hash>,
    hasher: blake3::Hasher,
}

impl<'a> SourceFile<'a> {
    /// Opens a regular file that was selected, and reads the attributes that are copied.
    ///
    /// `known` is the digest of what it holds, if that need not be found.
    pub(crate) fn open(
        tree: &FileTree,
        entry: &'a FileEntry,
        known: Option<blake3::Hash>,
    ) -> Result<(Self, Xattrs), ReadError> {
        let read = |source| ReadError { path: entry.path.clone(), source };
        let began = now();
        let file = tree.open_file(&entry.path).map_err(read)?;
        let stat = fstat(&file).map_err(read)?;
        expect_unchanged(entry, &stat)?;
        let known = known.filter(|_| is_same(&entry.stat, &stat));
        let xattrs = copied_xattrs(&file).map_err(read)?;
        let left = entry.size();
        Ok((Self { entry, file, began, left, known, hasher: blake3::Hasher::new() }, xattrs))
    }

    /// Reads what is left of it.
    pub(crate) fn skim(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        while self.read(buffer).map_err(|source| ReadError { path: self.entry.path.clone(), source })? > 0 {}
        Ok(())
    }

    /// Ends reading: returns the digest of what the file holds, which `pass` may learn.
    pub(crate) fn finish(self, xattrs: &Xattrs, pass: &mut Pass<'_>) -> Result<blake3::Hash, ReadError> {
        let after = fstat(&self.file).map_err(|source| ReadError { path: self.entry.path.clone(), source })?;
        expect_unchanged(self.entry, &after)?;
        if let Some(known) = self.known {
            // whoever restores the time of a file that he wrote changes its ctime
            return if is_same(&self.entry.stat, &after) { Ok(known) } else { Err(changed_entry(self.entry)) };
        }
        let digest = holding(Some(self.hasher.finalize()), b"", xattrs);
        pass.learn(self.entry, self.began, &after, digest);
        Ok(digest)
    }
}

impl Read for SourceFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(changed());
        }
        if self.known.is_none() {
            self.hasher.update(&buffer[..count]);
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Returns the digest of what an entry holds, reading it if `pass` does not know it; `None` for what holds nothing.
pub(crate) fn holding_of(
    tree: &FileTree,
    entry: &FileEntry,
    pass: &mut Pass<'_>,
    buffer: &mut [u8],
) -> Result<Option<blake3::Hash>, ReadError> {
    match entry.kind() {
        FileType::RegularFile | FileType::Symlink => {}
        FileType::Directory if !entry.xattrs.is_empty() => return Ok(Some(holding(None, b"", &entry.xattrs))),
        _ => return Ok(None),
    }
    if let Some(known) = pass.known(entry) {
        return Ok(Some(known));
    }
    if entry.kind() == FileType::Symlink {
        return link(tree, entry, pass).map(|(_, digest)| Some(digest));
    }
    let (mut file, xattrs) = SourceFile::open(tree, entry, None)?;
    file.skim(buffer)?;
    file.finish(&xattrs, pass).map(Some)
}

/// Reads a link's target and its digest.
pub(crate) fn link(
    tree: &FileTree,
    entry: &FileEntry,
    pass: &mut Pass<'_>,
) -> Result<(PathBuf, blake3::Hash), ReadError> {
    let read = |source| ReadError { path: entry.path.clone(), source };
    let began = now();
    let (target, stat) = tree.link_target(&entry.path).map_err(read)?;
    expect_unchanged(entry, &stat)?;
    let digest = holding(None, target.as_os_str().as_bytes(), &Vec::new());
    pass.learn(entry, began, &stat, digest);
    Ok((target, digest))
}

/// The digest of bytes, link target and attributes.
fn holding(content: Option<blake3::Hash>, target: &[u8], xattrs: &Xattrs) -> blake3::Hash {
    let mut frames = Frames::default();
    frames.add(content.as_ref().map_or(b"", |content| content.as_bytes()));
    frames.add(target);
    for (name, value) in xattrs {
        frames.add(name.as_bytes());
        frames.add(value);
    }
    blake3::hash(frames.bytes())
}

/// Checks that an entry is still the file that was selected, with the same bytes as far as its times tell.
fn expect_unchanged(entry: &FileEntry, stat: &Stat) -> Result<(), ReadError> {
    let facts = |stat: &Stat| {
        (
            stat.st_dev,
            stat.st_ino,
            FileType::from_raw_mode(stat.st_mode),
            stat.st_size,
            stat.st_mtime,
            stat.st_mtime_nsec,
        )
    };
    if facts(stat) == facts(&entry.stat) {
        return Ok(());
    }
    Err(changed_entry(entry))
}

fn changed_entry(entry: &FileEntry) -> ReadError {
    ReadError { path: entry.path.clone(), source: changed() }
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read")
}

fn fstat(file: &File) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(file)?)
}

/// Reads the attributes that belong to what is copied: the user's own and a file's capabilities.
pub(crate) fn copied_xattrs(file: &impl AsFd) -> io::Result<Xattrs> {
    let mut names = [0_u8; 1024];
    let length = match rustix::fs::flistxattr(file.as_fd(), &mut names[..]) {
        Ok(0) | Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => return named_xattrs(file, &names[..length]),
        Err(rustix::io::Errno::RANGE) => 64 << 10,
        Err(error) => return Err(error.into()),
    };
    // no list of names is longer
    let mut names = vec![0_u8; length];
    let length = rustix::fs::flistxattr(file.as_fd(), &mut names[..])?;
    named_xattrs(file, &names[..length])
}

fn named_xattrs(file: &impl AsFd, names: &[u8]) -> io::Result<Xattrs> {
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        let is_copied = name.starts_with("user.") && !name.starts_with("user.overlay.");
        if is_copied || name == "security.capability" {
            let mut value = vec![0_u8; 64 << 10];
            let length = rustix::fs::fgetxattr(file.as_fd(), name, &mut value[..])?;
            value.truncate(length);
            xattrs.push((name.to_owned(), value));
        }
    }
    xattrs.sort();
    Ok(xattrs)
}
