//! Prunes of the build cache that leave something: what images share, what was used lately, what fits below a limit.

use std::time::{Duration, SystemTime};

use layer_store::{FreedKind, Prune, PruneCache, PruneImages, Store};

use crate::images::image;
use crate::place::Place;
use crate::prune::{cached, key, kinds, remember};
use crate::tar::{file, tar};

/// Bytes of each layer's only file.
const CONTENT: usize = 100_000;

/// Keeps layers of [`CONTENT`] bytes under these keys, which are digits, used an hour after each other, the first longest ago.
fn cached_in_turn(place: &Place, keys: &str) {
    for (hours, digit) in (1..).zip(keys.chars()) {
        cached(place, digit, &digit.to_string().repeat(CONTENT));
        set_used(place, digit, hours);
    }
}

/// Lets the record be last used so many hours after 1970.
fn set_used(place: &Place, digit: char, hours: u64) {
    let record = std::fs::File::open(place.store.root().join("cache").join(format!("{}.json", key(digit)))).unwrap();
    record.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600)).unwrap();
}

fn left(store: &Store, keys: &str) -> String {
    let names: Vec<String> = store.cache_records().unwrap().into_iter().map(|(key, _)| key.to_string()).collect();
    keys.chars().filter(|digit| names.contains(&key(*digit).to_string())).collect()
}

#[track_caller]
fn check_limit(limit: u64, expected: &str) {
    let place = Place::new();
    cached_in_turn(&place, "cabd");
    let place = place.reopen();
    let limited = place.store.limit_cache(limit).unwrap();
    assert_eq!(left(&place.store, "cabd"), expected);
    let usage = place.store.usage().unwrap().build_cache;
    assert_eq!(limited.size, usage.size);
    assert!(usage.size <= limit, "{} is above {limit}", usage.size);
    // and not more than was needed: each layer has a blob as large as its tree
    assert!(expected == "cabd" || usage.size + 3 * CONTENT as u64 > limit, "{} of {limit}", usage.size);
}

#[test]
fn what_was_used_least_recently_goes_until_the_rest_fits() {
    check_limit(2_000_000, "cabd");
    check_limit(700_000, "abd");
    check_limit(500_000, "bd");
    check_limit(250_000, "d");
    check_limit(0, "");
}

#[test]
fn what_is_found_in_the_cache_was_used() {
    let place = Place::new();
    cached_in_turn(&place, "cabd");
    place.store.recall(&key('c')).unwrap();
    let place = place.reopen();
    place.store.limit_cache(500_000).unwrap();
    assert_eq!(left(&place.store, "cabd"), "cd");
}

#[test]
fn all_records_of_a_layer_count_as_one_and_go_together() {
    let place = Place::new();
    cached_in_turn(&place, "cab");
    let record = place.store.recall(&key('c')).unwrap();
    place.store.remember(&key('f'), &record).unwrap();
    set_used(&place, 'c', 0);
    set_used(&place, 'a', 0);
    let place = place.reopen();
    // `c` is old, but the other record of its layer is new
    place.store.limit_cache(500_000).unwrap();
    assert_eq!(left(&place.store, "cabf"), "cbf");
    let freed = place.store.limit_cache(0).unwrap().freed;
    assert_eq!(kinds(&freed), [0, 0, 3, 2, 2, 0]);
}

#[test]
fn what_a_running_command_found_stays_and_is_told() {
    let place = Place::new();
    cached_in_turn(&place, "ca");
    let place = place.reopen();
    let build = Store::open(place.store.root()).unwrap();
    build.recall(&key('c')).unwrap();
    let limited = place.store.limit_cache(0).unwrap();
    assert_eq!(left(&place.store, "ca"), "c");
    assert!(limited.size > 2 * CONTENT as u64);
    // its own as well
    assert_eq!(build.limit_cache(0).unwrap().freed, []);
    assert!(build.recall(&key('c')).is_some());
}

#[test]
fn below_the_limit_not_even_garbage_goes() {
    let place = Place::new();
    cached_in_turn(&place, "c");
    place.apply(&tar(&[file("g", "garbage")])).unwrap();
    let place = place.reopen();
    assert_eq!(place.store.limit_cache(1 << 30).unwrap().freed, []);
    assert_eq!(kinds(&place.store.prune(&Prune::default()).unwrap()), [0, 0, 0, 1, 1, 0]);
}

#[test]
fn what_an_image_shares_only_goes_with_all() {
    let place = Place::new();
    image(&place, &["1"], "a");
    let shared = place.apply(&tar(&[file("f", "1")])).unwrap();
    remember(&place, 'a', &shared);
    cached_in_turn(&place, "b");
    let place = place.reopen();
    let policy = |build_cache| Prune { build_cache, ..Prune::default() };
    let told = place.store.prune(&Prune { dry_run: true, ..policy(PruneCache::Unshared) }).unwrap();
    let freed = place.store.prune(&policy(PruneCache::Unshared)).unwrap();
    assert_eq!((told, kinds(&freed)), (freed.clone(), [0, 0, 1, 1, 1, 0]));
    assert!(freed.iter().any(|freed| freed.what == FreedKind::CacheRecord && freed.name == key('b').to_string()));
    // with the image that shares it, it would have gone too
    let both = Prune { images: PruneImages::All, dry_run: true, ..policy(PruneCache::Unshared) };
    assert_eq!(kinds(&place.store.prune(&both).unwrap()), [0, 1, 1, 1, 2, 0]);
    assert_eq!(kinds(&place.store.prune(&policy(PruneCache::All)).unwrap()), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn what_was_used_since_then_stays() {
    let place = Place::new();
    cached_in_turn(&place, "ab");
    place.store.write_context(&key('c'), b"context").unwrap();
    let until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(90 * 60));
    let place = place.reopen();
    place.store.prune(&Prune { build_cache: PruneCache::All, until, ..Prune::default() }).unwrap();
    assert_eq!(left(&place.store, "ab"), "b");
    assert!(place.store.read_context(&key('c')).unwrap().is_some());
}
