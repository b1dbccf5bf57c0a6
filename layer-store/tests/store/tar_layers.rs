//! Layers that are written as tars: the same bytes as from a tree, refused where they could not be, and trees on demand.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer_store::{
    Compression, Driver, DriverChoice, Form, LayerRecord, Lower, Skeleton, Store, TarEntry, TarKind, TarLayerError,
};

use crate::place::{Detail, Place, in_mount_namespace, list, with_each_driver};
use crate::tar::BLOCK;

/// An entry with everything it needs.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Directory,
    File(Vec<u8>),
    Symlink(PathBuf),
    HardLink(PathBuf),
    Device(bool, u32, u32),
    Fifo,
    Whiteout,
    Opaque,
}

impl Written {
    pub(crate) fn new(path: impl AsRef<Path>, kind: Kind) -> Self {
        let mode = if matches!(kind, Kind::Directory) { 0o755 } else { 0o644 };
        Self { path: path.as_ref().into(), kind, mode, owner: (0, 0), mtime: (1, 0), xattrs: Vec::new() }
    }

    fn write(&self, layer: &mut layer_store::TarLayer) -> Result<(), TarLayerError> {
        let kind = match &self.kind {
            Kind::Directory => TarKind::Directory,
            Kind::File(content) => TarKind::File { size: content.len() as u64 },
            Kind::Symlink(target) => TarKind::Symlink { target },
            Kind::HardLink(to) => TarKind::HardLink { to },
            Kind::Device(true, major, minor) => TarKind::Block { major: *major, minor: *minor },
            Kind::Device(false, major, minor) => TarKind::Character { major: *major, minor: *minor },
            Kind::Fifo => TarKind::Fifo,
            Kind::Whiteout => TarKind::Whiteout,
            Kind::Opaque => TarKind::Opaque,
        };
        let (uid, gid) = self.owner;
        let entry =
            TarEntry { path: &self.path, kind, mode: self.mode, uid, gid, mtime: self.mtime, xattrs: &self.xattrs };
        match &self.kind {
            Kind::File(content) => layer.entry(&entry, Some(&mut &content[..])),
            _ => layer.entry(&entry, None),
        }
    }
}

pub(crate) fn write(store: &Store, entries: &[Written]) -> Result<LayerRecord, TarLayerError> {
    let mut layer = store.begin_tar()?;
    entries.iter().try_for_each(|entry| entry.write(&mut layer))?;
    layer.finish()
}

pub(crate) fn with_form(mut record: LayerRecord, form: Form) -> LayerRecord {
    record.form = form;
    record
}

/// The entries of a tar: other readers cut records of extended headers at newlines, so this one reads them itself.
pub(crate) fn entries_of(tar: &[u8]) -> Vec<Written> {
    let (mut entries, mut pax, mut rest) = (Vec::new(), Vec::new(), tar);
    while rest[0] != 0 {
        let (block, after) = rest.split_at(BLOCK);
        let header = tar::Header::from_byte_slice(block);
        let size = usize::try_from(header.entry_size().unwrap()).unwrap();
        let (content, after) = after.split_at(size);
        rest = &after[size.next_multiple_of(BLOCK) - size..];
        match header.entry_type().as_byte() {
            b'x' => pax = records(content),
            _ => entries.push(entry_of(header, std::mem::take(&mut pax), content)),
        }
    }
    entries
}

fn records(mut pax: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut records = Vec::new();
    while !pax.is_empty() {
        let space = pax.iter().position(|byte| *byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&pax[..space]).unwrap().parse().unwrap();
        let (record, after) = pax.split_at(length);
        let pair = &record[space + 1..length - 1];
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap();
        records.push((String::from_utf8(pair[..equals].to_vec()).unwrap(), pair[equals + 1..].to_vec()));
        pax = after;
    }
    records
}

fn entry_of(header: &tar::Header, pax: Vec<(String, Vec<u8>)>, content: &[u8]) -> Written {
    let as_path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let mut path = header.path_bytes().to_vec();
    let mut link = header.link_name_bytes().unwrap_or_default().to_vec();
    let mut owner = (u32::try_from(header.uid().unwrap()).unwrap(), u32::try_from(header.gid().unwrap()).unwrap());
    let mut mtime = (i64::try_from(header.mtime().unwrap()).unwrap(), 0);
    let mut xattrs = Vec::new();
    for (key, value) in pax {
        let number = || std::str::from_utf8(&value).unwrap();
        match &*key {
            "path" => path = value,
            "linkpath" => link = value,
            "uid" => owner.0 = number().parse().unwrap(),
            "gid" => owner.1 = number().parse().unwrap(),
            "mtime" => mtime = time(number()),
            key => xattrs.push((key.strip_prefix("SCHILY.xattr.").unwrap().to_owned(), value)),
        }
    }
    let device = || (header.device_major().unwrap().unwrap(), header.device_minor().unwrap().unwrap());
    let mut path = as_path(path.strip_suffix(b"/").unwrap_or(&path));
    let link = as_path(&link);
    let name = path.file_name().unwrap().as_bytes().to_vec();
    let kind = match header.entry_type().as_byte() {
        _ if name == b".wh..wh..opq" => {
            path = path.parent().unwrap().into();
            Kind::Opaque
        }
        _ if name.starts_with(b".wh.") => {
            path = path.parent().unwrap().join(as_path(&name[4..]));
            Kind::Whiteout
        }
        b'5' => Kind::Directory,
        b'2' => Kind::Symlink(link),
        b'1' => Kind::HardLink(link),
        b'3' => Kind::Device(false, device().0, device().1),
        b'4' => Kind::Device(true, device().0, device().1),
        b'6' => Kind::Fifo,
        _ => Kind::File(content.to_vec()),
    };
    Written { path, kind, mode: header.mode().unwrap(), owner, mtime, xattrs }
}

/// Reads `-1.25` as second -2 and three quarters after it.
fn time(text: &str) -> (i64, u32) {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: u32 = format!("{fraction:0<9}").parse().unwrap();
    let seconds: i64 = whole.parse().unwrap();
    match (text.starts_with('-'), nanoseconds) {
        (true, 1..) => (seconds - 1, 1_000_000_000 - nanoseconds),
        _ => (seconds, nanoseconds),
    }
}

fn tar_file(store: &Store, record: &LayerRecord) -> PathBuf {
    store.root().join("layers").join(record.diff_id.0.hex()).join("layer.tar")
}

fn directory(path: &str) -> Written {
    Written::new(path, Kind::Directory)
}

fn file(path: &str, content: &str) -> Written {
    Written::new(path, Kind::File(content.into()))
}

/// Writes entries that a layer may not have, and checks what is said of them; nothing is left.
fn check_refused(entries: &[Written], message: &str) {
    let place = Place::new();
    let error = write(&place.store, entries).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(place.store.root().join("layers")).unwrap().count(), 0);
}

#[test]
fn entries_out_of_order_or_twice_are_refused() {
    let late = |path: &str| format!("`{path}` comes twice or too late: the entries of a layer have an order");
    let whiteout = |path: &str| Written::new(path, Kind::Whiteout);
    let opaque = |path: &str| Written::new(path, Kind::Opaque);
    check_refused(&[file("b", ""), file("a", "")], &late("a"));
    check_refused(&[file("a", ""), file("a", "")], &late("a"));
    check_refused(&[directory("a"), directory("a")], &late("a"));
    check_refused(&[file("a", ""), file("a-b", ""), directory("a")], &late("a"));
    check_refused(&[directory("a"), file("a.b", "")], &late("a.b"));
    check_refused(&[directory("a"), file("b", ""), file("a/x", "")], &late("a/x"));
    check_refused(&[file("a", ""), whiteout("b")], &late("b"));
    check_refused(&[whiteout("a"), file("a", "")], &late("a"));
    check_refused(&[directory("d"), whiteout("d/x"), opaque("d")], &late("d"));
    check_refused(&[directory("d"), opaque("d"), opaque("d")], &late("d"));
}

#[test]
fn an_entry_without_its_parent_is_refused() {
    let orphan = |path: &str| format!("`{path}` comes without an entry of its parent");
    check_refused(&[file("a/b", "")], &orphan("a/b"));
    check_refused(&[file("a", ""), file("a/b", "")], &orphan("a/b"));
    check_refused(&[directory("a"), file("ab/c", "")], &orphan("ab/c"));
    check_refused(&[directory("a"), directory("a/b"), file("a/c/d", "")], &orphan("a/c/d"));
    check_refused(&[Written::new("d", Kind::Opaque)], &orphan("d"));
}

#[test]
fn what_no_file_can_be_called_is_refused() {
    let nameless = |path: &str| format!("`{path}` has, or is a link to, a name that no file can have");
    let long = "x".repeat(256);
    for path in ["", "/a", "a/", "a//b", "./a", "..", "a\0b", &long] {
        check_refused(&[file(path, "")], &nameless(path));
    }
    check_refused(&[Written::new("l", Kind::Symlink("".into()))], &nameless("l"));
    for path in [".wh.a", ".wh..wh..opq", ".wh.a/b"] {
        let message = format!("`{path}` cannot be in a layer: names that start with `.wh.` mean deletions there");
        check_refused(&[file(path, "")], &message);
    }
    check_refused(
        &[Written::new("c", Kind::Device(false, 0, 0))],
        "`c` is a device 0:0, which means a deletion in a layer",
    );
    let nobody = Written { owner: (1, u32::MAX), ..file("f", "") };
    check_refused(&[nobody], "cannot give `f` the owner 1:4294967295");
    for (xattrs, name) in [(vec!["user.a=b"], "user.a=b"), (vec!["user.a", "user.a"], "user.a")] {
        let xattrs = xattrs.into_iter().map(|name| (name.to_owned(), Vec::new())).collect();
        let message = format!("extended attribute `{name}` of `f` is there twice or has a name that a tar cannot hold");
        check_refused(&[Written { xattrs, ..file("f", "") }], &message);
    }
}

#[test]
fn a_hard_link_needs_the_first_name_and_its_metadata() {
    let link = |path: &str, to: &str| Written::new(path, Kind::HardLink(to.into()));
    let unlinkable = |path: &str, to: &str| format!("`{path}` cannot be a further name of `{to}`");
    check_refused(&[link("b", "a")], &unlinkable("b", "a"));
    check_refused(&[directory("a"), link("b", "a")], &unlinkable("b", "a"));
    check_refused(&[file("a", ""), link("b", "a"), link("c", "b")], &unlinkable("c", "b"));
    check_refused(&[file("a", ""), Written { mode: 0o600, ..link("b", "a") }], &unlinkable("b", "a"));
    let with_xattr = Written { xattrs: vec![("user.a".to_owned(), Vec::new())], ..link("b", "a") };
    check_refused(&[file("a", ""), with_xattr], &unlinkable("b", "a"));
    let place = Place::new();
    assert_eq!(write(&place.store, &[file("a", "x"), link("b", "a"), link("c", "a")]).unwrap().entries, 3);
}

#[test]
fn a_content_has_exactly_its_size() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::TimedOut.into())
        }
    }
    let place = Place::new();
    let check = |size: u64, content: &mut dyn Read, message: &str| {
        let mut layer = place.store.begin_tar().unwrap();
        let path = Path::new("f");
        let kind = TarKind::File { size };
        let entry = TarEntry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: (0, 0), xattrs: &[] };
        assert_eq!(layer.entry(&entry, Some(content)).unwrap_err().to_string(), message);
        // nothing can be added to what is cut, and it does not become a layer
        assert!(matches!(layer.entry(&entry, Some(&mut &b""[..])), Err(TarLayerError::Broken)));
        assert!(matches!(layer.finish(), Err(TarLayerError::Broken)));
    };
    check(3, &mut &b"ab"[..], "`f` changed while it was read");
    check(1, &mut &b"ab"[..], "`f` changed while it was read");
    check(0, &mut &b"a"[..], "`f` changed while it was read");
    check(2_000_000, &mut &b"a"[..], "`f` changed while it was read");
    check(1, &mut Failing, "cannot read `f`");
    check(0, &mut Failing, "cannot read `f`");
    assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn holes_stay_holes_in_the_tar_and_in_the_tree() {
    with_each_driver(|place| {
        let mut content = vec![0; 8 << 20];
        content[5 << 20] = 1;
        let sparse = Written::new("sparse", Kind::File(content.clone()));
        let record = write(&place.store, &[file("a", "x"), sparse, file("z", "z")]).unwrap();
        let allocated = |path: &Path| path.metadata().unwrap().blocks() * 512;
        let tar = tar_file(&place.store, &record);
        assert!(allocated(&tar) < 1 << 20, "{}", allocated(&tar));
        assert_eq!(tar.metadata().unwrap().len(), record.tar_size);
        let blob = place.store.layer_blob(&record.diff_id, Compression::default()).unwrap();
        let view = place.store.view(&[Lower::Layer(record.diff_id.clone())]).unwrap();
        assert!(std::fs::read(view.path().join("sparse")).unwrap() == content);
        // through an index the kernel tells how large it looks
        assert!(place.driver() == Driver::Erofs || allocated(&view.path().join("sparse")) < 1 << 20);
        drop(view);
        place.forget_blob(&blob);
        assert_eq!(place.store.layer_blob(&record.diff_id, Compression::default()).unwrap(), blob);
    });
}

#[test]
fn the_same_layer_again_is_the_one_that_is_there() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Tree);
        let entries = [directory("d"), file("d/f", "x")];
        let first = write(&place.store, &entries).unwrap();
        assert_eq!(first.form, Form::Tar);
        drop(place.store.view(&[Lower::Layer(first.diff_id.clone())]).unwrap());
        let again = write(&place.store, &entries).unwrap();
        assert_eq!(again, with_form(first, Form::Tree));
        assert!(!tar_file(&place.store, &again).exists());
        assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
    });
}

#[test]
fn a_layer_of_nothing_is_two_blocks() {
    let place = Place::new();
    let record = write(&place.store, &[]).unwrap();
    assert_eq!((record.tar_size, record.entries, record.content_size), (1024, 0, 0));
}

#[test]
fn several_mounts_at_once_make_one_tree() {
    let place = Place::new();
    let layers: Vec<Lower> = (0..5)
        .map(|n| {
            let files = (0..40).map(|at| file(&format!("f{at:02}-{n}"), "x"));
            let record = write(&place.store, &files.collect::<Vec<_>>()).unwrap();
            Lower::Layer(record.diff_id)
        })
        .collect();
    let store = Store::open_with(place.store.root(), DriverChoice::Only(Driver::Tree)).unwrap();
    std::thread::scope(|scope| {
        for store in [&place.store, &store, &place.store, &store] {
            let layers = &layers;
            scope.spawn(move || {
                in_mount_namespace(|| {
                    let view = store.view(layers).unwrap();
                    assert_eq!(list(view.path(), Detail::Names).lines().count(), 200);
                });
            });
        }
    });
    for layer in &layers {
        let Lower::Layer(diff_id) = layer else { unreachable!() };
        let record = place.store.layer(diff_id).unwrap();
        assert_eq!(record.form, Form::Tree);
        assert!(!tar_file(&place.store, &record).exists());
    }
    drop(store);
    assert_eq!(place.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_tree_that_was_not_finished_is_made_again() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Tree);
        let record = write(&place.store, &[file("a", "1"), file("b", "2")]).unwrap();
        let tree = place.tree(&record.diff_id);
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("a"), "").unwrap();
        let view = place.store.view(&[Lower::Layer(record.diff_id.clone())]).unwrap();
        assert_eq!(list(view.path(), Detail::Names), "a `1`\nb `2`\n");
        drop(view);
        // killed before the tar went: the next mount removes it
        std::fs::write(tar_file(&place.store, &record), "x").unwrap();
        drop(place.store.view(&[Lower::Layer(record.diff_id.clone())]).unwrap());
        assert!(!tar_file(&place.store, &record).exists());
    });
}

#[test]
fn a_tar_whose_tree_would_not_give_it_again_stays() {
    in_mount_namespace(|| {
        let place = Place::with(Driver::Tree);
        // later than any inode can tell
        let future = Written { mtime: (1 << 40, 0), ..file("f", "x") };
        let record = write(&place.store, &[future]).unwrap();
        drop(place.store.view(&[Lower::Layer(record.diff_id.clone())]).unwrap());
        assert_eq!(place.store.layer(&record.diff_id).unwrap().form, Form::Both);
        assert!(place.store.layer_blob(&record.diff_id, Compression::default()).is_ok());
    });
}

#[test]
fn a_step_stands_on_a_layer_that_is_a_tar() {
    with_each_driver(|place| {
        let record = write(&place.store, &[directory("d"), file("d/f", "x"), file("g", "y")]).unwrap();
        let step = place.store.prepare(&[Lower::Layer(record.diff_id.clone())], Skeleton::None).unwrap();
        std::fs::remove_file(step.path().join("g")).unwrap();
        let frozen = Arc::new(step.freeze().unwrap());
        let view = place.store.view(&[Lower::Layer(record.diff_id), Lower::Frozen(frozen)]).unwrap();
        assert_eq!(list(view.path(), Detail::Names), "d /\nd/f `x`\n");
    });
}
