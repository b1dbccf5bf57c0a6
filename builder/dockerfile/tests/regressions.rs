//! What the fuzz targets ask for holds for every golden Dockerfile, and for what once broke it (`fuzz/regressions/`).

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets take them from there")]
mod properties;

use std::path::{Path, PathBuf};

type Property = fn(&[u8]);

const PROPERTIES: [(&str, Property); 5] = [
    ("parse", properties::parse),
    ("round_trip", properties::round_trip),
    ("expand", properties::expand),
    ("trigger", properties::trigger),
    ("check", properties::check),
];

fn files(directory: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(directory);
    let entries = std::fs::read_dir(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    entries.map(|entry| entry.expect("the directory is the repository's own").path()).collect()
}

fn check(property: Property, path: &Path) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let outcome = std::panic::catch_unwind(|| property(&bytes));
    assert!(outcome.is_ok(), "{} does not hold", path.display());
}

#[test]
fn every_property_holds_for_every_golden_dockerfile() {
    for case in files("testdata/dockerfile") {
        PROPERTIES.iter().for_each(|(_, property)| check(*property, &case.join("Dockerfile")));
    }
}

#[test]
fn what_once_went_wrong_does_so_no_more() {
    for (target, property) in PROPERTIES {
        files(&format!("fuzz/regressions/{target}")).iter().for_each(|path| check(property, path));
    }
}
