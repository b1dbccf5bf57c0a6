//! What the tree and the index of a tar show, above a layer that has something for them to hide.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use super::place::{Detail, describe, list, xattrs};
use crate::apply::entries::Entries;
use crate::apply::tree::{Fault, ForeignOwner, TreeBuilder};
use crate::implied::Metadata;
use crate::index::{Found, IndexBuilder, IndexFault, IndexFile, Indexed, IndexedKind, Unsuitable};
use crate::layers::LayerRecord;
use crate::overlay::{OverlayXattrs, Stack, is_overlay_private, unmount_now};
use crate::sys::{self, Time};
use crate::{ApplyError, TarError};

/// Why there is neither tree nor index of a tar.
#[derive(Debug)]
pub(super) enum Refusal {
    Tar(TarError),
    Apply(ApplyError),
    Unsuitable(Unsuitable),
}

impl Refusal {
    /// The words of the refusal.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Tar(error) => format!("{error}"),
            Self::Apply(error) => format!("{error}"),
            Self::Unsuitable(reason) => format!("{reason}"),
        }
    }
}

/// Makes the index of a tar.
pub(super) fn index(tar: &[u8]) -> Result<(LayerRecord, Vec<u8>), Refusal> {
    let broken = |fault| match fault {
        IndexFault::Apply(error) => Refusal::Apply(error),
        IndexFault::Unsuitable(reason) => Refusal::Unsuitable(reason),
    };
    let mut entries = Entries::new(Cursor::new(tar));
    let mut builder = IndexBuilder::new();
    while let Some(entry) = entries.next().map_err(Refusal::Tar)? {
        let content = entries.position();
        builder.add(&entry, content).map_err(broken)?;
    }
    let (record, image) = builder.finish(tar.len() as u64).map_err(broken)?;
    let mut bytes = Vec::new();
    image.write(&mut bytes).unwrap();
    Ok((record, bytes))
}

/// Makes the tree of a tar in an empty directory.
pub(super) fn tree(tar: &[u8], directory: &Path) -> Result<LayerRecord, Refusal> {
    let broken = |fault| match fault {
        Fault::Tar(error) => Refusal::Tar(error),
        Fault::Apply(error) => Refusal::Apply(error),
    };
    let mut entries = Entries::new(tar);
    let mut builder = TreeBuilder::new(directory, OverlayXattrs::Trusted, ForeignOwner::Refused).unwrap();
    while let Some(entry) = entries.next().map_err(Refusal::Tar)? {
        builder.add(&entry, &mut entries).map_err(broken)?;
    }
    builder.finish().map_err(broken)
}

/// A directory in which trees and indexes are mounted; the mount namespace is one of the test's own.
pub(super) struct Bench {
    directory: tempfile::TempDir,
    count: usize,
}

impl Bench {
    /// Makes a bench whose lower layer has what the paths say: a directory (`d/`), a link (`l -> t`), or a file (its own name).
    pub(super) fn new(below: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("below");
        std::fs::create_dir(&base).unwrap();
        for line in below {
            match line.split_once(" -> ") {
                Some((link, target)) => std::os::unix::fs::symlink(target, base.join(link)).unwrap(),
                None if line.ends_with('/') => std::fs::create_dir(base.join(line)).unwrap(),
                None => std::fs::write(base.join(line), format!("below {line}")).unwrap(),
            }
        }
        Self { directory, count: 0 }
    }

    /// Compares the tree and the index of a tar, and returns what both show: a listing, or the words of the refusal.
    pub(super) fn compare(&mut self, tar: &[u8]) -> Result<String, String> {
        self.count += 1;
        let place = self.directory.path().join(self.count.to_string());
        let [tree_path, mounted, tar_path, index_path] =
            ["tree", "mounted", "tar", "index"].map(|name| place.join(name));
        std::fs::create_dir_all(&tree_path).unwrap();
        std::fs::create_dir(&mounted).unwrap();
        // it takes what other file systems do not: attributes of 64 KiB, for instance
        mount("tmpfs", &tree_path, "tmpfs", MountFlags::empty(), None).unwrap();
        let (record, bytes) = match (tree(tar, &tree_path), index(tar)) {
            (Ok(tree), Ok((index, bytes))) => {
                assert_eq!(summary(&index), summary(&tree));
                (index, bytes)
            }
            (Err(tree), Err(index)) => {
                assert_eq!(index.text(), tree.text());
                unmount_now(&tree_path).unwrap();
                return Err(tree.text());
            }
            (tree, index) => panic!("the tree: {tree:?}, the index: {:?}", index.map(|(record, _)| record)),
        };
        assert_eq!(record.tar_size, tar.len() as u64);
        assert_eq!(index(tar).unwrap().1, bytes, "an index made again is another one");
        std::fs::write(&tar_path, tar).unwrap();
        std::fs::write(&index_path, &bytes).unwrap();
        mount_index(&index_path, &tar_path, &mounted);
        let shown = self.through_overlay(&mounted);
        assert_eq!(shown, self.through_overlay(&tree_path), "(left: index, right: tree)");
        check_lookups(&IndexFile::open(&File::open(&index_path).unwrap()).unwrap(), &mounted, tar);
        unmount_now(&mounted).unwrap();
        unmount_now(&tree_path).unwrap();
        crate::remove_tree::remove_tree(&place).unwrap();
        Ok(shown)
    }

    fn through_overlay(&self, layer: &Path) -> String {
        let target = self.directory.path().join("shown");
        std::fs::create_dir_all(&target).unwrap();
        let lower = [layer, &self.directory.path().join("below")].map(|path| sys::open_directory(path).unwrap());
        Stack { lower: &lower, upper: None, xattrs: OverlayXattrs::Trusted }.mount(&target).unwrap();
        let shown = format!(". {}\n{}", describe(&target, Detail::All), list(&target, Detail::All));
        let shown = shown + &groups(&target);
        unmount_now(&target).unwrap();
        shown
    }
}

/// Mounts an index with its tar.
pub(super) fn mount_index(index: &Path, tar: &Path, target: &Path) {
    let options = std::ffi::CString::new(format!("device={}", tar.display())).unwrap();
    mount(index, target, "erofs", MountFlags::RDONLY, options.as_c_str()).unwrap();
}

fn summary(record: &LayerRecord) -> String {
    let LayerRecord { content_size, entries, skipped, implied, has_root, is_opaque, .. } = record;
    format!("{content_size} {entries} {skipped:?} {implied:?} {has_root} {is_opaque}")
}

/// Tells which names are names of one file.
fn groups(root: &Path) -> String {
    let mut first: Vec<(u64, PathBuf)> = Vec::new();
    let mut text = String::new();
    for path in paths(root) {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() || metadata.nlink() == 1 {
            continue;
        }
        match first.iter().find(|(inode, _)| *inode == metadata.ino()) {
            Some((_, other)) => writeln!(text, "{path:?} is {other:?}").unwrap(),
            None => first.push((metadata.ino(), path)),
        }
    }
    text
}

fn paths(root: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    let below: Vec<PathBuf> =
        all.iter().filter(|path| path.symlink_metadata().unwrap().is_dir()).flat_map(|path| paths(path)).collect();
    all.extend(below);
    all
}

/// Compares what lookups say with what the mounted index shows.
fn check_lookups(file: &IndexFile, mounted: &Path, tar: &[u8]) {
    assert!(matches!(file.look(b"").unwrap(), Found::Directory { is_hidden_below: false, .. }));
    assert_eq!(file.look(b"no/such/name").unwrap(), Found::Nothing);
    for path in paths(mounted) {
        let relative = path.strip_prefix(mounted).unwrap().as_os_str().as_bytes();
        let metadata = path.symlink_metadata().unwrap();
        let found: Indexed = match file.look(relative).unwrap() {
            Found::Hidden => {
                assert_eq!((metadata.mode() & 0o170_000, metadata.rdev()), (0o020_000, 0), "{path:?}");
                continue;
            }
            Found::File(found) | Found::Directory { file: found, .. } => found,
            Found::Nothing => panic!("{path:?} is not found"),
        };
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap();
        let own = xattrs(&path).into_iter().map(|(name, value)| (name.into_bytes(), value));
        let expected = Metadata {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            modified: Time { seconds: metadata.mtime(), nanoseconds },
            xattrs: own.filter(|(name, _)| !is_overlay_private(name)).collect(),
        };
        assert_eq!(found.metadata, expected, "{path:?}");
        match found.kind {
            IndexedKind::Directory => assert!(metadata.is_dir(), "{path:?}"),
            IndexedKind::Symlink { target } => {
                assert_eq!(path.read_link().unwrap().as_os_str().as_bytes(), target, "{path:?}");
            }
            IndexedKind::File { size } => {
                assert!(metadata.is_file() && metadata.len() == size, "{path:?}");
                check_content(&path, &file.content(relative).unwrap(), tar, size);
            }
            IndexedKind::Other => assert!(!metadata.is_dir() && !metadata.is_file() && !metadata.is_symlink()),
        }
    }
}

fn check_content(path: &Path, pieces: &[(u64, u64, u64)], tar: &[u8], size: u64) {
    assert!(size < 64 << 20, "a test compares files that it can read");
    let number = |number: u64| usize::try_from(number).unwrap();
    let mut bytes = vec![0; number(size)];
    for piece in pieces {
        let (at, from, length) = (number(piece.0), number(piece.1), number(piece.2));
        bytes[at..at + length].copy_from_slice(&tar[from..from + length]);
    }
    let mut read = vec![0; bytes.len()];
    File::open(path).unwrap().read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes, "{path:?} has other bytes than the tar");
}
