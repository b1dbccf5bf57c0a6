//! Applying layers: what comes out of ordinary and odd tars.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use layer_store::{ApplyError, Driver};
use oci::{Descriptor, DiffId, Digest, MediaType};

use crate::place::{Detail, Place, describe, list, with_each_driver, xattrs};
use crate::tar::{Entry, device, directory, file, hard_link, symlink, tar};

/// Applies layers, lowest first, and lists what their stack shows.
fn check(layers: &[&[Entry]], expected: &str) {
    with_each_driver(|place| {
        let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar(entries)).collect();
        let view = place.store.view(&place.layers(&tars)).unwrap();
        let expected: String = expected.lines().map(|line| format!("{}\n", line.trim())).collect();
        assert_eq!(list(view.path(), Detail::Names).trim(), expected.trim());
    });
}

#[test]
fn a_whiteout_hides_the_lower_file_but_not_one_of_its_own_layer() {
    let lower = [file("etc/motd", "old"), file("etc/keep", "k"), file("etc/gone", "g")];
    let expected = "etc /\netc/keep `k`\netc/motd `new`";
    let gone = file("etc/.wh.gone", "");
    check(&[&lower, &[gone.clone(), file("etc/.wh.motd", ""), file("etc/motd", "new")]], expected);
    check(&[&lower, &[file("etc/motd", "new"), file("etc/.wh.motd", ""), gone]], expected);
}

#[test]
fn a_whiteout_of_a_directory_that_its_own_layer_has_makes_it_new_in_any_order() {
    let lower = [directory("d/"), file("d/old", "o"), file("d/sub/old", "o")];
    let expected = "d /\nd/new `n`";
    let (whiteout, own, new) = (file(".wh.d", ""), directory("d/"), file("d/new", "n"));
    check(&[&lower, &[whiteout.clone(), own.clone(), new.clone()]], expected);
    check(&[&lower, &[own, new.clone(), whiteout.clone()]], expected);
    check(&[&lower, &[whiteout, new]], expected);
}

#[test]
fn an_opaque_whiteout_hides_lower_entries_and_none_of_its_own_layer() {
    let lower = [directory("d/"), file("d/old", "o"), file("d/sub/old", "o"), file("e", "e")];
    let expected = "d /\nd/new `n`\ne `e`";
    let (opaque, own, new) = (file("d/.wh..wh..opq", ""), directory("d/"), file("d/new", "n"));
    check(&[&lower, &[own.clone(), opaque.clone(), new.clone()]], expected);
    check(&[&lower, &[own, new.clone(), opaque.clone()]], expected);
    check(&[&lower, &[opaque, new]], expected);
    check(&[&lower, &[file(".wh..wh..opq", ""), file("only", "x")]], "only `x`");
}

#[test]
fn a_type_that_changes_hides_what_was_there() {
    let lower = [directory("d/"), file("d/old", "o"), file("f", "f"), symlink("l", "d")];
    check(
        &[&lower, &[file("d", "file"), directory("f/"), file("f/x", "x"), file("l", "l")]],
        "d `file`\nf /\nf/x `x`\nl `l`",
    );
    // within one layer too: what replaces a file of this layer is new
    check(&[&lower, &[file("d", "file"), directory("d/"), file("d/new", "n")]], "d /\nd/new `n`\nf `f`\nl -> d");
    check(&[&[file("a/b/c", "1"), symlink("a", "elsewhere"), file("x", "x")]], "a -> elsewhere\nx `x`");
}

#[test]
fn a_directory_below_a_lower_layers_link_is_a_real_one() {
    check(
        &[&[directory("usr/lib/"), symlink("lib", "usr/lib")], &[file("lib/x", "x")]],
        "lib /\nlib/x `x`\nusr /\nusr/lib /",
    );
}

#[test]
fn links_of_the_same_layer_are_followed_inside_the_root() {
    check(
        &[&[directory("usr/lib/"), symlink("lib", "/usr/lib"), file("lib/x", "x")]],
        "lib -> /usr/lib\nusr /\nusr/lib /\nusr/lib/x `x`",
    );
    check(&[&[symlink("a", "../../b/../c"), file("a/x", "x")]], "a -> ../../b/../c\nb /\nc /\nc/x `x`");
    check(
        &[&[symlink("up", ".."), directory("d/"), symlink("d/up", "../.."), file("d/up/x", "x"), file("up/y", "y")]],
        "d /\nd/up -> ../..\nup -> ..\nx `x`\ny `y`",
    );
}

#[test]
fn hard_links_share_a_file_and_do_not_follow_its_name() {
    check(
        &[&[file("a", "1"), hard_link("d/b", "a"), symlink("l", "a"), hard_link("m", "l"), hard_link("a", "a")]],
        "a `1`\nd /\nd/b `1`\nl -> a\nm -> a",
    );
    with_each_driver(|place| {
        let layer = place.apply(&tar(&[file("a", "1"), hard_link("b", "./a"), hard_link("c", "/b")])).unwrap();
        assert_eq!(place.view(&layer).path().join("a").metadata().unwrap().nlink(), 3);
        assert_eq!(place.store.layer(&layer).unwrap().content_size, 1);
    });
}

#[test]
fn every_kind_of_metadata_is_kept() {
    with_each_driver(|place| {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let layer = tar(&[
            directory("d/").mode(0o1770).owner(5, 6).pax("mtime", "12.5"),
            file("d/f", "x").mode(0o6755).owner(7, 8).pax("mtime", "-1.25").pax("SCHILY.xattr.user.note", "a\nb=c"),
            file("d/cap", "x").owner(9, 9).pax("SCHILY.xattr.security.capability", capability),
            Entry { mtime: 7, ..symlink("d/l", "f") }.owner(3, 4),
            file("d/big", "").pax("uid", "3000000000").pax("gid", "4000000000"),
            device(b'3', "d/null", 1, 3).mode(0o666),
            device(b'6', "d/fifo", 0, 0),
        ]);
        let layer = place.apply(&layer).unwrap();
        let view = place.view(&layer);
        let check = |name: &str, expected: &str| assert_eq!(describe(&view.path().join(name), Detail::All), expected);
        check("d", "/ 41770 5:6 12.500000000");
        check("d/f", "`x` 106755 7:8 -2.750000000 x1 user.note=a\\nb=c");
        check("d/l", "-> f 120777 3:4 7.0 x1");
        check("d/big", "`` 100644 3000000000:4000000000 1000000000.0 x1");
        check("d/null", "device 259 20666 0:0 1000000000.0 x1");
        check("d/fifo", "fifo 10644 0:0 1000000000.0 x1");
        assert_eq!(xattrs(&view.path().join("d/cap")), [("security.capability".to_owned(), capability.to_vec())]);
    });
}

#[test]
fn a_sparse_file_stays_one() {
    with_each_driver(|place| {
        let map = "2\n1048576\n5\n4194304\n0\n";
        let mut content = map.as_bytes().to_vec();
        content.resize(512, 0);
        content.extend(b"hello");
        let sparse = file("GNUSparseFile.0/s", content)
            .pax("GNU.sparse.major", "1")
            .pax("GNU.sparse.minor", "0")
            .pax("GNU.sparse.name", "s")
            .pax("GNU.sparse.realsize", "4194304");
        let layer = place.apply(&tar(&[sparse, file("after", "a")])).unwrap();
        let view = place.view(&layer);
        let file = view.path().join("s");
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!((bytes.len(), &bytes[1_048_576..1_048_581]), (4_194_304, &b"hello"[..]));
        assert!(bytes[..1_048_576].iter().chain(&bytes[1_048_581..]).all(|byte| *byte == 0));
        // through an index the kernel tells how large it looks
        assert!(place.driver() == Driver::Erofs || file.metadata().unwrap().blocks() < 100);
        assert_eq!(std::fs::read(view.path().join("after")).unwrap(), b"a");
    });
}

#[test]
fn long_names_of_either_format_are_read() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let gnu = [
        Entry { content: format!("{long}1\0").into_bytes(), ..file("././@LongLink", "").kind(b'L') },
        file("short", "gnu"),
        file("short", "pax").pax("path", format!("{long}2")),
    ];
    with_each_driver(|place| {
        let view = place.view(&place.apply(&tar(&gnu)).unwrap());
        assert_eq!(std::fs::read(view.path().join(format!("{long}1"))).unwrap(), b"gnu");
        assert_eq!(std::fs::read(view.path().join(format!("{long}2"))).unwrap(), b"pax");
    });
}

#[test]
fn a_path_deeper_than_any_path_is_made() {
    let place = Place::new();
    let deep = "deep/".repeat(2000);
    let layer = place.apply(&tar(&[
        file("x", "1").pax("path", format!("{deep}file")),
        hard_link("y", "").pax("path", format!("{deep}link")).pax("linkpath", format!("{deep}file")),
    ]));
    let record = place.store.layer(&layer.unwrap()).unwrap();
    assert_eq!((record.entries, record.content_size), (2, 1));
    // and its disk usage is still measured
    assert!(place.store.usage().unwrap().other > 2000 * 4096);
}

#[test]
fn gzip_and_zstd_are_told_by_their_bytes_whatever_the_layers_media_type() {
    let tar = tar(&[file("a", "1")]);
    let diff_id = DiffId(Digest::of(&tar));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let (gzip, zstd) = (gzip.finish().unwrap(), zstd::stream::encode_all(&tar[..], 1).unwrap());
    for (media_type, bytes) in [
        (MediaType::OCI_LAYER_GZIP, &gzip),
        (MediaType::DOCKER_LAYER_ZSTD, &zstd),
        (MediaType::OCI_LAYER_GZIP, &tar),
        (MediaType::OCI_LAYER, &zstd),
        (MediaType::OCI_LAYER_ZSTD, &gzip),
    ] {
        let place = Place::new();
        let blob = place.store.put_blob(media_type, bytes).unwrap();
        place.store.apply(&blob, &diff_id).unwrap();
        let record = place.store.layer(&diff_id).unwrap();
        assert_eq!((record.tar_size, record.blobs), (tar.len() as u64, vec![blob]));
    }
    let place = Place::new();
    let blob = place.store.put_blob(MediaType::OCI_CONFIG, &tar).unwrap();
    assert!(matches!(place.store.apply(&blob, &diff_id), Err(ApplyError::MediaType { .. })));
}

#[test]
fn nothing_is_visible_of_a_layer_that_is_not_the_one_named() {
    with_each_driver(|place| {
        let bytes = tar(&[file("a", "1")]);
        let other = DiffId(Digest::of(b"other"));
        let blob = place.store.put_blob(MediaType::OCI_LAYER, &bytes).unwrap();
        assert!(matches!(place.store.apply(&blob, &other), Err(ApplyError::DiffIdMismatch { .. })));
        assert!(!place.store.has_layer(&other).unwrap());
        let mut flipped = bytes.clone();
        flipped[520] ^= 1;
        std::fs::write(place.blob(&blob.digest), flipped).unwrap();
        let diff_id = DiffId(blob.digest.clone());
        assert!(matches!(place.store.apply(&blob, &diff_id), Err(ApplyError::DiffIdMismatch { .. })));
        let longer = Descriptor { size: blob.size + 1, ..blob };
        assert!(place.store.apply(&longer, &diff_id).is_err());
        assert!(!place.store.has_layer(&diff_id).unwrap());
        assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn what_follows_the_end_of_the_archive_is_part_of_the_layer() {
    with_each_driver(|place| {
        let mut bytes = tar(&[file("a", "1")]);
        bytes.extend([7; 5000]);
        let layer = place.apply(&bytes).unwrap();
        assert_eq!(place.store.layer(&layer).unwrap().tar_size, bytes.len() as u64);
        // and a tar without the two blocks of zeros, or with only one, ends where its bytes do
        let cut = file("a", "1").bytes();
        assert!(place.apply(&cut).is_ok());
        assert!(place.apply(&[&cut[..], &[0; 512]].concat()).is_ok());
        assert!(place.apply(&[&cut[..], &[0; 511]].concat()).is_err());
    });
}

#[test]
fn a_layer_whose_record_cannot_be_read_is_applied_anew() {
    with_each_driver(|place| {
        let bytes = tar(&[file("a", "1")]);
        let layer = place.apply(&bytes).unwrap();
        std::fs::write(place.tree(&layer).parent().unwrap().join("record.json"), "{").unwrap();
        assert!(place.store.has_layer(&layer).is_err());
        place.apply(&bytes).unwrap();
        assert!(place.store.has_layer(&layer).unwrap());
        assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn the_same_layer_applied_by_several_at_once_is_there_once() {
    with_each_driver(|place| {
        let bytes = tar(&[file("a", vec![1; 100_000]), directory("d/")]);
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| place.apply(&bytes).unwrap()))));
        assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
    });
}
