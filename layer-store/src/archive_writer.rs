//! Writes an archive of files that are nobody's: mode 0644, owner 0, time 0, so that equal contents make equal bytes.
//!
//! The bytes of the entries are those of the frozen format (`tree_tar`); the order is the caller's.

use std::io::{Read, Write};

use crate::TreeTarError;
use crate::tree_tar::header::Header;
use crate::tree_tar::writer::{PassOn, TarWriter};

/// A tar archive that is being written.
#[derive(Debug)]
pub struct ArchiveWriter<'a, W: Write> {
    tar: TarWriter<PassOn<'a, W>>,
}

impl<'a, W: Write> ArchiveWriter<'a, W> {
    /// Begins an archive.
    pub fn new(output: &'a mut W) -> Self {
        Self { tar: TarWriter::new(PassOn(output)) }
    }

    /// Adds a directory; `name` ends in a slash.
    ///
    /// # Errors
    ///
    /// [`TreeTarError::Write`].
    pub fn directory(&mut self, name: &str) -> Result<(), TreeTarError> {
        let header = Header { kind: b'5', mode: 0o755, ..Header::file(name.as_bytes()) };
        self.tar.header(&header).map_err(TreeTarError::Write)
    }

    /// Adds a file of the next `size` bytes that `content` has.
    ///
    /// # Errors
    ///
    /// [`TreeTarError::Changed`] when there are fewer, [`TreeTarError::Read`] or [`TreeTarError::Write`].
    pub fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), TreeTarError> {
        let header = Header { size, ..Header::file(name.as_bytes()) };
        self.tar.header(&header).map_err(TreeTarError::Write)?;
        self.tar.content(size, content).map_err(|fault| fault.into_error(name.as_bytes()))
    }

    /// Writes the end.
    ///
    /// # Errors
    ///
    /// [`TreeTarError::Write`].
    pub fn finish(self) -> Result<(), TreeTarError> {
        self.tar.finish().map(drop).map_err(TreeTarError::Write)
    }
}
