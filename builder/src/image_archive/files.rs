//! The files of an archive of images, in a directory or in a tar, and why one cannot be used.
//!
//! - Names are relative to the archive and stay in it: links of a directory are followed only within it.
//! - Nothing but a regular file is read, and nothing is waited for; documents are read up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer_store::{
    ApplyError, ArchiveError, ArchiveFiles, FileError, LayerError, MAX_LAYERS, RefusedEntry, SpoolError, SpooledFile,
    Store,
};
use oci::{Algorithm, BlobError, DiffId, Digest, DocumentError, MediaType, Platform, ReferenceError};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::layout::MAX_DEPTH;

/// Why an archive of images cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ImageArchiveError {
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not there", .path.display())]
    Missing { path: PathBuf },
    #[error("`{}` is not what it should be", .path.display())]
    Document { path: PathBuf, source: DocumentError },
    #[error("`{}` is not what its digest says", .path.display())]
    Blob { path: PathBuf, source: BlobError },
    #[error("`{}` is not an image layout of version 1", .path.display())]
    Version { path: PathBuf },
    #[error("no image there is called `{}`: {}", .wanted.escape_debug(), listed(.names))]
    NotFound { wanted: String, names: Vec<String> },
    #[error("nothing there is for {wanted}")]
    NoPlatform { wanted: Platform },
    #[error("`{media_type}` is no image")]
    NotAnImage { media_type: MediaType },
    #[error("an index in an index in an index: more than {MAX_DEPTH} of them")]
    TooDeep,
    #[error("the manifest has {layers} layers, but the config names {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("an image has {count} layers, more than the {MAX_LAYERS} that are kept")]
    TooManyLayers { count: usize },
    #[error("an image has a name that cannot be kept")]
    Name { source: ReferenceError },
    #[error("it has no images")]
    NoImages,
    #[error("it is no archive of images: it has neither `oci-layout` nor `manifest.json`")]
    NotImages,
    #[error("it is of docker before 1.10, without `manifest.json`")]
    TooOld,
    #[error("it is no tar archive, compressed or not")]
    NotATar,
    #[error("it is compressed by {method}, but no tar archive comes out")]
    Compressed { method: &'static str },
    #[error(transparent)]
    Refused(#[from] RefusedEntry),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("`{}` cannot be copied", .path.display())]
    Copy { path: PathBuf, source: SpoolError },
    #[error("blob {digest} cannot be kept")]
    Keep { digest: Digest, source: BlobError },
    #[error("layer {diff_id} cannot be looked up")]
    Layer { diff_id: DiffId, source: LayerError },
    #[error("layer {number} of {total} (`{}`) cannot be used", .path.display())]
    Apply { number: usize, total: usize, path: PathBuf, source: ApplyError },
    #[error("stopped")]
    Stopped,
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "its images have no names".to_owned(),
        names => format!("there is {}", names.join(", ").escape_debug()),
    }
}

/// Where the files are.
#[derive(Debug)]
pub(super) enum Files {
    Directory { root: PathBuf, handle: OwnedFd },
    Tar(ArchiveFiles),
}

/// A file of the archive, open.
pub(super) struct OpenFile {
    pub(super) content: Box<dyn Read + Send>,
    pub(super) size: u64,
    spooled: Option<Arc<SpooledFile>>,
}

impl Files {
    /// Opens a directory.
    pub(super) fn directory(root: &Path) -> Result<Self, ImageArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(CWD, root, flags, Mode::empty());
        let root = root.to_owned();
        match handle {
            Ok(handle) => Ok(Self::Directory { root, handle }),
            Err(error) => Err(ImageArchiveError::Read { path: root, source: error.into() }),
        }
    }

    /// Tells whether there is something of this name.
    pub(super) fn has(&self, name: &str) -> Result<bool, ImageArchiveError> {
        match self.open(name) {
            Ok(_) => Ok(true),
            Err(ImageArchiveError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the name as people find it.
    pub(super) fn shown(&self, name: &str) -> PathBuf {
        match self {
            Self::Directory { root, .. } => root.join(name.trim_start_matches('/')),
            Self::Tar(_) => PathBuf::from(name),
        }
    }

    pub(super) fn open(&self, name: &str) -> Result<OpenFile, ImageArchiveError> {
        let missing = || ImageArchiveError::Missing { path: self.shown(name) };
        let failed = |source| ImageArchiveError::Read { path: self.shown(name), source };
        match self {
            Self::Directory { handle, .. } => match open_beneath(handle, name) {
                Ok(file) => {
                    let size = file.metadata().map_err(failed)?.len();
                    Ok(OpenFile { content: Box::new(file), size, spooled: None })
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                Err(error) => Err(failed(error)),
            },
            Self::Tar(files) => {
                let file = files.file(name).ok_or_else(missing)?;
                let content = file.open().map_err(|error: FileError| failed(error.source))?;
                Ok(OpenFile { content, size: file.size(), spooled: file.spooled().cloned() })
            }
        }
    }

    /// Reads a document of at most `limit` bytes.
    pub(super) fn read(&self, name: &str, what: &'static str, limit: usize) -> Result<Vec<u8>, ImageArchiveError> {
        let path = || self.shown(name);
        let file = self.open(name)?;
        let too_large = |size| {
            let source = DocumentError::TooLarge { what, size, limit };
            ImageArchiveError::Document { path: path(), source }
        };
        let mut bytes = Vec::new();
        let read = file.content.take(limit as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|source| ImageArchiveError::Read { path: path(), source })?;
        if bytes.len() > limit {
            return Err(too_large(usize::try_from(file.size).unwrap_or(usize::MAX)));
        }
        Ok(bytes)
    }

    /// Spools a file with its digest by `algorithm`, unless that is so already; `moved` hears of every byte.
    pub(super) fn spool(
        &self,
        name: &str,
        (store, algorithm): (&Store, Algorithm),
        moved: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<SpooledFile>, ImageArchiveError> {
        let OpenFile { content, size, spooled } = self.open(name)?;
        if let Some(spooled) = spooled.filter(|spooled| spooled.digest().algorithm() == algorithm) {
            return Ok(spooled);
        }
        let mut content = Counted { content, done: 0, moved: |done| moved(done, size) };
        let spooled = store.spool(&mut content, algorithm);
        spooled.map(Arc::new).map_err(|source| ImageArchiveError::Copy { path: self.shown(name), source })
    }
}

/// Opens a regular file in a directory; nothing is waited for that is none.
fn open_beneath(directory: &OwnedFd, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(directory, name, flags, Mode::empty(), resolve)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Tells how much was read.
struct Counted<F> {
    content: Box<dyn Read + Send>,
    done: u64,
    moved: F,
}

impl<F: FnMut(u64)> Read for Counted<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.done += count as u64;
        (self.moved)(self.done);
        Ok(count)
    }
}
