//! Reads an index without mounting it.
//!
//! | in the index | what it means for a path |
//! |---|---|
//! | nothing there | [`Found::Nothing`]; below an opaque directory [`Found::Hidden`] |
//! | a whiteout at the path or above it, or something above it that is no directory | [`Found::Hidden`] |
//! | a directory | with whether one above it is opaque; whether it is only implied is in the layer's record |
//!
//! Only what `image` writes is read. Bytes that are damaged end in an error of the kind `InvalidData`, never in a panic, and take no
//! more memory than the index has bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::format::{
    BLOCK, BLOCK_SIZE, DIRENT, HEAD, INODE, INODES, Inode, Layout, NO_BLOCK, SLOT, Superblock, XATTR_HEADER,
    chunk_bits, kind, u16_at, u32_at, u64_at,
};
use super::xattrs::PREFIXES;
use crate::apply::meaning::PATH_MAX;
use crate::implied::Metadata;
use crate::overlay::is_overlay_private;
use crate::sys::Xattrs;

/// An index that is looked into.
#[derive(Debug)]
pub(crate) struct IndexFile {
    file: File,
    size: u64,
    superblock: Superblock,
}

/// What an index says of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    /// There is nothing, and what lower layers have is hidden.
    Hidden,
    File(Indexed),
    /// `is_hidden_below`: one of its parents is opaque in this layer.
    Directory {
        file: Indexed,
        is_hidden_below: bool,
    },
}

/// A file of an index.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// Its attributes are sorted by name, and without overlay's own.
    pub(crate) metadata: Metadata,
    pub(crate) kind: IndexedKind,
}

/// The kinds of files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IndexedKind {
    Directory,
    File { size: u64 },
    Symlink { target: Vec<u8> },
    Other,
}

/// An inode and where it is.
struct Located {
    inode: Inode,
    offset: u64,
}

/// Where a path leads.
enum Reached {
    Nothing,
    Hidden,
    There { file: Located, is_hidden_below: bool },
}

impl IndexFile {
    /// Opens an index; the file stays open, and is read as it is asked for.
    pub(crate) fn open(file: &File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut head = [0; HEAD];
        if size < HEAD as u64 {
            return Err(damaged("it is too short"));
        }
        file.read_exact_at(&mut head, 0)?;
        let superblock = Superblock::decode(&head).ok_or_else(|| damaged("its superblock is not one of an index"))?;
        if u64::from(superblock.blocks) * BLOCK != size {
            return Err(damaged("it does not have the size that it tells"));
        }
        Ok(Self { file: file.try_clone()?, size, superblock })
    }

    /// Looks at a clean path relative to the root; the empty one is the root.
    pub(crate) fn look(&self, path: &[u8]) -> io::Result<Found> {
        let (file, is_hidden_below) = match self.reach(path)? {
            Reached::Nothing => return Ok(Found::Nothing),
            Reached::Hidden => return Ok(Found::Hidden),
            Reached::There { file, is_hidden_below } => (file, is_hidden_below),
        };
        let kind = match file.inode.mode & kind::MASK {
            kind::DIRECTORY => IndexedKind::Directory,
            kind::FILE => IndexedKind::File { size: file.inode.size },
            kind::SYMLINK => IndexedKind::Symlink { target: self.target(&file)? },
            kind::CHARACTER if file.inode.start == 0 => return Ok(Found::Hidden),
            kind::CHARACTER | kind::BLOCK | kind::FIFO => IndexedKind::Other,
            _ => return Err(damaged("a file is of no kind")),
        };
        let mut xattrs = self.xattrs(&file)?;
        xattrs.retain(|(name, _)| !is_overlay_private(name));
        xattrs.sort_unstable();
        let Inode { mode, uid, gid, modified, .. } = file.inode;
        if modified.nanoseconds >= 1_000_000_000 {
            return Err(damaged("a time is none"));
        }
        let metadata = Metadata { mode: u32::from(mode & 0o7777), uid, gid, modified, xattrs };
        Ok(match kind {
            IndexedKind::Directory => Found::Directory { file: Indexed { metadata, kind }, is_hidden_below },
            kind => Found::File(Indexed { metadata, kind }),
        })
    }

    /// Tells where the content of the regular file at a path is: its offset in the file, its offset in the tar, and its bytes,
    /// in order. What is between is a hole.
    pub(crate) fn content(&self, path: &[u8]) -> io::Result<Vec<(u64, u64, u64)>> {
        let Reached::There { file, .. } = self.reach(path)? else { return Err(io::ErrorKind::NotFound.into()) };
        let Inode { layout, size, start, mode, .. } = file.inode;
        match (mode & kind::MASK, layout) {
            (kind::FILE, Layout::Plain) if size == 0 => Ok(Vec::new()),
            (kind::FILE, Layout::Chunks) => {
                let bits = chunk_bits(start).ok_or_else(|| damaged("a file's chunks have no size"))?;
                self.chunks(&file, BLOCK << bits)
            }
            (kind::FILE, _) => Err(damaged("a file is not in the tar")),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn reach(&self, path: &[u8]) -> io::Result<Reached> {
        let mut file = self.inode(self.superblock.root.into())?;
        if file.inode.mode & kind::MASK != kind::DIRECTORY {
            return Err(damaged("its root is no directory"));
        }
        let mut is_hidden_below = false;
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            let found = if matches!(name, b"." | b"..") { None } else { self.find(&file, name)? };
            file = match found {
                None if is_hidden_below => return Ok(Reached::Hidden),
                None => return Ok(Reached::Nothing),
                Some(nid) => self.inode(nid)?,
            };
            if names.peek().is_some() {
                if file.inode.mode & kind::MASK != kind::DIRECTORY {
                    return Ok(Reached::Hidden);
                }
                is_hidden_below |= self.is_opaque(&file)?;
            }
        }
        Ok(Reached::There { file, is_hidden_below })
    }

    fn is_opaque(&self, directory: &Located) -> io::Result<bool> {
        Ok(self.xattrs(directory)?.iter().any(|(name, value)| name == b"trusted.overlay.opaque" && value == b"y"))
    }

    fn inode(&self, nid: u64) -> io::Result<Located> {
        let offset = nid.checked_mul(SLOT).filter(|offset| *offset >= INODES);
        let offset = offset.ok_or_else(|| damaged("a file is where none can be"))?;
        let bytes = self.read(offset, INODE)?;
        let inode = bytes.first_chunk().and_then(Inode::decode);
        Ok(Located { inode: inode.ok_or_else(|| damaged("a file is described in a way that is not known"))?, offset })
    }

    /// Finds a name in a directory: first the block that it would be in, then its place there.
    fn find(&self, directory: &Located, name: &[u8]) -> io::Result<Option<u64>> {
        let count = directory.inode.size.div_ceil(BLOCK);
        let (mut from, mut to) = (0, count);
        while from < to {
            let middle = from + (to - from) / 2;
            let block = self.data_block(directory, middle)?;
            let entries = entries(&block)?;
            match (entries.first(), entries.last()) {
                (Some((first, _)), _) if name < *first => to = middle,
                (_, Some((last, _))) if name > *last => from = middle + 1,
                _ => {
                    let found = entries.binary_search_by(|(entry, _)| (*entry).cmp(name));
                    return Ok(found.ok().map(|at| entries[at].1));
                }
            }
        }
        Ok(None)
    }

    /// Reads a block of a directory's or link's data.
    fn data_block(&self, file: &Located, index: u64) -> io::Result<Vec<u8>> {
        let Inode { size, layout, start, xattrs, .. } = file.inode;
        let last = size.div_ceil(BLOCK).saturating_sub(1);
        if size == 0 || size > self.size || index > last {
            return Err(damaged("a directory or link has no such block"));
        }
        let length = if index == last { size - last * BLOCK } else { BLOCK };
        let offset = match layout {
            Layout::Inline if index == last => file.offset + (INODE + xattrs) as u64,
            Layout::Inline | Layout::Plain => (u64::from(start) + index) * BLOCK,
            Layout::Chunks => return Err(damaged("a directory or link is in the tar")),
        };
        self.read(offset, usize::try_from(length).unwrap_or(BLOCK_SIZE))
    }

    fn target(&self, link: &Located) -> io::Result<Vec<u8>> {
        let size = link.inode.size;
        if size == 0 || size > PATH_MAX as u64 {
            return Err(damaged("a link has no target"));
        }
        let mut target = Vec::new();
        for index in 0..size.div_ceil(BLOCK) {
            target.extend(self.data_block(link, index)?);
        }
        Ok(target)
    }

    fn xattrs(&self, file: &Located) -> io::Result<Xattrs> {
        let mut xattrs = Vec::new();
        if file.inode.xattrs == 0 {
            return Ok(xattrs);
        }
        let bytes = self.read(file.offset + INODE as u64, file.inode.xattrs)?;
        let mut rest = &bytes[XATTR_HEADER..];
        while !rest.is_empty() {
            let cut = || damaged("an extended attribute is cut");
            let (name, value, size) = xattr(rest).ok_or_else(cut)?;
            xattrs.push((name, value.to_vec()));
            rest = rest.get(size.next_multiple_of(4)..).ok_or_else(cut)?;
        }
        Ok(xattrs)
    }

    fn chunks(&self, file: &Located, chunk: u64) -> io::Result<Vec<(u64, u64, u64)>> {
        let size = file.inode.size;
        let count = usize::try_from(size.div_ceil(chunk)).ok().and_then(|count| count.checked_mul(8));
        let count = count.ok_or_else(|| damaged("a file has too many chunks"))?;
        let offset = (file.offset + (INODE + file.inode.xattrs) as u64).next_multiple_of(8);
        let bytes = self.read(offset, count)?;
        let mut pieces: Vec<(u64, u64, u64)> = Vec::new();
        for (index, entry) in (0..).zip(bytes.chunks(8)) {
            let (device, start) = (u16_at(entry, 2), u32_at(entry, 4));
            if start == NO_BLOCK {
                continue;
            }
            let (at, from) = (index * chunk, u64::from(start) * BLOCK);
            let length = chunk.min(size - at);
            let is_inside = (from + length).div_ceil(BLOCK) <= u64::from(self.superblock.tar_blocks);
            if device != 1 || !is_inside {
                return Err(damaged("a file has content outside the tar"));
            }
            match pieces.last_mut() {
                Some((last, stored, size)) if *last + *size == at && *stored + *size == from => *size += length,
                _ => pieces.push((at, from, length)),
            }
        }
        Ok(pieces)
    }

    /// Reads bytes that must be within the image.
    fn read(&self, offset: u64, count: usize) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(count as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(damaged("something lies beyond its end"));
        }
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// Returns the names of a directory's block, and the numbers of what they lead to.
fn entries(block: &[u8]) -> io::Result<Vec<(&[u8], u64)>> {
    let first = usize::from(u16_at(block, 8));
    if first == 0 || !first.is_multiple_of(DIRENT) || first > block.len() {
        return Err(damaged("a directory's block has no entries"));
    }
    let mut entries = Vec::with_capacity(first / DIRENT);
    for at in (0..first).step_by(DIRENT) {
        let start = usize::from(u16_at(block, at + 8));
        let end = if at + DIRENT < first { usize::from(u16_at(block, at + DIRENT + 8)) } else { block.len() };
        let name = block.get(start..end).filter(|_| start >= first);
        let name = name.ok_or_else(|| damaged("a name lies outside its directory's block"))?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        entries.push((&name[..end], u64_at(block, at)));
    }
    Ok(entries)
}

/// Reads the name and the value of the first of some extended attributes, and tells how many bytes it has.
fn xattr(bytes: &[u8]) -> Option<(Vec<u8>, &[u8], usize)> {
    let (name, index) = (usize::from(*bytes.first()?), *bytes.get(1)?);
    let value = 4 + name;
    let end = value + usize::from(u16_at(bytes, 2));
    let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == index)?;
    let name = [prefix, bytes.get(4..value)?].concat();
    Some((name, bytes.get(value..end)?, end))
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
