//! What the store takes on disk: the numbers are `du`'s, and what is told of each part adds up to them.

use std::collections::BTreeMap;
use std::process::Command;

use layer_store::{CacheItemKind, CacheMountSpec, CacheSharing, ImageUsage, Store};
use oci::{BlobSink, Descriptor, MediaType};

use crate::images::{image, name};
use crate::place::Place;
use crate::prune::{cached, key, remember};
use crate::tar::{directory, file, hard_link, tar};
use crate::tar_layers::{Kind, Written, write};

pub(crate) fn du(place: &Place) -> u64 {
    let output = Command::new("du").args(["-s", "--block-size=1"]).arg(place.store.root()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn usage_is_what_du_finds() {
    let place = Place::new();
    assert_eq!(place.store.usage().unwrap().total(), du(&place));
    let id = image(&place, &["1", &"x".repeat(50_000)], "a");
    place.store.tag(&name("app"), &id).unwrap();
    cached(&place, 'c', &"y".repeat(70_000));
    place.apply(&tar(&[directory("d/"), file("d/a", vec![1; 10_000]), hard_link("b", "d/a")])).unwrap();
    let big = Written::new("big", Kind::File(vec![7; 300_000]));
    let built = write(&place.store, &[big, Written::new("holes", Kind::File(vec![0; 900_000]))]).unwrap();
    remember(&place, 'd', &built.diff_id);
    place.store.write_context(&key('e'), &[1; 20_000]).unwrap();
    let sparse = Descriptor::of(MediaType::OCI_LAYER, &[0; 9000]);
    place.store.begin(&sparse).unwrap().unwrap().write_all(&[0; 5000]).unwrap();
    let usage = place.store.usage().unwrap();
    assert_eq!(usage.total(), du(&place));
    assert_eq!(
        (usage.images.count, usage.images.active, usage.build_cache.count, usage.build_cache.active),
        (1, 1, 3, 2)
    );
    // everything is held by this command
    assert_eq!((usage.images.reclaimable, usage.build_cache.reclaimable > 40_000), (0, false));

    let place = place.reopen();
    let usage = place.store.usage().unwrap();
    assert_eq!(usage.total(), du(&place));
    assert_eq!((usage.images.active, usage.build_cache.active), (0, 0));
    assert_eq!((usage.images.reclaimable, usage.build_cache.reclaimable), (usage.images.size, usage.build_cache.size));
    assert!(usage.images.size > 50_000 && usage.build_cache.size > 390_000 && usage.other > 10_000);
}

#[test]
fn volumes_are_measured_as_du_does_it_and_are_reclaimable_unless_they_are_used() {
    let place = Place::new();
    let volume = |name: &str| place.store.make_volume(&name.parse().unwrap(), &BTreeMap::new()).unwrap();
    std::fs::write(volume("one").data.join("f"), vec![1; 70_000]).unwrap();
    std::fs::hard_link(volume("one").data.join("f"), volume("one").data.join("g")).unwrap();
    std::fs::write(volume("two").data.join("f"), vec![1; 20_000]).unwrap();
    let place = place.reopen();
    let other = layer_store::Store::open(place.store.root()).unwrap();
    let used = other.use_volume(&"two".parse().unwrap(), &BTreeMap::new(), None).unwrap();
    let usage = place.store.usage().unwrap();
    assert_eq!(usage.total(), du(&place));
    let volumes = usage.volumes;
    assert_eq!((volumes.count, volumes.active), (2, 1));
    assert!(volumes.reclaimable > 70_000 && volumes.reclaimable < 100_000, "{volumes:?}");
    assert!(volumes.size > volumes.reclaimable + 20_000 && volumes.size < 150_000, "{volumes:?}");
    drop((used, other));
    let volumes = place.store.usage().unwrap().volumes;
    assert_eq!((volumes.active, volumes.reclaimable), (0, volumes.size));
}

/// A cache mount of `place` with a file that has holes, and one with two names.
fn cache_mount(place: &Place) -> layer_store::CacheMount {
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let spec = CacheMountSpec { id: "/root/.cache".to_owned(), mode: 0o755, owner };
    let mount = place.store.cache_mount(&spec, CacheSharing::Shared, None).unwrap().unwrap();
    std::fs::write(mount.path().join("f"), vec![1; 30_000]).unwrap();
    std::fs::hard_link(mount.path().join("f"), mount.path().join("g")).unwrap();
    let holes = std::fs::File::create(mount.path().join("holes")).unwrap();
    holes.set_len(50 << 20).unwrap();
    mount
}

#[test]
fn what_is_told_of_each_part_adds_up_to_du() {
    let place = Place::new();
    let one = image(&place, &["1", &"shared".repeat(9000)], "a");
    let two = image(&place, &["2", &"shared".repeat(9000)], "a");
    place.store.tag(&name("one"), &one).unwrap();
    place.store.tag(&name("other"), &one).unwrap();
    remember(&place, 'a', &place.apply(&tar(&[file("f", "1")])).unwrap());
    cached(&place, 'b', &"only cached".repeat(3000));
    place.apply(&tar(&[directory("d/"), file("d/a", vec![1; 10_000]), hard_link("b", "d/a")])).unwrap();
    let holes = write(&place.store, &[Written::new("holes", Kind::File(vec![0; 900_000]))]).unwrap();
    remember(&place, 'd', &holes.diff_id);
    remember(&place, 'e', &holes.diff_id);
    place.store.write_context(&key('c'), &[1; 20_000]).unwrap();
    let volume = place.store.make_volume(&"vol".parse().unwrap(), &BTreeMap::new()).unwrap();
    std::fs::write(volume.data.join("f"), vec![1; 40_000]).unwrap();
    let place = place.reopen();
    let mount = cache_mount(&place);

    let details = place.store.usage_details().unwrap();
    let usage = details.usage;
    assert_eq!(usage.total(), du(&place));
    let unique: u64 = details.images.iter().map(|image| image.unique).sum();
    let cache: u64 = details.cache.iter().map(|item| item.unique).sum();
    let volumes: u64 = details.volumes.iter().map(|volume| volume.size).sum();
    assert_eq!(unique + details.images_shared, usage.images.size);
    assert_eq!(cache + details.cache_shared, usage.build_cache.size);
    assert_eq!(volumes, usage.volumes.size);
    assert_eq!(unique + details.images_shared + cache + details.cache_shared + volumes + usage.other, du(&place));

    let of = |id| -> &ImageUsage { details.images.iter().find(|image| image.id == id).unwrap() };
    assert_eq!(of(one.clone()).shared, of(two.clone()).shared);
    assert_eq!(of(one.clone()).shared, details.images_shared);
    assert!(details.images_shared > 54_000 && of(one).unique > of(two).unique, "{details:?}");
    let of = |kind| details.cache.iter().filter(move |item| item.kind == kind);
    // the layer that an image has too, the one that is only cached, and the one with two records
    assert_eq!(of(CacheItemKind::Layer).filter(|item| item.shared > 0).count(), 1);
    assert_eq!(of(CacheItemKind::Layer).count(), 3);
    assert_eq!(of(CacheItemKind::Context).count(), 1);
    let mounts: Vec<_> = of(CacheItemKind::Mount).collect();
    assert_eq!((mounts.len(), mounts[0].name.as_str(), mounts[0].is_held), (1, "/root/.cache", true));
    assert!(mounts[0].unique > 30_000 && mounts[0].unique < 60_000, "{mounts:?}");
    assert!(details.cache.iter().all(|item| item.last_used.is_some()));
    assert_eq!(usage.build_cache.count, 5);
    drop(mount);
}

#[test]
fn every_running_command_that_uses_something_is_counted() {
    let place = Place::new();
    let id = image(&place, &["1"], "a");
    let place = place.reopen();
    let users = |place: &Place| {
        let details = place.store.usage_details().unwrap();
        (details.images[0].users, details.volumes.iter().map(|volume| volume.users).sum::<u64>())
    };
    assert_eq!(users(&place), (0, 0));
    let others = [0, 1].map(|_| Store::open(place.store.root()).unwrap());
    for other in &others {
        other.image(&id).unwrap();
        other.make_volume(&"vol".parse().unwrap(), &BTreeMap::new()).unwrap();
    }
    assert_eq!(users(&place), (2, 2));
    drop(others);
    assert_eq!(users(&place), (0, 0));
}
