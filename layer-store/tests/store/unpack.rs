//! Archives that are no layers.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

use layer_store::{Ownership, UnpackError};

use crate::place::{Detail, Place, list};
use crate::tar::{directory, file, symlink, tar};

#[test]
fn an_archive_becomes_files_and_goes_with_its_handle() {
    let place = Place::new();
    let archive = tar(&[directory("d/"), file("d/f", "x"), symlink("l", "/etc")]);
    let unpacked = place.store.unpack(&archive[..], Ownership::Kept).unwrap();
    assert_eq!(list(&unpacked.path(), Detail::Names), "d /\nd/f `x`\nl -> /etc\n");
    drop(unpacked);
    assert!(place.leftovers().is_empty());
}

#[test]
fn directories_without_an_entry_are_known() {
    let place = Place::new();
    let unpacked = place
        .store
        .unpack(&tar(&[file("a b/c/f", ""), directory("a b/"), directory("d/")])[..], Ownership::Kept)
        .unwrap();
    let implied = ["a b", "a b/c", "d"].map(|path| unpacked.implies(path.as_ref()));
    assert_eq!(implied, [false, true, false]);
}

#[test]
fn names_that_would_hide_files_are_refused() {
    let place = Place::new();
    for name in [".wh.x", "d/.wh.x", ".wh..wh..opq", ".wh.d/x"] {
        let error = place.store.unpack(&tar(&[file(name, "")])[..], Ownership::Kept).unwrap_err();
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
    drop(place.store.unpack(&escaping[..], Ownership::Kept));
    assert_eq!(list(&outside, Detail::Names), "");
    let whole = tar(&[file("f", "0123456789")]);
    let error = place.store.unpack(&whole[..600], Ownership::Kept).unwrap_err();
    assert!(matches!(error, UnpackError::Tar { .. }), "{error}");
    assert!(place.leftovers().is_empty());
}

#[test]
fn who_does_not_ask_for_owners_owns_all_of_it() {
    let place = Place::new();
    let own = std::fs::metadata(place.path("")).unwrap();
    let archive = tar(&[file("f", "").mode(0o640).owner(4321, 4321)]);
    let unpacked = place.store.unpack(&archive[..], Ownership::Caller).unwrap();
    let file = std::fs::metadata(unpacked.path().join("f")).unwrap();
    assert_eq!((file.uid(), file.mode() & 0o777), (own.uid(), 0o640));
}

#[test]
fn an_archive_is_read_to_its_end() {
    let place = Place::new();
    let archive = [tar(&[file("f", "x")]), vec![0; 1 << 20]].concat();
    let mut bytes = &archive[..];
    place.store.unpack(&mut bytes, Ownership::Kept).unwrap();
    assert!(bytes.is_empty());
    let error = place.store.unpack((&archive[..]).chain(Broken), Ownership::Kept).unwrap_err();
    assert!(matches!(error, UnpackError::Tar { .. }), "{error}");
    place.store.unpack((&archive[..]).chain(io::repeat(0)), Ownership::Kept).unwrap();
}

/// Fails when it is read.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the checksum is wrong"))
    }
}
