//! Layers that are written as tars: entries become `layer.tar` and its diff ID in one pass, without a mount or a tree.
//!
//! ```text
//! entry, content ─order─▶ header ─▶ buffer ─┬─▶ SHA-256 (diff ID)
//!             │                             └─▶ tmp/<lease>/tar-<n>/layer.tar ─┬─rename─▶ layers/<diff-id>/    (`tar_output`)
//!             └─▶ index ──────────────────────▶ tmp/<lease>/tar-<n>/layer.erofs ─┘                               (`index`)
//! ```
//!
//! - The format is that of `tree_tar`, written by the same code: a tree of these files has the same diff ID, and the tree that
//!   is made of such a tar gives its bytes again. What would not come back the same is refused (`order`) or left out here, as
//!   the walk of a tree does.
//! - Dropped before `finish`, nothing is left. After an entry that failed, nothing else can be done with it.

mod order;

use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::{Algorithm, DiffId, Hasher};

use crate::apply::entries::{Entry, Kind};
use crate::file_error::failed;
use crate::index::IndexBuilder;
use crate::layers::{Form, LayerRecord};
use crate::overlay::is_kept;
use crate::scratch::Scratch;
use crate::sys::{Time, Xattrs};
use crate::tar_form::{TAR, write_index};
use crate::tar_output::Output;
use crate::tree_tar::header::Header;
use crate::tree_tar::writer::{ContentFault, TarWriter};
use crate::{FileError, LayerError, Store};

use order::Order;

/// A layer that is being written; dropped, it is discarded.
#[derive(Debug)]
pub struct TarLayer {
    scratch: Scratch,
    order: Order,
    /// `None` after a failure.
    tar: Option<TarWriter<Output>>,
    /// `None` once it has an entry that an index cannot show.
    index: Option<IndexBuilder>,
}

/// One entry of a layer.
#[derive(Clone, Copy, Debug)]
pub struct TarEntry<'a> {
    /// Relative to the root, without `.`, `..` and slashes at the end; of a whiteout, the path that it hides.
    pub path: &'a Path,
    /// What it is.
    pub kind: TarKind<'a>,
    /// Permissions with the set-id and sticky bits; those of a symbolic link are always 0777.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The owning group.
    pub gid: u32,
    /// The modification time: seconds since 1970, and nanoseconds after that second.
    pub mtime: (i64, u32),
    /// Extended attributes; overlay's own and labels of this host are left out.
    pub xattrs: &'a [(String, Vec<u8>)],
}

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what tars call them")]
pub enum TarKind<'a> {
    /// A directory; every parent of an entry needs one.
    Directory,
    /// A regular file with `size` bytes of content.
    File { size: u64 },
    /// A symbolic link.
    Symlink { target: &'a Path },
    /// A further name of the file `to`, with the metadata of its first one.
    HardLink { to: &'a Path },
    /// A character device.
    Character { major: u32, minor: u32 },
    /// A block device.
    Block { major: u32, minor: u32 },
    /// A named pipe.
    Fifo,
    /// The deletion of what lower layers have at the path; mode, owner, time and attributes are not kept.
    Whiteout,
    /// The mark that lower layers have nothing in the directory `path`; mode, owner, time and attributes are not kept.
    Opaque,
}

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum TarLayerError {
    #[error("`{}` cannot be in a layer: names that start with `.wh.` mean deletions there", .path.display())]
    ReservedName { path: PathBuf },
    #[error("`{}` has, or is a link to, a name that no file can have", .path.display())]
    Path { path: PathBuf },
    #[error("cannot give `{}` the owner {uid}:{gid}", .path.display())]
    Owner { path: PathBuf, uid: u32, gid: u32 },
    #[error("`{}` is a device 0:0, which means a deletion in a layer", .path.display())]
    Device { path: PathBuf },
    #[error("extended attribute `{}` of `{}` is there twice or has a name that a tar cannot hold", .name.escape_debug(), .path.display())]
    XattrName { path: PathBuf, name: String },
    #[error("`{}` comes twice or too late: the entries of a layer have an order", .path.display())]
    Order { path: PathBuf },
    #[error("`{}` comes without an entry of its parent", .path.display())]
    NoParent { path: PathBuf },
    #[error("`{}` cannot be a further name of `{}`", .path.display(), .to.display())]
    Link { path: PathBuf, to: PathBuf },
    #[error("`{}` changed while it was read", .path.display())]
    Changed { path: PathBuf },
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("an entry of this layer has failed before")]
    Broken,
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Begins a layer that is written as a tar.
    ///
    /// # Errors
    ///
    /// [`TarLayerError::File`] when its file cannot be made.
    pub fn begin_tar(&self) -> Result<TarLayer, TarLayerError> {
        let scratch = self.scratch("tar")?;
        let path = scratch.directory.join(TAR);
        let output = Output::create(&path, Hasher::new(Algorithm::Sha256)).map_err(failed("make", &path))?;
        Ok(TarLayer {
            scratch,
            order: Order::default(),
            tar: Some(TarWriter::new(output)),
            index: Some(IndexBuilder::new()),
        })
    }
}

impl TarLayer {
    /// Adds an entry; `content` is there for a file, gives exactly its `size` bytes, and is read to its end.
    ///
    /// Entries come directory by directory: in each first its opaque mark, then whiteouts, then the rest, all sorted by the
    /// bytes of their names, to which directories add a slash.
    ///
    /// # Errors
    ///
    /// [`TarLayerError::Changed`] when `content` has fewer or more bytes, [`TarLayerError::Read`] when it fails; the other
    /// variants name the entry that cannot be.
    ///
    /// # Panics
    ///
    /// When there is a `content` and the entry is no file, or the other way round.
    pub fn entry(&mut self, entry: &TarEntry<'_>, content: Option<&mut dyn Read>) -> Result<(), TarLayerError> {
        let mut tar = self.tar.take().ok_or(TarLayerError::Broken)?;
        let header = header(entry)?;
        self.order.next(entry, &header)?;
        tar.header(&header).map_err(|error| self.unwritten(error))?;
        self.add_to_index(header, tar.size());
        match (entry.kind, content) {
            (TarKind::File { size }, Some(content)) => self.content(&mut tar, entry.path, size, content)?,
            (kind, content) => {
                let is_file = matches!(kind, TarKind::File { .. });
                assert!(!is_file && content.is_none(), "an entry has a content exactly when it is a file");
            }
        }
        self.tar = Some(tar);
        Ok(())
    }

    /// Ends the layer and makes it one of the store; if that has it already, this one goes.
    ///
    /// # Errors
    ///
    /// [`TarLayerError::File`] when it cannot be written, [`TarLayerError::Broken`] after an entry that failed.
    pub fn finish(mut self) -> Result<LayerRecord, TarLayerError> {
        let tar = self.tar.take().ok_or(TarLayerError::Broken)?;
        let finished = tar.finish().and_then(|(written, output)| Ok((written, output.finish()?)));
        let (written, (digest, tar_size)) = finished.map_err(|error| self.unwritten(error))?;
        let record = LayerRecord::built(DiffId(digest), Form::Tar, &written);
        if let Some(Ok((_, image))) = self.index.take().map(|index| index.finish(tar_size)) {
            write_index(&self.scratch.directory, &image)?;
        }
        let store = &self.scratch.store;
        match store.place_layer(&self.scratch.directory, &record)? {
            true => Ok(record),
            false => Ok(store.layer(&record.diff_id)?),
        }
    }

    fn add_to_index(&mut self, header: Header, content: u64) {
        let index = self.index.take();
        self.index = index.and_then(|mut index| index.add(&as_entry(header), content).ok().map(|()| index));
    }

    fn content(
        &self,
        tar: &mut TarWriter<Output>,
        path: &Path,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), TarLayerError> {
        let changed = || TarLayerError::Changed { path: path.to_owned() };
        let unreadable = |source| TarLayerError::Read { path: path.to_owned(), source };
        tar.content(size, content).map_err(|fault| match fault {
            ContentFault::Short => changed(),
            ContentFault::Read(source) => unreadable(source),
            ContentFault::Write(error) => self.unwritten(error),
        })?;
        match content.read_exact(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(source) => Err(unreadable(source)),
            Ok(()) => Err(changed()),
        }
    }

    fn unwritten(&self, error: io::Error) -> TarLayerError {
        failed("write", &self.scratch.directory.join(TAR))(error).into()
    }
}

/// Returns what the entry's header says; whether it may stand where it does is [`Order`]'s to tell.
fn header(entry: &TarEntry<'_>) -> Result<Header, TarLayerError> {
    let path = entry.path.as_os_str().as_bytes();
    let mut header = Header { path: path.to_vec(), ..Header::default() };
    let is_name = |target: &Path| !target.as_os_str().is_empty() && !target.as_os_str().as_bytes().contains(&0);
    let no_name = || TarLayerError::Path { path: entry.path.to_owned() };
    match entry.kind {
        TarKind::Whiteout => return Ok(Header::file(&beside(path, b".wh."))),
        TarKind::Opaque => return Ok(Header::file(&[path, b"/.wh..wh..opq"].concat())),
        TarKind::Directory => {
            header.kind = b'5';
            header.path.push(b'/');
        }
        TarKind::File { size } => (header.kind, header.size) = (b'0', size),
        TarKind::Symlink { target } if !is_name(target) => return Err(no_name()),
        TarKind::Symlink { target } => (header.kind, header.link) = (b'2', target.as_os_str().as_bytes().to_vec()),
        TarKind::HardLink { to } => (header.kind, header.link) = (b'1', to.as_os_str().as_bytes().to_vec()),
        TarKind::Character { major: 0, minor: 0 } => {
            return Err(TarLayerError::Device { path: entry.path.to_owned() });
        }
        TarKind::Character { major, minor } => (header.kind, header.device) = (b'3', (major, minor)),
        TarKind::Block { major, minor } => (header.kind, header.device) = (b'4', (major, minor)),
        TarKind::Fifo => header.kind = b'6',
    }
    let is_symlink = matches!(entry.kind, TarKind::Symlink { .. });
    header.mode = if is_symlink { 0o777 } else { entry.mode & 0o7777 };
    (header.uid, header.gid) = (entry.uid, entry.gid);
    if entry.uid == u32::MAX || entry.gid == u32::MAX {
        return Err(TarLayerError::Owner { path: entry.path.to_owned(), uid: entry.uid, gid: entry.gid });
    }
    header.modified = Time { seconds: entry.mtime.0, nanoseconds: entry.mtime.1.min(999_999_999) };
    header.xattrs = xattrs(entry)?;
    Ok(header)
}

/// Returns what a reader finds in the header.
fn as_entry(header: Header) -> Entry {
    let (major, minor) = header.device;
    let kind = match header.kind {
        b'1' => Kind::HardLink(header.link),
        b'2' => Kind::Symlink(header.link),
        b'3' => Kind::Device { is_block: false, major, minor },
        b'4' => Kind::Device { is_block: true, major, minor },
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => Kind::File { size: header.size, regions: None },
    };
    let Header { path, mode, uid, gid, modified, xattrs, .. } = header;
    Entry { path, kind, mode, uid, gid, modified, xattrs }
}

fn xattrs(entry: &TarEntry<'_>) -> Result<Xattrs, TarLayerError> {
    let unusable = |name: &str| TarLayerError::XattrName { path: entry.path.to_owned(), name: name.to_owned() };
    let kept = entry.xattrs.iter().filter(|(name, value)| is_kept(name.as_bytes(), value));
    let mut xattrs: Xattrs = kept.map(|(name, value)| (name.clone().into_bytes(), value.clone())).collect();
    xattrs.sort_unstable();
    let is_unusable = |name: &str| name.is_empty() || name.contains(['=', '\0']);
    if let Some((name, _)) = entry.xattrs.iter().find(|(name, _)| is_unusable(name)) {
        return Err(unusable(name));
    }
    match xattrs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(unusable(&String::from_utf8_lossy(&pair[0].0))),
        None => Ok(xattrs),
    }
}

/// Puts `prefix` before the last part of a path.
fn beside(path: &[u8], prefix: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..name], prefix, &path[name..]].concat()
}
