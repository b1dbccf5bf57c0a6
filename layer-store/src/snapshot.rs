//! Snapshots: stacks of layers, mounted to be read or to be written.
//!
//! ```text
//! prepare ─▶ ActiveSnapshot ─freeze─▶ FrozenLayer ─seal─▶ LayerRecord          dropped before: nothing is left
//!            (overlay mount)  unmount   (a tree in tmp/)    diff ID, rename
//!
//! tmp/<lease>/snapshot-<n>/tree         what the step wrote: overlay's upper directory; frozen, it is layer/tree
//!                          work/        overlay's own, and over it the mount
//!                          top/         of a view: an empty lower directory that has the root's metadata, and over it the mount
//! ```
//!
//! - A stack is mounted over a directory of its own that only overlay uses, by handle: ext4 looks at every inode that was removed
//!   lately for each that is made, so none is made that is not needed.
//! - Mounts are made in this process's mount namespace, which its caller has entered: they die with the process.
//! - Writing after `freeze` does not compile, and an unmount that fails freezes nothing. Sockets go before (`sockets`).
//! - A layer that is a tar is mounted through its index (`tar_form`) or gets its tree first (`tree_form`), and of one that is there
//!   several times the topmost is mounted.
//! - A frozen layer may be a lower layer of mounts before it has a diff ID: `seal` renames it, which mounts do not notice.

use std::collections::HashSet;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use oci::{ChainId, DiffId, Hasher};
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::file_error::failed;
use crate::implied::{self, Metadata, Opened};
use crate::layers::{Form, LayerRecord};
use crate::overlay::{self, Stack};
use crate::remove_tree::remove_tree;
use crate::scratch::Scratch;
use crate::sockets::remove_sockets;
use crate::tree_tar::{self, TreeTarError};
use crate::{ApplyError, DriverError, FileError, LayerError, Store, sys};

/// Layers of one mount, at most: overlay's own limit, less the store's own directories.
const MAX_LAYERS: usize = 240;

/// One layer of a stack.
#[derive(Clone, Debug)]
pub enum Lower {
    /// A layer of the store.
    Layer(DiffId),
    /// A layer whose diff ID may not be known yet.
    Frozen(Arc<FrozenLayer>),
}

/// What lies below the lowest layer of a writable snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skeleton {
    /// Nothing.
    None,
    /// Empty directories `proc`, `sys`, `dev` and empty files `etc/resolv.conf`, `etc/hosts`, `etc/hostname`: places to mount
    /// on for a process that runs there. They never enter its layer.
    MountPoints,
    /// The same, and an empty file `.dockerenv`, by which programs see that they are in a container.
    Container,
}

/// Why a stack of layers could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SnapshotError {
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("cannot make the files of layer {diff_id}")]
    Tree { diff_id: DiffId, source: ApplyError },
    #[error("the index of layer {diff_id} cannot be mounted")]
    Index { diff_id: DiffId, source: io::Error },
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("{count} layers are more than the {MAX_LAYERS} that can be mounted")]
    TooManyLayers { count: usize },
    #[error("cannot mount {count} layers on `{}`", .path.display())]
    Mount { count: usize, path: PathBuf, source: io::Error },
    #[error("cannot unmount `{}`", .path.display())]
    Unmount { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a frozen layer could not become a layer of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SealError {
    #[error("stopped")]
    Stopped,
    #[error("what was written is no layer")]
    Tree(#[from] TreeTarError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// A writable stack of layers; dropped, it is discarded.
#[derive(Debug)]
pub struct ActiveSnapshot {
    mounted: Mounted,
    scratch: Scratch,
    _below: Vec<Lower>,
}

/// A stack of layers to read; dropped, it is unmounted.
#[derive(Debug)]
pub struct View {
    mounted: Mounted,
    scratch: Scratch,
    _layers: Vec<Lower>,
}

/// What one step wrote, on its way to being a layer.
#[derive(Debug)]
pub struct FrozenLayer {
    scratch: Scratch,
    state: Mutex<Frozen>,
    sealing: Mutex<()>,
}

#[derive(Debug)]
struct Frozen {
    /// The directory that has `tree`: in `tmp/`, or in `layers/` once it is sealed.
    directory: PathBuf,
    record: Option<LayerRecord>,
}

/// A mount point; dropped, it is unmounted.
#[derive(Debug)]
struct Mounted {
    target: PathBuf,
    is_mounted: bool,
}

impl Lower {
    fn diff_id(&self) -> Option<&DiffId> {
        match self {
            Self::Layer(diff_id) => Some(diff_id),
            Self::Frozen(_) => None,
        }
    }
}

/// A stack of layers, open, with what the store knows of them.
struct Layers {
    opened: Vec<Opened>,
    ids: Vec<Option<DiffId>>,
    root: Metadata,
}

impl Store {
    /// Mounts `below`, lowest layer first, with a fresh writable layer on top.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Layer`] when a layer is not here, [`SnapshotError::Tree`] when its tree cannot be made, [`SnapshotError::Mount`] when the kernel refuses: this process needs
    /// to have entered a mount namespace that it may mount in.
    pub fn prepare(&self, below: &[Lower], skeleton: Skeleton) -> Result<ActiveSnapshot, SnapshotError> {
        let scratch = self.scratch("snapshot")?;
        let layers = self.open_layers(below)?;
        let (upper, work) = (scratch.make("tree")?, scratch.make("work")?);
        set_root(&upper, &layers.root)?;
        let mut lower = self.lower_directories(&layers, &scratch)?;
        if skeleton != Skeleton::None || lower.is_empty() {
            lower.push(open(&self.skeleton(skeleton)?)?);
        }
        let mounted = self.mount(&lower, Some((&upper, &work)), &work)?;
        Ok(ActiveSnapshot { mounted, scratch, _below: below.to_vec() })
    }

    /// Mounts `layers`, lowest first, to be read; no layers make an empty directory.
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare).
    pub fn view(&self, layers: &[Lower]) -> Result<View, SnapshotError> {
        let scratch = self.scratch("view")?;
        let opened = self.open_layers(layers)?;
        let top = scratch.make("top")?;
        set_root(&top, &opened.root)?;
        let mut lower = vec![open(&top)?];
        lower.extend(self.lower_directories(&opened, &scratch)?);
        if lower.len() == 1 {
            lower.push(open(&scratch.make("bottom")?)?);
        }
        let mounted = self.mount(&lower, None, &top)?;
        Ok(View { mounted, scratch, _layers: layers.to_vec() })
    }

    fn mount(&self, lower: &[OwnedFd], upper: Option<(&Path, &Path)>, target: &Path) -> Result<Mounted, SnapshotError> {
        let stack = Stack { lower, upper, xattrs: self.overlay_xattrs()? };
        stack.mount(target).map_err(|error| SnapshotError::Mount {
            count: lower.len(),
            path: target.to_owned(),
            source: error.into(),
        })?;
        Ok(Mounted { target: target.to_owned(), is_mounted: true })
    }

    fn open_layers(&self, layers: &[Lower]) -> Result<Layers, SnapshotError> {
        if layers.len() > MAX_LAYERS {
            return Err(SnapshotError::TooManyLayers { count: layers.len() });
        }
        let indexed = layers.iter().map(|layer| self.open_lower_index(layer)).collect::<Result<Vec<_>, _>>()?;
        let rest = layers.iter().zip(&indexed).filter(|(_, index)| index.is_none());
        self.make_trees(rest.filter_map(|(layer, _)| layer.diff_id()))?;
        let mut all = Layers { opened: Vec::new(), ids: Vec::new(), root: Metadata::default() };
        for (layer, index) in layers.iter().zip(indexed) {
            let (tree, record) = match (layer, index) {
                (Lower::Layer(diff_id), Some(root)) => (root, Some(self.layer(diff_id)?)),
                (Lower::Layer(diff_id), None) => {
                    let record = self.layer(diff_id)?;
                    (self.open_layer_tree(&record)?, Some(record))
                }
                (Lower::Frozen(frozen), _) => frozen.open()?,
            };
            let implied = record.iter().flat_map(|record| &record.implied);
            let implied = implied.filter_map(|path| implied::read_path(path)).collect();
            if record.as_ref().is_some_and(|record| record.is_opaque) {
                all = Layers { opened: Vec::new(), ids: Vec::new(), root: all.root };
            }
            if record.as_ref().is_some_and(|record| record.has_root) {
                all.root = Metadata::read(&tree).map_err(failed("read", &self.root().join("layers")))?;
            }
            all.ids.push(record.map(|record| record.diff_id));
            all.opened.push(Opened { tree, implied });
        }
        all.drop_repeated().map_err(failed("read", &self.root().join("layers")))?;
        Ok(all)
    }

    fn open_lower_index(&self, layer: &Lower) -> Result<Option<OwnedFd>, SnapshotError> {
        let Some(diff_id) = layer.diff_id() else { return Ok(None) };
        let record = self.layer(diff_id)?;
        if record.form.has_tar() { self.open_indexed(&record) } else { Ok(None) }
    }

    /// Returns the directories to mount, topmost first.
    fn lower_directories(&self, layers: &Layers, scratch: &Scratch) -> Result<Vec<OwnedFd>, FileError> {
        let mut directories = Vec::new();
        for (at, layer) in layers.opened.iter().enumerate() {
            let path = self.root().join("layers");
            directories.push(layer.tree.try_clone().map_err(failed("open", &path))?);
            if !layer.implied.is_empty() && at > 0 {
                directories.extend(self.implied_directory(layers, at, scratch)?);
            }
        }
        directories.reverse();
        Ok(directories)
    }

    /// Returns the directory with the true metadata of what a layer only implies; `None` when nothing differs.
    fn implied_directory(&self, layers: &Layers, at: usize, scratch: &Scratch) -> Result<Option<OwnedFd>, FileError> {
        let below: Option<Vec<DiffId>> = layers.ids[..at].iter().cloned().collect();
        let chain = below.as_deref().and_then(ChainId::of);
        let kept = match (&layers.ids[at], chain) {
            (Some(diff_id), Some(chain)) => Some(self.layer_path(diff_id).join(format!("implied-{}", chain.0.hex()))),
            _ => None,
        };
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_dir()) {
            return open_unless_empty(kept);
        }
        let made = scratch.make(format!("implied-{at}"))?;
        implied::build(&layers.opened[at], &layers.opened[..at], self.overlay_xattrs()?, &made)
            .map_err(failed("write", &made))?;
        let directory = open_unless_empty(&made);
        if let Some(kept) = kept {
            // another command may have been faster, and this one then keeps its own
            let cwd = rustix::fs::CWD;
            match rustix::fs::renameat_with(cwd, &made, cwd, &kept, RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => {}
                Err(error) => return Err(failed("write", &kept)(error)),
            }
        }
        directory
    }

    /// Returns the directory below all layers; made once in the life of a store, as nobody writes to it.
    fn skeleton(&self, skeleton: Skeleton) -> Result<PathBuf, FileError> {
        let directory = self.root().join("skeletons").join(match skeleton {
            Skeleton::None => "empty",
            Skeleton::MountPoints => "mount-points",
            Skeleton::Container => "container",
        });
        if !directory.is_dir() {
            let scratch = self.scratch("skeleton")?;
            let made = make_skeleton(&scratch, skeleton)?;
            match std::fs::rename(&made, &directory) {
                // somebody else was faster, and made the same
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {}
                renamed => renamed.map_err(failed("make", &directory))?,
            }
        }
        Ok(directory)
    }
}

fn make_skeleton(scratch: &Scratch, skeleton: Skeleton) -> Result<PathBuf, FileError> {
    let made = scratch.make("made")?;
    if skeleton != Skeleton::None {
        for name in ["proc", "sys", "dev", "etc"] {
            scratch.make(Path::new("made").join(name))?;
        }
        let mark = (skeleton == Skeleton::Container).then_some(".dockerenv");
        for name in ["etc/resolv.conf", "etc/hosts", "etc/hostname"].into_iter().chain(mark) {
            let path = made.join(name);
            std::fs::write(&path, "").map_err(failed("write", &path))?;
            set_times(&path)?;
        }
        for name in ["proc", "sys", "dev", "etc"] {
            set_times(&made.join(name))?;
        }
    }
    set_times(&made)?;
    Ok(made)
}

impl Layers {
    /// Keeps of a layer that is there several times only the topmost: overlay takes none twice, and that one hides the others.
    fn drop_repeated(&mut self) -> Result<(), Errno> {
        let mut above = HashSet::new();
        for at in (0..self.opened.len()).rev() {
            let stat = rustix::fs::fstat(&self.opened[at].tree)?;
            if !above.insert((stat.st_dev, stat.st_ino)) {
                self.opened.remove(at);
                self.ids.remove(at);
            }
        }
        Ok(())
    }
}

impl ActiveSnapshot {
    /// Returns where the stack is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted.target
    }

    /// Ends writing: unmounts, and keeps what was written, but for sockets.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Unmount`] when something in it is still used, [`SnapshotError::File`] when a socket cannot be removed;
    /// it is then discarded.
    pub fn freeze(self) -> Result<FrozenLayer, SnapshotError> {
        // dropped in reverse: should this fail, the mount goes before its directory
        let Self { scratch, _below, mut mounted } = self;
        let written = scratch.directory.join("tree");
        remove_sockets(&written, &mounted.target)?;
        mounted.unmount()?;
        remove_tree(&scratch.directory.join("work"))?;
        let directory = scratch.make("layer")?;
        std::fs::rename(&written, directory.join("tree")).map_err(failed("rename", &written))?;
        let state = Mutex::new(Frozen { directory, record: None });
        Ok(FrozenLayer { scratch, state, sealing: Mutex::new(()) })
    }
}

impl View {
    /// Returns where the stack is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted.target
    }

    /// Writes everything that is there as a tar, in the format of layers: of the same files, the same bytes.
    ///
    /// # Errors
    ///
    /// [`TreeTarError`] with the file that cannot be read, or when `output` takes no more.
    pub fn write_tar(&self, output: &mut impl Write) -> Result<(), TreeTarError> {
        let unreadable = |error: FileError| TreeTarError::Read { path: error.path, source: error.source };
        let xattrs = self.scratch.store.overlay_xattrs().map_err(unreadable)?;
        let tree = open(self.path()).map_err(unreadable)?;
        tree_tar::write(&tree, xattrs, output).map(drop)
    }
}

impl FrozenLayer {
    /// Computes the diff ID and makes this a layer of the store; repeatable.
    ///
    /// Only hashes: no tar is kept. If the store has the layer already, this tree goes when `self` does.
    ///
    /// # Errors
    ///
    /// [`SealError::Tree`] when what was written cannot be put into a tar, [`SealError::Stopped`] once `is_stopped` says so.
    pub fn seal(&self, is_stopped: &dyn Fn() -> bool) -> Result<LayerRecord, SealError> {
        let _sealing = self.sealing.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = {
            let state = self.state();
            if let Some(record) = &state.record {
                return Ok(record.clone());
            }
            state.directory.clone()
        };
        let store = &self.scratch.store;
        let tree = open(&directory.join("tree"))?;
        let mut hashing = Hashing { hasher: Hasher::new(oci::Algorithm::Sha256), is_stopped };
        let written = match tree_tar::write(&tree, store.overlay_xattrs()?, &mut hashing) {
            Err(TreeTarError::Write(_)) if is_stopped() => return Err(SealError::Stopped),
            written => written?,
        };
        let record = LayerRecord::built(DiffId(hashing.hasher.finish()), Form::Tree, &written);
        let mut state = self.state();
        if store.place_layer(&directory, &record)? {
            state.directory = store.layer_path(&record.diff_id);
        }
        state.record = Some(record.clone());
        Ok(record)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Frozen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> Result<(OwnedFd, Option<LayerRecord>), FileError> {
        let state = self.state();
        Ok((open(&state.directory.join("tree"))?, state.record.clone()))
    }
}

impl Mounted {
    fn unmount(&mut self) -> Result<(), SnapshotError> {
        let unmount = |error: Errno| SnapshotError::Unmount { path: self.target.clone(), source: error.into() };
        overlay::unmount_now(&self.target).map_err(unmount)?;
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            // what fails here goes with the mount namespace
            let _ = overlay::unmount_lazily(&self.target);
        }
    }
}

struct Hashing<'a> {
    hasher: Hasher,
    is_stopped: &'a dyn Fn() -> bool,
}

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if (self.is_stopped)() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(path: &Path) -> Result<OwnedFd, FileError> {
    sys::open_directory(path).map_err(failed("open", path))
}

fn open_unless_empty(path: &Path) -> Result<Option<OwnedFd>, FileError> {
    let directory = open(path)?;
    let names = sys::names(&directory).map_err(failed("list", path))?;
    Ok(Some(directory).filter(|_| !names.is_empty()))
}

fn set_root(path: &Path, root: &Metadata) -> Result<(), FileError> {
    root.write(&open(path)?).map_err(failed("write", path))
}

/// Sets what a snapshot's own files would otherwise take from the clock and the umask.
fn set_times(path: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed("write", path))?;
    rustix::fs::utimensat(
        rustix::fs::CWD,
        path,
        &sys::timestamps(sys::Time::default()),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(failed("write", path))
}
