//! What counts after the machine was started anew.

use layer_store::{CacheKey, CacheRecord, Store};

use crate::images::{config, name};
use crate::place::Place;
use crate::tar::{file, tar};

#[test]
fn a_cache_record_of_an_earlier_start_counts_only_if_it_was_flushed() {
    let place = Place::new();
    let key: CacheKey = "a".repeat(64).parse().unwrap();
    let diff_id = place.apply(&tar(&[file("f", "1")])).unwrap();
    let record = CacheRecord {
        diff_id: Some(diff_id.clone()),
        recipe: serde_json::json!({"run": "x"}),
        created: "now".to_owned(),
    };
    place.store.remember(&key, &record).unwrap();
    assert_eq!(place.store.recall(&key), Some(record.clone()));

    // as if it had been written before a restart, an hour ago
    let path = place.store.root().join(format!("cache/{key}.json"));
    let mut written: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    written["boot"] = "another".into();
    std::fs::write(&path, written.to_string()).unwrap();
    assert_eq!(place.store.recall(&key), None);
    let hour = std::time::Duration::from_secs(3600);
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(std::time::SystemTime::now() - hour)
        .unwrap();
    assert_eq!(place.store.recall(&key), None);
    let id = place.store.add_image(&config(&[diff_id], "a")).unwrap();
    place.store.tag(&name("app"), &id).unwrap();
    assert_eq!(Store::open(place.store.root()).unwrap().recall(&key), Some(record));
}
