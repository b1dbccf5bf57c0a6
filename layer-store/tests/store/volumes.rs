//! Volumes: what they start with, who may use and remove them, and what they take on disk.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use layer_store::{
    CopyUp, CopyUpError, FillError, FilledVolume, LabelFilter, Prune, PruneImages, Store, Volume, VolumeError,
    VolumeName, VolumePrune,
};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::place::{Detail, Place, list, with_each_driver};

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// A root filesystem with a directory `data` of everything that can be in one, and what lies beside it.
fn rootfs(place: &Place) -> PathBuf {
    let root = place.path("rootfs");
    let data = root.join("data");
    std::fs::create_dir_all(data.join("deep/er")).unwrap();
    std::fs::write(data.join("deep/er/file"), "content").unwrap();
    std::fs::write(data.join("big"), vec![7; 300_000]).unwrap();
    std::fs::hard_link(data.join("big"), data.join("deep/same")).unwrap();
    symlink("../../../etc/passwd", data.join("link")).unwrap();
    mknodat(CWD, data.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    setxattr(data.join("big"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    chown(data.join("deep"), Some(33), Some(44)).unwrap();
    chown(&data, Some(999), Some(998)).unwrap();
    std::fs::set_permissions(data.join("deep/er/file"), PermissionsExt::from_mode(0o4711)).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o1770)).unwrap();
    symlink("/data", root.join("to-data")).unwrap();
    symlink("../../../../../outside", root.join("out")).unwrap();
    std::fs::create_dir(place.path("outside")).unwrap();
    std::fs::write(place.path("outside/canary"), "x").unwrap();
    root
}

fn fill(store: &Store, volume: &str, copy_up: Option<(&Path, &str)>) -> Result<FilledVolume, FillError> {
    let copy_up = copy_up.map(|(rootfs, target)| CopyUp { rootfs, target: Path::new(target) });
    store.use_volume(&name(volume), &BTreeMap::new(), copy_up)
}

fn root_of(volume: &FilledVolume) -> (u32, u32, u32) {
    let metadata = volume.path().metadata().unwrap();
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

#[test]
fn an_empty_volume_starts_with_all_that_the_image_has_there() {
    let place = Place::new();
    let rootfs = rootfs(&place);
    let expected = list(&rootfs.join("data"), Detail::All);
    for target in ["/data", "to-data", "/data/../to-data/"] {
        let volume = fill(&place.store, "named", Some((&rootfs, target))).unwrap();
        assert_eq!(list(volume.path(), Detail::All), expected, "{target}");
        assert_eq!(root_of(&volume), (0o1770, 999, 998), "{target}");
        let path = volume.path().to_owned();
        drop(volume);
        assert!(path.exists(), "a named one stays");

        let copy_up = Some(CopyUp { rootfs: &rootfs, target: Path::new(target) });
        let volume = place.store.anonymous_volume(copy_up).unwrap();
        assert_eq!((list(volume.path(), Detail::All), root_of(&volume)), (expected.clone(), (0o1770, 999, 998)));
        let path = volume.path().to_owned();
        drop(volume);
        assert!(!path.exists(), "an anonymous one goes");
        place.store.remove_volume(&name("named")).unwrap();
    }
    assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn what_a_volume_has_stays_and_nothing_is_copied_unasked_or_from_outside() {
    let place = Place::new();
    let rootfs = rootfs(&place);
    std::fs::create_dir(rootfs.join("empty")).unwrap();
    std::fs::set_permissions(rootfs.join("empty"), PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(rootfs.join("file"), "").unwrap();
    let check = |copy_up: Option<&str>, mode: u32| {
        let volume = fill(&place.store, "vol", copy_up.map(|target| (&*rootfs, target))).unwrap();
        assert_eq!((list(volume.path(), Detail::Names), root_of(&volume).0), (String::new(), mode), "{copy_up:?}");
    };
    check(None, 0o755);
    for target in ["/missing", "/file", "/out", "/file/x"] {
        check(Some(target), 0o755);
    }
    check(Some("/empty"), 0o700);
    let volume = fill(&place.store, "vol", None).unwrap();
    std::fs::write(volume.path().join("own"), "1").unwrap();
    drop(volume);
    let volume = fill(&place.store, "vol", Some((&rootfs, "/data"))).unwrap();
    assert_eq!(list(volume.path(), Detail::Names), "own `1`\n");
}

#[test]
fn a_volume_is_not_replaced_under_who_uses_it() {
    let place = Place::new();
    let rootfs = rootfs(&place);
    let other = Store::open(place.store.root()).unwrap();
    let used = fill(&place.store, "vol", None).unwrap();
    let before = used.path().metadata().unwrap().ino();
    let second = fill(&other, "vol", Some((&rootfs, "/data"))).unwrap();
    assert_eq!((list(second.path(), Detail::Names), second.path().metadata().unwrap().ino()), (String::new(), before));
    drop((used, second));
    let third = fill(&other, "vol", Some((&rootfs, "/data"))).unwrap();
    assert!(third.path().join("deep/er/file").exists());
}

#[test]
fn several_commands_may_begin_with_the_same_volume_at_once() {
    let place = Place::new();
    let rootfs = rootfs(&place);
    let expected = list(&rootfs.join("data"), Detail::All);
    for round in 0..10 {
        let volume = format!("vol{round}");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = Store::open(place.store.root()).unwrap();
                    let volume = fill(&store, &volume, Some((&rootfs, "/data"))).unwrap();
                    assert_eq!(list(volume.path(), Detail::All), expected);
                });
            }
        });
    }
}

#[test]
fn a_volume_that_cannot_be_filled_stays_empty() {
    with_each_driver(|place| {
        let rootfs = rootfs(&place);
        std::fs::create_dir(rootfs.join("small")).unwrap();
        std::fs::write(rootfs.join("small/file"), "x").unwrap();
        let disk = place.path("disk");
        std::fs::create_dir(&disk).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &disk, "tmpfs", flags, c"size=256k").unwrap();
        let store = Store::open(&disk.join("store")).unwrap();
        let error = fill(&store, "vol", Some((&rootfs, "/data"))).unwrap_err();
        assert_eq!(error.to_string(), "cannot copy what the image has in `/data`");
        assert!(matches!(error, FillError::CopyUp(CopyUpError::Write { .. })), "{error:?}");
        let volume = store.volume(&name("vol")).unwrap();
        assert_eq!(list(&volume.data, Detail::Names), "");
        let tmp = std::fs::read_dir(store.root().join("tmp")).unwrap().map(|entry| entry.unwrap().path());
        let left = tmp.flat_map(|directory| std::fs::read_dir(directory).unwrap());
        assert_eq!(left.count(), 0);
        let filled = fill(&store, "vol", Some((&rootfs, "/small"))).unwrap();
        assert_eq!(list(filled.path(), Detail::Names), "file `x`\n");
        drop((filled, store));
        rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
    });
}

#[test]
fn a_volume_is_found_until_it_is_removed_which_who_uses_it_prevents() {
    let place = Place::new();
    let other = Store::open(place.store.root()).unwrap();
    let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    let made = place.store.make_volume(&name("vol"), &labels).unwrap();
    assert_eq!(made.labels, labels);
    assert_eq!(place.store.make_volume(&name("vol"), &BTreeMap::new()).unwrap(), made, "the first labels stay");
    assert_eq!(other.volume(&name("vol")).unwrap(), made);
    assert!(matches!(other.volume(&name("none")), Err(VolumeError::NotFound { .. })));
    assert_eq!(other.volumes().unwrap().into_iter().map(Result::unwrap).collect::<Vec<_>>(), [made]);
    assert_eq!(other.used_volumes().unwrap().into_iter().collect::<Vec<_>>(), [name("vol")]);
    let error = other.remove_volume(&name("vol")).unwrap_err();
    assert_eq!(error.to_string(), "volume `vol` is used by a command that is running");
    drop(place.reopen());
    assert!(other.used_volumes().unwrap().is_empty());
}

#[test]
fn a_volume_without_a_record_is_none_and_one_that_cannot_be_read_can_be_removed() {
    let place = Place::new();
    let volumes = place.store.root().join("volumes");
    std::fs::create_dir_all(volumes.join("half/_data/x")).unwrap();
    std::fs::create_dir_all(volumes.join("odd/_data")).unwrap();
    std::fs::write(volumes.join("odd/record.json"), "nonsense").unwrap();
    std::fs::write(volumes.join(".stray"), "").unwrap();
    assert!(matches!(place.store.volume(&name("half")), Err(VolumeError::NotFound { .. })));
    let listed = place.store.volumes().unwrap();
    assert!(matches!(listed.as_slice(), [Err(VolumeError::Record { .. })]), "{listed:?}");
    let made = place.store.make_volume(&name("half"), &BTreeMap::new()).unwrap();
    assert_eq!(list(&made.data, Detail::Names), "");
    assert!(fill(&place.store, "odd", None).is_err());
    let place = place.reopen();
    place.store.remove_volume(&name("odd")).unwrap();
    assert!(matches!(place.store.remove_volume(&name("odd")), Err(VolumeError::NotFound { .. })));
}

#[test]
fn a_prune_takes_what_it_is_asked_for_and_nobody_uses() {
    let place = Place::new();
    let label = |key: &str| BTreeMap::from([(key.to_owned(), String::new())]);
    for (text, labels) in [("anon", label(Volume::ANONYMOUS)), ("named", label("x")), ("used", label("x"))] {
        place.store.make_volume(&name(text), &labels).unwrap();
    }
    let place = place.reopen();
    let other = Store::open(place.store.root()).unwrap();
    let used = fill(&other, "used", None).unwrap();
    let everything = Prune { images: PruneImages::All, build_cache: layer_store::PruneCache::All, ..Prune::default() };
    assert_eq!(place.store.prune(&everything).unwrap(), []);
    let check = |what: VolumePrune, expected: &[&str]| {
        let told = place.store.prune_volumes(&VolumePrune { dry_run: true, ..what.clone() }).unwrap();
        let freed = place.store.prune_volumes(&what).unwrap();
        assert_eq!(told, freed);
        assert!(freed.iter().all(|freed| freed.size > 0));
        assert_eq!(freed.iter().map(|freed| &*freed.name).collect::<Vec<_>>(), expected, "{what:?}");
    };
    let all = VolumePrune { named: true, ..VolumePrune::default() };
    let has_x = LabelFilter::Has { key: "x".to_owned(), value: None };
    check(VolumePrune { labels: vec![has_x.clone()], ..VolumePrune::default() }, &[]);
    check(VolumePrune::default(), &["anon"]);
    check(VolumePrune { labels: vec![LabelFilter::HasNot { key: "x".to_owned(), value: None }], ..all.clone() }, &[]);
    check(VolumePrune { labels: vec![has_x], ..all.clone() }, &["named"]);
    drop((used, other));
    check(all, &["used"]);
}

#[test]
fn volumes_are_used_and_removed_beside_each_other_without_a_loss() {
    let place = Place::new();
    let rootfs = rootfs(&place);
    let root = place.store.root().to_owned();
    let using = || {
        for _ in 0..30 {
            let store = Store::open(&root).unwrap();
            let volume = fill(&store, "vol", Some((&rootfs, "/data"))).unwrap();
            assert!(volume.path().join("deep/er/file").exists());
            std::fs::write(volume.path().join("own"), "1").unwrap();
            assert!(store.volume(&name("vol")).is_ok());
        }
    };
    let removing = || {
        for _ in 0..120 {
            let store = Store::open(&root).unwrap();
            match store.remove_volume(&name("vol")) {
                Ok(()) | Err(VolumeError::NotFound { .. } | VolumeError::InUse { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            store.prune_volumes(&VolumePrune { named: true, ..VolumePrune::default() }).unwrap();
            store.usage().unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(using);
        scope.spawn(using);
        scope.spawn(removing);
    });
    assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
}
