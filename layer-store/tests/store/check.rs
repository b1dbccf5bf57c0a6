//! Checking a store and mending it: every kind of damage is found, what can be made again is, and what is whole stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use layer_store::{CacheRecord, Compression, Depth, Driver, DriverChoice, Prune, PruneCache, PruneImages, Store};
use oci::{Descriptor, DiffId, Document, Manifest, MediaType};

use crate::images::{config, image, name};
use crate::place::{Place, in_mount_namespace};
use crate::tar::{directory, file, hard_link, tar};
use crate::tar_layers::{Kind, Written, write};

/// Breaks a layer, whose directory it is given.
type Damage = fn(&Path);

/// A store with one of everything, and what is in it.
struct Stocked {
    place: Place,
    pulled: DiffId,
    blob: Descriptor,
    built: DiffId,
    driver: Driver,
}

impl Stocked {
    /// Image `pulled` of a tar that others wrote, and image `built` of that and of one written here, which is cached too.
    fn new() -> Self {
        Self::with(Driver::Tree)
    }

    fn with(driver: Driver) -> Self {
        let place = Place::with(driver);
        // not in the order that our tars have
        let bytes = tar(&[file("z", "foreign"), directory("d/"), file("d/a", "1"), hard_link("b", "d/a")]);
        let pulled = place.apply(&bytes).unwrap();
        let blob = Descriptor::of(MediaType::OCI_LAYER, &bytes);
        let document = config(std::slice::from_ref(&pulled), "pulled");
        let id = place.store.add_image(&document).unwrap();
        let manifest = Document::write(Manifest::new(document.descriptor(MediaType::OCI_CONFIG), vec![blob.clone()]));
        place.store.add_manifest(&id, &manifest, MediaType::OCI_MANIFEST, Some(&name("pulled"))).unwrap();
        place.store.tag(&name("pulled"), &id).unwrap();

        let built = write(&place.store, &[Written::new("own", Kind::File(b"content".to_vec()))]).unwrap().diff_id;
        let id = place.store.add_image(&config(&[pulled.clone(), built.clone()], "built")).unwrap();
        place.store.tag(&name("built"), &id).unwrap();
        let record =
            CacheRecord { diff_id: Some(built.clone()), recipe: serde_json::Value::Null, created: String::new() };
        place.store.remember(&"a".repeat(64).parse().unwrap(), &record).unwrap();
        place.store.make_volume(&"data".parse().unwrap(), &BTreeMap::new()).unwrap();
        Self { place: place.reopen(), pulled, blob, built, driver }
    }

    fn root(&self) -> &Path {
        self.place.store.root()
    }

    fn layer(&self, diff_id: &DiffId) -> PathBuf {
        self.root().join("layers").join(diff_id.0.hex())
    }

    fn only_file(&self, directory: &str) -> PathBuf {
        let mut paths = std::fs::read_dir(self.root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
        paths.next().unwrap()
    }

    fn problems(&self, depth: Depth) -> Vec<String> {
        let problems = self.place.store.check(depth).unwrap().problems;
        problems
            .iter()
            .map(|problem| format!("{}: {}: {}", problem.kind.name(), problem.fault, problem.repair))
            .collect()
    }

    /// Repairs, and returns what was done; afterwards nothing is wrong but `left` things, and a prune fails at nothing.
    fn repaired(&self, left: usize) -> Vec<String> {
        let store = Store::open_with(self.root(), DriverChoice::Only(self.driver)).unwrap();
        let repaired = store.repair(Depth::Whole).unwrap();
        assert_eq!(repaired.left.len(), left, "{:?}", repaired.left);
        drop(store);
        assert_eq!(self.problems(Depth::Whole).len(), left);
        assert_eq!(self.place.leftovers(), Vec::<PathBuf>::new());
        repaired.mended.iter().map(|problem| format!("{}: {}", problem.kind.name(), problem.repair)).collect()
    }

    /// The names of the images that can be used: their layers can be mounted.
    fn usable(&self) -> Vec<String> {
        let images = self.place.store.images().unwrap().into_iter().filter_map(Result::ok);
        let is_usable = |image: &layer_store::ListedImage| {
            let config = self.place.store.config(&image.id).unwrap();
            config.value().rootfs.diff_ids.iter().all(|id| self.place.store.has_layer(id).unwrap())
        };
        let mut names: Vec<String> =
            images.filter(is_usable).flat_map(|image| image.tags).map(|tag| tag.familiar()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_whole_store_has_no_problem() {
    let stocked = Stocked::new();
    assert_eq!(stocked.problems(Depth::Quick), [""; 0]);
    assert_eq!(stocked.problems(Depth::Whole), [""; 0]);
    let checked = stocked.place.store.check(Depth::Whole).unwrap();
    assert_eq!(checked.unverified, []);
    let counts: Vec<_> = checked.examined.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
    assert_eq!(counts, ["blob 4", "layer 2", "image 2", "name 2", "cache record 1", "volume 1"]);
    assert_eq!(stocked.repaired(0), [""; 0]);
}

#[test]
fn wrong_bytes_of_a_blob_go_and_the_image_stays() {
    let stocked = Stocked::new();
    let path = stocked.place.blob(&stocked.blob.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(stocked.problems(Depth::Quick), [""; 0]);
    let mended = stocked.repaired(0);
    assert_eq!(mended[0], "blob: removes it");
    assert!(mended[1].starts_with("image: forgets manifest sha256:") && mended.len() == 2, "{mended:?}");
    assert_eq!(stocked.usable(), ["built:latest", "pulled:latest"]);
    assert!(!path.exists());
    // nobody can tell any more whether this tree is what it was
    assert_eq!(stocked.place.store.check(Depth::Whole).unwrap().unverified, std::slice::from_ref(&stocked.pulled));
}

#[test]
fn a_blob_that_is_gone_is_forgotten_by_the_manifest() {
    let stocked = Stocked::new();
    stocked.place.forget_blob(&stocked.blob);
    // a command that has nothing else to do than this
    let repaired = Store::open(stocked.root()).unwrap().repair(Depth::Quick).unwrap();
    assert_eq!((repaired.mended.len(), repaired.left.len()), (1, 0));
    assert_eq!(stocked.usable(), ["built:latest", "pulled:latest"]);
}

#[test]
fn a_blob_that_is_cut_short_is_found_by_its_size() {
    let stocked = Stocked::new();
    std::fs::write(stocked.place.blob(&stocked.blob.digest), "").unwrap();
    let problems = stocked.problems(Depth::Quick);
    assert!(problems[0].starts_with("blob: its bytes have digest sha256:e3b0c442"), "{problems:?}");
}

#[test]
fn a_broken_tree_of_others_is_made_again_from_its_blob() {
    let damages: [Damage; 5] = [
        |tree| std::fs::write(tree.join("z"), "forei9n").unwrap(),
        |tree| std::fs::remove_file(tree.join("d/a")).unwrap(),
        |tree| std::fs::write(tree.join("new"), "").unwrap(),
        |tree| std::fs::remove_dir_all(tree).unwrap(),
        |tree| std::fs::write(tree.with_file_name("record.json"), "{\"diff").unwrap(),
    ];
    for damage in damages {
        let stocked = Stocked::new();
        damage(&stocked.layer(&stocked.pulled).join("tree"));
        let expected = format!("layer: makes it again from blob {}", stocked.blob.digest);
        assert_eq!(stocked.repaired(0), [expected]);
        assert_eq!(std::fs::read(stocked.layer(&stocked.pulled).join("tree/z")).unwrap(), b"foreign");
        assert_eq!(stocked.usable(), ["built:latest", "pulled:latest"]);
        assert_eq!(stocked.place.store.layer(&stocked.pulled).unwrap().blobs, std::slice::from_ref(&stocked.blob));
    }
}

#[test]
fn a_broken_tar_of_others_is_made_again_from_its_blob_and_a_broken_index_from_the_tar() {
    let blob = "makes it again from blob";
    let damages: [(&str, Damage); 5] = [
        (blob, |layer| std::fs::write(layer.join("layer.tar"), "short").unwrap()),
        (blob, |layer| std::fs::remove_file(layer.join("layer.tar")).unwrap()),
        (blob, |layer| {
            let mut bytes = std::fs::read(layer.join("layer.tar")).unwrap();
            bytes[513] ^= 1;
            std::fs::write(layer.join("layer.tar"), bytes).unwrap();
        }),
        ("makes its index again", |layer| std::fs::write(layer.join("layer.erofs"), "short").unwrap()),
        ("makes its index again", |layer| {
            let mut bytes = std::fs::read(layer.join("layer.erofs")).unwrap();
            bytes[1300] ^= 1;
            std::fs::write(layer.join("layer.erofs"), bytes).unwrap();
        }),
    ];
    for (repair, damage) in damages {
        let stocked = Stocked::with(Driver::Erofs);
        damage(&stocked.layer(&stocked.pulled));
        let mended = stocked.repaired(0);
        assert!(mended.len() == 1 && mended[0].contains(repair), "{mended:?}");
        in_mount_namespace(|| {
            let view = stocked.place.view(&stocked.pulled);
            assert_eq!(std::fs::read(view.path().join("z")).unwrap(), b"foreign");
        });
        assert_eq!(stocked.usable(), ["built:latest", "pulled:latest"]);
    }
}

#[test]
fn a_layer_that_is_gone_comes_back_from_its_blob() {
    let stocked = Stocked::new();
    std::fs::remove_dir_all(stocked.layer(&stocked.pulled)).unwrap();
    let expected = format!("layer: it is not here: makes it again from blob {}", stocked.blob.digest);
    assert_eq!(stocked.problems(Depth::Quick), [expected]);
    assert_eq!(stocked.repaired(0).len(), 1);
    assert_eq!(stocked.usable(), ["built:latest", "pulled:latest"]);
}

#[test]
fn a_broken_layer_without_a_blob_goes_with_the_images_that_need_it_and_no_other() {
    let damages: [Damage; 4] = [
        |layer| {
            let mut bytes = std::fs::read(layer.join("layer.tar")).unwrap();
            bytes[515] ^= 1;
            std::fs::write(layer.join("layer.tar"), bytes).unwrap();
        },
        |layer| std::fs::File::options().write(true).open(layer.join("layer.tar")).unwrap().set_len(512).unwrap(),
        |layer| std::fs::remove_file(layer.join("layer.tar")).unwrap(),
        |layer| std::fs::remove_dir_all(layer).unwrap(),
    ];
    for damage in damages {
        let stocked = Stocked::new();
        damage(&stocked.layer(&stocked.built));
        let mended = stocked.repaired(0);
        assert!(mended.contains(&"cache record: removes it".to_owned()), "{mended:?}");
        assert_eq!(stocked.usable(), ["pulled:latest"]);
        assert_eq!(stocked.place.store.images().unwrap().len(), 1);
        assert!(stocked.place.store.find("built").is_err());
    }
}

#[test]
fn records_that_cannot_be_read_are_written_anew_or_go() {
    let stocked = Stocked::new();
    for directory in ["images", "cache"] {
        std::fs::write(stocked.only_file(directory), "{").unwrap();
    }
    std::fs::write(stocked.root().join("tags").join(format!("{}.json", "0".repeat(64))), "").unwrap();
    std::fs::write(stocked.root().join("volumes/data/record.json"), "").unwrap();
    std::fs::write(stocked.root().join("volumes/data/_data/kept"), "kept").unwrap();
    let expected = [
        "image: writes its record anew",
        "name: removes it",
        "cache record: removes it",
        "volume: writes its record anew",
    ];
    assert_eq!(stocked.repaired(0), expected);
    assert_eq!(stocked.usable(), ["built:latest", "pulled:latest"]);
    assert!(stocked.root().join("volumes/data/_data/kept").exists());
    assert!(stocked.place.store.volume(&"data".parse().unwrap()).is_ok());
}

#[test]
fn an_image_without_its_config_goes_with_its_names() {
    let stocked = Stocked::new();
    let id = stocked.place.store.find("built").unwrap();
    std::fs::remove_file(stocked.place.blob(&id.0)).unwrap();
    assert_eq!(stocked.problems(Depth::Quick), [format!("image: its config {} is not here: removes it", id.0)]);
    assert_eq!(stocked.repaired(0), ["image: removes it"]);
    assert_eq!(stocked.usable(), ["pulled:latest"]);
    assert!(stocked.place.store.find("built").is_err());
}

#[test]
fn what_nobody_knows_is_told_and_left_alone() {
    let stocked = Stocked::new();
    let strays =
        ["layers/notes.txt", "images/x.json", "blobs/sha256/x", "blobs/md5/x", "cache/holiday.jpg", "volumes/.x"];
    for stray in strays {
        let path = stocked.root().join(stray);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "mine").unwrap();
    }
    std::fs::write(stocked.root().join("beside.txt"), "mine").unwrap();
    assert_eq!(stocked.repaired(strays.len()), [""; 0]);
    assert!(strays.iter().all(|stray| stocked.root().join(stray).exists()));
}

#[test]
fn what_a_running_command_uses_is_not_mended() {
    let stocked = Stocked::new();
    let running = Store::open(stocked.root()).unwrap();
    running.layer(&stocked.pulled).unwrap();
    std::fs::write(stocked.layer(&stocked.pulled).join("tree/z"), "forei9n").unwrap();
    let other = Store::open(stocked.root()).unwrap();
    let repaired = other.repair(Depth::Whole).unwrap();
    assert_eq!(repaired.mended.len(), 0);
    assert_eq!(repaired.left[0].1.to_string(), "a command that is running uses it");
    drop((running, other));
    assert_eq!(stocked.repaired(0).len(), 1);
}

#[test]
fn a_check_beside_builds_and_prunes_finds_nothing_wrong() {
    let place = Place::new();
    let root = place.store.root().to_owned();
    let everything = Prune { images: PruneImages::All, build_cache: PruneCache::All, ..Prune::default() };
    let build = || {
        for round in 0..8 {
            let place = Store::open(&root).unwrap();
            let bytes = tar(&[file("f", format!("{}", round % 3))]);
            let blob = place.put_blob(MediaType::OCI_LAYER, &bytes).unwrap();
            let diff_id = DiffId(blob.digest.clone());
            place.apply(&blob, &diff_id).unwrap();
            let id = place.add_image(&config(std::slice::from_ref(&diff_id), &round.to_string())).unwrap();
            place.tag(&name("app"), &id).unwrap();
            place.manifest(&id, Compression::default()).unwrap();
            drop(place);
            Store::open(&root).unwrap().prune(&everything).unwrap();
        }
    };
    std::thread::scope(|scope| {
        let builds = [scope.spawn(build), scope.spawn(build)];
        while !builds.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let store = Store::open(&root).unwrap();
            for depth in [Depth::Whole, Depth::Quick] {
                let checked = store.check(depth).unwrap();
                assert!(checked.problems.is_empty(), "{:?}", checked.problems);
            }
        }
    });
    drop(image(&place, &["1"], "a"));
}
