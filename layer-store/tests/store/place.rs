//! Stores in temporary directories, private mount namespaces, and listings of trees.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use layer_store::{Driver, DriverChoice, Lower, Store, View};
use oci::{Descriptor, DiffId, Digest, MediaType};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

/// A store in a directory of its own, beside a canary.
pub(crate) struct Place {
    pub(crate) store: Store,
    directory: tempfile::TempDir,
}

/// Layers look the same with each of them.
pub(crate) const DRIVERS: [Driver; 2] = [Driver::Erofs, Driver::Tree];

/// Runs `body` with a new store of each driver, in a mount namespace of its own.
pub(crate) fn with_each_driver(body: impl Fn(Place) + Sync) {
    for driver in DRIVERS {
        in_mount_namespace(|| body(Place::with(driver)));
    }
}

impl Place {
    /// A store where nothing is mounted.
    pub(crate) fn new() -> Self {
        Self::with(Driver::Tree)
    }

    pub(crate) fn with(driver: Driver) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open_with(&directory.path().join("store"), DriverChoice::Only(driver)).unwrap();
        Self { store, directory }
    }

    pub(crate) fn driver(&self) -> Driver {
        self.store.driver().unwrap().driver
    }

    /// Mounts one layer.
    pub(crate) fn view(&self, diff_id: &DiffId) -> View {
        self.store.view(&[Lower::Layer(diff_id.clone())]).unwrap()
    }

    /// Ends this command and starts another on the same store.
    pub(crate) fn reopen(self) -> Self {
        let driver = self.driver();
        let Self { store, directory } = self;
        let root = store.root().to_owned();
        drop(store);
        Self { store: Store::open_with(&root, DriverChoice::Only(driver)).unwrap(), directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Keeps a tar as a plain blob and applies it.
    pub(crate) fn apply(&self, tar: &[u8]) -> Result<DiffId, layer_store::ApplyError> {
        let blob = self.store.put_blob(MediaType::OCI_LAYER, tar).unwrap();
        let diff_id = DiffId(blob.digest.clone());
        self.store.apply(&blob, &diff_id).map(|()| diff_id)
    }

    pub(crate) fn layers(&self, tars: &[Vec<u8>]) -> Vec<Lower> {
        tars.iter().map(|tar| Lower::Layer(self.apply(tar).unwrap())).collect()
    }

    pub(crate) fn forget_blob(&self, blob: &Descriptor) {
        std::fs::remove_file(self.blob(&blob.digest)).unwrap();
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.store.root().join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    pub(crate) fn tree(&self, diff_id: &DiffId) -> PathBuf {
        self.store.root().join("layers").join(diff_id.0.hex()).join("tree")
    }

    /// The files in `tmp/` and `leases/` that belong to nobody.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let own = |path: &PathBuf| {
            path.ends_with("lock") || path.to_string_lossy().contains(&format!("/{}-", std::process::id()))
        };
        let list =
            |name: &str| std::fs::read_dir(self.store.root().join(name)).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<PathBuf> = list("tmp").chain(list("leases")).filter(|path| !own(path)).collect();
        for own in list("tmp").filter(own) {
            all.extend(std::fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path()));
        }
        // a layer stays mounted for as long as its command runs
        all.retain(|path| !path.file_name().unwrap().to_string_lossy().starts_with("erofs-"));
        all
    }
}

/// Runs `body` in a mount namespace of its own; what it mounts goes with it.
pub(crate) fn in_mount_namespace(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            #[expect(
                deprecated,
                reason = "these two flags concern this thread alone, and it shares no paths with others"
            )]
            rustix::thread::unshare(UnshareFlags::FS | UnshareFlags::NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// What a listing tells of each file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Names,
    All,
}

/// Lists a tree, one file per line, sorted.
pub(crate) fn list(root: &Path, detail: Detail) -> String {
    let mut text = String::new();
    add(root, root, detail, &mut text);
    text
}

fn add(root: &Path, directory: &Path, detail: Detail, text: &mut String) {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        let line = describe(&path, detail);
        let name = path.strip_prefix(root).unwrap();
        writeln!(text, "{} {line}", name.as_os_str().as_bytes().escape_ascii()).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            add(root, &path, detail, text);
        }
    }
}

/// Describes one file: kind, content, and with [`Detail::All`] everything that a layer keeps.
pub(crate) fn describe(path: &Path, detail: Detail) -> String {
    let metadata = path.symlink_metadata().unwrap();
    let kind = metadata.file_type();
    let mut line = if kind.is_dir() {
        "/".to_owned()
    } else if kind.is_symlink() {
        format!("-> {}", path.read_link().unwrap().as_os_str().as_bytes().escape_ascii())
    } else if kind.is_file() && metadata.len() < 100 {
        format!("`{}`", std::fs::read(path).unwrap().escape_ascii())
    } else if kind.is_file() {
        format!("{} bytes {}", metadata.len(), Digest::of(&std::fs::read(path).unwrap()).short())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_socket() {
        "socket".to_owned()
    } else {
        format!("device {}", metadata.rdev())
    };
    if detail == Detail::All {
        let m = &metadata;
        write!(line, " {:o} {}:{} {}.{}", m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec()).unwrap();
        if !kind.is_dir() {
            write!(line, " x{}", m.nlink()).unwrap();
        }
        for (name, value) in xattrs(path) {
            write!(line, " {name}={}", value.escape_ascii()).unwrap();
        }
    }
    line
}

pub(crate) fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 65536];
    let size = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let names = list[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut all: Vec<(String, Vec<u8>)> = names
        .map(|name| {
            let name = String::from_utf8_lossy(name).into_owned();
            let mut value = vec![0; 65536];
            let size = rustix::fs::lgetxattr(path, &*name, &mut value[..]).unwrap();
            value.truncate(size);
            (name, value)
        })
        .collect();
    all.sort();
    all
}
