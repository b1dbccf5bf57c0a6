//! Archives that are no layers.

use layer_store::UnpackError;

use crate::place::{Detail, Place, list};
use crate::tar::{directory, file, symlink, tar};

#[test]
fn an_archive_becomes_files_and_goes_with_its_handle() {
    let place = Place::new();
    let unpacked = place.store.unpack(&tar(&[directory("d/"), file("d/f", "x"), symlink("l", "/etc")])[..]).unwrap();
    assert_eq!(list(&unpacked.path(), Detail::Names), "d /\nd/f `x`\nl -> /etc\n");
    drop(unpacked);
    assert!(place.leftovers().is_empty());
}

#[test]
fn directories_without_an_entry_are_known() {
    let place = Place::new();
    let unpacked = place.store.unpack(&tar(&[file("a b/c/f", ""), directory("a b/"), directory("d/")])[..]).unwrap();
    let implied = ["a b", "a b/c", "d"].map(|path| unpacked.implies(path.as_ref()));
    assert_eq!(implied, [false, true, false]);
}

#[test]
fn names_that_would_hide_files_are_refused() {
    let place = Place::new();
    for name in [".wh.x", "d/.wh.x", ".wh..wh..opq", ".wh.d/x"] {
        let error = place.store.unpack(&tar(&[file(name, "")])[..]).unwrap_err();
        assert!(matches!(&error, UnpackError::Whiteout { path } if path.as_os_str() == name), "{name}: {error}");
    }
    assert!(place.leftovers().is_empty());
}

#[test]
fn nothing_leaves_the_directory_and_a_broken_archive_leaves_nothing() {
    let place = Place::new();
    let outside = place.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let escaping = tar(&[symlink("out", outside.to_str().unwrap()), file("out/f", "x"), file("../../g", "x")]);
    drop(place.store.unpack(&escaping[..]));
    assert_eq!(list(&outside, Detail::Names), "");
    let whole = tar(&[file("f", "0123456789")]);
    let error = place.store.unpack(&whole[..600]).unwrap_err();
    assert!(matches!(error, UnpackError::Tar { .. }), "{error}");
    assert!(place.leftovers().is_empty());
}
