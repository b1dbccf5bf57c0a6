//! Looks at the files of a stack of layers without mounting it.
//!
//! | in a layer, newest first | what it means for the path |
//! |---|---|
//! | nothing there | the next layer is asked |
//! | nothing there, below an opaque directory | there is no such file |
//! | a whiteout at the path or above it, or something above it that is no directory | there is no such file |
//! | a file | that is it |
//! | a directory with an entry of its own | a directory with its metadata |
//! | a directory that the layer only implies | a directory; its metadata come from the layers below, as `implied` has it |
//!
//! This is what overlay shows of the same stack (a test compares them). In `tree`: layers that are trees, and what steps wrote.
//! In `indexed`: layers that are tars.

mod indexed;
mod tree;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::DiffId;

use crate::file_error::failed;
use crate::implied::{self, Metadata};
use crate::{ApplyError, FileError, LayerError, Lower, SnapshotError, Store};

use indexed::IndexedFiles;
use tree::TreeFiles;

/// What is at one path of a stack of layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFile {
    /// What it is.
    pub kind: LayerFileKind,
    /// Permissions with the set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
    /// The modification time: seconds since 1970, and nanoseconds after that second.
    pub mtime: (i64, u32),
    /// Extended attributes, sorted by name; without overlay's own and labels of this host.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// The kinds of files, as far as whoever puts others beside them must tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what they are called")]
pub enum LayerFileKind {
    /// A directory.
    Directory,
    /// A regular file of `size` bytes.
    File { size: u64 },
    /// A symbolic link.
    Symlink { target: PathBuf },
    /// A device, a named pipe or a socket.
    Other,
}

/// Why a path of a stack of layers could not be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum LayerFilesError {
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` has {size} bytes, which is more than the {max} that are read", .path.display())]
    TooLarge { path: PathBuf, size: u64, max: u64 },
    #[error("extended attribute `{}` of `{}` has a name that a tar cannot hold", .name.escape_ascii(), .path.display())]
    XattrName { path: PathBuf, name: Vec<u8> },
    #[error("layer {diff_id} cannot be read")]
    Index { diff_id: DiffId, source: ApplyError },
    #[error(transparent)]
    Tree(#[from] SnapshotError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The files of a stack of layers.
#[derive(Debug)]
pub struct LayerFiles {
    /// Newest first.
    layers: Vec<Opened>,
    root: LayerFile,
    _held: Vec<Lower>,
}

/// One layer, open.
#[derive(Debug)]
struct Opened {
    source: Source,
    /// Paths of the directories that the layer only implies, sorted.
    implied: Vec<Vec<u8>>,
}

#[derive(Debug)]
enum Source {
    Tree(TreeFiles),
    Indexed(IndexedFiles),
}

impl Source {
    fn root(&self) -> io::Result<Metadata> {
        match self {
            Self::Tree(tree) => Ok(tree.root()?),
            Self::Indexed(index) => index.root(),
        }
    }
}

/// What one layer says of a path.
#[derive(Debug)]
enum Seen {
    Nothing,
    /// There is nothing, and what lower layers have is hidden.
    Hidden,
    File(LayerFile),
    /// `is_hidden_below`: one of its parents is opaque in this layer.
    Directory {
        file: LayerFile,
        is_hidden_below: bool,
    },
}

impl Store {
    /// Opens `layers`, lowest first, to look at their files.
    ///
    /// # Errors
    ///
    /// [`LayerFilesError::Layer`] when one is not here.
    pub fn files(&self, layers: &[Lower]) -> Result<LayerFiles, LayerFilesError> {
        let mut opened = Vec::new();
        let mut root = Metadata::default();
        for layer in layers {
            let (source, record) = match layer {
                Lower::Layer(diff_id) => {
                    let record = self.layer(diff_id)?;
                    (self.open_source(diff_id)?, Some(record))
                }
                Lower::Frozen(frozen) => {
                    let (tree, record) = frozen.open()?;
                    (Source::Tree(TreeFiles::new(tree, self.overlay_xattrs()?)), record)
                }
            };
            if record.as_ref().is_some_and(|record| record.is_opaque) {
                opened.clear();
            }
            if record.as_ref().is_some_and(|record| record.has_root) {
                root = source.root().map_err(failed("read", &self.root().join("layers")))?;
            }
            let implied = record.iter().flat_map(|record| &record.implied);
            let implied = implied.filter_map(|path| implied::read_path(path)).collect();
            opened.push(Opened { source, implied });
        }
        opened.reverse();
        Ok(LayerFiles { layers: opened, root: directory(root)?, _held: layers.to_vec() })
    }

    fn open_source(&self, diff_id: &DiffId) -> Result<Source, LayerFilesError> {
        let unreadable = |source| LayerFilesError::Index { diff_id: diff_id.clone(), source };
        if !self.layer(diff_id)?.form.has_tree()
            && let Some(tar) = self.open_layer_tar(diff_id)?
            && let Some(index) = self.layer_index(diff_id).map_err(unreadable)?
        {
            return Ok(Source::Indexed(IndexedFiles::new(index, tar.into_inner())));
        }
        self.make_trees(std::iter::once(diff_id))?;
        let tree = self.open_layer_tree(&self.layer(diff_id)?)?;
        Ok(Source::Tree(TreeFiles::new(tree, self.overlay_xattrs()?)))
    }
}

impl LayerFiles {
    /// Looks at a path relative to the root, whose parts before the last must be directories, not links; `None` when there is
    /// nothing, or a name in it is `.` or `..`.
    ///
    /// # Errors
    ///
    /// [`LayerFilesError::Read`] when a layer cannot be read, [`LayerFilesError::XattrName`] when
    /// what is there has an attribute that no layer above could repeat.
    pub fn look(&self, path: &Path) -> Result<Option<LayerFile>, LayerFilesError> {
        let path = path.as_os_str().as_bytes();
        if path.is_empty() {
            return Ok(Some(self.root.clone()));
        }
        Ok(self.find(path)?.map(|(file, _)| file))
    }

    /// Reads the regular file at a path, found as by [`look`](Self::look); `None` when there is none.
    ///
    /// # Errors
    ///
    /// As `look`; [`LayerFilesError::TooLarge`] when it has more than `max` bytes.
    pub fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>, LayerFilesError> {
        let bytes = path.as_os_str().as_bytes();
        let Some((LayerFile { kind: LayerFileKind::File { size }, .. }, layer)) = self.find(bytes)? else {
            return Ok(None);
        };
        if size > max {
            return Err(LayerFilesError::TooLarge { path: path.to_owned(), size, max });
        }
        match &layer.source {
            Source::Tree(tree) => tree.read(bytes, size),
            Source::Indexed(index) => index.read(bytes, size),
        }
        .map(Some)
    }

    /// Finds what a path shows, and the layer that it comes from.
    fn find(&self, path: &[u8]) -> Result<Option<(LayerFile, &Opened)>, LayerFilesError> {
        if path.split(|byte| *byte == b'/').any(|name| matches!(name, b"" | b"." | b"..") || name.contains(&0)) {
            return Ok(None);
        }
        // a directory that was only implied so far: it is there, whatever lower layers say of its metadata
        let mut implied = None;
        for layer in &self.layers {
            let seen = match &layer.source {
                Source::Tree(tree) => tree.look(path)?,
                Source::Indexed(index) => index.look(path)?,
            };
            match seen {
                Seen::Nothing => {}
                Seen::Hidden => return Ok(implied),
                Seen::File(file) => return Ok(implied.or(Some((file, layer)))),
                Seen::Directory { file, is_hidden_below } => {
                    if layer.implied.binary_search_by(|implied| implied[..].cmp(path)).is_err() {
                        return Ok(Some((file, layer)));
                    }
                    implied = implied.or(Some((file, layer)));
                    if is_hidden_below {
                        return Ok(implied);
                    }
                }
            }
        }
        Ok(implied)
    }
}

fn directory(metadata: Metadata) -> Result<LayerFile, LayerFilesError> {
    let Metadata { mode, uid, gid, modified, xattrs } = metadata;
    let mtime = (modified.seconds, modified.nanoseconds);
    Ok(LayerFile { kind: LayerFileKind::Directory, mode, uid, gid, mtime, xattrs: names_as_text(xattrs, b"/")? })
}

/// Turns names of attributes into text, which all that a tar can hold are.
fn names_as_text(xattrs: crate::sys::Xattrs, path: &[u8]) -> Result<Vec<(String, Vec<u8>)>, LayerFilesError> {
    let as_text = |(name, value): (Vec<u8>, Vec<u8>)| match String::from_utf8(name) {
        Ok(name) => Ok((name, value)),
        Err(error) => Err(LayerFilesError::XattrName { path: shown(path), name: error.into_bytes() }),
    };
    xattrs.into_iter().map(as_text).collect()
}

fn unreadable<E: Into<io::Error>>(path: &[u8]) -> impl FnOnce(E) -> LayerFilesError {
    move |source| LayerFilesError::Read { path: shown(path), source: source.into() }
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}
