//! The version of the layout: who says it, and who is refused.

use layer_store::{OpenError, Store};

use crate::place::Place;

#[test]
fn a_store_says_its_version_and_an_older_one_gets_ours() {
    let place = Place::new();
    let path = place.store.root().join("version.json");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"version":2}"#);
    std::fs::remove_file(&path).unwrap();
    let place = place.reopen();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"version":2}"#);
    std::fs::write(&path, r#"{"version":1}"#).unwrap();
    let place = place.reopen();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        r#"{"version":2}"#,
        "an older wharf would misread it from now on"
    );
    assert_eq!(place.reopen().leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("version.json"), r#"{"version":7,"more":true}"#).unwrap();
    let Err(error) = Store::open(directory.path()) else { panic!("it is opened") };
    let path = directory.path().display();
    let expected = format!("`{path}` is a store of version 7, and this program reads stores up to version 2");
    assert_eq!(error.to_string(), expected);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_version_that_cannot_be_read_is_no_version() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("version.json"), "{").unwrap();
    assert!(matches!(Store::open(directory.path()), Err(OpenError::Version(_))));
}
