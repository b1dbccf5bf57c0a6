//! Prune and removal: what goes, and what stays.

use std::time::{Duration, SystemTime};

use layer_store::{CacheKey, CacheRecord, Freed, FreedKind, LabelFilter, Prune, PruneCache, PruneImages, RemoveError};
use oci::{BlobSink, Descriptor, DiffId, MediaType};

use crate::images::{image, name};
use crate::place::Place;
use crate::tar::{file, tar};
use crate::tar_layers::{Kind, Written, write};
use crate::usage::du;

pub(crate) fn key(digit: char) -> CacheKey {
    digit.to_string().repeat(64).parse().unwrap()
}

/// Keeps a record of this layer.
pub(crate) fn remember(place: &Place, digit: char, layer: &DiffId) {
    let diff_id = Some(layer.clone());
    let record = CacheRecord { diff_id, recipe: serde_json::json!({"run": "make"}), created: String::new() };
    place.store.remember(&key(digit), &record).unwrap();
}

/// Makes a layer that only a record needs.
pub(crate) fn cached(place: &Place, digit: char, content: &str) -> DiffId {
    let diff_id = place.apply(&tar(&[file("c", content)])).unwrap();
    remember(place, digit, &diff_id);
    diff_id
}

/// Counts what was freed, by kind: tags, images, records, layers, blobs, temporary files.
pub(crate) fn kinds(freed: &[Freed]) -> [usize; 6] {
    use FreedKind::{Blob, CacheRecord, Image, Layer, Tag, Temporary};
    [Tag, Image, CacheRecord, Layer, Blob, Temporary]
        .map(|kind| freed.iter().filter(|freed| freed.what == kind).count())
}

#[test]
fn what_is_remembered_of_contexts_goes_with_the_build_cache() {
    let place = Place::new();
    assert_eq!(place.store.read_context(&key('a')).unwrap(), None);
    place.store.write_context(&key('a'), b"one").unwrap();
    place.store.write_context(&key('a'), b"two").unwrap();
    assert_eq!(place.store.read_context(&key('a')).unwrap().unwrap(), b"two");
    let check = |what: Prune, expected: [usize; 6]| {
        assert_eq!(kinds(&place.store.prune(&what).unwrap()), expected, "{what:?}");
    };
    let build_cache = Prune { build_cache: PruneCache::All, ..Prune::default() };
    check(Prune { images: PruneImages::All, ..Prune::default() }, [0; 6]);
    check(Prune { until: Some(SystemTime::UNIX_EPOCH), ..build_cache.clone() }, [0; 6]);
    check(build_cache, [0, 0, 1, 0, 0, 0]);
    assert_eq!(place.store.read_context(&key('a')).unwrap(), None);
}

#[test]
fn a_layer_that_is_a_tar_is_pruned_when_nobody_needs_it() {
    let place = Place::new();
    let built = write(&place.store, &[Written::new("f", Kind::File(b"x".to_vec()))]).unwrap();
    assert_eq!(kinds(&place.store.prune(&Prune::default()).unwrap()), [0; 6]);
    let place = place.reopen();
    assert_eq!(kinds(&place.store.prune(&Prune::default()).unwrap()), [0, 0, 0, 1, 0, 0]);
    assert!(!place.store.has_layer(&built.diff_id).unwrap());
}

#[test]
fn a_dry_run_tells_what_prune_then_removes() {
    let place = Place::new();
    let id = image(&place, &["1"], "a");
    place.store.tag(&name("app"), &id).unwrap();
    image(&place, &["1", "2"], "a");
    cached(&place, 'c', "3");
    let place = place.reopen();
    let before = place.store.usage().unwrap();
    for what in [
        Prune::default(),
        Prune { images: PruneImages::Dangling, ..Prune::default() },
        Prune { build_cache: PruneCache::All, ..Prune::default() },
        Prune { images: PruneImages::All, build_cache: PruneCache::All, ..Prune::default() },
    ] {
        let told = place.store.prune(&Prune { dry_run: true, ..what.clone() }).unwrap();
        let used = du(&place);
        let freed = place.store.prune(&what).unwrap();
        assert_eq!(told, freed);
        assert!(freed.iter().all(|freed| !freed.why.is_empty() && freed.size > 0));
        let sum: u64 = freed.iter().map(|freed| freed.size).sum();
        // the lease of this command and its directory came meanwhile
        assert!(du(&place).abs_diff(used - sum) <= 3 * 4096, "{} of {used} for {sum}", du(&place));
    }
    assert_eq!(place.store.images().unwrap().len(), 0);
    let after = place.store.usage().unwrap();
    assert_eq!((after.images.size, after.build_cache.size), (0, 0));
    assert!(after.total() < before.total());
}

#[test]
fn prune_removes_what_was_asked_for_and_what_only_that_needed() {
    let check = |what: Prune, expected: [usize; 6]| {
        let place = Place::new();
        let id = image(&place, &["1", "shared"], "named");
        place.store.tag(&name("app"), &id).unwrap();
        image(&place, &["2", "shared"], "dangling");
        cached(&place, 'c', "cached");
        place.apply(&tar(&[file("g", "garbage")])).unwrap();
        let place = place.reopen();
        assert_eq!(kinds(&place.store.prune(&what).unwrap()), expected, "{what:?}");
        assert_eq!(kinds(&place.store.prune(&what).unwrap()), [0; 6], "{what:?} again");
    };
    let images = |images| Prune { images, ..Prune::default() };
    check(images(PruneImages::None), [0, 0, 0, 1, 1, 0]);
    // the dangling image, its config and its own layer, and the garbage
    check(images(PruneImages::Dangling), [0, 1, 0, 2, 3, 0]);
    check(images(PruneImages::All), [1, 2, 0, 4, 6, 0]);
    check(Prune { build_cache: PruneCache::All, ..Prune::default() }, [0, 0, 1, 2, 2, 0]);
    let old = SystemTime::now() - Duration::from_secs(3600);
    check(
        Prune { images: PruneImages::All, build_cache: PruneCache::All, until: Some(old), ..Prune::default() },
        [0, 0, 0, 1, 1, 0],
    );
    let labels = |filter| Prune { images: PruneImages::All, labels: vec![filter], ..Prune::default() };
    let (key, value) = ("label".to_owned(), Some("named".to_owned()));
    check(labels(LabelFilter::Has { key: key.clone(), value: value.clone() }), [1, 1, 0, 2, 3, 0]);
    check(labels(LabelFilter::HasNot { key: key.clone(), value }), [0, 1, 0, 2, 3, 0]);
    check(labels(LabelFilter::Has { key: "other".to_owned(), value: None }), [0, 0, 0, 1, 1, 0]);
    check(labels(LabelFilter::Has { key, value: None }), [1, 2, 0, 4, 6, 0]);
}

#[test]
fn removing_an_image_leaves_what_others_need() {
    let place = Place::new();
    let (one, two) = (image(&place, &["1", "shared"], "a"), image(&place, &["2", "shared"], "a"));
    let kept = cached(&place, 'c', "1");
    image(&place, &["c"], "a");
    place.store.tag(&name("one"), &one).unwrap();
    let place = place.reopen();
    let freed = place.store.remove_image(&one).unwrap();
    assert_eq!(kinds(&freed), [1, 1, 0, 1, 2, 0]);
    assert!(place.store.image(&two).is_ok());
    assert!(place.store.recall(&key('c')).is_some_and(|record| record.diff_id == Some(kept.clone())));
    assert!(matches!(place.store.remove_image(&one), Err(RemoveError::NotFound { .. })));
    assert_eq!(kinds(&place.store.prune(&Prune::default()).unwrap()), [0; 6]);
}

#[test]
fn a_record_whose_layer_or_text_is_gone_is_a_miss_and_goes() {
    let place = Place::new();
    let layer = cached(&place, 'a', "1");
    cached(&place, 'b', "2");
    assert!(place.store.recall(&key('a')).is_some());
    assert!(place.store.recall(&key('d')).is_none());
    std::fs::write(place.store.root().join("cache").join(format!("{}.json", key('b'))), "nonsense").unwrap();
    std::fs::rename(place.tree(&layer).parent().unwrap(), place.path("away")).unwrap();
    assert!(place.store.recall(&key('a')).is_none());
    assert!(place.store.recall(&key('b')).is_none());
    let place = place.reopen();
    // both records, the layer of the second, and the blobs of both
    assert_eq!(kinds(&place.store.prune(&Prune::default()).unwrap()), [0, 0, 2, 1, 2, 0]);
}

#[test]
fn an_image_whose_record_cannot_be_read_keeps_its_layers() {
    let place = Place::new();
    let id = image(&place, &["1"], "a");
    std::fs::write(place.store.root().join("images").join(format!("{}.json", id.0.hex())), "{").unwrap();
    let place = place.reopen();
    let freed = place.store.prune(&Prune::default()).unwrap();
    assert_eq!(kinds(&freed)[3], 0);
    assert_eq!(image(&place, &["1"], "a"), id);
}

#[test]
fn interrupted_downloads_go_with_the_build_cache_unless_they_are_running() {
    let place = Place::new();
    let blob = |content: &[u8]| Descriptor::of(MediaType::OCI_LAYER, content);
    let begin = |content: &[u8]| place.store.begin(&blob(content)).unwrap().unwrap();
    begin(b"one").write_all(b"o").unwrap();
    let mut running = begin(b"two");
    running.write_all(b"t").unwrap();
    assert_eq!(kinds(&place.store.prune(&Prune::default()).unwrap()), [0; 6]);
    let freed = place.store.prune(&Prune { build_cache: PruneCache::All, ..Prune::default() }).unwrap();
    assert_eq!(kinds(&freed), [0, 0, 0, 0, 0, 1]);
    running.write_all(b"wo").unwrap();
    running.commit().unwrap();
}
