//! ADD of local archives: the files that stand for them.
//!
//! An archive (see `archive.rs`) becomes a directory of the store's first, with the store's reader and limits, and is then copied
//! like any other.
//!
//! Spec: Dockerfile reference, "ADD", "Adding local tar archives".

use std::io;
use std::path::Path;

use layer_store::{Ownership, Store, Unpacked};
use rustix::fs::FileType;

use crate::archive::{Bytes, Content, content};
use crate::content_digest::ReadError;
use crate::copy::CopyError;
use crate::dockerignore::Dockerignore;
use crate::file_tree::{FileEntry, FileTree, Owners};
use crate::select::{SelectOptions, Selected, Selection, select};

/// The files of an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) tree: FileTree,
    pub(crate) selection: Selection,
    unpacked: Unpacked,
}

impl Archive {
    /// Tells whether a directory has no entry of its own in the archive.
    pub(crate) fn implies(&self, directory: &Path) -> bool {
        self.unpacked.implies(directory)
    }
}

/// Unpacks the archives among the selected files; `None` stands for a source that is none.
pub(crate) fn unpack_archives(
    store: &Store,
    tree: &FileTree,
    selection: &Selection,
) -> Result<Vec<Option<Archive>>, CopyError> {
    let unpack = |source: &Selected| {
        let archive = open_archive(tree, &source.entry)?;
        archive.map(|archive| unpack(store, archive, &source.entry)).transpose()
    };
    selection.sources.iter().map(unpack).collect()
}

fn unpack(store: &Store, archive: Bytes, entry: &FileEntry) -> Result<Archive, CopyError> {
    let path = || entry.path.clone();
    let unpacked =
        store.unpack(archive, Ownership::Kept).map_err(|source| CopyError::Unpack { path: path(), source })?;
    let read = |source| CopyError::Read(ReadError { path: path(), source });
    let tree = FileTree::open(&unpacked.path(), Dockerignore::default(), Owners::Kept).map_err(read)?;
    let selection =
        select(&tree, &["/".to_owned()], &SelectOptions::default()).map_err(|source| read(io::Error::other(source)))?;
    Ok(Archive { tree, selection, unpacked })
}

/// Opens a file as an archive; `None` when it is none.
fn open_archive(tree: &FileTree, entry: &FileEntry) -> Result<Option<Bytes>, ReadError> {
    if entry.kind() != FileType::RegularFile {
        return Ok(None);
    }
    let read = |source| ReadError { path: entry.path.clone(), source };
    let file = tree.open_file(&entry.path).map_err(read)?;
    Ok(match content(file).map_err(read)? {
        Content::Tar(archive) => Some(archive),
        // a file that only looks compressed is no archive: it is copied as it is
        Content::Compressed(_) | Content::Other(_) => None,
    })
}
