//! tree → tar → tree → tar: the frozen format, and that nothing is lost on the way.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer_store::{Compression, Driver, Form, LayerRecord, Lower, SealError, Skeleton, TreeTarError};
use oci::{BlobSource, Descriptor, Digest};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::place::{DRIVERS, Detail, Place, in_mount_namespace, list, with_each_driver};
use crate::tar::{directory, file, tar};

/// One change that a step makes.
#[derive(Clone, Debug)]
pub(crate) enum Make {
    File { name: Vec<u8>, size: usize, mode: u32, hole: bool },
    Directory { name: Vec<u8>, mode: u32 },
    Symlink { name: Vec<u8>, target: Vec<u8> },
    HardLink { name: Vec<u8>, to: Vec<u8> },
    Fifo { name: Vec<u8> },
    Device { name: Vec<u8> },
    Socket { name: Vec<u8> },
    Remove { name: Vec<u8> },
    Owner { name: Vec<u8>, uid: u32, gid: u32 },
    Time { name: Vec<u8>, seconds: i64, nanoseconds: i64 },
    Xattr { name: Vec<u8>, key: &'static str, value: Vec<u8> },
}

fn at(root: &Path, name: &[u8]) -> PathBuf {
    root.join(OsString::from_vec(name.to_vec()))
}

/// Makes a change; one that is not possible here, such as a link to nothing, is not made.
pub(crate) fn apply(root: &Path, change: &Make) {
    let _ = try_apply(root, change);
}

fn try_apply(root: &Path, change: &Make) -> std::io::Result<()> {
    let node = |name: &[u8], kind, device| rustix::fs::mknodat(CWD, at(root, name), kind, Mode::RUSR, device);
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    match change {
        Make::File { name, size, mode, hole } => {
            let content: Vec<u8> = (0..*size).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
            // what stands there may be a link, or a fifo that nobody reads
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let mut file = std::fs::File::from(rustix::fs::open(at(root, name), flags, Mode::RUSR)?);
            file.write_all(&content)?;
            if *hole {
                file.set_len(*size as u64 + 100_000)?;
            }
            rustix::fs::chmod(at(root, name), Mode::from_raw_mode(*mode))?;
        }
        Make::Directory { name, mode } => {
            std::fs::create_dir_all(at(root, name))?;
            rustix::fs::chmod(at(root, name), Mode::from_raw_mode(*mode))?;
        }
        Make::Symlink { name, target } => rustix::fs::symlink(&target[..], at(root, name))?,
        Make::HardLink { name, to } => std::fs::hard_link(at(root, to), at(root, name))?,
        Make::Fifo { name } => node(name, FileType::Fifo, 0)?,
        Make::Device { name } => node(name, FileType::CharacterDevice, rustix::fs::makedev(1, 3))?,
        Make::Socket { name } => node(name, FileType::Socket, 0)?,
        Make::Remove { name } => {
            let path = at(root, name);
            if path.symlink_metadata()?.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
        }
        Make::Owner { name, uid, gid } => {
            rustix::fs::chownat(CWD, at(root, name), Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)), no_follow)?;
        }
        Make::Time { name, seconds, nanoseconds } => {
            let time = Timespec { tv_sec: *seconds, tv_nsec: *nanoseconds };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, at(root, name), &times, no_follow)?;
        }
        // the kernel stores an empty one, and then refuses to show it
        Make::Xattr { key: "security.capability", value, .. } if value.is_empty() => {}
        Make::Xattr { name, key, value } => {
            rustix::fs::lsetxattr(at(root, name), *key, value, XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// Builds a layer on `below`, seals it, and takes it through a blob into another store and back.
fn check(driver: Driver, below: &[Vec<u8>], changes: &[Make]) -> LayerRecord {
    let place = Place::with(driver);
    let lower = place.layers(below);
    let snapshot = place.store.prepare(&lower, Skeleton::None).unwrap();
    changes.iter().for_each(|change| apply(snapshot.path(), change));
    let shown = list(snapshot.path(), Detail::All);
    let frozen = snapshot.freeze().unwrap();
    let record = frozen.seal(&|| false).unwrap();
    assert_eq!(frozen.seal(&|| false).unwrap(), record);
    let blob = place.store.layer_blob(&record.diff_id, Compression::default()).unwrap();

    let other = Place::with(driver);
    let mut lower = other.layers(below);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut place.store.open(&blob).unwrap(), &mut bytes).unwrap();
    other.store.put_blob(blob.media_type.clone(), &bytes).unwrap();
    other.store.apply(&blob, &record.diff_id).unwrap();
    let again = other.store.layer(&record.diff_id).unwrap();
    assert_eq!(
        (again.content_size, again.tar_size, again.entries),
        (record.content_size, record.tar_size, again.entries)
    );
    lower.push(Lower::Layer(record.diff_id.clone()));
    let view = other.store.view(&lower).unwrap();
    let expected: Vec<&str> = shown.lines().filter(|line| !line.contains(" socket ")).collect();
    assert_eq!(list(view.path(), Detail::All).lines().collect::<Vec<_>>(), expected);
    drop(view);

    check_as_tar(&place, below, &record, &blob, &expected);

    // without the blob the tree makes it again, and its tar is compared with the diff ID
    other.forget_blob(&blob);
    assert_eq!(other.store.layer_blob(&record.diff_id, Compression::default()).unwrap(), blob);
    record
}

pub(crate) fn tar_bytes(place: &Place, blob: &Descriptor) -> Vec<u8> {
    let gzip = place.store.read_blob(&blob.digest, 1 << 24).unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&gzip[..]), &mut bytes).unwrap();
    bytes
}

/// Writes the layer again, entry by entry: the same bytes, before there is a tree, from it, and in a mount.
fn check_as_tar(place: &Place, below: &[Vec<u8>], record: &LayerRecord, blob: &Descriptor, expected: &[&str]) {
    let bytes = tar_bytes(place, blob);
    let other = Place::with(place.driver());
    let written = crate::tar_layers::write(&other.store, &crate::tar_layers::entries_of(&bytes)).unwrap();
    assert_eq!(written, crate::tar_layers::with_form(record.clone(), Form::Tar));
    assert_eq!(other.store.layer_blob(&record.diff_id, Compression::default()).unwrap(), *blob);
    other.forget_blob(blob);
    let mut lower = other.layers(below);
    lower.push(Lower::Layer(record.diff_id.clone()));
    let view = other.store.view(&lower).unwrap();
    assert_eq!(list(view.path(), Detail::All).lines().collect::<Vec<_>>(), expected);
    drop(view);
    let form = if other.driver() == Driver::Tree { Form::Tree } else { Form::Tar };
    assert_eq!(other.store.layer(&record.diff_id).unwrap().form, form);
    assert_eq!(other.store.layer_blob(&record.diff_id, Compression::default()).unwrap(), *blob);
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let component = prop_oneof![
        Just(b"a".to_vec()),
        Just(b"b".to_vec()),
        Just(b"a.b".to_vec()),
        Just(b"a-b".to_vec()),
        Just(b"old".to_vec()),
        Just(b"new\nline".to_vec()),
        Just(b"\xff\xfe".to_vec()),
        Just("ünï".as_bytes().to_vec()),
        Just(vec![b'l'; 120]),
        Just(vec![b'm'; 250]),
    ];
    prop::collection::vec(component, 1..4).prop_map(|components| components.join(&b'/'))
}

pub(crate) fn change() -> impl Strategy<Value = Make> {
    let mode = || prop_oneof![Just(0o644_u32), Just(0o755), Just(0o4755), Just(0o2711), Just(0o1777), Just(0o000)];
    let key = prop_oneof![Just("user.a"), Just("user.b"), Just("security.capability"), Just("trusted.x")];
    let value = prop_oneof![
        Just(b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec()),
        Just(b"two\nlines=".to_vec()),
        Just(Vec::new()),
    ];
    let id = || prop_oneof![Just(0_u32), Just(1000), Just(2_097_151), Just(2_097_152), Just(4_000_000_000)];
    let seconds =
        prop_oneof![Just(0_i64), Just(-1), Just(-3_000_000), Just(1 << 31), Just(1_700_000_000), Just(1 << 33)];
    let nanoseconds = prop_oneof![Just(0_i64), Just(1), Just(500_000_000), Just(999_999_999)];
    prop_oneof![
        5 => (name(), 0..3000_usize, mode(), any::<bool>()).prop_map(|(name, size, mode, hole)| Make::File { name, size, mode, hole }),
        5 => (name(), mode()).prop_map(|(name, mode)| Make::Directory { name, mode }),
        2 => (name(), name()).prop_map(|(name, target)| Make::Symlink { name, target }),
        3 => (name(), name()).prop_map(|(name, to)| Make::HardLink { name, to }),
        1 => name().prop_map(|name| Make::Fifo { name }),
        1 => name().prop_map(|name| Make::Device { name }),
        1 => name().prop_map(|name| Make::Socket { name }),
        2 => name().prop_map(|name| Make::Remove { name }),
        2 => (name(), id(), id()).prop_map(|(name, uid, gid)| Make::Owner { name, uid, gid }),
        3 => (name(), seconds, nanoseconds).prop_map(|(name, seconds, nanoseconds)| Make::Time { name, seconds, nanoseconds }),
        2 => (name(), key, value).prop_map(|(name, key, value)| Make::Xattr { name, key, value }),
    ]
}

#[test]
fn a_socket_in_the_place_of_something_lower_does_not_bring_it_back() {
    let below = [tar(&[directory("run/"), file("run/app", "a"), directory("run/dir/"), file("run/dir/x", "x")])];
    let remove = |name: &str| Make::Remove { name: name.as_bytes().to_vec() };
    let socket = |name: &str| Make::Socket { name: name.as_bytes().to_vec() };
    let changes = [remove("run/app"), socket("run/app"), remove("run/dir"), socket("run/dir"), socket("run/new")];
    in_mount_namespace(|| DRIVERS.iter().for_each(|driver| drop(check(*driver, &below, &changes))));
}

#[test]
fn a_socket_in_a_new_directory_leaves_no_name_in_it() {
    let n = |name: &str| name.as_bytes().to_vec();
    let deep = "deep/".repeat(40);
    let changes = [
        Make::Directory { name: n("new\nline"), mode: 0o644 },
        Make::Socket { name: n("new\nline/a") },
        Make::Directory { name: n(&format!("{deep}a")), mode: 0o000 },
        Make::Socket { name: n(&format!("{deep}a/b")) },
        Make::Socket { name: n(&format!("{deep}c")) },
        Make::Time { name: n(&deep), seconds: -1, nanoseconds: 1 },
        Make::Socket { name: n("at the root") },
    ];
    let below = [tar(&[directory("deep/")])];
    in_mount_namespace(|| DRIVERS.iter().for_each(|driver| assert_eq!(check(*driver, &below, &changes).entries, 42)));
    assert!(tars_of(&below, &changes).iter().all(|tar| !text(tar).contains(".wh.")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_layer_survives_its_tar_and_gives_it_again(changes in prop::collection::vec(change(), 0..25)) {
        let below = [
            tar(&[directory("a/").mode(0o700), file("a/old", "1"), file("b/a/old", "2"), file("old", "3")]),
            tar(&[file("b/b/old", "4"), directory("a.b/").owner(7, 7)]),
        ];
        in_mount_namespace(|| DRIVERS.iter().for_each(|driver| drop(check(*driver, &below, &changes))));
    }
}

fn text(tar: &[u8]) -> String {
    let mut archive = tar::Archive::new(tar);
    let mut text = String::new();
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let path = entry.path_bytes().escape_ascii().to_string();
        let link = entry.link_name_bytes().map(|link| format!(" -> {}", link.escape_ascii())).unwrap_or_default();
        let kind = char::from(header.entry_type().as_byte());
        text += &format!("{kind} {path}{link} {:o} {}\n", header.mode().unwrap(), header.size().unwrap());
    }
    text
}

/// The tar of what a step did on top of layers that each driver keeps, as another reader sees it.
fn tars_of(below: &[Vec<u8>], changes: &[Make]) -> Vec<Vec<u8>> {
    let tars = std::sync::Mutex::new(Vec::new());
    with_each_driver(|place| {
        let snapshot = place.store.prepare(&place.layers(below), Skeleton::MountPoints).unwrap();
        let epoch = Timespec { tv_sec: 1, tv_nsec: 0 };
        changes.iter().for_each(|change| try_apply(snapshot.path(), change).unwrap());
        for path in list(snapshot.path(), Detail::Names).lines().rev().filter_map(|line| line.split(' ').next()) {
            if snapshot.path().join(path).symlink_metadata().is_ok_and(|file| file.mtime() > 1_000_000_001) {
                let times = Timestamps { last_access: epoch, last_modification: epoch };
                rustix::fs::utimensat(CWD, snapshot.path().join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            }
        }
        let record = snapshot.freeze().unwrap().seal(&|| false).unwrap();
        let blob = place.store.layer_blob(&record.diff_id, Compression::default()).unwrap();
        let tar = tar_bytes(&place, &blob);
        assert_eq!(Digest::of(&tar), record.diff_id.0);
        assert_eq!(tar.len() as u64, record.tar_size);
        tars.lock().unwrap().push(tar);
    });
    tars.into_inner().unwrap()
}

use std::os::unix::fs::MetadataExt;

#[test]
fn the_format_is_frozen() {
    let below =
        [tar(&[directory("d/"), file("d/gone", "x"), directory("d/new/"), file("d/new/x", "x"), file("etc/x", "x")])];
    let n = |name: &str| name.as_bytes().to_vec();
    let tars = tars_of(
        &below,
        &[
            Make::Remove { name: n("d/gone") },
            Make::Remove { name: n("d/new") },
            Make::Directory { name: n("d/new"), mode: 0o750 },
            Make::File { name: n("d/new/y"), size: 3, mode: 0o4755, hole: false },
            Make::File { name: n("d/new.txt"), size: 1, mode: 0o644, hole: false },
            Make::File { name: n("d/!"), size: 0, mode: 0o644, hole: false },
            Make::HardLink { name: n("a"), to: n("d/new/y") },
            Make::Symlink { name: n("l"), target: n("d/new") },
            Make::Owner { name: n("d/!"), uid: 4_000_000_000, gid: 5 },
            Make::Xattr { name: n("d/!"), key: "user.x", value: n("y") },
            Make::Directory { name: vec![b'x'; 160], mode: 0o755 },
        ],
    );
    let long = "x".repeat(160);
    let expected = format!(
        "0 a 4755 3\n5 d/ 755 0\n0 d/.wh.gone 644 0\n0 d/! 644 0\n0 d/new.txt 644 1\n5 d/new/ 750 0\n\
         0 d/new/.wh..wh..opq 644 0\n1 d/new/y -> a 4755 0\n2 l -> d/new 777 0\n5 {long}/ 755 0\n"
    );
    for bytes in tars {
        assert_eq!(text(&bytes), expected);
        // these bytes change only together with the format's version
        assert_eq!(
            Digest::of(&bytes).to_string(),
            "sha256:fee93e361420a3847c4f1ddf0586a6e32817fc5aff1ff35f6ef992ee8cd06759"
        );
    }
}

#[test]
fn a_step_that_changes_nothing_makes_an_empty_layer() {
    assert_eq!(tars_of(&[tar(&[directory("d/")])], &[]), [[0; 1024]; 2]);
}

#[test]
fn a_file_with_a_whiteouts_name_cannot_be_in_a_layer() {
    with_each_driver(|place| {
        for name in [".wh.x", "d/.wh..wh..opq"] {
            let snapshot = place.store.prepare(&[], Skeleton::None).unwrap();
            std::fs::create_dir(snapshot.path().join("d")).unwrap();
            std::fs::write(snapshot.path().join(name), "").unwrap();
            let frozen = Arc::new(snapshot.freeze().unwrap());
            let error = frozen.seal(&|| false).unwrap_err();
            assert!(
                matches!(&error, SealError::Tree(TreeTarError::ReservedName { path }) if path == Path::new(name)),
                "{error:?}"
            );
        }
    });
}

#[test]
fn a_tree_deeper_than_any_path_has_a_tar() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Tree);
        let deep = "deep/".repeat(1500);
        let bytes = tar(&[file("x", "1").pax("path", format!("{deep}file"))]);
        let layer = place.apply(&bytes).unwrap();
        // it has no entries for directories, so its tar is another one, which is said
        place.forget_blob(&place.store.layer(&layer).unwrap().blobs[0]);
        let error = place.store.layer_blob(&layer, Compression::default()).unwrap_err();
        assert!(matches!(error, layer_store::CompressError::NotOurs { .. }), "{error:?}");
    });
}
