//! Puts entries of the frozen format one after the other: the only writer of its bytes, for trees and for layers written as tars.
//!
//! Headers, contents and padding are gathered in one buffer, which goes out whole: a content is read straight into it.

use std::io::{self, Read, Write};

use super::header::{BLOCK, Header};
use super::{TreeTarError, Written, shown};

/// Bytes that are gathered: they are read, hashed and written while they are in the processor's cache.
const BUFFER: usize = 256 << 10;

/// Where the gathered bytes go.
pub(crate) trait Pieces {
    /// Takes the first `filled` bytes of `piece`, and returns a buffer of the same length.
    fn take(&mut self, piece: Vec<u8>, filled: usize) -> io::Result<Vec<u8>>;
}

/// Passes the bytes on to a writer.
#[derive(Debug)]
pub(crate) struct PassOn<'a, W>(pub(crate) &'a mut W);

impl<W: Write> Pieces for PassOn<'_, W> {
    fn take(&mut self, piece: Vec<u8>, filled: usize) -> io::Result<Vec<u8>> {
        self.0.write_all(&piece[..filled])?;
        Ok(piece)
    }
}

/// A tar that is being written.
#[derive(Debug)]
pub(crate) struct TarWriter<P> {
    pieces: P,
    buffer: Vec<u8>,
    filled: usize,
    written: Written,
}

/// What can go wrong with a content.
pub(crate) enum ContentFault {
    /// It ended early.
    Short,
    Read(io::Error),
    Write(io::Error),
}

impl ContentFault {
    pub(crate) fn into_error(self, path: &[u8]) -> TreeTarError {
        match self {
            Self::Short => TreeTarError::Changed { path: shown(path) },
            Self::Read(source) => TreeTarError::Read { path: shown(path), source },
            Self::Write(source) => TreeTarError::Write(source),
        }
    }
}

impl<P: Pieces> TarWriter<P> {
    pub(crate) fn new(pieces: P) -> Self {
        Self { pieces, buffer: vec![0; BUFFER], filled: 0, written: Written::default() }
    }

    pub(crate) fn header(&mut self, header: &Header) -> io::Result<()> {
        self.written.entries += 1;
        self.put(&header.blocks())
    }

    /// Returns the bytes that were written so far.
    pub(crate) fn size(&self) -> u64 {
        self.written.tar_size
    }

    /// Writes exactly `size` bytes of `content`, and what fills the last block.
    pub(crate) fn content(&mut self, size: u64, content: &mut dyn Read) -> Result<(), ContentFault> {
        let mut left = size;
        while left > 0 {
            let room = self.room().map_err(ContentFault::Write)?;
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(room.len());
            match content.read(&mut room[..want]) {
                Ok(0) => return Err(ContentFault::Short),
                Ok(count) => {
                    self.filled += count;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ContentFault::Read(error)),
            }
        }
        self.written.tar_size += size;
        self.written.content_size += size;
        let padding = (BLOCK - usize::try_from(size % BLOCK as u64).unwrap_or(0)) % BLOCK;
        self.put(&[0; BLOCK][..padding]).map_err(ContentFault::Write)
    }

    /// Writes the end, and returns what was written and where.
    pub(crate) fn finish(mut self) -> io::Result<(Written, P)> {
        self.put(&[0; 2 * BLOCK])?;
        self.pieces.take(self.buffer, self.filled)?;
        Ok((self.written, self.pieces))
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.written.tar_size += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = self.room()?;
            let count = bytes.len().min(room.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Returns the part of the buffer that has nothing in it; there is some.
    fn room(&mut self) -> io::Result<&mut [u8]> {
        if self.filled == self.buffer.len() {
            let full = std::mem::take(&mut self.buffer);
            self.buffer = self.pieces.take(full, self.filled)?;
            self.filled = 0;
        }
        Ok(&mut self.buffer[self.filled..])
    }
}
