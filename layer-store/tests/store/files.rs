//! Looking at files without a mount: the same as what a mount of the same stack shows.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer_store::{Compression, Driver, LayerFile, LayerFileKind, LayerFilesError, Lower, Skeleton, Store};
use proptest::prelude::*;

use crate::place::{DRIVERS, Place, in_mount_namespace, with_each_driver, xattrs};
use crate::round_trip::{Make, apply, change, tar_bytes};
use crate::tar::{Entry, directory, file, symlink, tar};
use crate::tar_layers::{Kind, Written, entries_of, write};

/// Describes what a mount shows at a path whose parents are directories.
fn shown(root: &Path, path: &Path) -> Option<String> {
    let is_directory = |parent: &Path| root.join(parent).symlink_metadata().is_ok_and(|file| file.is_dir());
    if path.ancestors().skip(1).any(|parent| !is_directory(parent)) {
        return None;
    }
    let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) };
    let metadata = full.symlink_metadata().ok()?;
    let kind = metadata.file_type();
    let kind = if kind.is_dir() {
        LayerFileKind::Directory
    } else if kind.is_file() {
        LayerFileKind::File { size: metadata.len() }
    } else if kind.is_symlink() {
        LayerFileKind::Symlink { target: full.read_link().unwrap() }
    } else {
        LayerFileKind::Other
    };
    let mtime = (metadata.mtime(), u32::try_from(metadata.mtime_nsec()).unwrap());
    let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    Some(described(&LayerFile { kind, mode, uid, gid, mtime, xattrs: xattrs(&full) }))
}

fn described(file: &LayerFile) -> String {
    let LayerFile { kind, mode, uid, gid, mtime, xattrs } = file;
    let mut text = format!("{kind:?} {mode:o} {uid}:{gid} {}.{}", mtime.0, mtime.1);
    for (name, value) in xattrs {
        write!(text, " {name}={}", value.escape_ascii()).unwrap();
    }
    text
}

/// Compares every path that the mount has, and `more`, with and without it.
fn check_same(store: &Store, layers: &[Lower], mounted: &Path, more: &[PathBuf]) {
    let files = store.files(layers).unwrap();
    let mut paths: BTreeSet<PathBuf> = more.iter().cloned().collect();
    paths.insert(PathBuf::new());
    add(mounted, Path::new(""), &mut paths);
    for path in paths {
        let looked = files.look(&path).unwrap();
        assert_eq!(looked.as_ref().map(described), shown(mounted, &path), "{}", path.display());
        let content = files.read(&path, 1 << 20).unwrap();
        let is_file = looked.is_some_and(|file| matches!(file.kind, LayerFileKind::File { .. }));
        assert_eq!(content, is_file.then(|| std::fs::read(mounted.join(&path)).unwrap()), "{}", path.display());
    }
}

fn add(root: &Path, directory: &Path, paths: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(root.join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = directory.join(entry.file_name());
        // names below everything, to ask for what is not there too
        paths.extend([path.join("a"), path.join("old")]);
        if entry.file_type().unwrap().is_dir() {
            add(root, &path, paths);
        }
        paths.insert(path);
    }
}

fn named(change: &Make) -> Vec<PathBuf> {
    let (Make::File { name, .. }
    | Make::Directory { name, .. }
    | Make::Symlink { name, .. }
    | Make::HardLink { name, .. }
    | Make::Fifo { name }
    | Make::Device { name }
    | Make::Socket { name }
    | Make::Remove { name }
    | Make::Owner { name, .. }
    | Make::Time { name, .. }
    | Make::Xattr { name, .. }) = change;
    let path = PathBuf::from(OsString::from_vec(name.clone()));
    vec![path.join("b"), path]
}

/// Makes steps on top of pulled layers, and looks at the stack as frozen layers, as tars, and as trees.
fn check(driver: Driver, below: &[Vec<u8>], steps: &[Vec<Make>]) {
    let (place, other) = (Place::with(driver), Place::with(driver));
    let mut layers = place.layers(below);
    let mut tars = other.layers(below);
    for changes in steps {
        let snapshot = place.store.prepare(&layers, Skeleton::None).unwrap();
        changes.iter().for_each(|change| apply(snapshot.path(), change));
        let frozen = Arc::new(snapshot.freeze().unwrap());
        let record = frozen.seal(&|| false).unwrap();
        let entries =
            entries_of(&tar_bytes(&place, &place.store.layer_blob(&record.diff_id, Compression::default()).unwrap()));
        tars.push(Lower::Layer(write(&other.store, &entries).unwrap().diff_id));
        layers.push(Lower::Frozen(frozen));
    }
    let more: Vec<PathBuf> = steps.iter().flatten().flat_map(named).collect();
    let view = place.store.view(&layers).unwrap();
    check_same(&place.store, &layers, view.path(), &more);
    check_same(&other.store, &tars, view.path(), &more);
    drop(other.store.view(&tars).unwrap());
    check_same(&other.store, &tars, view.path(), &more);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_looks_as_its_mount_does(steps in prop::collection::vec(prop::collection::vec(change(), 0..12), 1..4)) {
        let below = [
            tar(&[directory("a/").mode(0o700), file("a/old", "1"), file("b/a/old", "2"), file("old", "3")]),
            tar(&[file("b/b/old", "4"), directory("a.b/").owner(7, 7), file("a/b/old", "5"), file("b/.wh.a", "")]),
        ];
        in_mount_namespace(|| DRIVERS.iter().for_each(|driver| check(*driver, &below, &steps)));
    }
}

/// Looks at pulled layers, which may only imply directories.
fn check_pulled(layers: &[&[Entry]]) {
    with_each_driver(|place| {
        let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar(entries)).collect();
        let layers = place.layers(&tars);
        let view = place.store.view(&layers).unwrap();
        let more: Vec<PathBuf> = ["a", "a/d", "a/d/x", "l", "l/d", "a/d/old/x"].map(PathBuf::from).into();
        check_same(&place.store, &layers, view.path(), &more);
    });
}

#[test]
fn implied_and_hidden_directories_look_as_mounted() {
    let d = directory("a/d/").mode(0o700).owner(5, 6).pax("mtime", "12.5").pax("SCHILY.xattr.user.a", "b");
    let root = directory("./").mode(0o711).owner(3, 4);
    let lower = [root, directory("a/").mode(0o711), d, file("a/d/old", "o"), symlink("l", "a")];
    check_pulled(&[]);
    check_pulled(&[&lower]);
    check_pulled(&[&lower, &[file("a/d/new", "n")]]);
    check_pulled(&[&lower, &[file("a/d/1", "1")], &[file("x", "x")], &[file("a/d/sub/2", "2")]]);
    check_pulled(&[&lower, &[file("a/d/.wh..wh..opq", "")]]);
    check_pulled(&[&lower, &[file("a/.wh.d", ""), file("a/d/new", "n")]]);
    check_pulled(&[&lower, &[file(".wh.a", "")], &[file("a/d/new", "n")]]);
    check_pulled(&[&lower, &[file("a/.wh..wh..opq", "")], &[file("a/d/new", "n")]]);
    check_pulled(&[&lower, &[file(".wh..wh..opq", ""), file("a/d/new", "n")]]);
    check_pulled(&[&lower, &[file("a", "f")], &[file("a/d/new", "n")]]);
    check_pulled(&[&lower, &[directory("l/"), file("l/d", "n")]]);
}

#[test]
fn names_that_are_no_names_lead_nowhere() {
    let place = Place::new();
    let layers = place.layers(&[tar(&[directory("d/"), file("f", "x"), symlink("up", "..")])]);
    let directory = Written::new("d", Kind::Directory);
    let built = write(&place.store, &[directory]).unwrap();
    for layers in [layers, vec![Lower::Layer(built.diff_id)]] {
        let files = place.store.files(&layers).unwrap();
        for path in [".", "..", "/", "/d", "d/", "d/..", "d/../f", "./f", "up/x", "f/x", "a\0b"] {
            assert_eq!(files.look(Path::new(path)).unwrap(), None, "{path}");
            assert_eq!(files.read(Path::new(path), 10).unwrap(), None, "{path}");
        }
        assert!(files.look(Path::new("d")).unwrap().is_some());
    }
}

#[test]
fn a_file_larger_than_what_is_wanted_is_not_read() {
    let place = Place::new();
    let pulled = place.layers(&[tar(&[file("f", "12345")])]);
    let built = write(&place.store, &[Written::new("f", Kind::File(b"12345".to_vec()))]).unwrap();
    for layers in [pulled, vec![Lower::Layer(built.diff_id)]] {
        let files = place.store.files(&layers).unwrap();
        assert_eq!(files.read(Path::new("f"), 5).unwrap().unwrap(), b"12345");
        assert!(matches!(files.read(Path::new("f"), 4), Err(LayerFilesError::TooLarge { size: 5, max: 4, .. })));
    }
}

#[test]
fn a_tar_that_becomes_a_tree_is_still_looked_at() {
    with_each_driver(|place| {
        let built = write(&place.store, &[Written::new("f", Kind::File(b"x".to_vec()))]).unwrap();
        let layers = [Lower::Layer(built.diff_id)];
        let files = place.store.files(&layers).unwrap();
        drop(place.store.view(&layers).unwrap());
        assert_eq!(files.read(Path::new("f"), 5).unwrap().unwrap(), b"x");
    });
}
