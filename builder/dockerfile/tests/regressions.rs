//! What the fuzz targets ask for holds for every golden Dockerfile, and for what once broke it (`fuzz/regressions/`).

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets take them from there")]
mod properties;

use std::path::{Path, PathBuf};

use dockerfile::{MAX_INSTRUCTIONS, MAX_LINE, MAX_SIZE};

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
    check_bytes(property, &bytes, &path.display().to_string());
}

fn check_bytes(property: Property, bytes: &[u8], what: &str) {
    let outcome = std::panic::catch_unwind(|| property(bytes));
    assert!(outcome.is_ok(), "{what} does not hold");
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

/// The fuzzer's input is shorter than this.
#[test]
fn every_property_holds_for_what_is_over_the_limits() {
    let over = [
        ("a long line", format!("FROM scratch\n{}\n", "é".repeat(MAX_LINE))),
        ("a long word", format!("FROM scratch\nENV {}\n", "A=é".repeat(MAX_LINE / 4))),
        ("deep nesting", format!("FROM scratch\nUSER {}\n", "${A:-é".repeat(1000))),
        ("much output", format!("\\{}\nA={}", "${A}".repeat(1000), "é".repeat(1000))),
        ("many instructions", format!("FROM scratch\n{}", "USER é\n".repeat(MAX_INSTRUCTIONS))),
        ("many errors", "é\n".repeat(2000)),
        ("many warnings", format!("FROM scratch\n{}", "cmd é\n".repeat(2000))),
        ("a large file", "é".repeat(MAX_SIZE)),
        ("a NUL byte", "FROM é\0".to_owned()),
    ];
    for (what, text) in over {
        for (target, property) in PROPERTIES {
            check_bytes(property, text.as_bytes(), &format!("{target} of {what}"));
        }
    }
}
