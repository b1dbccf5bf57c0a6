//! The store without root: in a user namespace with a single mapped id, where overlay reads `user.overlay.*`.
//!
//! A user namespace is entered by a whole process before it has threads, so this program has its own `main`.

#![expect(clippy::unwrap_used, reason = "a test with a `main` of its own")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use layer_store::{ApplyError, Compression, Form, Lower, Ownership, Skeleton, Store, TarEntry, TarKind};
use oci::{DiffId, MediaType};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;
use test_support::harness::Test;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let tests: [Test<()>; 6] = [
        ("whiteouts_and_opaque_directories_work", |()| in_a_store(whiteouts_and_opaque_directories_work)),
        ("a_step_becomes_a_layer_that_gives_its_diff_id_again", |()| in_a_store(a_step_becomes_a_layer)),
        ("devices_are_skipped_and_counted", |()| in_a_store(devices_are_skipped_and_counted)),
        ("a_layer_that_is_a_tar_keeps_what_its_tree_cannot", |()| in_a_store(a_layer_that_is_a_tar)),
        ("an_owner_that_is_not_mapped_is_kept_for_who_gets_the_layer", |()| {
            in_a_store(an_owner_that_is_not_mapped_is_kept_for_who_gets_the_layer)
        }),
        ("what_cannot_be_removed_yet_keeps_nobody_out", |()| what_cannot_be_removed_yet_keeps_nobody_out()),
    ];
    test_support::harness::run(&words, &tests, enter)
}

/// A store with unfinished work of an owner that is not mapped in the namespace: a file system of its own, which goes with it.
const FOREIGN: &str = "/mnt";

fn enter() {
    #[expect(deprecated, reason = "the program has one thread and no open files that matter")]
    rustix::thread::unshare(UnshareFlags::NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", FOREIGN, "tmpfs", MountFlags::empty(), None).unwrap();
    let dead = Path::new(FOREIGN).join("tmp/dead/d");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join("f"), "").unwrap();
    std::os::unix::fs::chown(&dead, Some(12345), Some(12345)).unwrap();

    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    #[expect(deprecated, reason = "the program has one thread and no open files that matter")]
    rustix::thread::unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

fn in_a_store(test: fn(&Store)) {
    let directory = tempfile::tempdir().unwrap();
    test(&Store::open(&directory.path().join("store")).unwrap());
}

/// As for a user outside of the namespace in which a step made files of other owners.
fn what_cannot_be_removed_yet_keeps_nobody_out() {
    let opened = Store::open(Path::new(FOREIGN));
    assert!(opened.is_ok(), "{opened:?}");
    assert!(Path::new(FOREIGN).join("tmp/dead/d/f").exists(), "it could be removed: this tests nothing");
}

type Entry<'a> = (&'a str, tar::EntryType, u64, &'a str);

fn layer(store: &Store, entries: &[Entry<'_>]) -> Result<DiffId, ApplyError> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, kind, uid, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_uid(*uid);
        header.set_gid(0);
        header.set_mtime(7);
        header.set_size(content.len() as u64);
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
        header.set_cksum();
        tar.append(&header, content.as_bytes()).unwrap();
    }
    let blob = store.put_blob(MediaType::OCI_LAYER, &tar.into_inner().unwrap()).unwrap();
    let diff_id = DiffId(blob.digest.clone());
    store.apply(&blob, &diff_id).map(|()| diff_id)
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn whiteouts_and_opaque_directories_work(store: &Store) {
    use tar::EntryType::{Directory, Regular};
    let lower =
        layer(store, &[("d/", Directory, 0, ""), ("d/old", Regular, 0, "x"), ("gone", Regular, 0, "x")]).unwrap();
    let upper = layer(
        store,
        &[
            (".wh.gone", Regular, 0, ""),
            ("d/", Directory, 0, ""),
            ("d/.wh..wh..opq", Regular, 0, ""),
            ("d/new", Regular, 0, "x"),
        ],
    );
    let view = store.view(&[Lower::Layer(lower), Lower::Layer(upper.unwrap())]).unwrap();
    assert_eq!(names(view.path()), ["d"]);
    assert_eq!(names(&view.path().join("d")), ["new"]);
}

fn a_step_becomes_a_layer(store: &Store) {
    use tar::EntryType::{Directory, Regular};
    let lower =
        layer(store, &[("d/", Directory, 0, ""), ("d/old", Regular, 0, "x"), ("gone", Regular, 0, "x")]).unwrap();
    let snapshot = store.prepare(&[Lower::Layer(lower.clone())], Skeleton::MountPoints).unwrap();
    std::fs::remove_file(snapshot.path().join("gone")).unwrap();
    std::fs::remove_dir_all(snapshot.path().join("d")).unwrap();
    std::fs::create_dir(snapshot.path().join("d")).unwrap();
    std::fs::write(snapshot.path().join("d/new"), "n").unwrap();
    let frozen = Arc::new(snapshot.freeze().unwrap());
    let record = frozen.seal(&|| false).unwrap();
    // d/, its opaque marker, d/new, and the whiteout of `gone`
    assert_eq!(record.entries, 4);
    let blob = store.layer_blob(&record.diff_id, Compression::default()).unwrap();
    let root = store.root().parent().unwrap().join("other");
    let other = Store::open(&root).unwrap();
    let bytes = store.read_blob(&blob.digest, 1 << 20).unwrap();
    other.put_blob(blob.media_type.clone(), &bytes).unwrap();
    other.apply(&blob, &record.diff_id).unwrap();
    std::fs::remove_file(root.join("blobs/sha256").join(blob.digest.hex())).unwrap();
    assert_eq!(other.layer_blob(&record.diff_id, Compression::default()).unwrap(), blob);
    let view = store.view(&[Lower::Layer(lower), Lower::Frozen(frozen)]).unwrap();
    assert_eq!(names(&view.path().join("d")), ["new"]);
    assert_eq!(names(view.path()), ["d"]);
}

fn devices_are_skipped_and_counted(store: &Store) {
    use tar::EntryType::{Block, Char, Fifo};
    let layer = layer(store, &[("null", Char, 0, ""), ("disk", Block, 0, ""), ("fifo", Fifo, 0, "")]).unwrap();
    assert_eq!(store.layer(&layer).unwrap().skipped.devices, 2);
    let view = store.view(&[Lower::Layer(layer)]).unwrap();
    assert_eq!(names(view.path()), ["fifo"]);
    assert_eq!(view.path().join("fifo").symlink_metadata().unwrap().mtime(), 7);
}

fn a_layer_that_is_a_tar(store: &Store) {
    let write = |kind: TarKind<'_>, uid: u32| {
        let mut layer = store.begin_tar().unwrap();
        let path = Path::new("it");
        let entry = TarEntry { path, kind, mode: 0o640, uid, gid: 0, mtime: (7, 0), xattrs: &[] };
        layer.entry(&entry, None).unwrap();
        layer.finish().unwrap().diff_id
    };
    let device = write(TarKind::Character { major: 1, minor: 3 }, 0);
    let view = store.view(&[Lower::Layer(device.clone())]).unwrap();
    assert_eq!(names(view.path()), [""; 0]);
    let record = store.layer(&device).unwrap();
    assert_eq!((record.form, record.skipped.devices), (Form::Both, 1));
    assert!(store.layer_blob(&device, Compression::default()).is_ok());

    let foreign = write(TarKind::Fifo, 42);
    assert_eq!(names(store.view(&[Lower::Layer(foreign.clone())]).unwrap().path()), ["it"]);
    let record = store.layer(&foreign).unwrap();
    assert_eq!((record.form, record.skipped.owners), (Form::Both, 1));
    assert!(store.layer_blob(&foreign, Compression::default()).is_ok(), "its tar tells the owner");

    let plain = write(TarKind::Fifo, 0);
    assert_eq!(names(store.view(&[Lower::Layer(plain.clone())]).unwrap().path()), ["it"]);
    assert_eq!(store.layer(&plain).unwrap().form, Form::Tree);
}

fn an_owner_that_is_not_mapped_is_kept_for_who_gets_the_layer(store: &Store) {
    let entries = [("etc/shadow", tar::EntryType::Regular, 42, "x")];
    let layer = layer(store, &entries).unwrap();
    let record = store.layer(&layer).unwrap();
    assert_eq!(record.skipped.owners, 1);
    assert_eq!(store.layer_blob(&layer, Compression::default()).unwrap(), record.blobs[0], "it goes out as it came");
    // what is no layer would lose it
    let error =
        store.unpack(&*store.read_blob(&record.blobs[0].digest, 1 << 20).unwrap(), Ownership::Kept).unwrap_err();
    let expected = "cannot give `etc/shadow` the owner 42:0, which this user namespace does not map";
    assert_eq!(error.to_string(), expected);
}
