//! Hostile tars: each ends inside the root or in an error, and the canary outside never changes.

use std::path::PathBuf;

use layer_store::{ApplyError, TarError};

use crate::place::{Detail, Place, list, with_each_driver};
use crate::tar::{BLOCK, Entry, checksum, device, directory, file, hard_link, symlink, tar};

/// What must come of a tar.
enum Outcome {
    /// It is refused.
    Refused,
    /// It makes exactly these files.
    Makes(&'static str),
}
use Outcome::{Makes, Refused};

fn check(name: &str, bytes: &[u8], expected: &Outcome) {
    with_each_driver(|place| check_in(&place, name, bytes, expected));
}

fn check_in(place: &Place, name: &str, bytes: &[u8], expected: &Outcome) {
    let canary = place.path("canary");
    std::fs::create_dir_all(canary.join("d")).unwrap();
    std::fs::write(canary.join("d/secret"), "secret").unwrap();
    let before = list(&canary, Detail::All);
    let result = place.apply(bytes);
    assert_eq!(list(&canary, Detail::All), before, "{name}: the canary changed");
    match (result, expected) {
        (Ok(layer), Makes(expected)) => {
            let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).collect();
            assert_eq!(list(place.view(&layer).path(), Detail::Names).trim(), expected.trim(), "{name}");
        }
        (Err(_), Refused) => {}
        (Ok(layer), Refused) => panic!("{name} was accepted: {}", list(place.view(&layer).path(), Detail::Names)),
        (Err(error), Makes(_)) => panic!("{name} was refused: {error:?}"),
    }
    assert_eq!(place.leftovers(), Vec::<PathBuf>::new(), "{name}");
}

/// The way from a layer's root to the canary, if anything could leave the root.
const CANARY: &str = "../../../../../canary";

fn canary(path: &str) -> String {
    format!("{CANARY}/{path}")
}

#[test]
fn rows_1_to_6_paths_and_links_stay_inside_the_root() {
    let up = canary("d");
    let cases: Vec<(&str, Vec<Entry>, Outcome)> = vec![
        ("an absolute path", vec![file("/abs", "x")], Makes("abs `x`")),
        ("a path with ..", vec![file("../../x", "x"), file("a/../../y", "y")], Makes("x `x`\ny `y`")),
        (
            "a path to the canary",
            vec![file(&canary("d/secret"), "x")],
            Makes("canary /\ncanary/d /\ncanary/d/secret `x`"),
        ),
        (
            "a file through a link",
            vec![symlink("l", &up), file("l/secret", "x")],
            Makes("canary /\ncanary/d /\ncanary/d/secret `x`\nl -> ../../../../../canary/d"),
        ),
        ("a directory through a link", vec![symlink("l", "/"), directory("l/d/").mode(0o777)], Makes("d /\nl -> /")),
        ("a link to itself", vec![symlink("l", "l"), file("l/x", "x")], Refused),
        ("links in a circle", vec![symlink("a", "b/x"), symlink("b", "a/x"), file("a/y", "x")], Refused),
        (
            "a directory where a link is",
            vec![symlink("l", &up), directory("l").mode(0o777), file("l/x", "x")],
            Makes("l /\nl/x `x`"),
        ),
        ("a file where a link is", vec![symlink("l", &canary("d/secret")), file("l", "x")], Makes("l `x`")),
        ("a hard link out", vec![hard_link("h", &canary("d/secret"))], Refused),
        ("an absolute hard link", vec![file("a", "x"), hard_link("h", "/a")], Makes("a `x`\nh `x`")),
        ("a hard link through a link", vec![symlink("l", &up), hard_link("h", "l/secret")], Refused),
        (
            "a hard link to a link",
            vec![symlink("l", &canary("d/secret")), hard_link("h", "l"), file("h", "x")],
            Makes("h `x`\nl -> ../../../../../canary/d/secret"),
        ),
        ("a hard link to a directory", vec![directory("d/"), hard_link("h", "d")], Refused),
        ("a hard link to the root", vec![hard_link("h", "/")], Refused),
        ("a hard link to nothing", vec![hard_link("h", "nothing")], Refused),
        ("a hard link to a whiteout", vec![file(".wh.w", ""), hard_link("h", "w")], Refused),
        ("the root as a link", vec![symlink("./", &up), file("x", "x")], Refused),
        ("the root as a file", vec![file("/", "x")], Refused),
        ("the root as a device", vec![device(b'3', "..", 1, 3)], Refused),
        ("the root as a hard link", vec![file("x", ""), hard_link(".", "x")], Refused),
        ("a link to nothing", vec![symlink("l", "")], Refused),
        ("an entry below a file", vec![file("f", "x"), file("f/x", "x")], Refused),
        ("a name with NUL", vec![file("x", "").pax("path", "a\0b")], Refused),
    ];
    for (name, entries, expected) in cases {
        check(name, &tar(&entries), &expected);
    }
}

#[test]
fn rows_7_to_10_whiteouts_overlay_attributes_and_devices_hide_nothing_they_should_not() {
    let cases: Vec<(&str, Vec<Entry>, Outcome)> = vec![
        ("a whiteout of no name", vec![directory("d/"), file("d/.wh.", "")], Refused),
        ("a whiteout of .", vec![directory("d/"), file("d/.wh..", "")], Refused),
        ("a whiteout of ..", vec![directory("d/"), file("d/.wh...", "")], Refused),
        (
            "a whiteout through a link",
            vec![symlink("l", &canary("d")), file("l/.wh.secret", "")],
            Makes("canary /\ncanary/d /\nl -> ../../../../../canary/d"),
        ),
        ("a whiteout that is a link", vec![symlink(".wh.x", &canary("d/secret"))], Makes("")),
        ("a whiteout that is a hard link", vec![file("y", ""), hard_link(".wh.x", "y")], Makes("y ``")),
        ("an entry below a whiteout's name", vec![file(".wh.x/y", "")], Refused),
        ("a directory below a whiteout's name", vec![directory("a/.wh.b/c/")], Refused),
        (
            "notes of a storage driver",
            vec![directory(".wh..wh.plnk/"), file(".wh..wh.aufs", "x"), file("x", "x")],
            Makes("x `x`"),
        ),
        ("a device that is a whiteout", vec![device(b'3', "x", 0, 0), file("y", "y")], Makes("y `y`")),
    ];
    for (name, entries, expected) in cases {
        check(name, &tar(&entries), &expected);
    }
    with_each_driver(|place| {
        let layer = place.apply(&tar(&[
            directory("d/")
                .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
                .pax("SCHILY.xattr.user.overlay.opaque", "y"),
            file("d/f", "x")
                .pax("SCHILY.xattr.trusted.overlay.redirect", "/etc")
                .pax("SCHILY.xattr.security.selinux", "x"),
            device(b'3', "x", 0, 0),
        ]));
        let layer = layer.unwrap();
        let view = place.view(&layer);
        assert_eq!(crate::place::xattrs(&view.path().join("d")), []);
        assert_eq!(crate::place::xattrs(&view.path().join("d/f")), []);
        let skipped = place.store.layer(&layer).unwrap().skipped;
        assert_eq!((skipped.xattrs, skipped.devices), (4, 1));
    });
}

fn sparse(regions: &[(&str, &str)], real_size: &str, content: &[u8]) -> Entry {
    let map: Vec<String> = regions.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
    file("s", content).pax("GNU.sparse.map", map.join(",")).pax("GNU.sparse.size", real_size)
}

#[test]
fn rows_11_to_14_headers_that_lie_are_refused() {
    let smuggled = tar(&[file("smuggled", "x")]);
    let as_content: &'static str = format!("a 2048 bytes {}", oci::Digest::of(&smuggled).short()).leak();
    let cases: Vec<(&str, Vec<Entry>, Outcome)> = vec![
        (
            "a PAX size that is larger than the header's",
            vec![file("a", &smuggled).size(b"00000000000\0").pax("size", smuggled.len().to_string())],
            Makes(as_content),
        ),
        (
            "a PAX size that is smaller than the header's",
            vec![file("a", "").size(b"00000002000\0").pax("size", "0"), file("b", "b")],
            Makes("a ``\nb `b`"),
        ),
        ("a size of a link", vec![symlink("l", "x").size(b"00000002000\0"), file("b", "b")], Makes("b `b`\nl -> x")),
        ("a size of a directory", vec![directory("d").size(b"00000002000\0"), file("b", "b")], Makes("b `b`\nd /")),
        ("a negative size", vec![file("a", "").size(&[0xff; 12])], Refused),
        ("a size that is cut to 64 bits", vec![file("a", "").size(&[0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])], Refused),
        ("a size that is not octal", vec![file("a", "").size(b"9999999999x\0")], Refused),
        ("a size beyond the end", vec![file("a", "x").size(b"00000007777\0")], Refused),
        ("a negative PAX size", vec![file("a", "").pax("size", "-1")], Refused),
        ("a PAX owner that is none", vec![file("a", "").pax("uid", "x")], Refused),
        ("a PAX owner beyond 32 bits", vec![file("a", "").pax("uid", "4294967296")], Refused),
        ("the owner that stands for none", vec![file("a", "").pax("gid", "4294967295")], Refused),
        ("a PAX time that is none", vec![file("a", "").pax("mtime", "now")], Refused),
        ("a malformed PAX header", vec![file("x", "12 path=a\n").kind(b'x'), file("b", "")], Refused),
        ("a PAX header that ends early", vec![file("x", "garbage").kind(b'x'), file("b", "")], Refused),
        (
            "two PAX headers",
            vec![file("x", "8 a=bcd\n").kind(b'x'), file("x", "8 a=bcd\n").kind(b'x'), file("b", "")],
            Refused,
        ),
        ("a PAX header of nothing", vec![file("x", "8 a=bcd\n").kind(b'x')], Refused),
        ("a PAX header over 1 MiB", vec![file("a", "").pax("comment", vec![b'x'; 1 << 20])], Refused),
        ("a global header that renames", vec![file("g", "9 path=a\n").kind(b'g'), file("b", "")], Refused),
        ("a global header that resizes", vec![file("g", "9 size=1\n").kind(b'g'), file("b", "")], Refused),
        ("a global header that comments", vec![file("g", "12 comment=\n").kind(b'g'), file("b", "b")], Makes("b `b`")),
        ("a long name of 1 MiB", vec![file("l", vec![b'x'; 1 << 20]).kind(b'L'), file("b", "")], Refused),
        ("a type nobody knows", vec![file("a", "").kind(b'Z')], Refused),
    ];
    for (name, entries, expected) in cases {
        check(name, &tar(&entries), &expected);
    }
}

#[test]
fn row_14_sparse_files_that_lie_are_refused() {
    let huge = "9".repeat(18);
    let cases: Vec<(&str, Vec<Entry>, Outcome)> = vec![
        ("a sparse file of exabytes", vec![sparse(&[("0", "1")], &huge, b"x")], Refused),
        ("a sparse file of 4 TiB", vec![sparse(&[("0", "1")], "4398046511104", b"x")], Refused),
        ("a sparse file that overlaps", vec![sparse(&[("0", "3"), ("1", "3")], "100", b"xxxxxx")], Refused),
        ("a sparse file with too much", vec![sparse(&[("0", "3")], "100", b"xxxxxx")], Refused),
        ("a sparse file beyond its end", vec![sparse(&[("99", "3")], "100", b"xxx")], Refused),
        ("a sparse region that overflows", vec![sparse(&[(&u64::MAX.to_string(), "3")], "100", b"xxx")], Refused),
        ("a sparse directory", vec![sparse(&[("0", "1")], "100", b"x").kind(b'5')], Refused),
        (
            "a sparse version nobody knows",
            vec![file("a", "").pax("GNU.sparse.major", "2").pax("GNU.sparse.minor", "0")],
            Refused,
        ),
        (
            "a sparse map without end",
            vec![
                file("a", vec![b'1'; 9 << 20])
                    .pax("GNU.sparse.major", "1")
                    .pax("GNU.sparse.minor", "0")
                    .pax("GNU.sparse.realsize", "1"),
            ],
            Refused,
        ),
        ("a sparse file", vec![sparse(&[("1", "2"), ("5", "0")], "5", b"xy")], Makes("s `\\x00xy\\x00\\x00`")),
    ];
    for (name, entries, expected) in cases {
        check(name, &tar(&entries), &expected);
    }
}

#[test]
fn what_is_no_tar_is_refused() {
    let good = tar(&[file("a", "x")]);
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    let mut lone = good[..2 * BLOCK].to_vec();
    lone.extend([0; BLOCK]);
    lone.extend(&good);
    let mut garbage = good[..2 * BLOCK].to_vec();
    garbage.extend([b'x'; BLOCK]);
    check("a wrong checksum", &flipped, &Refused);
    check("a lone block of zeros", &lone, &Refused);
    check("garbage between entries", &garbage, &Refused);
    check("half a header", &good[..BLOCK / 2], &Refused);
    check("half a content", &good[..BLOCK + BLOCK / 2], &Refused);
    check("nothing at all", &[], &Makes(""));
    check("only the end", &tar(&[]), &Makes(""));
}

#[test]
fn an_old_sparse_header_that_goes_on_for_ever_is_refused() {
    let mut block: [u8; BLOCK] = file("s", "").kind(b'S').bytes().try_into().unwrap();
    block[257..265].copy_from_slice(b"ustar  \0");
    block[345..500].fill(0);
    block[482] = 1;
    checksum(&mut block);
    let mut extension = [0_u8; BLOCK];
    extension[504] = 1;
    let mut bytes = block.to_vec();
    (0..20_000).for_each(|_| bytes.extend(extension));
    let place = Place::new();
    let error = place.apply(&bytes).unwrap_err();
    assert!(matches!(error, ApplyError::Tar { source: TarError::HeaderTooLarge, .. }), "{error:?}");
}

#[test]
fn a_device_or_attribute_that_may_not_be_made_is_counted() {
    with_each_driver(|place| {
        // symbolic links cannot have attributes of users
        let layer = place.apply(&tar(&[
            symlink("l", "x").pax("SCHILY.xattr.user.a", "b"),
            // the kernel would take this one and never give it back
            file("f", "").pax("SCHILY.xattr.security.capability", ""),
        ]));
        let layer = layer.unwrap();
        assert_eq!(place.store.layer(&layer).unwrap().skipped.xattrs, 2);
        assert_eq!(crate::place::xattrs(&place.view(&layer).path().join("f")), []);
    });
}
