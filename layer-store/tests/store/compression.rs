//! What blobs a layer goes out as: made once for each encoding, or as it came.

use std::os::unix::fs::MetadataExt;

use layer_store::{Compression, Encoding, ImageId, Prune};
use oci::{BlobSource, Descriptor, DiffId, LayerCompression, Manifest, MediaType};

use crate::images::config;
use crate::place::Place;
use crate::tar::{file, tar};
use crate::tar_layers::{Kind, Written, write};

fn to(compression: LayerCompression, level: Option<u8>) -> Compression {
    Compression { encoding: Encoding::new(compression, level).unwrap(), is_forced: false }
}

fn forced(compression: LayerCompression, level: Option<u8>) -> Compression {
    Compression { is_forced: true, ..to(compression, level) }
}

/// Writes a layer that was not received.
fn built(place: &Place) -> DiffId {
    let text: Vec<u8> = (0..400_000_u32).flat_map(|n| format!("line {}\n", n % 977).into_bytes()).collect();
    write(&place.store, &[Written::new("text", Kind::File(text))]).unwrap().diff_id
}

/// An image of a layer that came as `media_type`, and of a built one; the manifest it came with names only the first.
fn image_on(place: &Place, base: &DiffId) -> ImageId {
    place.store.add_image(&config(&[base.clone(), built(place)], "a")).unwrap()
}

fn media_types(place: &Place, id: &ImageId, compression: Compression) -> Vec<MediaType> {
    let (_, document) = place.store.manifest(id, compression).unwrap();
    document.value().layers.iter().map(|layer| layer.media_type.clone()).collect()
}

#[test]
fn a_layer_is_encoded_once_each_way_and_every_blob_holds_it() {
    let place = Place::new();
    let diff_id = built(&place);
    let ways = [
        to(LayerCompression::Gzip, None),
        to(LayerCompression::Gzip, Some(9)),
        to(LayerCompression::Zstd, None),
        to(LayerCompression::Zstd, Some(12)),
        to(LayerCompression::None, None),
    ];
    let blobs = ways.map(|way| place.store.layer_blob(&diff_id, way).unwrap());
    let inode = |blob: &Descriptor| std::fs::metadata(place.blob(&blob.digest)).unwrap().ino();
    for (way, blob) in ways.iter().zip(&blobs) {
        let before = inode(blob);
        assert_eq!(place.store.layer_blob(&diff_id, *way).unwrap(), *blob, "{}", way.encoding);
        assert_eq!(inode(blob), before, "{} was made again", way.encoding);
        let other = Place::new();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut place.store.open(blob).unwrap(), &mut bytes).unwrap();
        other.store.put_blob(blob.media_type.clone(), &bytes).unwrap();
        other.store.apply(blob, &diff_id).unwrap();
    }
    assert_eq!(blobs[4].digest, diff_id.0, "a plain tar is the layer's own bytes");
    assert_eq!(place.store.layer(&diff_id).unwrap().blobs, blobs);

    // one that is gone is made again, the same
    place.forget_blob(&blobs[2]);
    assert_eq!(place.store.layer_blob(&diff_id, ways[2]).unwrap(), blobs[2]);

    // nobody names the layer, so a prune takes it with all of its blobs
    let place = place.reopen();
    let freed = place.store.prune(&Prune::default()).unwrap();
    for blob in &blobs {
        assert!(!place.blob(&blob.digest).exists(), "{} stays after {freed:?}", blob.digest);
    }
}

#[test]
fn layers_that_were_received_go_out_as_they_came_unless_forced() {
    let place = Place::new();
    let base = place.apply(&tar(&[file("base", "0".repeat(5000))])).unwrap();
    let id = image_on(&place, &base);
    let (plain, gzip, zstd) = (MediaType::OCI_LAYER, MediaType::OCI_LAYER_GZIP, MediaType::OCI_LAYER_ZSTD);
    for (compression, expected) in [
        (Compression::default(), [&plain, &gzip]),
        (to(LayerCompression::Zstd, None), [&plain, &zstd]),
        (forced(LayerCompression::Zstd, None), [&zstd, &zstd]),
        (forced(LayerCompression::None, None), [&plain, &plain]),
        (Compression { is_forced: true, ..Compression::default() }, [&gzip, &gzip]),
        // what was made for the pushes before changes nothing
        (Compression::default(), [&plain, &gzip]),
        (to(LayerCompression::Zstd, None), [&plain, &zstd]),
    ] {
        let expected = expected.map(Clone::clone);
        assert_eq!(media_types(&place, &id, compression), expected, "{compression:?}");
    }
}

#[test]
fn the_same_choice_gives_the_same_manifest_again() {
    let place = Place::new();
    let base = place.apply(&tar(&[file("base", "0")])).unwrap();
    let id = image_on(&place, &base);
    let choices = [Compression::default(), to(LayerCompression::Zstd, Some(9)), forced(LayerCompression::Zstd, None)];
    let manifest = |compression| place.store.manifest(&id, compression).unwrap().0;
    let first = choices.map(manifest);
    assert_eq!(choices.map(manifest), first);
    assert_eq!(place.store.image(&id).unwrap().manifests.len(), 3);
}

#[test]
fn an_image_that_was_received_goes_out_under_its_own_manifest_after_a_forced_push() {
    let place = Place::new();
    let base = place.apply(&tar(&[file("base", "0".repeat(5000))])).unwrap();
    let id = place.store.add_image(&config(std::slice::from_ref(&base), "a")).unwrap();
    let image_config = place.store.image(&id).unwrap().config.descriptor(MediaType::DOCKER_CONFIG);
    let layer = place.store.layer(&base).unwrap().blobs[0].clone();
    let came = oci::Document::write(Manifest::new(image_config, vec![layer]));
    place.store.add_manifest(&id, &came, MediaType::DOCKER_MANIFEST, None).unwrap();
    let (other, _) = place.store.manifest(&id, forced(LayerCompression::Zstd, None)).unwrap();
    assert_eq!(other.media_type, MediaType::OCI_MANIFEST);
    let (again, document) = place.store.manifest(&id, to(LayerCompression::Zstd, None)).unwrap();
    assert_eq!((again.media_type, document.bytes()), (MediaType::DOCKER_MANIFEST, came.bytes()));
}

#[test]
fn a_level_forces_layers_of_the_same_format_too() {
    let place = Place::new();
    let base = built(&place);
    let blob = place.store.layer_blob(&base, to(LayerCompression::Zstd, Some(1))).unwrap();
    // into another store, where it is a layer that was received
    let other = Place::new();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut place.store.open(&blob).unwrap(), &mut bytes).unwrap();
    other.store.put_blob(blob.media_type.clone(), &bytes).unwrap();
    other.store.apply(&blob, &base).unwrap();
    let made = |compression| other.store.layer_blob(&base, compression).unwrap();
    assert_eq!(made(forced(LayerCompression::Zstd, None)), blob);
    assert!(made(forced(LayerCompression::Zstd, Some(9))).size < blob.size);
    // the same level gives the blob that it came in, which stays what it is
    assert_eq!(made(forced(LayerCompression::Zstd, Some(1))), blob);
    assert_eq!(made(Compression::default()), blob);
}
