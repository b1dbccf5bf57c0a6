//! The contract of trees and indexes: of the same tar, both show the same, or both are refused in the same words.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::place::in_mount_namespace;
use super::shown::{Bench, Refusal, index, mount_index};
use super::tar::{BLOCK, Entry, device, directory, file, hard_link, symlink, tar};
use crate::apply::entries::Kind;
use crate::index::{IndexBuilder, IndexFault, IndexFile, Unsuitable};
use crate::sys::Time;

const BELOW: [&str; 8] = ["d/", "d/old", "d/sub/", "d/sub/old", "e/", "e/old", "f", "l -> d"];

/// Compares tree and index of a tar, and returns what both show.
fn compare(bytes: &[u8]) -> Result<String, String> {
    let mut shown = Err(String::new());
    in_mount_namespace(|| shown = Bench::new(&BELOW).compare(bytes));
    shown
}

/// Compares tree and index of some entries, and returns the lines of what both show that begin with `prefix`.
fn lines(entries: &[Entry], prefix: &str) -> Vec<String> {
    let shown = compare(&tar(entries)).unwrap();
    shown.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

/// Compares tree and index of some entries, and what the names in them are.
fn check(entries: &[Entry], expected: &str) {
    let shown = compare(&tar(entries)).unwrap();
    let names: Vec<&str> = shown.lines().skip(1).filter(|line| !line.starts_with('"')).collect();
    let names: Vec<&str> = names.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names.join(" "), expected, "{shown}");
}

fn check_refused(entries: &[Entry], expected: &str) {
    assert_eq!(compare(&tar(entries)).unwrap_err(), expected);
}

#[test]
fn an_empty_layer_shows_what_is_below() {
    check(&[], "d d/old d/sub d/sub/old e e/old f l");
    assert!(compare(&[]).is_ok(), "nothing at all is a tar too");
}

#[test]
fn files_of_all_sizes_have_the_bytes_of_the_tar() {
    let sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 70_000];
    let content = |size: usize| (0..size).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect::<Vec<u8>>();
    let entries: Vec<Entry> = sizes.iter().map(|size| file(&format!("n{size}"), content(*size))).collect();
    assert_eq!(lines(&entries, "n").len(), sizes.len());
}

#[test]
fn every_one_of_twenty_thousand_names_is_found() {
    let entries: Vec<Entry> = (0..20_000).map(|n| file(&format!("n/{n}-name-of-a-file"), n.to_string())).collect();
    assert_eq!(lines(&entries, "n/").len(), 20_000);
}

#[test]
fn names_of_any_bytes_are_listed_and_found() {
    let long = "x".repeat(255);
    let mut names: Vec<Vec<u8>> = (1..=255_u8).filter(|byte| !b"./".contains(byte)).map(|byte| vec![byte]).collect();
    names.extend([&b"!a"[..], b"+x", b"-y", b"...", b".-", b"..a", b". ", b"\xff\xfe"].map(<[u8]>::to_vec));
    names.push(long.into_bytes());
    let entries: Vec<Entry> =
        names.iter().map(|name| file("x", "c").pax("path", [b"n/", &name[..]].concat())).collect();
    assert_eq!(lines(&entries, "n/").len(), names.len());
}

#[test]
fn a_hundred_and_twenty_directories_deep_is_shown() {
    assert_eq!(lines(&[file("x", "deep").pax("path", "n/".repeat(120) + "f")], "n").len(), 121);
}

#[test]
fn symbolic_links_of_every_length_are_read() {
    let lengths = [1, 2, 440, 441, 447, 448, 449, 450, 511, 512, 513, 600, 1023, 1024, 1025, 4094, 4095];
    let link = |length: &usize| symlink(&format!("n{length}"), "x").pax("linkpath", "t".repeat(*length));
    let entries: Vec<Entry> = lengths.iter().map(link).collect();
    assert_eq!(lines(&entries, "n").len(), lengths.len());
    check_refused(&[link(&4096)], "layer entry `n4096` is a link to a path of more than 4095 bytes");
}

#[test]
fn hard_links_are_one_file_whatever_they_link_to() {
    let all = [
        file("n/f", "content"),
        hard_link("n/f2", "n/f").mode(0o7777).owner(9, 9),
        hard_link("m", "/n/../n/f"),
        symlink("n/s", "f"),
        hard_link("n/s2", "n/s"),
        device(b'3', "n/c", 1, 3),
        hard_link("n/c2", "n/c"),
        device(b'6', "n/p", 0, 0),
        hard_link("n/p2", "n/p"),
    ];
    let shown = compare(&tar(&all)).unwrap();
    assert_eq!(shown.lines().filter(|line| line.starts_with('"')).count(), 5, "{shown}");
    let onto_itself = [file("n", "1"), hard_link("n", "n"), hard_link("o", "n"), hard_link("n", "o")];
    assert!(lines(&onto_itself, "n").concat().contains(" x2"));
}

#[test]
fn a_hard_link_keeps_what_its_target_was() {
    let replaced = [file("n", "1"), hard_link("m", "n"), file("n", "2")];
    assert!(lines(&replaced, "m")[0].starts_with("m `1` 100644 0:0 1000000000.0 x1"));
    let in_what_goes = [file("n/a", "1"), hard_link("n", "n/a")];
    check_refused(&in_what_goes, "cannot link `n`");
    let replacing = [file("n/a", "1"), file("b", "2"), hard_link("n", "b")];
    check(&replacing, "b d d/old d/sub d/sub/old e e/old f l n");
}

#[test]
fn hard_links_to_nothing_to_whiteouts_and_to_directories_are_refused() {
    let missing = "layer entry `h` is a hard link to something that this layer does not have before it";
    check_refused(&[hard_link("h", "f")], missing);
    check_refused(&[file(".wh.f", ""), hard_link("h", "f")], missing);
    check_refused(&[file("n", ""), hard_link("h", "n/x")], missing);
    check_refused(&[directory("n"), hard_link("h", "n")], "layer entry `h` is a hard link to a directory");
    check_refused(&[hard_link("h", "..")], "layer entry `h` is a hard link to a directory");
}

#[test]
fn of_two_entries_with_one_path_the_last_one_counts() {
    let name = "SCHILY.xattr.user.";
    check(
        &[
            file("d", "1"),
            directory("d").mode(0o700),
            file("d/x", ""),
            directory("e").pax(&format!("{name}a"), "1").pax(&format!("{name}b"), "1"),
            file("e/y", ""),
            directory("e").mode(0o711).pax(&format!("{name}b"), "2"),
            directory("f"),
            file("f/z", ""),
            file("f", "3"),
            symlink("f", "e"),
            file("f", "4"),
        ],
        "d d/x e e/old e/y f l",
    );
    check(&[file("n", "1"), directory("n"), file("n", "2")], "d d/old d/sub d/sub/old e e/old f l n");
}

#[test]
fn directories_without_entries_are_made_and_noted() {
    check(&[file("n/m/x", ""), file("d/sub/x", "")], "d d/old d/sub d/sub/old d/sub/x e e/old f l n n/m n/m/x");
    let later = [file("n/m/x", ""), directory("n").mode(0o700).owner(1, 2)];
    assert!(lines(&later, "n / ")[0].starts_with("n / 40700 1:2 1000000000.0"));
    check_refused(&[file("f", ""), file("f/x", "")], "layer entry `f` is no directory, but has entries below it");
}

#[test]
fn metadata_is_what_the_tar_says() {
    let long_ago = file("n1", "").pax("mtime", "-7.25");
    let entries = [
        directory("./").mode(0o1701).owner(5, 6),
        file("n0", "").mode(0o6755),
        long_ago,
        file("n2", "").pax("mtime", "8589934592.123456789").mode(0),
        file("n3", "").pax("uid", "3000000000").pax("gid", "4294967294"),
        device(b'4', "n4", 259, 70_000).mode(0o640),
        device(b'3', "n5", 4095, 1_048_575).mode(0o1777),
        device(b'6', "n6", 0, 0).mode(0o4600),
        symlink("n7", "x").mode(0).owner(7, 8),
        directory("n8").mode(0o7777),
    ];
    assert_eq!(lines(&entries, "n").len(), 9);
    assert!(lines(&entries, ". ")[0].starts_with(". / 41701 5:6 1000000000.0"));
    let number = "layer entry `n` is a device with a number that Linux does not have";
    check_refused(&[device(b'3', "n", 4096, 0)], number);
    check_refused(&[device(b'4', "n", 0, 1 << 20)], number);
}

#[test]
fn extended_attributes_are_kept_left_out_or_refused_alike() {
    let with = |entry: Entry, name: &str, value: &[u8]| entry.pax(&format!("SCHILY.xattr.{name}"), value);
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let many = (0..40).fold(file("n1", ""), |entry, n| with(entry, &format!("user.{n:0>200}"), &[b'v'; 300]));
    let kept = [
        with(with(file("n0", "c"), "user.binary", b"\0\n=\xff"), "trusted.t", b"t"),
        many,
        with(file("n2", ""), "user.large", &vec![b'x'; 65_535]),
        with(file("n3", ""), "security.capability", capability),
        with(with(directory("n4"), "user.d", b"d"), "security.other", b"s"),
        with(symlink("n5", "x"), "trusted.link", b"l"),
        with(device(b'6', "n6", 0, 0), "trusted.pipe", b"p"),
    ];
    assert_eq!(lines(&kept, "n").iter().filter(|line| line.contains('=')).count(), kept.len());
    let left_out = [
        with(symlink("n0", "x"), "user.a", b"b"),
        with(file("n1", ""), "unknown.a", b"b"),
        with(file("n2", ""), "security.selinux", b"b"),
        with(file("n3", ""), "trusted.overlay.redirect", b"/etc"),
        with(directory("d"), "trusted.overlay.opaque", b"y"),
        with(directory("e"), "user.overlay.opaque", b"y"),
    ];
    let shown = compare(&tar(&left_out)).unwrap();
    assert!(!shown.contains('=') && shown.contains("d/old") && shown.contains("e/old"), "{shown}");
    let refused = "cannot write an extended attribute of `n`";
    check_refused(&[with(file("n", ""), "security.capability", b"none")], refused);
    check_refused(&[with(file("n", ""), "user.", b"x")], refused);
    check_refused(&[with(file("n", ""), &format!("user.{}", "n".repeat(251)), b"x")], refused);
    check_refused(&[with(file("n", ""), "user.a", &vec![0; 65_537])], refused);
}

#[test]
fn long_names_of_both_formats_are_shown() {
    let deep = "n".repeat(150) + "/" + &"m".repeat(150);
    let gnu = |kind, path: &str| file("././@LongLink", [path.as_bytes(), b"\0"].concat()).kind(kind);
    let entries = [
        file("x", "1").pax("path", &deep),
        gnu(b'L', &(deep.clone() + "2")),
        file("x", "2"),
        gnu(b'K', &deep),
        hard_link("h", "x"),
    ];
    let shown = compare(&tar(&entries)).unwrap();
    assert!(shown.contains("h `1`") && shown.contains("m2 `2`"), "{shown}");
}

#[test]
fn whiteouts_hide_files_directories_and_nothing() {
    check(&[file(".wh.f", ""), file(".wh.d", ""), file(".wh.nothing", "")], "e e/old l");
    check(&[file("d/.wh.old", ""), file("d/.wh.none", ""), file("n/.wh.x", "")], "d d/sub d/sub/old e e/old f l n");
    check(&[file(".wh..wh.plnk", ""), file(".wh..wh.a", "")], "d d/old d/sub d/sub/old e e/old f l");
}

#[test]
fn opaque_directories_hide_what_is_below_and_nothing_of_their_own() {
    let (mark, own, new) = (file("d/.wh..wh..opq", ""), directory("d/"), file("d/new", "n"));
    let expected = "d d/new e e/old f l";
    check(&[own.clone(), mark.clone(), new.clone()], expected);
    check(&[own, new.clone(), mark.clone()], expected);
    check(&[mark, new], expected);
    // overlay does not ask the root: whoever mounts the layer leaves out what is below, as its record says
    check(&[file("n", "n"), file(".wh..wh..opq", "")], "d d/old d/sub d/sub/old e e/old f l n");
}

#[test]
fn a_whiteout_and_an_entry_of_one_name_are_new_in_both_orders() {
    let (whiteout, own, new) = (file(".wh.d", ""), directory("d/"), file("d/new", "n"));
    let expected = "d d/new e e/old f l";
    check(&[whiteout.clone(), own.clone(), new.clone()], expected);
    check(&[own, new.clone(), whiteout.clone()], expected);
    check(&[whiteout, new], expected);
    let (whiteout, own) = (file(".wh.f", ""), file("f", "new"));
    assert!(lines(&[whiteout.clone(), own.clone()], "f ")[0].starts_with("f `new`"));
    assert!(lines(&[own, whiteout], "f ")[0].starts_with("f `new`"));
}

#[test]
fn whiteouts_in_new_and_in_opaque_directories_are_not_listed() {
    let (a, b, mark) = (file("n/.wh.a", ""), file("n/.wh.b", ""), file("n/.wh..wh..opq", ""));
    check(&[directory("n/"), a, mark, b, file("n/x", "x")], "d d/old d/sub d/sub/old e e/old f l n n/x");
    let existing = [file("d/.wh.old", ""), file("d/.wh..wh..opq", ""), file("d/.wh.b", ""), file("d/x", "x")];
    check(&existing, "d d/x e e/old f l");
}

#[test]
fn what_is_hostile_stays_inside_or_is_refused() {
    check(&[file("../../n", ""), file("/m", ""), file("a/../../o", "")], "d d/old d/sub d/sub/old e e/old f l m n o");
    check(&[symlink("n", "../../o/../p"), file("n/x", "x")], "d d/old d/sub d/sub/old e e/old f l n o p p/x");
    check(&[symlink("n", "/"), directory("n/d/").mode(0o700)], "d d/old d/sub d/sub/old e e/old f l n");
    check(&[symlink("n", "."), directory("n/n"), file("n/x", "")], "d d/old d/sub d/sub/old e e/old f l n n/x");
    check_refused(&[symlink("n", "n"), file("n/x", "")], "cannot open `n`");
    check_refused(&[symlink("a", "b/x"), symlink("b", "a/x"), file("a/y", "")], "cannot open `a`");
    check_refused(&[symlink("./", "d")], "layer entry `/` is the root directory, but not a directory");
    check_refused(&[file("n/.wh.", "")], "layer entry `n/.wh.` is a whiteout of no name");
    check_refused(&[file(".wh.n/x", "")], "layer entry `.wh.n/x` is below a name that is reserved for whiteouts");
    check_refused(&[symlink("n", "")], "layer entry `n` is a link to nothing");
    let long = "n".repeat(256);
    let name = file("x", "").pax("path", &long);
    check_refused(&[name], &format!("layer entry `{long}` has a name of more than 255 bytes"));
    let whole = tar(&[file("n", "x".repeat(1000))]);
    assert_eq!(compare(&whole[..2 * BLOCK]).unwrap_err(), "it ends within an entry");
    assert_eq!(compare(&whole[..3 * BLOCK - 1]).unwrap_err(), "it ends within an entry");
    assert!(compare(&whole[..3 * BLOCK]).is_ok());
}

#[test]
fn forty_links_are_followed_and_not_one_more() {
    let chain = |count: usize| -> Vec<Entry> {
        let mut entries: Vec<Entry> = (1..count).map(|n| symlink(&format!("n{n}"), &format!("n{}", n + 1))).collect();
        entries.extend([symlink(&format!("n{count}"), "d"), directory("d"), file("n1/x", "")]);
        entries
    };
    assert!(lines(&chain(40), "d/x").len() == 1);
    check_refused(&chain(41), "cannot open `n1`");
}

#[test]
fn sparse_files_are_chunks_and_holes() {
    let sparse = |path: &str, map: &str, size: &str, content: usize| {
        file(path, vec![b's'; content]).pax("GNU.sparse.map", map).pax("GNU.sparse.size", size)
    };
    let entries = [
        sparse("n0", "4096,4096,16384,8192", "40000", 12_288),
        sparse("n1", "0,4096,4096,4096,12288,5", "12293", 8197),
        sparse("n2", "1048576,4096,9437184,0", "9437184", 4096),
        sparse("n3", "0,1000", "1000", 1000),
        sparse("n4", "0,0", "0", 0),
        sparse("n5", "100,0", "5000000", 0),
        file("n6", "behind"),
    ];
    assert_eq!(lines(&entries, "n").len(), entries.len());
}

#[test]
fn what_an_index_cannot_show_is_left_to_trees() {
    let unsuitable = |entries: &[Entry]| match index(&tar(entries)) {
        Err(Refusal::Unsuitable(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let sparse = |map: &str, size: &str, content: usize| {
        file("n", vec![b's'; content]).pax("GNU.sparse.map", map).pax("GNU.sparse.size", size)
    };
    assert_eq!(unsuitable(&[sparse("512,512", "1024", 512)]), Unsuitable::Sparse);
    assert_eq!(unsuitable(&[sparse("0,4096,8192,4097", "20000", 8193)]), Unsuitable::Sparse);
    assert_eq!(unsuitable(&[sparse("4096,4096", "1099511627776", 4096)]), Unsuitable::Sparse);
    let acl = file("n", "").pax("SCHILY.xattr.system.posix_acl_access", b"\x02\0\0\0");
    assert_eq!(unsuitable(&[acl]), Unsuitable::AccessControl);
    let value = file("n", "").pax("SCHILY.xattr.user.a", [b'x'; 65_536]);
    assert_eq!(unsuitable(&[value]), Unsuitable::Xattrs);
    let xattr = |n: usize| (format!("SCHILY.xattr.user.{n}"), [b'x'; 60_000]);
    let many = (0..5).map(xattr).fold(file("n", ""), |entry, (name, value)| entry.pax(&name, value));
    assert_eq!(unsuitable(&[many]), Unsuitable::Xattrs);
}

/// Adds an entry as a tar's would be, whose content is nowhere.
fn bare(path: &str, size: u64) -> crate::apply::entries::Entry {
    let (path, kind) = (path.into(), Kind::File { size, regions: None });
    crate::apply::entries::Entry {
        path,
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        modified: Time::default(),
        xattrs: Vec::new(),
    }
}

#[test]
fn a_layer_of_too_many_entries_or_bytes_has_no_index() {
    let reason = |added: Result<(), IndexFault>| match added {
        Err(IndexFault::Unsuitable(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let mut builder = IndexBuilder::new();
    (0..400_000).for_each(|n| builder.add(&bare(&n.to_string(), 0), 512).unwrap());
    assert_eq!(reason(builder.add(&bare("one more", 0), 512)), Unsuitable::TooManyEntries);
    let mut builder = IndexBuilder::new();
    builder.add(&bare("a", 1 << 40), 0).unwrap();
    assert_eq!(reason(builder.add(&bare("b", 1 << 40), 512)), Unsuitable::TarTooLarge);
    assert_eq!(reason(builder.add(&bare("b", 1), 513)), Unsuitable::Unaligned);
    assert_eq!(reason(builder.finish((1 << 40) + 1).map(drop)), Unsuitable::TarTooLarge);
    let mut builder = IndexBuilder::new();
    let link = |n: u32| {
        let kind = Kind::Symlink(vec![b'x'; 4000]);
        crate::apply::entries::Entry { kind, ..bare(&n.to_string(), 0) }
    };
    let faults: Vec<IndexFault> = (0..20_000).filter_map(|n| builder.add(&link(n), 0).err()).take(1).collect();
    assert_eq!(reason(faults.into_iter().next().map_or(Ok(()), Err)), Unsuitable::TooMuchMetadata);
}

#[test]
fn a_file_of_five_gigabytes_and_what_is_behind_it_are_read_where_they_are() {
    const LARGE: u64 = 5 << 30;
    let mut builder = IndexBuilder::new();
    builder.add(&bare("large", LARGE + 1), 512).unwrap();
    builder.add(&bare("behind", 6), LARGE + 2048).unwrap();
    let place = tempfile::tempdir().unwrap();
    let [tar, index, mounted] = ["tar", "index", "mounted"].map(|name| place.path().join(name));
    let content = File::create(&tar).unwrap();
    for (at, bytes) in
        [(512, &b"first"[..]), (512 + (3 << 30), b"middle"), (512 + LARGE - 3, b"last"), (LARGE + 2048, b"behind")]
    {
        content.write_all_at(bytes, at).unwrap();
    }
    content.set_len(LARGE + 4096).unwrap();
    let (_, image) = builder.finish(LARGE + 4096).unwrap();
    image.write(&mut File::create(&index).unwrap()).unwrap();
    std::fs::create_dir(&mounted).unwrap();
    in_mount_namespace(|| {
        mount_index(&index, &tar, &mounted);
        let file = File::open(mounted.join("large")).unwrap();
        assert_eq!(file.metadata().unwrap().len(), LARGE + 1);
        for (at, expected) in [(0, &b"first"[..]), (3 << 30, b"middle"), (LARGE - 3, b"last")] {
            let mut bytes = vec![0; expected.len()];
            file.read_exact_at(&mut bytes, at).unwrap();
            assert_eq!(bytes, expected);
        }
        assert_eq!(std::fs::read(mounted.join("behind")).unwrap(), b"behind");
    });
    let file = IndexFile::open(&File::open(&index).unwrap()).unwrap();
    assert_eq!(file.content(b"large").unwrap(), [(0, 512, LARGE + 1)]);
    assert_eq!(file.content(b"behind").unwrap(), [(0, LARGE + 2048, 6)]);
}
