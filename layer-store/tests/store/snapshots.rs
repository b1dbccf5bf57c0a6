//! Mounted stacks: what they show, what becomes of what is written, and what is left when they end.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer_store::{Lower, SealError, Skeleton, SnapshotError};

use crate::place::{Detail, describe, list, with_each_driver};
use crate::tar::{Entry, directory, file, tar};

fn write(path: &Path, name: &str, content: &str) {
    std::fs::write(path.join(name), content).unwrap();
}

#[test]
fn steps_stack_on_frozen_layers_before_and_after_they_are_sealed() {
    with_each_driver(|place| {
        let base = place.layers(&[tar(&[file("base", "0")])]);
        let first = place.store.prepare(&base, Skeleton::None).unwrap();
        write(first.path(), "one", "1");
        let first = Arc::new(first.freeze().unwrap());
        let stack: Vec<Lower> = base.iter().cloned().chain([Lower::Frozen(Arc::clone(&first))]).collect();

        let second = place.store.prepare(&stack, Skeleton::None).unwrap();
        let before = list(second.path(), Detail::Names);
        // sealing renames a directory that is mounted
        let record = std::thread::scope(|scope| scope.spawn(|| first.seal(&|| false).unwrap()).join().unwrap());
        assert_eq!(list(second.path(), Detail::Names), before);
        write(second.path(), "two", "2");
        std::fs::remove_file(second.path().join("one")).unwrap();
        let second = Arc::new(second.freeze().unwrap());

        let stack: Vec<Lower> = stack.into_iter().chain([Lower::Frozen(Arc::clone(&second))]).collect();
        let view = place.store.view(&stack).unwrap();
        assert_eq!(list(view.path(), Detail::Names), "base `0`\ntwo `2`\n");
        drop(view);
        let sealed = second.seal(&|| false).unwrap().diff_id;
        let layers = [base[0].clone(), Lower::Layer(record.diff_id), Lower::Layer(sealed)];
        let view = place.store.view(&layers).unwrap();
        assert_eq!(list(view.path(), Detail::Names), "base `0`\ntwo `2`\n");
        drop((view, stack, second, first));
        assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
    });
}

#[test]
fn what_is_dropped_leaves_nothing() {
    with_each_driver(|place| {
        let snapshot = place.store.prepare(&[], Skeleton::MountPoints).unwrap();
        write(snapshot.path(), "x", "x");
        // even while something in it is open
        let open = std::fs::File::open(snapshot.path().join("x")).unwrap();
        drop(snapshot);
        drop(open);
        let snapshot = place.store.prepare(&[], Skeleton::None).unwrap();
        write(snapshot.path(), "x", "x");
        drop(snapshot.freeze().unwrap());
        drop(place.store.view(&[]).unwrap());
        assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
        let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
        assert!(!mounts.contains(&*place.store.root().to_string_lossy()), "{mounts}");
    });
}

#[test]
fn a_snapshot_that_is_still_used_does_not_freeze() {
    with_each_driver(|place| {
        let snapshot = place.store.prepare(&[], Skeleton::None).unwrap();
        let open = std::fs::File::create(snapshot.path().join("x")).unwrap();
        assert!(matches!(snapshot.freeze(), Err(SnapshotError::Unmount { .. })));
        drop(open);
        assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_seal_ends_when_it_is_stopped_however_much_is_left() {
    with_each_driver(|place| {
        let snapshot = place.store.prepare(&[], Skeleton::None).unwrap();
        let file = std::fs::File::create(snapshot.path().join("x")).unwrap();
        file.set_len(1 << 40).unwrap();
        drop(file);
        let frozen = snapshot.freeze().unwrap();
        let asked = std::cell::Cell::new(0);
        let stop_at_the_third = || asked.replace(asked.get() + 1) > 1;
        assert!(matches!(frozen.seal(&stop_at_the_third), Err(SealError::Stopped)));
        drop(frozen);
        assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
    });
}

#[test]
fn mount_points_are_there_and_never_enter_a_layer() {
    with_each_driver(|place| {
        let snapshot = place.store.prepare(&[], Skeleton::MountPoints).unwrap();
        let expected = "dev /\netc /\netc/hostname ``\netc/hosts ``\netc/resolv.conf ``\nproc /\nsys /\n";
        assert_eq!(list(snapshot.path(), Detail::Names), expected);
        let record = snapshot.freeze().unwrap().seal(&|| false).unwrap();
        assert_eq!((record.tar_size, record.entries), (1024, 0));
    });
}

#[test]
fn a_view_of_nothing_is_empty_and_cannot_be_written() {
    with_each_driver(|place| {
        let view = place.store.view(&[]).unwrap();
        assert_eq!(list(view.path(), Detail::All), "");
        assert!(std::fs::write(view.path().join("x"), "").is_err());
        let one = place.layers(&[tar(&[file("x", "1")])]);
        let view = place.store.view(&one).unwrap();
        assert_eq!(list(view.path(), Detail::Names), "x `1`\n");
        assert!(std::fs::write(view.path().join("x"), "").is_err());
    });
}

#[test]
fn a_stack_of_many_layers_is_mounted() {
    with_each_driver(|place| {
        let tars: Vec<Vec<u8>> =
            (0..200).map(|n| tar(&[file("which", n.to_string()), file(&format!("f{n}"), "")])).collect();
        let layers = place.layers(&tars);
        let snapshot = place.store.prepare(&layers, Skeleton::MountPoints).unwrap();
        assert_eq!(std::fs::read(snapshot.path().join("which")).unwrap(), b"199");
        assert!(snapshot.path().join("f0").exists());
        let too_many = vec![layers[0].clone(); 241];
        assert!(matches!(place.store.view(&too_many), Err(SnapshotError::TooManyLayers { count: 241 })));
        assert!(matches!(
            place.store.view(&[Lower::Layer(oci::DiffId(oci::Digest::of(b"x")))]),
            Err(SnapshotError::Layer(_))
        ));
    });
}

#[test]
fn a_layer_may_be_there_several_times() {
    with_each_driver(|place| {
        let repeated = tar(&[directory("d/").mode(0o700), file("d/x", "1"), file(".wh.gone", "")]);
        let between = tar(&[file("d/.wh.x", ""), file("d/y", "2"), file("gone", "3"), file("e/z", "4")]);
        let layers = place.layers(&[tar(&[file("gone", "0")]), repeated.clone(), between, repeated]);
        let view = place.store.view(&layers).unwrap();
        assert_eq!(list(view.path(), Detail::Names), "d /\nd/x `1`\nd/y `2`\ne /\ne/z `4`\n");
        drop(place.store.prepare(&layers, Skeleton::MountPoints).unwrap());
    });
}

#[test]
fn a_device_in_a_stack_cannot_be_opened() {
    with_each_driver(|place| {
        let layers = place.layers(&[tar(&[crate::tar::device(b'3', "null", 1, 3)])]);
        let view = place.store.view(&layers).unwrap();
        assert!(std::fs::File::open(view.path().join("null")).is_err());
    });
}

/// Mounts layers and checks what one path looks like, read-only, writable, and again from what is kept by then.
fn check(layers: &[&[Entry]], path: &str, expected: &str) {
    with_each_driver(|place| {
        let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar(entries)).collect();
        let layers = place.layers(&tars);
        for _ in 0..2 {
            let view = place.store.view(&layers).unwrap();
            assert_eq!(describe(&view.path().join(path), Detail::All), expected, "{path} in a view");
            let snapshot = place.store.prepare(&layers, Skeleton::MountPoints).unwrap();
            assert_eq!(describe(&snapshot.path().join(path), Detail::All), expected, "{path} in a snapshot");
        }
    });
}

#[test]
fn a_directory_that_a_layer_only_implies_looks_as_below() {
    let true_one = "/ 40700 5:6 12.500000000 user.a=b";
    let d = directory("a/d/").mode(0o700).owner(5, 6).pax("mtime", "12.5").pax("SCHILY.xattr.user.a", "b");
    let parent = directory("a/").mode(0o711);
    let lower = [parent.clone(), d.clone(), file("a/d/old", "o")];
    check(&[&lower, &[file("a/d/new", "n")]], "a/d", true_one);
    check(&[&lower, &[file("a/d/new", "n")]], "a", "/ 40711 0:0 1000000000.0");
    // several layers in between that also only imply it, or do not have it
    check(&[&lower, &[file("a/d/1", "1")], &[file("x", "x")], &[file("a/d/sub/2", "2")]], "a/d", true_one);
    // the layer's own parent stays as its entry says
    check(&[&lower, &[directory("a/").mode(0o755), file("a/d/new", "n")]], "a", "/ 40755 0:0 1000000000.0");
    check(&[&lower, &[directory("a/").mode(0o755), file("a/d/new", "n")]], "a/d", true_one);
    // its own entry, wherever that stands, is the last word
    check(&[&lower, &[file("a/d/new", "n"), directory("a/d/").mode(0o750)]], "a/d", "/ 40750 0:0 1000000000.0");
    // an opaque whiteout empties it and leaves it as it is
    check(&[&lower, &[file("a/d/.wh..wh..opq", "")]], "a/d", true_one);
}

#[test]
fn what_a_layer_hides_gives_no_metadata() {
    let made = "/ 40755 0:0 0.0";
    let lower = [directory("a/"), directory("a/d/").mode(0o700).owner(5, 6)];
    check(&[&lower, &[file("a/.wh.d", ""), file("a/d/new", "n")]], "a/d", made);
    check(&[&lower, &[file(".wh.a", "")], &[file("a/d/new", "n")]], "a/d", made);
    check(&[&lower, &[file("a/.wh..wh..opq", ""), file("a/d/new", "n")]], "a/d", made);
    check(&[&lower, &[file("a/.wh..wh..opq", "")], &[file("a/d/new", "n")]], "a/d", made);
    check(&[&lower, &[file(".wh..wh..opq", ""), file("a/d/new", "n")]], "a/d", made);
    check(&[&[file("a", "f")], &[file("a/d/new", "n")]], "a/d", made);
    check(&[&[file("x", "x")], &[file("a/d/new", "n")]], "a/d", made);
}

#[test]
fn implied_directories_above_a_frozen_layer_look_as_below_too() {
    with_each_driver(|place| {
        let step = place.store.prepare(&[], Skeleton::None).unwrap();
        std::fs::create_dir(step.path().join("d")).unwrap();
        std::fs::set_permissions(step.path().join("d"), std::fs::Permissions::from_mode(0o701)).unwrap();
        let frozen = Lower::Frozen(Arc::new(step.freeze().unwrap()));
        let above = place.layers(&[tar(&[file("d/x", "x")])]).remove(0);
        let view = place.store.view(&[frozen, above]).unwrap();
        assert_eq!(view.path().join("d").metadata().unwrap().mode(), 0o40701);
        assert_eq!(list(view.path(), Detail::Names), "d /\nd/x `x`\n");
    });
}

#[test]
fn the_root_looks_as_the_topmost_layer_that_has_it_says() {
    let root = directory("./").mode(0o711).owner(3, 4);
    check(&[&[root.clone(), file("x", "x")], &[file("y", "y")]], ".", "/ 40711 3:4 1000000000.0");
    check(&[&[root], &[directory("/").mode(0o755)]], ".", "/ 40755 0:0 1000000000.0");
    check(&[&[file("x", "x")]], ".", "/ 40755 0:0 0.0");
}
