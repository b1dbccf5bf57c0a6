//! What a copy puts where, seen in the tar that is written.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

use layer_store::{LayerFiles, Lower, Store, TarEntry, TarKind};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::content_digest::{Holdings, content_digest, digest_of, find_holdings};
use crate::context_index::Pass;
use crate::dockerignore::Dockerignore;
use crate::draft::{Below, Leading, MADE};
use crate::file_tree::Owners;
use crate::layer_writer::LayerWriter;
use crate::select::{SelectOptions, select};

/// The entries of a layer: path → what it is, and its header.
type Entries = BTreeMap<String, (String, tar::Header)>;

/// A context and a store with a layer to copy onto.
struct Site {
    directory: tempfile::TempDir,
    store: Store,
    below: Lower,
}

impl Site {
    /// Makes `dir`, `link>target` and `file=text` in the context and in the layer; directories are there first.
    fn new(context: &[&str], root: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        std::fs::create_dir(directory.path().join("context")).unwrap();
        for entry in context {
            let at = |path: &str| directory.path().join("context").join(path);
            if let Some((path, target)) = entry.split_once('>') {
                std::os::unix::fs::symlink(target, at(path)).unwrap();
            } else if let Some((path, text)) = entry.split_once('=') {
                std::fs::write(at(path), text).unwrap();
            } else {
                std::fs::create_dir_all(at(entry)).unwrap();
            }
        }
        let below = layer(&store, root);
        Self { directory, store, below }
    }

    fn context(&self) -> PathBuf {
        self.directory.path().join("context")
    }

    /// Opens the context and selects from it.
    fn select(&self, sources: &[&str]) -> (FileTree, Selection) {
        let tree = FileTree::open(&self.context(), Dockerignore::default(), Owners::Root).unwrap();
        let sources: Vec<String> = sources.iter().map(|&source| source.to_owned()).collect();
        let selection = select(&tree, &sources, &SelectOptions::default()).unwrap();
        (tree, selection)
    }

    fn below(&self) -> LayerFiles {
        self.store.files(std::slice::from_ref(&self.below)).unwrap()
    }

    /// Writes a draft; returns the new layer's entries.
    fn write(&self, tree: &FileTree, selection: &Selection, draft: Draft<'_>) -> Result<Entries, CopyError> {
        let stop = CancellationToken::new();
        let writer = LayerWriter::new(self.store.begin_tar()?, Pass::new(None), Holdings::new(), &stop);
        let (record, holdings) = writer.write(draft)?;
        let digest = digest_of(tree.owners(), selection, &find_holdings(tree, selection, holdings)?);
        assert_eq!(digest, content_digest(tree, selection)?, "one pass finds another digest");
        Ok(self.entries(&Lower::Layer(record.diff_id)))
    }

    fn copy(&self, sources: &[&str], options: &CopyOptions) -> Result<Entries, CopyError> {
        let (tree, selection) = self.select(sources);
        let needs_directory = options.needs_directory || selection.needs_directory;
        let options = CopyOptions { needs_directory, ..options.clone() };
        let below = self.below();
        let mut draft = Draft::new(Below::Files(&below)).made_at(options.time);
        copy(&mut draft, &items(&tree, &selection, &[]), &options)?;
        self.write(&tree, &selection, draft)
    }

    fn tar(&self, layer: &Lower) -> PathBuf {
        let Lower::Layer(diff_id) = layer else { panic!("it is no layer of the store") };
        self.store.root().join("layers").join(diff_id.0.hex()).join("layer.tar")
    }

    fn entries(&self, layer: &Lower) -> Entries {
        let mut archive = tar::Archive::new(std::fs::File::open(self.tar(layer)).unwrap());
        let mut entries = Entries::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let target = entry.link_name_bytes().map(|name| String::from_utf8(name.into_owned()).unwrap());
            let is = match (entry.header().entry_type(), target) {
                (tar::EntryType::Symlink, Some(target)) => format!(">{target}"),
                (tar::EntryType::Link, Some(first)) => format!("=={first}"),
                (tar::EntryType::Regular, _) => {
                    let mut text = String::new();
                    std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
                    format!("={text}")
                }
                (tar::EntryType::Fifo, _) => "|".to_owned(),
                _ => String::new(),
            };
            assert!(entries.insert(path.clone(), (is, entry.header().clone())).is_none(), "{path} twice");
        }
        entries
    }
}

/// Writes a layer of directories, links and files with mode 0700, owner 5:6 and time 7.
fn layer(store: &Store, entries: &[&str]) -> Lower {
    let key = |entry: &str| match entry.split_once(['>', '=']) {
        Some((path, _)) => path.to_owned(),
        None => format!("{entry}/"),
    };
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| key(entry));
    let mut layer = store.begin_tar().unwrap();
    for entry in entries {
        let mut text: &[u8] = b"";
        let mut is_file = false;
        let (path, kind) = if let Some((path, target)) = entry.split_once('>') {
            (path, TarKind::Symlink { target: Path::new(target) })
        } else if let Some((path, content)) = entry.split_once('=') {
            (text, is_file) = (content.as_bytes(), true);
            (path, TarKind::File { size: content.len() as u64 })
        } else {
            (entry, TarKind::Directory)
        };
        let entry = TarEntry { path: Path::new(path), kind, mode: 0o700, uid: 5, gid: 6, mtime: (7, 0), xattrs: &[] };
        layer.entry(&entry, is_file.then_some(&mut text as &mut dyn std::io::Read)).unwrap();
    }
    Lower::Layer(layer.finish().unwrap().diff_id)
}

fn to(destination: &str) -> CopyOptions {
    CopyOptions {
        destination: destination.to_owned(),
        owner: None,
        mode: None,
        time: None,
        needs_directory: false,
        merge: Merge::Metadata,
    }
}

fn check(root: &[&str], sources: &[&str], destination: &str, expected: &[&str]) {
    let site = Site::new(&["d/e", "d/e/y=y", "d/x=x", "a=a", "b=b", "d/l>x", "la>a", "ld>d"], root);
    let written = site.copy(sources, &to(destination)).unwrap();
    let shown: Vec<String> = written.iter().map(|(path, (is, _))| format!("{path}{is}")).collect();
    assert_eq!(shown, expected, "{sources:?} to {destination}");
}

#[test]
fn the_destination_decides_where_a_file_goes() {
    check(&[], &["a"], "/x", &["x=a"]);
    check(&[], &["a"], "/x/", &["x/", "x/a=a"]);
    check(&["x"], &["a"], "/x", &["x/", "x/a=a"]);
    check(&["x=old"], &["a"], "/x", &["x=a"]);
    check(&[], &["a"], "/p/q/x", &["p/", "p/q/", "p/q/x=a"]);
    check(&[], &["a", "b"], "/x/", &["x/", "x/a=a", "x/b=b"]);
    check(&[], &["la"], "/x", &["x=a"]);
    check(&["r", "k>r"], &["a"], "/k/", &["r/", "r/a=a"]);
    check(&["r", "k>/r"], &["a"], "/k", &["r/", "r/a=a"]);
    check(&["k>r/s"], &["a"], "/k", &["r/", "r/s=a"]);
    check(&["r", "k>../../r/../r"], &["a"], "/k/x", &["r/", "r/x=a"]);
    check(&[], &["nothing*"], "/x", &[]);
}

#[test]
fn a_directory_gives_its_contents() {
    let all = ["x/", "x/e/", "x/e/y=y", "x/l>x", "x/x=x"];
    check(&[], &["d"], "/x", &all);
    check(&[], &["d/"], "/x/", &all);
    check(&[], &["ld"], "/x", &all);
    check(&["x", "x/e", "x/e/old=o"], &["d"], "/x", &all);
    check(&["x", "r", "x/e>../r"], &["d"], "/x", &["r/", "r/y=y", "x/", "x/l>x", "x/x=x"]);
}

#[test]
fn of_two_files_at_one_path_the_later_stays() {
    let site = Site::new(&["d", "e", "d/f=d", "e/f=e", "d/l>x"], &[]);
    let written = site.copy(&["d/f", "e/f"], &to("/")).unwrap();
    assert_eq!(written["f"].0, "=e");
    let written = site.copy(&["e/f", "d/f", "e/f", "d"], &to("/")).unwrap();
    assert_eq!((written["f"].0.as_str(), written.len()), ("=d", 2));
}

#[test]
fn a_directory_goes_through_a_link_that_the_same_copy_wrote() {
    let site = Site::new(&["one", "one/l>/far", "two/l", "two/l/f=f"], &["far"]);
    let written = site.copy(&["one", "two"], &to("/")).unwrap();
    assert_eq!(written.keys().collect::<Vec<_>>(), ["far/", "far/f", "l"]);
}

#[test]
fn what_is_in_the_way_is_an_error() {
    let fails = |root: &[&str], sources: &[&str], destination: &str| {
        let site = Site::new(&["d/e", "d/x=x", "a=a", "b=b"], root);
        site.copy(sources, &to(destination)).unwrap_err().to_string()
    };
    assert_eq!(fails(&["x=old"], &["d"], "/x"), "`/x` is not a directory in the image");
    assert_eq!(fails(&["x", "x/e=old"], &["d"], "/x"), "`/x/e` is not a directory in the image");
    assert_eq!(fails(&["x>x"], &["d"], "/x"), "`/x` goes through too many links in the image");
    assert_eq!(fails(&["x", "x/x"], &["d"], "/x"), "`/x/x` is a directory in the image, and a file cannot replace it");
    assert_eq!(fails(&[], &["a", "b"], "/x"), "`/x` must end in `/` to take several files");
}

/// Mode, owner and time.
fn header(entries: &Entries, path: &str) -> (u32, u64, u64, u64) {
    let header = &entries[path].1;
    let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
    (header.mode().unwrap(), uid, gid, header.mtime().unwrap())
}

#[test]
fn owner_mode_times_and_shared_inodes_are_kept_or_set() {
    let site = Site::new(&["d/sub", "d/one=1", "d/s=s"], &["old", "old/s=s"]);
    let at = |path: &str| site.context().join(path);
    std::fs::hard_link(at("d/one"), at("d/two")).unwrap();
    std::os::unix::fs::chown(at("d/s"), Some(7), Some(7)).unwrap();
    std::fs::set_permissions(at("d/s"), PermissionsExt::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(at("d/sub"), PermissionsExt::from_mode(0o750)).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(99);
    for path in ["d/one", "d/s", "d/sub"] {
        std::fs::File::open(at(path)).unwrap().set_modified(time).unwrap();
    }
    let made = u64::try_from(MADE.0).unwrap();
    let written = site.copy(&["d"], &CopyOptions { owner: Some((601, 602)), ..to("/new/x") }).unwrap();
    assert_eq!((written["new/x/one"].0.as_str(), written["new/x/two"].0.as_str()), ("=1", "==new/x/one"));
    assert_eq!(header(&written, "new/x/s"), (0o4755, 601, 602, 99));
    assert_eq!(header(&written, "new/x/sub/"), (0o750, 601, 602, 99));
    assert_eq!(header(&written, "new/x/two"), header(&written, "new/x/one"));
    assert_eq!(header(&written, "new/"), (0o755, 601, 602, made));
    assert_eq!(header(&written, "new/x/"), (0o755, 601, 602, made));
    let with_mode = |mode: &str| CopyOptions { mode: Some(mode.parse().unwrap()), ..to("/old") };
    let written = site.copy(&["d"], &with_mode("640")).unwrap();
    assert_eq!(header(&written, "old/s"), (0o640, 0, 0, 99));
    assert_eq!(header(&written, "old/sub/"), (0o640, 0, 0, 99));
    let written = site.copy(&["d"], &with_mode("go-rwx,g+X,u-s")).unwrap();
    assert_eq!(header(&written, "old/s"), (0o710, 0, 0, 99), "each file's own mode is changed");
    assert_eq!(header(&written, "old/one").0, 0o600);
    assert_eq!(header(&written, "old/sub/").0, 0o710);
    assert_eq!(header(&written, "old/"), (0o700, 5, 6, 7), "the destination keeps all it has");
}

#[test]
fn a_linked_copy_sees_nothing_below_but_what_leads_to_its_destination() {
    let site = Site::new(&["d", "d/e", "d/e/f=f"], &["lib>/usr", "tmp", "tmp/e=old", "usr"]);
    let copy = |destination: &str| {
        let (tree, selection) = site.select(&["d"]);
        let below = site.below();
        let leading = Leading::find(&below, Path::new(destination)).unwrap();
        let mut draft = Draft::new(Below::Leading(&leading));
        copy(&mut draft, &items(&tree, &selection, &[]), &to(destination)).unwrap();
        site.write(&tree, &selection, draft).unwrap()
    };
    let made = u64::try_from(MADE.0).unwrap();
    let written = copy("/tmp/new");
    assert_eq!(written.keys().collect::<Vec<_>>(), ["tmp/", "tmp/new/", "tmp/new/e/", "tmp/new/e/f"]);
    assert_eq!(header(&written, "tmp/"), (0o700, 5, 6, made), "it keeps its mode and owner");
    assert_eq!(header(&written, "tmp/new/"), (0o755, 0, 0, made));
    assert_eq!(copy("/tmp").keys().collect::<Vec<_>>(), ["tmp/", "tmp/e/", "tmp/e/f"], "a file is no obstacle");
    let written = copy("/lib/x");
    assert_eq!(written.keys().collect::<Vec<_>>(), ["lib/", "lib/x/", "lib/x/e/", "lib/x/e/f"]);
    assert_eq!(header(&written, "lib/"), (0o755, 0, 0, made), "a link is not followed");
}

#[test]
fn directories_below_the_destination_take_the_metadata_of_the_source() {
    let site = Site::new(&["d/sub/deep", "d/sub/f=f", "e/sub"], &["x", "x/sub", "x/sub/old=o"]);
    for (path, mode, seconds) in [("d/sub", 0o750, 98), ("e/sub", 0o711, 99)] {
        let path = site.context().join(path);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        std::fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    let written = site.copy(&["d"], &to("/x")).unwrap();
    assert_eq!(header(&written, "x/sub/"), (0o750, 0, 0, 98));
    assert_eq!(header(&written, "x/"), (0o700, 5, 6, 7), "the destination keeps its own");
    let written = site.copy(&["d"], &CopyOptions { owner: Some((8, 9)), ..to("/x") }).unwrap();
    assert_eq!(header(&written, "x/sub/"), (0o750, 8, 9, 98));
    let written = site.copy(&["d", "e"], &to("/x/")).unwrap();
    assert_eq!(header(&written, "x/sub/"), (0o711, 0, 0, 99), "of several the last");
    let written = site.copy(&["e"], &to("/x")).unwrap();
    assert_eq!(written.keys().collect::<Vec<_>>(), ["x/", "x/sub/"], "also of an empty one");
    let written = site.copy(&["d"], &CopyOptions { merge: Merge::Contents, ..to("/x") }).unwrap();
    assert_eq!(header(&written, "x/sub/"), (0o700, 5, 6, 7));
}

/// Makes a tar of directories, links and files as [`Site::new`] takes them, with mode 0711, owner 1:2 and time 3.
fn archive(entries: &[&str]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o711);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_size(0);
        if let Some((path, text)) = entry.split_once('=') {
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, path, text.as_bytes()).unwrap();
        } else if let Some((path, target)) = entry.split_once('>') {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, entry, std::io::empty()).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

fn add(root: &[&str], entries: &[&str]) -> Entries {
    let site = Site::new(&[], root);
    std::fs::write(site.context().join("a.tar"), archive(entries)).unwrap();
    let (tree, selection) = site.select(&["a.tar"]);
    let archives = crate::unpack::unpack_archives(&site.store, &tree, &selection).unwrap();
    let below = site.below();
    let mut draft = Draft::new(Below::Files(&below));
    copy(&mut draft, &items(&tree, &selection, &archives), &to("/")).unwrap();
    site.write(&tree, &selection, draft).unwrap()
}

#[test]
fn an_archive_replaces_what_is_of_another_kind() {
    let shown = |root: &[&str], entries: &[&str]| {
        let written = add(root, entries);
        written.iter().map(|(path, (is, _))| format!("{path}{is}")).collect::<Vec<_>>()
    };
    assert_eq!(shown(&["d", "d/f=f"], &["d=new"]), ["d=new"]);
    assert_eq!(shown(&["d", "d/f=f"], &["d>/x"]), ["d>/x"]);
    assert_eq!(shown(&["f=f"], &["f", "f/x=x"]), ["f/", "f/x=x"]);
    assert_eq!(shown(&["d", "l>d"], &["l", "l/x=x"]), ["l/", "l/x=x"]);
    assert_eq!(shown(&["d", "l>d"], &["l/x=x"]), ["d/", "d/x=x"], "a link is followed where nothing replaces it");
}

#[test]
fn an_archive_sets_the_metadata_of_the_directories_it_has_entries_for() {
    let root = ["has", "has/old=o", "implied"];
    let written = add(&root, &["./", "has", "has/f=f", "implied/f=f", "made/f=f"]);
    assert_eq!(header(&written, "has/"), (0o711, 1, 2, 3));
    assert_eq!(header(&written, "implied/"), (0o700, 5, 6, 7));
    assert_eq!(header(&written, "made/"), (0o755, 0, 0, u64::try_from(MADE.0).unwrap()));
}

#[test]
fn attributes_of_files_and_directories_are_kept() {
    let site = Site::new(&["d/sub", "d/sub/f=f", "d/sub/g=g"], &["old", "old/sub"]);
    let flags = rustix::fs::XattrFlags::empty();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(site.context().join(path), name, value, flags).unwrap();
    };
    set("d/sub/f", "user.k", b"file");
    let digest = || {
        let (tree, selection) = site.select(&["d"]);
        content_digest(&tree, &selection).unwrap()
    };
    let before = digest();
    set("d/sub", "user.k", b"directory");
    assert_ne!(digest(), before);
    set("d", "user.k", b"source");
    for destination in ["/new", "/old"] {
        site.copy(&["d"], &to(destination)).unwrap();
    }
    let expected = [("new/sub/", "directory"), ("new/sub/f", "file"), ("old/sub/", "directory"), ("old/sub/f", "file")];
    assert_eq!(attributes(&site), expected.map(|(path, value)| format!("{path} user.k={value}")).into());
}

/// Lists the extended attributes in all layers.
fn attributes(site: &Site) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for layer in std::fs::read_dir(site.store.root().join("layers")).unwrap() {
        let tar = std::fs::File::open(layer.unwrap().path().join("layer.tar")).unwrap();
        for entry in tar::Archive::new(tar).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            for record in entry.pax_extensions().unwrap().into_iter().flatten().map(Result::unwrap) {
                let name = record.key().unwrap().strip_prefix("SCHILY.xattr.");
                found.extend(name.map(|name| format!("{path} {name}={}", record.value().unwrap())));
            }
        }
    }
    found
}

#[test]
fn a_socket_that_is_named_is_an_error() {
    let site = Site::new(&["d"], &[]);
    let _socket = std::os::unix::net::UnixListener::bind(site.context().join("d/s")).unwrap();
    let error = site.copy(&["d/s"], &to("/")).unwrap_err();
    assert_eq!(error.to_string(), "`d/s` is a socket, which no image can hold");
}

#[test]
fn a_time_that_is_given_is_that_of_everything_written_but_not_of_what_is_there() {
    let site = Site::new(&["d/sub", "d/sub/f=f", "d/l>x"], &["old", "old/sub"]);
    let written = site.copy(&["d"], &CopyOptions { time: Some(9), ..to("/new/x") }).unwrap();
    assert_eq!(written.len(), 5);
    for path in written.keys() {
        assert_eq!(header(&written, path).3, 9, "{path}");
    }
    let written = site.copy(&["d"], &CopyOptions { time: Some(9), ..to("/old") }).unwrap();
    assert_eq!((header(&written, "old/").3, header(&written, "old/sub/").3), (7, 9));
}

#[test]
fn sockets_are_left_out_and_pipes_kept() {
    let site = Site::new(&["d", "d/f=f"], &[]);
    let _socket = std::os::unix::net::UnixListener::bind(site.context().join("d/a")).unwrap();
    let fifo = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, site.context().join("d/p"), fifo.0, fifo.1, 0).unwrap();
    let written = site.copy(&["d"], &to("/")).unwrap();
    let shown: Vec<String> = written.iter().map(|(path, (is, _))| format!("{path}{is}")).collect();
    assert_eq!(shown, ["f=f", "p|"]);
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    let site = Site::new(&[], &[]);
    std::fs::File::create(site.context().join("sparse")).unwrap().set_len(64 << 20).unwrap();
    site.copy(&["sparse"], &to("/x")).unwrap();
    let layers = std::fs::read_dir(site.store.root().join("layers")).unwrap();
    let tars = layers.map(|layer| layer.unwrap().path().join("layer.tar").metadata().unwrap());
    let sizes: Vec<(bool, bool)> = tars.map(|tar| (tar.len() > 64 << 20, tar.blocks() > 2048)).collect();
    assert!(sizes.contains(&(true, false)), "{sizes:?}");
}

#[test]
fn a_here_document_is_a_file_of_its_name() {
    let site = Site::new(&[], &["etc", "there=old", "l", "l/EOF>/there"]);
    let file = InlineFile { name: "EOF".to_owned(), content: "text\n".to_owned() };
    let (tree, selection) = site.select(&["nothing*"]);
    for (destination, needs_directory, path) in [
        ("/etc", false, "etc/EOF"),
        ("/new", false, "new"),
        ("/there", false, "there"),
        ("/d/", true, "d/EOF"),
        ("/l", false, "l/EOF"),
    ] {
        let options = CopyOptions { needs_directory, ..to(destination) };
        let below = site.below();
        let mut draft = Draft::new(Below::Files(&below));
        copy_inline(&mut draft, &file, &options).unwrap();
        let written = site.write(&tree, &selection, draft).unwrap();
        assert_eq!(written[path].0, "=text\n");
        assert_eq!(header(&written, path), (0o644, 0, 0, u64::try_from(MADE.0).unwrap()));
    }
}

#[test]
fn a_file_that_changed_since_it_was_selected_is_named_and_leaves_nothing() {
    for text in ["longer", "s", "same size"] {
        let site = Site::new(&["d", "d/a=a", "d/f=same_size"], &[]);
        let (tree, selection) = site.select(&["d"]);
        std::fs::write(site.context().join("d/f"), text).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH;
        std::fs::File::open(site.context().join("d/f")).unwrap().set_modified(time).unwrap();
        let below = site.below();
        let mut draft = Draft::new(Below::Files(&below));
        copy(&mut draft, &items(&tree, &selection, &[]), &to("/")).unwrap();
        let error = site.write(&tree, &selection, draft).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `d/f`");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "it changed while it was read");
        assert_eq!(std::fs::read_dir(site.store.root().join("layers")).unwrap().count(), 1);
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_never_leads_out_of_the_tree() {
    let site = Site::new(&["d/e", "d/e/f=inside"], &[]);
    std::fs::create_dir(site.directory.path().join("outside")).unwrap();
    std::fs::write(site.directory.path().join("outside/f"), "outside").unwrap();
    std::os::unix::fs::symlink(site.directory.path().join("outside"), site.context().join("swap")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (site.context().join("d/e"), site.context().join("swap"));
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, flags).unwrap();
            }
        });
        for _ in 0..400 {
            let tree = FileTree::open(&site.context(), Dockerignore::default(), Owners::Root).unwrap();
            let Ok(selection) = select(&tree, &["d".to_owned()], &SelectOptions::default()) else { continue };
            let below = site.below();
            let mut draft = Draft::new(Below::Files(&below));
            copy(&mut draft, &items(&tree, &selection, &[]), &to("/")).unwrap();
            let Ok(entries) = site.write(&tree, &selection, draft) else { continue };
            assert!(entries.get("e/f").is_none_or(|(is, _)| is == "=inside"), "{entries:?}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
