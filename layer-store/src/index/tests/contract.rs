//! The contract of trees and indexes: of the same tar, both show the same.

use super::place::in_mount_namespace;
use super::shown::Bench;
use super::tar::{Entry, directory, file, tar};

const BELOW: [&str; 8] = ["d/", "d/old", "d/sub/", "d/sub/old", "e/", "e/old", "f", "l -> d"];

/// Compares tree and index of some entries, and returns what both show.
fn show(entries: &[Entry]) -> Result<String, String> {
    let bytes = tar(entries);
    let mut shown = Err(String::new());
    in_mount_namespace(|| shown = Bench::new(&BELOW).compare(&bytes));
    shown
}

/// Compares tree and index of some entries, and what the names in them are.
fn check(entries: &[Entry], expected: &str) {
    let shown = show(entries).unwrap();
    let names: Vec<&str> = shown.lines().skip(1).filter(|line| !line.starts_with('"')).collect();
    let names: Vec<&str> = names.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names.join(" "), expected, "{shown}");
}

#[test]
fn an_empty_layer_shows_what_is_below() {
    check(&[], "d d/old d/sub d/sub/old e e/old f l");
}

#[test]
fn whiteouts_hide_files_directories_and_nothing() {
    check(&[file(".wh.f", ""), file(".wh.d", ""), file(".wh.nothing", "")], "e e/old l");
    check(&[file("d/.wh.old", ""), file("d/.wh.none", ""), file("new/.wh.x", "")], "d d/sub d/sub/old e e/old f l new");
}

#[test]
fn whiteouts_in_new_and_in_opaque_directories_are_not_listed() {
    let opaque =
        [directory("n/"), file("n/.wh.a", ""), file("n/.wh..wh..opq", ""), file("n/.wh.b", ""), file("n/x", "x")];
    check(&opaque, "d d/old d/sub d/sub/old e e/old f l n n/x");
    let existing = [file("d/.wh.old", ""), file("d/.wh..wh..opq", ""), file("d/.wh.b", ""), file("d/x", "x")];
    check(&existing, "d d/x e e/old f l");
}
