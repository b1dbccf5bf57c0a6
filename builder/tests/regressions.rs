//! What the fuzz target `ignore` asks for holds for what once went wrong with an ignore file (`fuzz/regressions/ignore/`).

#[path = "../../fuzz/src/ignore.rs"]
#[expect(unreachable_pub, reason = "the fuzz target takes it from there")]
mod property;

use std::path::Path;

use builder::Dockerignore;

#[test]
fn what_once_went_wrong_does_so_no_more() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions/ignore");
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths: Vec<_> = entries.map(|entry| entry.expect("the directory is the repository's own").path()).collect();
    assert!(!paths.is_empty());
    for path in paths {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        property::ignore(&bytes);
    }
}
