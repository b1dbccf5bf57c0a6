//! Reads the entries of a tar.
//!
//! `tar-core` parses headers; this file feeds it, checks what it is lenient about (`pax`), and hands out contents. Where tar
//! readers disagree, this one agrees with Go's `archive/tar`, which every other builder runs, or refuses:
//!
//! | input | here |
//! |---|---|
//! | size of links, devices and directories | ignored: no content follows |
//! | type NUL with a name that ends in `/` | a directory |
//! | one block of zeros, then something else | refused |
//! | end of file instead of the two blocks of zeros, or of one | the end, if no entry is cut |
//! | a type that is not known | refused |

use std::io::{self, Read, Seek, SeekFrom};

use tar_core::parse::{Limits, ParseError, ParseEvent, ParsedEntry, Parser};
use tar_core::{HEADER_SIZE, SparseEntry};

use super::pax;
use crate::sys::{Time, Xattrs};

/// Entries of one layer, at most.
const MAX_ENTRIES: u64 = 2_000_000;
/// Bytes of PAX records and long names of one entry, at most.
const MAX_METADATA: u32 = 1 << 20;
/// Bytes of a path or a link target, at most.
const MAX_PATH: u32 = 32 << 10;
/// Regions of one sparse file, at most.
const MAX_REGIONS: usize = 100_000;
/// Bytes that one entry's headers may take, at most.
const MAX_HEADER: usize = 8 << 20;
/// Bytes after the end of a tar that are read all the same, at most.
const MAX_REST: u64 = 64 << 20;
const BUFFER: usize = 256 << 10;
const BLOCK: u64 = HEADER_SIZE as u64;

/// Why a tar could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum TarError {
    #[error("its bytes cannot be read")]
    Read(#[source] io::Error),
    #[error("its headers cannot be read")]
    Parse(#[source] ParseError),
    #[error("a PAX header cannot be used: {0}")]
    Pax(&'static str),
    #[error("a number in a header is negative or too large")]
    Number,
    #[error("a block of zeros stands between entries")]
    LoneZeroBlock,
    #[error("it ends within an entry")]
    Truncated,
    #[error("the headers of an entry take more than 8 MiB")]
    HeaderTooLarge,
    #[error("it has more than 2,000,000 entries")]
    TooManyEntries,
    #[error("entry `{}` has the type {kind:?}, which is not known", .path.escape_ascii())]
    UnknownType { path: Vec<u8>, kind: char },
    #[error("sparse entry `{}` does not fit its own size", .path.escape_ascii())]
    Sparse { path: Vec<u8> },
}

/// One entry, with everything that headers say about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    pub(crate) xattrs: Xattrs,
}

/// What an entry makes.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A file of `size` bytes; only the regions of a sparse one are in the tar.
    File {
        size: u64,
        regions: Option<Vec<SparseEntry>>,
    },
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    Device {
        is_block: bool,
        major: u32,
        minor: u32,
    },
}

/// The entries of a tar, in order.
pub(crate) struct Entries<R> {
    input: R,
    parser: Parser,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that came from the input, or were passed over in it.
    read: u64,
    /// Bytes of the current entry's content that were not handed out.
    content: u64,
    padding: u64,
    count: u64,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(input: R) -> Self {
        Self::with_buffer(input, BUFFER)
    }

    /// Reads `buffer` bytes at once; more where a header needs them.
    pub(crate) fn with_buffer(input: R, buffer: usize) -> Self {
        let limits = Limits {
            max_metadata_size: MAX_METADATA,
            max_path_len: Some(MAX_PATH),
            max_sparse_entries: MAX_REGIONS,
            ..Limits::default()
        };
        let mut parser = Parser::new(limits);
        // times before 1970 are no error here; every other number is checked in `pax`
        parser.set_ignore_pax_errors(true);
        Self { input, parser, buffer: vec![0; buffer], start: 0, end: 0, read: 0, content: 0, padding: 0, count: 0 }
    }

    /// Returns the next entry, skipping what was not read of the one before.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip(self.content)?;
        self.skip(self.padding)?;
        (self.content, self.padding) = (0, 0);
        let mut wanted = HEADER_SIZE;
        loop {
            if !self.fill(wanted)? {
                let left = &self.buffer[self.start..self.end];
                // nothing, or one of the two blocks of zeros
                let is_end = left.is_empty() || (left.len() == HEADER_SIZE && left.iter().all(|byte| *byte == 0));
                return if is_end { Ok(None) } else { Err(TarError::Truncated) };
            }
            let input = &self.buffer[self.start..self.end];
            refuse_lone_zero_block(input)?;
            match self.parser.parse(input).map_err(TarError::Parse)? {
                // a parser that only guesses what it needs must not be asked again with as much
                ParseEvent::NeedData { min_bytes } => wanted = min_bytes.max(input.len() + HEADER_SIZE),
                ParseEvent::GlobalExtensions { consumed, pax_data } => {
                    pax::check_global(pax_data)?;
                    self.start += consumed;
                    wanted = HEADER_SIZE;
                }
                ParseEvent::End { consumed } => {
                    self.start += consumed;
                    return Ok(None);
                }
                ParseEvent::Entry { consumed, entry } => {
                    let (entry, content) = read_entry(&entry, None)?;
                    return self.hand_out(consumed, entry, content).map(Some);
                }
                ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                    let (entry, content) = read_entry(&entry, Some((sparse_map, real_size)))?;
                    return self.hand_out(consumed, entry, content).map(Some);
                }
            }
        }
    }

    /// Returns the next bytes of the current entry's content; empty at its end.
    pub(crate) fn content(&mut self) -> Result<&[u8], TarError> {
        if self.content == 0 {
            return Ok(&[]);
        }
        if !self.fill(1)? {
            return Err(TarError::Truncated);
        }
        let available = &self.buffer[self.start..self.end];
        let count = usize::try_from(self.content).unwrap_or(usize::MAX).min(available.len());
        self.start += count;
        self.content -= count as u64;
        Ok(&self.buffer[self.start - count..self.start])
    }

    /// Returns where in the input the next byte of the current entry's content is.
    pub(crate) fn position(&self) -> u64 {
        self.read - (self.end - self.start) as u64
    }

    /// Gives back the last `count` bytes of what [`content`](Self::content) returned.
    pub(crate) fn put_back(&mut self, count: usize) {
        self.start -= count;
        self.content += count as u64;
    }

    /// Reads what follows the end of the tar, so that a checksum after it is compared, and who writes it into a pipe can end.
    ///
    /// What comes after 64 MiB is left unread.
    pub(crate) fn pass_rest(&mut self) -> Result<(), TarError> {
        let mut left = MAX_REST;
        while left > 0 && self.fill(1)? {
            left = left.saturating_sub((self.end - self.start) as u64);
            self.start = self.end;
        }
        Ok(())
    }

    fn hand_out(&mut self, consumed: usize, entry: Entry, content: u64) -> Result<Entry, TarError> {
        self.count += 1;
        if self.count > MAX_ENTRIES {
            return Err(TarError::TooManyEntries);
        }
        self.start += consumed;
        self.content = content;
        self.padding = (BLOCK - content % BLOCK) % BLOCK;
        Ok(entry)
    }

    fn skip(&mut self, mut count: u64) -> Result<(), TarError> {
        while count > 0 {
            if !self.fill(1)? {
                return Err(TarError::Truncated);
            }
            let step = (self.end - self.start).min(usize::try_from(count).unwrap_or(usize::MAX));
            self.start += step;
            count -= step as u64;
        }
        Ok(())
    }

    /// Reads until `wanted` bytes are buffered; false when the input ends before.
    fn fill(&mut self, wanted: usize) -> Result<bool, TarError> {
        if self.end - self.start >= wanted {
            return Ok(true);
        }
        if wanted > MAX_HEADER {
            return Err(TarError::HeaderTooLarge);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if wanted > self.buffer.len() {
            self.buffer.resize(wanted.next_power_of_two(), 0);
        }
        while self.end < wanted {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.end += count;
                    self.read += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        Ok(true)
    }
}

impl<R: Read + Seek> Entries<R> {
    /// Passes over the content of the current entry without reading what is not buffered.
    pub(crate) fn pass_content(&mut self) -> Result<(), TarError> {
        let left = self.content + self.padding;
        let buffered = usize::try_from(left).unwrap_or(usize::MAX).min(self.end - self.start);
        self.start += buffered;
        (self.content, self.padding) = (0, 0);
        match i64::try_from(left - buffered as u64) {
            Ok(0) => Ok(()),
            Ok(rest) => {
                self.read += rest.cast_unsigned();
                self.input.seek(SeekFrom::Current(rest)).map(drop).map_err(TarError::Read)
            }
            Err(_) => Err(TarError::Number),
        }
    }
}

fn refuse_lone_zero_block(input: &[u8]) -> Result<(), TarError> {
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    match (input.get(..HEADER_SIZE), input.get(HEADER_SIZE..2 * HEADER_SIZE)) {
        (Some(first), Some(second)) if is_zero(first) && !is_zero(second) => Err(TarError::LoneZeroBlock),
        _ => Ok(()),
    }
}

/// Turns what the parser found into an entry and the number of bytes that follow it.
fn read_entry(parsed: &ParsedEntry<'_>, sparse: Option<(Vec<SparseEntry>, u64)>) -> Result<(Entry, u64), TarError> {
    pax::check_header(parsed.header)?;
    let pax = parsed.pax.map(pax::check).transpose()?.unwrap_or_default();
    if pax.sparse_version == (Some(1), Some(0)) && pax.has_size {
        return Err(TarError::Pax("a sparse file has a size of its own"));
    }
    let path = parsed.path.to_vec();
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(TarError::Number);
    let kind = read_kind(parsed, sparse)?;
    let modified = match pax.modified {
        Some(modified) => modified,
        None => pax::header_time(parsed.header)?,
    };
    let xattrs = parsed.xattrs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let content = match &kind {
        Kind::File { .. } => i64::try_from(parsed.size).map_err(|_| TarError::Number)?.cast_unsigned(),
        _ => 0,
    };
    let (uid, gid) = (id(parsed.uid)?, id(parsed.gid)?);
    Ok((Entry { path, kind, mode: parsed.mode & 0o7777, uid, gid, modified, xattrs }, content))
}

fn read_kind(parsed: &ParsedEntry<'_>, sparse: Option<(Vec<SparseEntry>, u64)>) -> Result<Kind, TarError> {
    let raw = parsed.header.as_ustar().typeflag[0];
    let target = || parsed.link_target.as_ref().map(|target| target.to_vec()).unwrap_or_default();
    let device = |is_block| Kind::Device {
        is_block,
        major: parsed.dev_major.unwrap_or(0),
        minor: parsed.dev_minor.unwrap_or(0),
    };
    let broken = || TarError::Sparse { path: parsed.path.to_vec() };
    match (raw, sparse) {
        (0, None) if parsed.path.ends_with(b"/") => Ok(Kind::Directory),
        (b'0' | b'7' | 0, None) => Ok(Kind::File { size: parsed.size, regions: None }),
        (b'0' | b'7' | 0 | b'S', Some((regions, size))) => {
            check_regions(&regions, size, parsed.size).ok_or_else(broken)?;
            Ok(Kind::File { size, regions: Some(regions) })
        }
        (_, Some(_)) => Err(broken()),
        (b'1', None) => Ok(Kind::HardLink(target())),
        (b'2', None) => Ok(Kind::Symlink(target())),
        (b'3', None) => Ok(device(false)),
        (b'4', None) => Ok(device(true)),
        (b'5', None) => Ok(Kind::Directory),
        (b'6', None) => Ok(Kind::Fifo),
        (kind, None) => Err(TarError::UnknownType { path: parsed.path.to_vec(), kind: kind.into() }),
    }
}

/// Regions must lie one after the other within the file, and hold as many bytes as the entry has.
fn check_regions(regions: &[SparseEntry], size: u64, stored: u64) -> Option<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for region in regions {
        if region.offset < end {
            return None;
        }
        end = region.offset.checked_add(region.length)?;
        sum = sum.checked_add(region.length)?;
    }
    (end <= size && sum == stored && i64::try_from(size).is_ok()).then_some(())
}
