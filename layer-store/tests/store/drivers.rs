//! The two drivers: what each keeps of a layer, and what happens when a store changes from one to the other or an index is broken.

use std::path::{Path, PathBuf};

use layer_store::{Compression, Driver, DriverChoice, DriverError, Form, Lower, Store};
use oci::DiffId;
use rustix::mount::{MountFlags, mount};

use crate::place::{Detail, Place, in_mount_namespace, list};
use crate::tar::{directory, file, tar};

fn layer_files(store: &Store, diff_id: &DiffId) -> Vec<String> {
    let directory = store.root().join("layers").join(diff_id.0.hex());
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn open(place: &Place, driver: Driver) -> Store {
    Store::open_with(place.store.root(), DriverChoice::Only(driver)).unwrap()
}

fn check(store: &Store, diff_id: &DiffId, expected: &str) {
    let layers = [Lower::Layer(diff_id.clone())];
    let view = store.view(&layers).unwrap();
    assert_eq!(list(view.path(), Detail::Names), expected);
    let files = store.files(&layers).unwrap();
    assert_eq!(files.read(Path::new("d/f"), 10).unwrap().unwrap(), b"x");
}

const SHOWN: &str = "d /\nd/f `x`\n";

fn example() -> Vec<u8> {
    tar(&[directory("d/"), file("d/f", "x")])
}

#[test]
fn each_driver_keeps_a_pulled_layer_in_its_form() {
    in_mount_namespace(|| {
        for (driver, form, files) in [
            (Driver::Erofs, Form::Tar, &["layer.erofs", "layer.tar", "record.json"][..]),
            (Driver::Tree, Form::Tree, &["record.json", "tree"]),
        ] {
            let place = Place::with(driver);
            let layer = place.apply(&example()).unwrap();
            assert_eq!(place.store.layer(&layer).unwrap().form, form);
            assert_eq!(layer_files(&place.store, &layer), files);
            check(&place.store, &layer, SHOWN);
            assert_eq!(layer_files(&place.store, &layer), files);
        }
    });
}

#[test]
fn a_layer_that_an_index_cannot_show_becomes_a_tree() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Erofs);
        // an access control list: owner rwx, group r-x, others r-x
        let mut acl = vec![2, 0, 0, 0];
        for (tag, rights) in [(1_u16, 7_u16), (4, 5), (0x20, 5)] {
            acl.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &[0xff; 4]].concat());
        }
        let listed = directory("d/").mode(0o755).pax("SCHILY.xattr.system.posix_acl_default", acl);
        // much follows it, which belongs to the layer too
        let layer = place.apply(&tar(&[listed, file("d/f", "x"), file("e", vec![7; 1 << 20])])).unwrap();
        assert_eq!(place.store.layer(&layer).unwrap().form, Form::Tree);
        assert_eq!(layer_files(&place.store, &layer), ["record.json", "tree"]);
        assert_eq!(std::fs::read(place.view(&layer).path().join("d/f")).unwrap(), b"x");
    });
}

#[test]
fn a_pulled_layer_goes_out_as_it_came_and_without_its_blob_from_its_tar() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Erofs);
        // no whole number of blocks: what fills the last one is not the layer's
        let mut bytes = example();
        bytes.extend([7; 100]);
        let layer = place.apply(&bytes).unwrap();
        let record = place.store.layer(&layer).unwrap();
        assert_eq!(record.tar_size, bytes.len() as u64);
        assert_eq!(place.store.layer_blob(&layer, Compression::default()).unwrap(), record.blobs[0]);
        place.forget_blob(&record.blobs[0]);
        let blob = place.store.layer_blob(&layer, Compression::default()).unwrap();
        assert_ne!(blob, record.blobs[0]);
        assert!(place.store.apply(&blob, &layer).is_ok());
        check(&place.store, &layer, SHOWN);
    });
}

#[test]
fn a_tar_becomes_a_tree_for_the_driver_that_needs_one_and_keeps_what_gives_its_bytes_again() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Erofs);
        let layer = place.apply(&example()).unwrap();
        let other = open(&place, Driver::Tree);
        check(&other, &layer, SHOWN);
        assert_eq!(other.layer(&layer).unwrap().form, Form::Tree, "the blob it came in is here");
        assert_eq!(layer_files(&other, &layer), ["record.json", "tree"]);
        check(&place.store, &layer, SHOWN);

        let layer = place.apply(&[example(), vec![0; 512]].concat()).unwrap();
        place.forget_blob(&place.store.layer(&layer).unwrap().blobs[0]);
        check(&other, &layer, SHOWN);
        assert_eq!(other.layer(&layer).unwrap().form, Form::Both, "nothing else has its bytes");
        assert!(other.layer_blob(&layer, Compression::default()).is_ok());
        check(&place.store, &layer, SHOWN);
    });
}

#[test]
fn an_index_that_is_missing_or_damaged_is_made_again() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Erofs);
        let layer = place.apply(&example()).unwrap();
        let index = place.store.root().join("layers").join(layer.0.hex()).join("layer.erofs");
        let whole = std::fs::read(&index).unwrap();
        let mut damaged = whole.clone();
        damaged[1024..1040].fill(0xff);
        for damage in [None, Some(&damaged[..]), Some(&whole[..1000]), Some(b"")] {
            std::fs::remove_file(&index).unwrap();
            damage.iter().for_each(|bytes| std::fs::write(&index, bytes).unwrap());
            check(&open(&place, Driver::Erofs), &layer, SHOWN);
            assert!(std::fs::read(&index).unwrap() == whole, "its bytes depend on the tar alone");
        }
        assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_layer_is_mounted_once_and_all_mounts_go_with_the_command() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Erofs);
        let layers = place.layers(&[example(), tar(&[file("e", "y")])]);
        let store = open(&place, Driver::Erofs);
        let mounts = || {
            let all = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
            let ours = all.lines().filter(|line| line.contains(&*place.store.root().to_string_lossy()));
            ours.filter(|line| line.contains(" erofs ")).count()
        };
        let (one, two) = (store.view(&layers).unwrap(), store.view(&[layers[1].clone(), layers[0].clone()]).unwrap());
        assert_eq!(list(one.path(), Detail::Names), "d /\nd/f `x`\ne `y`\n");
        assert_eq!(list(two.path(), Detail::Names), "d /\nd/f `x`\ne `y`\n");
        assert_eq!(mounts(), 2);
        drop((one, two));
        drop(store);
        assert_eq!(mounts(), 0);
        assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_driver_that_does_not_work_is_refused_or_replaced() {
    in_mount_namespace(|| {
        let place = Place::new();
        let memory = place.path("memory");
        std::fs::create_dir(&memory).unwrap();
        mount("none", &memory, "tmpfs", MountFlags::empty(), None).unwrap();
        // an index must lie on a disk
        let store = Store::open_with(&memory.join("store"), DriverChoice::Only(Driver::Erofs)).unwrap();
        assert!(matches!(store.driver(), Err(DriverError::Unavailable { driver: Driver::Erofs, .. })));
        let store = Store::open(&memory.join("store")).unwrap();
        let found = store.driver().unwrap();
        assert!(
            found.driver == Driver::Tree && found.obstacle.is_some_and(|obstacle| obstacle.contains("file system"))
        );
        let on_disk = Store::open(place.store.root()).unwrap().driver().unwrap();
        assert_eq!((on_disk.driver, on_disk.obstacle), (Driver::Erofs, None));
    });
}
