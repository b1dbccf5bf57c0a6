//! Listings: they take no lock, write nothing, and open no more than they have to.

use std::path::Path;

use layer_store::{FindError, ImageError, Store};
use rustix::fs::FlockOperation;

use crate::images::{image, name};
use crate::place::Place;

fn files(root: &Path) -> Vec<String> {
    crate::place::list(root, crate::place::Detail::All).lines().map(str::to_owned).collect()
}

#[test]
fn a_directory_that_is_not_there_is_an_empty_store_and_stays_away() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("none");
    let store = Store::look(&root).unwrap();
    assert!(store.images().unwrap().is_empty());
    assert!(store.volumes().unwrap().is_empty());
    assert!(matches!(store.find("app"), Err(FindError::NotFound { .. })));
    assert!(!root.exists());
}

#[test]
fn looking_neither_waits_nor_writes() {
    let place = Place::new();
    let id = image(&place, &["1", "12"], "a");
    place.store.tag(&name("app"), &id).unwrap();
    let place = place.reopen();
    let root = place.store.root();
    // somebody is deciding what to remove
    let lock = std::fs::File::open(root.join("leases/lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let before = files(root);
    let store = Store::look(root).unwrap();
    let listed = store.images().unwrap();
    assert_eq!(listed[0].as_ref().unwrap().size, 3);
    assert_eq!(store.find("app").unwrap(), id);
    assert_eq!(store.image(&id).unwrap().tags, [name("app:latest")]);
    assert!(store.has_layer(&store.image(&id).unwrap().config.value().rootfs.diff_ids[0]).unwrap());
    store.usage_details().unwrap();
    drop(store);
    assert_eq!(files(root), before);
}

#[test]
fn a_listing_opens_neither_configs_nor_layers() {
    let place = Place::new();
    let id = image(&place, &["1", "12"], "a");
    std::fs::remove_file(place.blob(&id.0)).unwrap();
    std::fs::remove_dir_all(place.store.root().join("layers")).unwrap();
    let listed = place.store.images().unwrap();
    assert_eq!(listed[0].as_ref().unwrap().size, 3);
    assert!(matches!(place.store.image(&id), Err(ImageError::Config { .. })));
}

#[test]
fn what_a_record_of_an_earlier_version_lacks_is_looked_up() {
    let place = Place::new();
    let id = image(&place, &["1", "12"], "a");
    place.store.tag(&name("app"), &id).unwrap();
    let new: Vec<_> = place.store.images().unwrap().into_iter().map(Result::unwrap).collect();
    let path = place.store.root().join("images").join(format!("{}.json", id.0.hex()));
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(record.as_object_mut().unwrap().remove("facts").is_some());
    std::fs::write(&path, record.to_string()).unwrap();
    let old: Vec<_> = place.store.images().unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(old, new);
    assert_eq!(place.store.image(&id).unwrap().size, 3);
}
