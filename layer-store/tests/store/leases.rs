//! Several commands on one store: what one uses, another does not remove; what a dead one left goes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use layer_store::{CacheRecord, Compression, Prune, PruneCache, PruneImages, RemoveError, Store};
use oci::{BlobSink, BlobSource, Descriptor, MediaType};

use crate::images::{image, name};
use crate::place::Place;
use crate::tar::{file, tar};

const EVERYTHING: Prune = Prune {
    images: PruneImages::All,
    build_cache: PruneCache::All,
    keep_storage: None,
    dry_run: false,
    until: None,
    labels: Vec::new(),
};

#[test]
fn the_store_and_its_directories_are_private() {
    let place = Place::new();
    place.apply(&tar(&[file("a", "1")])).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.store.root()), 0o700);
    for name in ["blobs", "layers", "images", "tags", "cache", "leases", "tmp"] {
        assert_eq!(mode(&place.store.root().join(name)), 0o700, "{name}");
    }
}

#[test]
fn what_a_running_command_uses_is_not_removed() {
    let place = Place::new();
    let id = image(&place, &["1"], "a");
    let layer = place.apply(&tar(&[file("x", "x")])).unwrap();
    let blob = place.store.put_blob(MediaType::OCI_CONFIG, b"blob").unwrap();
    let other = Store::open(place.store.root()).unwrap();
    assert_eq!(other.prune(&EVERYTHING).unwrap(), []);
    assert!(matches!(other.remove_image(&id), Err(RemoveError::InUse { .. })));
    assert!(place.store.image(&id).is_ok());
    assert!(place.store.has_layer(&layer).unwrap());
    assert!(place.store.open(&blob).is_ok());

    let place = place.reopen();
    // now this one only looks, and the other one holds nothing
    assert!(place.store.images().unwrap()[0].is_ok());
    assert_eq!(place.store.find(&id.0.to_string()).unwrap(), id);
    assert!(!other.prune(&EVERYTHING).unwrap().is_empty());
    assert!(!place.store.has_layer(&layer).unwrap());
}

#[test]
fn what_a_dead_command_left_is_swept_by_the_next() {
    let place = Place::new();
    image(&place, &["1"], "a");
    let root = place.store.root().to_owned();
    // a command that was killed: its lease is there, and nobody has it locked
    std::fs::write(root.join("leases/1-dead"), "image sha256:nonsense\nlayer\n").unwrap();
    std::fs::create_dir_all(root.join("tmp/1-dead/snapshot-0/layer/tree/d")).unwrap();
    std::fs::create_dir_all(root.join("tmp/2-older")).unwrap();
    std::fs::write(root.join("tmp/stray"), "").unwrap();
    let partial = Descriptor::of(MediaType::OCI_LAYER, b"partial");
    place.store.begin(&partial).unwrap().unwrap().write_all(b"par").unwrap();
    let old = root.join("tmp/partial-sha256-old");
    let file = std::fs::File::create(&old).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(8 * 24 * 3600)).unwrap();
    let other = Store::open(&root).unwrap();
    let left = |name: &str| std::fs::read_dir(root.join(name)).unwrap().count();
    // the first command's own, and the download that is not old
    assert_eq!((left("leases"), left("tmp")), (2, 2));
    assert_eq!(other.begin(&partial).unwrap().unwrap().received(), 3);
    drop((other, place));
}

#[test]
fn a_command_that_ends_leaves_neither_lease_nor_directory() {
    let place = Place::new();
    image(&place, &["1"], "a");
    let place = place.reopen();
    let left = |name: &str| std::fs::read_dir(place.store.root().join(name)).unwrap().count();
    assert_eq!((left("leases"), left("tmp")), (1, 0));
}

#[test]
fn builds_and_prunes_beside_each_other_do_not_fail() {
    let place = Place::new();
    let root = place.store.root().to_owned();
    let build = |worker: usize| {
        for round in 0..12 {
            let store = Store::open(&root).unwrap();
            // content that several workers share
            let bytes = tar(&[file("f", format!("{}", (round + worker) % 3))]);
            let blob = store.put_blob(MediaType::OCI_LAYER, &bytes).unwrap();
            let diff_id = oci::DiffId(blob.digest.clone());
            store.apply(&blob, &diff_id).unwrap();
            let config = crate::images::config(std::slice::from_ref(&diff_id), &round.to_string());
            let id = store.add_image(&config).unwrap();
            store.tag(&name("app"), &id).unwrap();
            assert_eq!(store.image(&id).unwrap().size, 1);
            assert!(store.layer(&diff_id).is_ok());
            store.manifest(&id, Compression::default()).unwrap();
            let key = (round % 3).to_string().repeat(64).parse().unwrap();
            let record = CacheRecord { diff_id: Some(diff_id), recipe: round.into(), created: String::new() };
            store.remember(&key, &record).unwrap();
            // what is found stays as long as it is held
            let found = store.recall(&key).and_then(|record| record.diff_id);
            assert!(found.is_none_or(|diff_id| store.has_layer(&diff_id).unwrap()));
        }
    };
    let prune = || {
        for _ in 0..40 {
            let store = Store::open(&root).unwrap();
            store.prune(&EVERYTHING).unwrap();
            store.limit_cache(1).unwrap();
            store.usage_details().unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| build(0));
        scope.spawn(|| build(1));
        scope.spawn(prune);
    });
    let place = place.reopen();
    place.store.prune(&EVERYTHING).unwrap();
    assert_eq!(place.store.usage().unwrap().images.count, 0);
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    crate::place::in_mount_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let options = c"size=2m";
        rustix::mount::mount("tmpfs", directory.path(), "tmpfs", rustix::mount::MountFlags::empty(), options).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let small = tar(&[file("a", vec![1; 300_000])]);
        let kept = store.put_blob(MediaType::OCI_LAYER, &small).unwrap();
        store.apply(&kept, &oci::DiffId(kept.digest.clone())).unwrap();
        let big = tar(&[file("a", vec![1; 4_000_000])]);
        let zstd = zstd::stream::encode_all(&big[..], 1).unwrap();
        let blob = store.put_blob(MediaType::OCI_LAYER_ZSTD, &zstd).unwrap();
        let error = store.apply(&blob, &oci::DiffId(oci::Digest::of(&big))).unwrap_err();
        assert_eq!(error.to_string(), "cannot write `a`");
        let mut writer = store.begin(&Descriptor::of(MediaType::OCI_LAYER, &big)).unwrap().unwrap();
        let error = writer.write_all(&big).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        drop(writer);
        assert!(store.put_blob(MediaType::OCI_LAYER, &big).is_err());
        let tmp = std::fs::read_dir(store.root().join("tmp")).unwrap().flat_map(|entry| {
            let path = entry.unwrap().path();
            std::fs::read_dir(&path).map_or(vec![path], |inside| inside.map(|entry| entry.unwrap().path()).collect())
        });
        assert_eq!(tmp.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
        // and what was there still works, also for a command that finds the disk full to its last byte
        let mut filler = std::fs::File::create(directory.path().join("filler")).unwrap();
        while std::io::Write::write(&mut filler, &[1; 4096]).is_ok_and(|written| written > 0) {}
        let other = Store::open(store.root()).unwrap();
        assert_eq!(other.read_blob(&kept.digest, small.len()).unwrap(), small);
        assert!(other.put_blob(MediaType::OCI_LAYER, b"new").is_err());
        drop(other);
        assert!(store.has_layer(&oci::DiffId(kept.digest)).unwrap());
        drop(store);
        rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn a_disk_without_room_for_a_lease_is_read_and_nobody_waits_for_himself() {
    crate::place::in_mount_namespace(|| {
        let directory = tempfile::tempdir().unwrap();
        let options = c"size=2m,nr_inodes=100";
        rustix::mount::mount("tmpfs", directory.path(), "tmpfs", rustix::mount::MountFlags::empty(), options).unwrap();
        let root = directory.path().join("store");
        let store = Store::open(&root).unwrap();
        let blob = store.put_blob(MediaType::OCI_LAYER, &tar(&[file("a", "1")])).unwrap();
        let diff_id = oci::DiffId(blob.digest.clone());
        store.apply(&blob, &diff_id).unwrap();
        let id = store.add_image(&crate::images::config(&[diff_id], "a")).unwrap();
        drop(store);
        let full = (0..).find(|n| std::fs::File::create(directory.path().join(format!("{n}"))).is_err());
        assert!(full.is_some());

        let store = Store::open(&root).unwrap();
        assert!(store.image(&id).is_ok());
        let error = store.tag(&name("app"), &id).unwrap_err();
        assert!(error.to_string().starts_with("cannot write `"), "{error}");
        drop(store);
        rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}
