//! Layers that come as plain tars, and stacks that are written as one.

use std::path::PathBuf;

use layer_store::{ApplyError, Compression, Driver, Form, Lower};
use oci::{Algorithm, DiffId, Digest};

use crate::place::{Detail, Place, in_mount_namespace, list, with_each_driver};
use crate::tar::{directory, file, tar};

/// A tar that no tree gives again: it is not sorted.
fn foreign() -> Vec<u8> {
    tar(&[file("b", "2"), file("a", "1")])
}

fn diff_id(tar: &[u8]) -> DiffId {
    DiffId(Digest::of(tar))
}

#[test]
fn a_plain_tar_is_kept_and_compressed_from_there() {
    with_each_driver(|place| keep(&place));
}

fn keep(place: &Place) {
    let (tar, layer) = (foreign(), diff_id(&foreign()));
    let spooled = place.store.spool(&mut &tar[..], Algorithm::Sha256).unwrap();
    place.store.apply_tar(&spooled, &layer).unwrap();
    place.store.apply_tar(&spooled, &layer).unwrap();
    drop(spooled);
    let form = if place.driver() == Driver::Tree { Form::Both } else { Form::Tar };
    assert_eq!(place.store.layer(&layer).unwrap().form, form);
    assert_eq!(list(place.view(&layer).path(), Detail::Names), "a `1`\nb `2`\n");
    assert!(!place.blob(&layer.0).exists());
    let blob = place.store.layer_blob(&layer, Compression::default()).unwrap();
    let gzip = place.store.read_blob(&blob.digest, 1 << 20).unwrap();
    let mut again = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&gzip[..]), &mut again).unwrap();
    assert_eq!(again, tar);
    assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_tar_that_is_not_the_layer_or_cannot_be_one_leaves_nothing() {
    let place = Place::new();
    let other = diff_id(b"other");
    let spooled = place.store.spool(&mut &foreign()[..], Algorithm::Sha256).unwrap();
    let error = place.store.apply_tar(&spooled, &other).unwrap_err();
    assert!(matches!(error, ApplyError::DiffIdMismatch { expected, .. } if expected == other));
    let hostile = tar(&[file("a", "1"), file(".wh...", "")]);
    let spooled = place.store.spool(&mut &hostile[..], Algorithm::Sha256).unwrap();
    let error = place.store.apply_tar(&spooled, &diff_id(&hostile)).unwrap_err();
    assert!(matches!(error, ApplyError::Refused { .. }), "{error}");
    drop(spooled);
    assert_eq!(std::fs::read_dir(place.store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn a_stack_is_written_as_one_tar_of_what_it_shows() {
    in_mount_namespace(|| {
        let place = Place::new();
        let lower = tar(&[directory("d"), file("d/gone", "0"), file("d/kept", "1"), file("old", "0")]);
        let upper = tar(&[file("d/.wh.gone", ""), file("new", "2"), directory("old")]);
        let write = |layers: &[Lower]| {
            let mut written = Vec::new();
            place.store.view(layers).unwrap().write_tar(&mut written).unwrap();
            written
        };
        let layers = place.layers(&[lower, upper]);
        let merged = write(&layers);
        assert_eq!(merged, write(&layers));
        let flat = place.layers(std::slice::from_ref(&merged));
        let Lower::Layer(diff_id) = &flat[0] else { panic!("it is a layer") };
        assert_eq!(list(&place.tree(diff_id), Detail::Names), "d /\nd/kept `1`\nnew `2`\nold /\n");
        assert_eq!(write(&flat), merged);
        assert_eq!(write(&[]), vec![0; 1024]);
    });
}
