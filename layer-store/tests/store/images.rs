//! Images, tags, and how they are found and go out.

use std::collections::BTreeMap;

use layer_store::{Compression, FindError, ImageError, ImageId, Skeleton, TagError};
use oci::{Descriptor, DiffId, Digest, Document, ImageConfig, Manifest, MediaType, Platform, Reference};

use crate::place::{Place, with_each_driver};
use crate::tar::{file, tar};

pub(crate) fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Makes the config of an image of these layers.
pub(crate) fn config(layers: &[DiffId], label: &str) -> Document<ImageConfig> {
    let mut config = ImageConfig::empty(Platform::host());
    config.rootfs.diff_ids = layers.to_vec();
    config.config.labels = BTreeMap::from([("label".to_owned(), label.to_owned())]);
    Document::write(config)
}

pub(crate) fn image(place: &Place, contents: &[&str], label: &str) -> ImageId {
    let layers: Vec<DiffId> =
        contents.iter().map(|content| place.apply(&tar(&[file("f", content)])).unwrap()).collect();
    place.store.add_image(&config(&layers, label)).unwrap()
}

#[test]
fn an_image_is_kept_with_its_names_and_read_back() {
    let place = Place::new();
    let id = image(&place, &["12345", "123"], "a");
    assert_eq!(image(&place, &["12345", "123"], "a"), id);
    assert_eq!(place.store.tag(&name("app"), &id).unwrap(), None);
    assert_eq!(place.store.tag(&name("localhost:5000/app:1"), &id).unwrap(), None);
    let read = place.store.image(&id).unwrap();
    assert_eq!((read.size, read.config.digest()), (8, id.0.clone()));
    assert_eq!(read.tags, [name("app:latest"), name("localhost:5000/app:1")]);
    let all = place.store.images().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].as_ref().unwrap().id, id);
}

#[test]
fn a_tag_moves_and_leaves_an_image_without_a_name() {
    let place = Place::new();
    let (one, two) = (image(&place, &["1"], "a"), image(&place, &["2"], "a"));
    place.store.tag(&name("app"), &one).unwrap();
    assert_eq!(place.store.tag(&name("docker.io/library/app:latest"), &two).unwrap(), Some(one.clone()));
    assert_eq!(place.store.image(&one).unwrap().tags, []);
    assert_eq!(place.store.find("app").unwrap(), two);
    assert_eq!(place.store.untag(&name("app")).unwrap(), two);
    assert!(matches!(place.store.untag(&name("app")), Err(TagError::NotFound { .. })));
    let nobody = ImageId(Digest::of(b"nobody"));
    assert!(matches!(place.store.tag(&name("app"), &nobody), Err(TagError::NoImage { .. })));
    let by_digest = name("app").at(one.0.clone());
    assert!(matches!(place.store.tag(&by_digest, &one), Err(TagError::HasDigest { .. })));
}

#[test]
fn an_image_is_found_by_any_name_it_answers_to() {
    let place = Place::new();
    let id = image(&place, &["1"], "a");
    let hex = id.0.hex().to_owned();
    place.store.tag(&name("app:1"), &id).unwrap();
    let manifest = manifest_of(&place, &id, &["1"]);
    place.store.add_manifest(&id, &manifest, MediaType::OCI_MANIFEST, Some(&name("quay.io/team/app:9"))).unwrap();
    let by_digest = format!("quay.io/team/app@{}", manifest.digest());
    let with_tag = format!("quay.io/team/app:1@{}", manifest.digest());
    let found = [
        "app:1",
        "docker.io/library/app:1",
        &id.0.to_string(),
        &hex,
        &hex[..12],
        &hex[..1],
        &format!("sha256:{}", &hex[..7]),
        &by_digest,
        &with_tag,
    ];
    for text in found {
        assert_eq!(place.store.find(text).unwrap(), id, "{text}");
    }
    assert_eq!(place.store.image(&id).unwrap().repo_digests, [name(&by_digest)]);
    let other = Digest::of(b"other");
    let missing = [
        "app",
        "app:2",
        "quay.io/app:1",
        "",
        "sha256:",
        &other.to_string(),
        other.hex(),
        &format!("app@{other}"),
        "../app",
        "APP",
    ];
    for text in missing {
        assert!(matches!(place.store.find(text), Err(FindError::NotFound { .. })), "{text}");
    }
}

#[test]
fn the_start_of_several_ids_is_ambiguous_unless_it_is_a_name() {
    let place = Place::new();
    let ids: Vec<ImageId> = (0..17).map(|n| image(&place, &["1"], &n.to_string())).collect();
    let first = |id: &ImageId| id.0.hex()[..1].to_owned();
    let twice = ids.iter().map(first).find(|digit| ids.iter().filter(|id| first(id) == *digit).count() > 1).unwrap();
    let Err(FindError::Ambiguous { images, .. }) = place.store.find(&twice) else { panic!("{twice} was found") };
    assert!(images.len() > 1 && images.iter().all(|id| id.0.hex().starts_with(&twice)));
    place.store.tag(&name(&twice), &ids[0]).unwrap();
    assert_eq!(place.store.find(&twice).unwrap(), ids[0]);
}

fn manifest_of(place: &Place, id: &ImageId, contents: &[&str]) -> Document<Manifest> {
    let config = place.store.image(id).unwrap().config.descriptor(MediaType::OCI_CONFIG);
    let layers = contents.iter().map(|content| Descriptor::of(MediaType::OCI_LAYER, &tar(&[file("f", content)])));
    Document::write(Manifest::new(config, layers.collect()))
}

#[test]
fn an_image_goes_out_under_the_manifest_it_came_with() {
    let place = Place::new();
    let id = image(&place, &["1", "2"], "a");
    let came = manifest_of(&place, &id, &["1", "2"]);
    place.store.add_manifest(&id, &came, MediaType::DOCKER_MANIFEST, None).unwrap();
    let (descriptor, document) = place.store.manifest(&id, Compression::default()).unwrap();
    assert_eq!((descriptor.media_type, document.bytes()), (MediaType::DOCKER_MANIFEST, came.bytes()));
    // one of its blobs is gone, and with it this manifest
    place.forget_blob(&came.value().layers[1]);
    let (_, document) = place.store.manifest(&id, Compression::default()).unwrap();
    assert_eq!(document.value().layers[0].digest, came.value().layers[0].digest);
    assert_eq!(document.value().layers[1].media_type, MediaType::OCI_LAYER_GZIP);
    let foreign = manifest_of(&place, &image(&place, &["1", "2"], "b"), &["1", "2"]);
    let result = place.store.add_manifest(&id, &foreign, MediaType::OCI_MANIFEST, None);
    assert!(matches!(result, Err(ImageError::ForeignManifest { .. })));
    let short = manifest_of(&place, &id, &["1"]);
    let result = place.store.add_manifest(&id, &short, MediaType::OCI_MANIFEST, None);
    assert!(matches!(result, Err(ImageError::LayerCount { .. })));
}

#[test]
fn a_built_image_gets_a_manifest_once_and_keeps_the_blobs_of_its_base() {
    with_each_driver(|place| {
        let base = place.apply(&tar(&[file("base", "0")])).unwrap();
        let snapshot = place.store.prepare(&[layer_store::Lower::Layer(base.clone())], Skeleton::None).unwrap();
        std::fs::write(snapshot.path().join("new"), "n").unwrap();
        let top = snapshot.freeze().unwrap().seal(&|| false).unwrap().diff_id;
        let id = place.store.add_image(&config(&[base, top], "a")).unwrap();
        let (descriptor, document) = place.store.manifest(&id, Compression::default()).unwrap();
        let layers = &document.value().layers;
        assert_eq!(layers[0], Descriptor::of(MediaType::OCI_LAYER, &tar(&[file("base", "0")])));
        assert_eq!(layers[1].media_type, MediaType::OCI_LAYER_GZIP);
        assert_eq!(document.value().config.digest, id.0);
        let (again, same) = place.store.manifest(&id, Compression::default()).unwrap();
        assert_eq!((again, same.bytes()), (descriptor.clone(), document.bytes()));
        assert_eq!(place.store.image(&id).unwrap().manifests, [descriptor]);
    });
}

#[test]
fn an_image_needs_all_of_its_layers() {
    let place = Place::new();
    let missing = DiffId(Digest::of(b"missing"));
    let result = place.store.add_image(&config(&[missing], "a"));
    assert!(matches!(result, Err(ImageError::Layer { .. })));
    let many = vec![DiffId(Digest::of(b"x")); 501];
    assert!(matches!(place.store.add_image(&config(&many, "a")), Err(ImageError::TooManyLayers { count: 501, .. })));
    assert!(place.store.images().unwrap().is_empty());
}

#[test]
fn a_record_that_cannot_be_read_costs_only_its_image() {
    let place = Place::new();
    let (one, two) = (image(&place, &["1"], "a"), image(&place, &["2"], "a"));
    place.store.tag(&name("one"), &one).unwrap();
    let path = place.store.root().join("images").join(format!("{}.json", one.0.hex()));
    std::fs::write(path, "{").unwrap();
    std::fs::write(place.store.root().join("images/stray"), "").unwrap();
    let all = place.store.images().unwrap();
    let good: Vec<_> = all.iter().flatten().map(|image| image.id.clone()).collect();
    assert_eq!((all.len(), good), (3, vec![two.clone()]));
    assert!(matches!(place.store.image(&one), Err(ImageError::Record { .. })));
    assert!(place.store.image(&two).is_ok());
    assert_eq!(place.store.find("one").unwrap(), one);
    // and it can be kept anew
    assert_eq!(image(&place, &["1"], "a"), one);
    assert!(place.store.image(&one).is_ok());
}

#[test]
fn a_blob_that_only_claims_to_be_a_layer_never_goes_out_as_it() {
    let place = Place::new();
    let id = image(&place, &["1"], "a");
    let diff_id = place.store.image(&id).unwrap().config.value().rootfs.diff_ids[0].clone();
    let evil = place.store.put_blob(MediaType::OCI_LAYER, &tar(&[file("f", "evil")])).unwrap();
    let result = place.store.apply(&evil, &diff_id);
    assert!(matches!(result, Err(layer_store::ApplyError::DiffIdMismatch { .. })), "{result:?}");
    let manifest = manifest_of(&place, &id, &["evil"]);
    place.store.add_manifest(&id, &manifest, MediaType::OCI_MANIFEST, None).unwrap();
    let (_, document) = place.store.manifest(&id, Compression::default()).unwrap();
    assert_eq!(document.value().layers[0].digest, diff_id.0);
    // another name for the bytes that are known changes nothing
    let known = Descriptor {
        media_type: MediaType::OCI_LAYER_ZSTD,
        ..Descriptor::of(MediaType::OCI_LAYER, &tar(&[file("f", "1")]))
    };
    place.store.apply(&known, &diff_id).unwrap();
    assert_eq!(place.store.layer_blob(&diff_id, Compression::default()).unwrap().media_type, MediaType::OCI_LAYER);
}
