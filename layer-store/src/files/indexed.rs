//! Looks at the files of a layer that is a tar, through its index: no header of the tar is read again.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{LayerFile, LayerFileKind, LayerFilesError, Seen, names_as_text, unreadable};
use crate::implied::Metadata;
use crate::index::{Found, IndexFile, Indexed, IndexedKind};

/// A tar that is looked into.
#[derive(Debug)]
pub(super) struct IndexedFiles {
    index: Arc<IndexFile>,
    tar: File,
}

impl IndexedFiles {
    pub(super) fn new(index: Arc<IndexFile>, tar: File) -> Self {
        Self { index, tar }
    }

    pub(super) fn root(&self) -> io::Result<Metadata> {
        match self.index.look(b"")? {
            Found::Directory { file, .. } => Ok(file.metadata),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    pub(super) fn look(&self, path: &[u8]) -> Result<Seen, LayerFilesError> {
        Ok(match self.index.look(path).map_err(unreadable(path))? {
            Found::Nothing => Seen::Nothing,
            Found::Hidden => Seen::Hidden,
            Found::File(file) => Seen::File(describe(file, path)?),
            Found::Directory { file, is_hidden_below } => {
                Seen::Directory { file: describe(file, path)?, is_hidden_below }
            }
        })
    }

    pub(super) fn read(&self, path: &[u8], size: u64) -> Result<Vec<u8>, LayerFilesError> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        for (at, offset, length) in self.index.content(path).map_err(unreadable(path))? {
            let part = usize::try_from(at).ok().zip(usize::try_from(at + length).ok());
            let part = part.and_then(|(start, end)| bytes.get_mut(start..end));
            let part = part.ok_or_else(|| unreadable(path)(io::Error::from(io::ErrorKind::InvalidData)))?;
            self.tar.read_exact_at(part, offset).map_err(unreadable(path))?;
        }
        Ok(bytes)
    }
}

fn describe(file: Indexed, path: &[u8]) -> Result<LayerFile, LayerFilesError> {
    let Metadata { mode, uid, gid, modified, xattrs } = file.metadata;
    let kind = match file.kind {
        IndexedKind::Directory => LayerFileKind::Directory,
        IndexedKind::File { size } => LayerFileKind::File { size },
        IndexedKind::Symlink { target } => LayerFileKind::Symlink { target: PathBuf::from(OsString::from_vec(target)) },
        IndexedKind::Other => LayerFileKind::Other,
    };
    let xattrs = names_as_text(xattrs, path)?;
    Ok(LayerFile { kind, mode, uid, gid, mtime: (modified.seconds, modified.nanoseconds), xattrs })
}
