//! Random tars: entries whose names are few, so that they replace, hide and lead through each other.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::place::in_mount_namespace;
use super::shown::Bench;
use super::tar::{Entry, device, directory, file, hard_link, symlink, tar};

fn path() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["a", "b", "c", "d", "..", ".", "/"]);
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn beside(path: &str, name: impl Fn(&str) -> String) -> String {
    match path.rsplit_once('/') {
        Some((parent, last)) => format!("{parent}/{}", name(last)),
        None => name(path),
    }
}

fn entry() -> impl Strategy<Value = Entry> {
    let mode = prop::sample::select(vec![0o644, 0o755, 0o4711, 0]);
    let kinds = prop_oneof![
        4 => (path(), 0..600_usize).prop_map(|(path, size)| file(&path, vec![b'c'; size])),
        4 => path().prop_map(|path| directory(&path)),
        3 => (path(), target()).prop_map(|(path, target)| symlink(&path, &target)),
        3 => (path(), path()).prop_map(|(path, target)| hard_link(&path, &target)),
        1 => path().prop_map(|path| device(b'3', &path, 1, 3)),
        1 => path().prop_map(|path| device(b'3', &path, 0, 0)),
        1 => path().prop_map(|path| device(b'6', &path, 0, 0)),
        1 => Just(directory(".")),
        2 => path().prop_map(|path| file(&beside(&path, |name| format!(".wh.{name}")), "")),
        1 => path().prop_map(|path| file(&beside(&path, |_| ".wh..wh..opq".to_owned()), "")),
        1 => (path(), path()).prop_map(|(path, value)| directory(&path).pax("SCHILY.xattr.user.a", value)),
    ];
    (kinds, mode, 0..3_u32).prop_map(|(entry, mode, owner)| entry.mode(mode).owner(owner, 0))
}

#[test]
fn tree_and_index_of_any_tar_show_the_same() {
    let below = ["a/", "a/a/", "a/a/a", "a/b", "b/", "b/c", "c -> a", "d"];
    in_mount_namespace(|| {
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(256) });
        let entries = prop::collection::vec(entry(), 1..14);
        let tested = runner.run(&entries, |entries| {
            // most tars have one entry that is refused, and a compared refusal says nothing of those before it
            let mut kept: Vec<Entry> = Vec::new();
            for entry in entries {
                kept.push(entry);
                if super::shown::index(&tar(&kept)).is_err() {
                    let refused = Bench::new(&below).compare(&tar(&kept));
                    prop_assert!(refused.is_err());
                    kept.pop();
                }
            }
            let shown = Bench::new(&below).compare(&tar(&kept));
            prop_assert!(shown.is_ok());
            Ok(())
        });
        tested.unwrap();
    });
}
