//! Looks at the files of a layer that is a tar: its headers are read once, and its contents passed over.
//!
//! The index of a layer is made when it is first asked for anything, once per process, and takes some hundred bytes for each
//! entry. A tar of the store has an entry for every directory, names every path once, and has whiteouts only of what it has
//! nothing else for (`tar_layer`).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use oci::DiffId;

use super::{LayerFile, LayerFileKind, LayerFilesError, Seen, names_as_text, unreadable};
use crate::Store;
use crate::apply::TarError;
use crate::apply::entries::{Entries, Entry, Kind};

/// Bytes that are read at each header: enough for one with an extended header, and little of the contents between them.
const BUFFER: usize = 2 << 10;

/// The indexes that this process has made; of each layer one.
pub(crate) type TarIndexes = Mutex<BTreeMap<DiffId, Arc<Mutex<Option<Arc<TarIndex>>>>>>;

/// A tar that is looked into.
#[derive(Debug)]
pub(super) struct TarFiles {
    diff_id: DiffId,
    tar: File,
    index: Arc<Mutex<Option<Arc<TarIndex>>>>,
}

/// Path → entry.
#[derive(Debug, Default)]
pub(crate) struct TarIndex(HashMap<Vec<u8>, Indexed>);

#[derive(Debug)]
struct Indexed {
    /// Its content has no place of its own: that is in `content`.
    entry: Entry,
    /// Where the content begins in the tar.
    content: u64,
    /// Of a directory: whether it hides what lower layers have in it.
    is_opaque: bool,
    is_whiteout: bool,
}

impl TarFiles {
    pub(super) fn new(store: &Store, diff_id: &DiffId, tar: File) -> Self {
        let mut indexes = store.0.tar_indexes.lock().unwrap_or_else(PoisonError::into_inner);
        let index = Arc::clone(indexes.entry(diff_id.clone()).or_default());
        Self { diff_id: diff_id.clone(), tar, index }
    }

    pub(super) fn look(&self, path: &[u8]) -> Result<Seen, LayerFilesError> {
        let index = self.index()?;
        let mut is_hidden_below = false;
        for (end, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            match index.0.get(&path[..end]) {
                None if is_hidden_below => return Ok(Seen::Hidden),
                None => return Ok(Seen::Nothing),
                Some(parent) if !parent.is_directory() => return Ok(Seen::Hidden),
                Some(parent) => is_hidden_below |= parent.is_opaque,
            }
        }
        match index.0.get(path) {
            None if is_hidden_below => Ok(Seen::Hidden),
            None => Ok(Seen::Nothing),
            Some(found) if found.is_whiteout => Ok(Seen::Hidden),
            Some(found) => {
                let file = index.describe(path, found)?;
                Ok(match file.kind {
                    LayerFileKind::Directory => Seen::Directory { file, is_hidden_below },
                    _ => Seen::File(file),
                })
            }
        }
    }

    pub(super) fn read(&self, path: &[u8], size: u64) -> Result<Vec<u8>, LayerFilesError> {
        let index = self.index()?;
        let found = index.0.get(path).map(|found| index.first_name(found));
        let Some(found) = found else { return Err(unreadable(path)(io::Error::from(io::ErrorKind::NotFound))) };
        let mut bytes = Vec::new();
        let content = At { file: &self.tar, offset: found.content };
        content.take(size).read_to_end(&mut bytes).map_err(unreadable(path))?;
        Ok(bytes)
    }

    fn index(&self) -> Result<Arc<TarIndex>, LayerFilesError> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = &*index {
            return Ok(Arc::clone(index));
        }
        let unusable = |source| LayerFilesError::Tar { diff_id: self.diff_id.clone(), source };
        let made = Arc::new(TarIndex::read(&self.tar).map_err(unusable)?);
        *index = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl TarIndex {
    fn read(tar: &File) -> Result<Self, TarError> {
        let mut entries = Entries::with_buffer(At { file: tar, offset: 0 }, BUFFER);
        let mut index = Self::default();
        while let Some(mut entry) = entries.next()? {
            let content = entries.position()?;
            entries.pass_content()?;
            let mut path = std::mem::take(&mut entry.path);
            if path.ends_with(b"/") {
                path.pop();
            }
            let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            if &path[name..] == b".wh..wh..opq" {
                // it stands right behind its directory
                let directory = index.0.get_mut(&path[..name.saturating_sub(1)]);
                directory.into_iter().for_each(|directory| directory.is_opaque = true);
                continue;
            }
            let is_whiteout = path[name..].starts_with(b".wh.");
            if is_whiteout {
                path.drain(name..name + 4);
            }
            index.0.insert(path, Indexed { entry, content, is_opaque: false, is_whiteout });
        }
        Ok(index)
    }

    /// Returns the entry that has what `found` is a further name of.
    fn first_name<'a>(&'a self, found: &'a Indexed) -> &'a Indexed {
        match &found.entry.kind {
            Kind::HardLink(to) => self.0.get(to).unwrap_or(found),
            _ => found,
        }
    }

    fn describe(&self, path: &[u8], found: &Indexed) -> Result<LayerFile, LayerFilesError> {
        let entry = &self.first_name(found).entry;
        let kind = match &entry.kind {
            Kind::Directory => LayerFileKind::Directory,
            Kind::File { size, .. } => LayerFileKind::File { size: *size },
            Kind::Symlink(target) => {
                LayerFileKind::Symlink { target: PathBuf::from(OsString::from_vec(target.clone())) }
            }
            Kind::HardLink(_) | Kind::Fifo | Kind::Device { .. } => LayerFileKind::Other,
        };
        let mtime = (entry.modified.seconds, entry.modified.nanoseconds);
        let xattrs = names_as_text(entry.xattrs.clone(), path)?;
        Ok(LayerFile { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime, xattrs })
    }
}

impl Indexed {
    fn is_directory(&self) -> bool {
        matches!(self.entry.kind, Kind::Directory)
    }
}

/// A file that is read from a place of this reader's own.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(distance) => self.offset.checked_add_signed(distance),
            SeekFrom::End(distance) => self.file.metadata()?.len().checked_add_signed(distance),
        };
        self.offset = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}
