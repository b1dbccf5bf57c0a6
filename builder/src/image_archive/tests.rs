//! Archives that are not what they should be, of both kinds, read in place and from a stream: each is refused, and nothing stays.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Seek, Write};

use layer_store::Store;
use oci::{Descriptor, DiffId, Digest, Document, ImageConfig, Manifest, MediaType, Platform};
use serde_json::{Value, json};

use super::{ImageArchive, load};
use crate::transfer::TransferProgress;

struct Nobody;

impl TransferProgress for Nobody {
    fn moved(&self, _: &str, _: u64, _: u64) {}
}

/// The files of an archive; what is `None` is a named pipe, and what begins with `->` a link.
type Files = BTreeMap<String, Option<Vec<u8>>>;

fn header(name: &str, kind: tar::EntryType, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn tar(files: &Files) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let link = content.as_deref().and_then(|content| content.strip_prefix(b"->"));
        let (mut header, content) = match (link, content) {
            (Some(target), _) => {
                let mut header = header(name, tar::EntryType::Symlink, 0);
                header.as_ustar_mut().unwrap().linkname[..target.len()].copy_from_slice(target);
                (header, &[][..])
            }
            (None, Some(content)) => (header(name, tar::EntryType::Regular, content.len()), &content[..]),
            (None, None) => (header(name, tar::EntryType::Fifo, 0), &[][..]),
        };
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The tar of a layer with one file.
fn layer(name: &str) -> Vec<u8> {
    tar(&Files::from([(name.to_owned(), Some(b"x".to_vec()))]))
}

fn config(layers: &[&[u8]]) -> ImageConfig {
    let mut config = ImageConfig::empty(Platform::host());
    config.rootfs.diff_ids = layers.iter().map(|layer| DiffId(Digest::of(layer))).collect();
    config
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An image of one layer as a docker archive.
fn docker() -> Files {
    let tar = layer("f");
    let config = Document::write(config(&[&tar]));
    let file = format!("{}.json", config.digest().hex());
    let manifest = json!([{ "Config": file, "RepoTags": ["app:1"], "Layers": ["a/layer.tar"] }]);
    Files::from([
        (file, Some(config.bytes().to_vec())),
        ("manifest.json".to_owned(), Some(manifest.to_string().into_bytes())),
        ("a/layer.tar".to_owned(), Some(tar)),
    ])
}

/// The same as an image layout, changed by these: the layer's descriptor, and the documents as JSON.
fn layout(change_layer: impl Fn(&mut Value), change: impl Fn(&mut Value, &mut Value)) -> Files {
    let tar = layer("f");
    let mut files = Files::new();
    let mut add = |bytes: Vec<u8>, media_type: MediaType| {
        let descriptor = Descriptor::of(media_type, &bytes);
        files.insert(blob_name(&descriptor.digest), Some(bytes));
        serde_json::to_value(descriptor).unwrap()
    };
    let mut layer = add(tar.clone(), MediaType::OCI_LAYER);
    change_layer(&mut layer);
    let config = add(Document::write(config(&[&tar])).bytes().to_vec(), MediaType::OCI_CONFIG);
    let mut manifest =
        json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": config, "layers": [layer] });
    let mut index = json!({ "schemaVersion": 2, "manifests": [] });
    change(&mut manifest, &mut index);
    let mut described = add(manifest.to_string().into_bytes(), MediaType::OCI_MANIFEST);
    described["annotations"] = json!({ "io.containerd.image.name": "docker.io/library/app:1" });
    if index == json!({ "schemaVersion": 2, "manifests": [] }) {
        index["manifests"] = json!([described]);
    }
    files.insert("index.json".to_owned(), Some(index.to_string().into_bytes()));
    files.insert("oci-layout".to_owned(), Some(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files
}

fn plain_layout() -> Files {
    layout(|_| {}, |_, _| {})
}

/// A place for one archive and the store that it is loaded into.
struct Site {
    directory: tempfile::TempDir,
    store: Store,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn file(&self, tar: &[u8]) -> File {
        let mut file = tempfile::tempfile_in(self.directory.path()).unwrap();
        file.write_all(tar).unwrap();
        file.rewind().unwrap();
        file
    }

    /// Loads a tar in one way or the other; returns the names that it gave, or every cause of its failure.
    fn load(&self, tar: &[u8], is_stream: bool) -> Result<Vec<String>, String> {
        let stream = || ImageArchive::stream(&self.store, Cursor::new(tar.to_vec()));
        let archive = match is_stream {
            true => stream(),
            false => {
                ImageArchive::in_place(&self.store, self.file(tar)).and_then(|found| found.map_or_else(stream, Ok))
            }
        };
        let loaded = archive
            .map_err(|error| causes(&error))
            .and_then(|archive| load(&self.store, &archive, None, &Nobody, &|| false).map_err(|error| causes(&error)));
        let names = loaded?.into_iter().flat_map(|image| image.names);
        Ok(names.map(|loaded| loaded.name.familiar()).collect())
    }

    fn is_empty(&self) -> bool {
        let is_empty = |name: &str| std::fs::read_dir(self.store.root().join(name)).unwrap().next().is_none();
        self.store.images().unwrap().is_empty() && is_empty("layers") && is_empty("tags")
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

#[track_caller]
fn check(files: &Files, said: &str) {
    for is_stream in [false, true] {
        let site = Site::new();
        let loaded = site.load(&tar(files), is_stream);
        let Err(error) = loaded else { panic!("want `{said}`, but it was loaded: {loaded:?}") };
        assert!(error.contains(said), "want `{said}` in: {error}");
        assert!(site.is_empty(), "something of it is there: {said}");
    }
}

fn with(mut files: Files, name: &str, content: Option<&[u8]>) -> Files {
    files.insert(name.to_owned(), content.map(<[u8]>::to_vec));
    files
}

fn without(mut files: Files, name: &str) -> Files {
    files.remove(name).expect("it is there");
    files
}

/// Replaces what `manifest.json` of a docker archive says.
fn listing(change: impl Fn(&mut Value)) -> Files {
    let files = docker();
    let mut list: Value = serde_json::from_slice(files["manifest.json"].as_deref().unwrap()).unwrap();
    change(&mut list[0]);
    with(files, "manifest.json", Some(list.to_string().as_bytes()))
}

#[test]
fn what_is_right_is_loaded_from_every_form() {
    for files in [docker(), plain_layout(), with(plain_layout(), "manifest.json", Some(b"not even read"))] {
        for is_stream in [false, true] {
            let site = Site::new();
            assert_eq!(site.load(&tar(&files), is_stream).unwrap(), ["app:1"]);
            let image = site.store.images().unwrap().remove(0).unwrap();
            assert_eq!(image.id.0, Document::write(config(&[&layer("f")])).digest());
            // the plain layer is no blob, and the manifest is made again
            assert!(!site.store.root().join(blob_name(&Digest::of(&layer("f")))).exists());
            assert_eq!(
                site.store.manifest(&image.id, layer_store::Compression::default()).unwrap().1.value().layers.len(),
                1
            );
        }
    }
}

#[test]
fn a_layer_may_be_a_link_to_one_of_the_archive_and_be_compressed_by_anything() {
    let tar_of_layer = layer("f");
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    xz.write_all(&tar_of_layer).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar_of_layer).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar_of_layer).unwrap();
    let zstd = zstd::stream::encode_all(&tar_of_layer[..], 1).unwrap();
    for content in [xz.finish().unwrap(), bzip2.finish().unwrap(), gzip.finish().unwrap(), zstd] {
        let files = with(with(docker(), "a/layer.tar", Some(b"->../b/x.tar")), "b/x.tar", Some(&content));
        for is_stream in [false, true] {
            let site = Site::new();
            assert_eq!(site.load(&tar(&files), is_stream).unwrap(), ["app:1"]);
            assert!(site.store.has_layer(&DiffId(Digest::of(&tar_of_layer))).unwrap());
        }
    }
}

#[test]
fn hostile_docker_archives_are_refused_with_what_is_wrong() {
    let foreign = layer("g");
    let evil = layer(".wh...");
    let evil_config = Document::write(config(&[&evil]));
    let config_file = format!("{}.json", Document::write(config(&[&layer("f")])).digest().hex());
    let cases: Vec<(Files, &str)> = vec![
        (Files::new(), "it is no tar archive, compressed or not"),
        (with(Files::new(), "etc/passwd", Some(b"x")), "neither `oci-layout` nor `manifest.json`"),
        (with(Files::new(), "repositories", Some(b"{}")), "docker before 1.10"),
        (with(docker(), "manifest.json", Some(b"[]")), "it has no images"),
        (with(docker(), "manifest.json", Some(b"[{}]")), "`manifest.json` is not what it should be"),
        (with(docker(), "manifest.json", Some(b"[")), "not a valid list of images"),
        (with(docker(), "manifest.json", Some(&[b' '; (4 << 20) + 1])), "more than the 4194304 bytes that are read"),
        (with(docker(), "manifest.json", None), "neither `oci-layout` nor `manifest.json`"),
        (with(docker(), "a/layer.tar", Some(&foreign)), "but the image config says sha256:"),
        (with(docker(), "a/layer.tar", Some(b"")), "but the image config says sha256:"),
        (with(docker(), "a/layer.tar", Some(b"\x1f\x8bnot")), "layer 1 of 1 (`a/layer.tar`) cannot be used"),
        (with(docker(), "a/layer.tar", Some(b"->/etc/passwd")), "is a link that leaves the archive"),
        (with(docker(), "a/layer.tar", Some(b"->../../x")), "is a link that leaves the archive"),
        (with(docker(), "a/layer.tar", Some(b"->layer.tar")), "`a/layer.tar` is not there"),
        (with(docker(), "a/layer.tar", None), "archive entry `a/layer.tar` is a named pipe"),
        (with(docker(), "/etc/x", Some(b"x")), "archive entry `/etc/x` has an absolute name"),
        (with(docker(), "../x", Some(b"x")), "archive entry `../x` has a name that leaves the archive"),
        (without(docker(), "a/layer.tar"), "`a/layer.tar` is not there"),
        (without(docker(), &config_file), "is not there"),
        (with(docker(), &config_file, Some(b"{}")), "is not what its digest says"),
        (listing(|image| image["Layers"] = json!([])), "the manifest has 0 layers, but the config names 1"),
        (listing(|image| image["Layers"] = Value::Null), "the manifest has 0 layers, but the config names 1"),
        (listing(|image| image["Layers"] = json!(["a/layer.tar", "a/layer.tar"])), "the manifest has 2 layers"),
        (listing(|image| image["Layers"] = json!(["/etc/passwd"])), "`/etc/passwd` is not there"),
        (listing(|image| image["Layers"] = json!(["../../etc/passwd"])), "`../../etc/passwd` is not there"),
        (listing(|image| image["Config"] = json!("/etc/passwd")), "`/etc/passwd` is not there"),
        (listing(|image| image["Config"] = json!("a\u{0}b")), "is not there"),
        (listing(|image| image["RepoTags"] = json!(["app:1", "No Name"])), "an image has a name that cannot be kept"),
        (listing(|image| image["RepoTags"] = json!(["\u{1b}[2J"])), "`\\u{1b}[2J` is not an image reference"),
        (
            with(
                with(listing(|image| image["Config"] = json!("c.json")), "c.json", Some(evil_config.bytes())),
                "a/layer.tar",
                Some(&evil),
            ),
            "layer entry `.wh...`",
        ),
    ];
    for (files, said) in &cases {
        check(files, said);
    }
}

#[test]
fn hostile_layouts_are_refused_with_what_is_wrong() {
    let tar_of_layer = layer("f");
    let layer_blob = blob_name(&Digest::of(&tar_of_layer));
    let flipped: Vec<u8> =
        tar_of_layer.iter().enumerate().map(|(at, byte)| if at == 600 { byte ^ 1 } else { *byte }).collect();
    let layer = |key: &'static str, value: Value| layout(move |layer| layer[key] = value.clone(), |_, _| {});
    let manifest = |key: &'static str, value: Value| layout(|_| {}, move |manifest, _| manifest[key] = value.clone());
    let index = |value: Value| layout(|_| {}, move |_, index| *index = value.clone());
    let nowhere = format!("sha256:{}", "0".repeat(64));
    let entry = |digest: &str| json!([{ "mediaType": MediaType::OCI_MANIFEST, "digest": digest, "size": 2 }]);
    let foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    let cases: Vec<(Files, &str)> = vec![
        (with(plain_layout(), &layer_blob, Some(&flipped)), "is not what its digest says"),
        (with(plain_layout(), &layer_blob, Some(&tar_of_layer[..512])), "but its descriptor says 2048"),
        (without(plain_layout(), &layer_blob), "is not there"),
        (with(plain_layout(), &layer_blob, None), "is a named pipe"),
        (with(plain_layout(), "blobs/sha256/x", Some(b"->/etc/passwd")), "is a link that leaves the archive"),
        (layer("size", json!(1)), "has 2048 bytes, but its descriptor says 1"),
        (layer("size", json!(u64::MAX)), "but its descriptor says 18446744073709551615"),
        (layer("size", json!(-1)), "not a valid image manifest"),
        (layer("size", Value::Null), "not a valid image manifest"),
        (layer("digest", json!("sha256:../../etc/passwd")), "is not a digest"),
        (layer("digest", json!("md5:d41d8cd98f00b204e9800998ecf8427e")), "is not a digest"),
        (layer("mediaType", json!(foreign)), "is no layer that can be applied"),
        (manifest("layers", json!([])), "the manifest has 0 layers, but the config names 1"),
        (manifest("schemaVersion", json!(1)), "manifest has schemaVersion 1, want 2"),
        (manifest("manifests", json!([])), "manifest has both `layers` and `manifests`"),
        (manifest("mediaType", json!(MediaType::OCI_INDEX)), "but it was announced as"),
        (manifest("config", json!({ "mediaType": "x/y", "digest": nowhere, "size": 2 })), "`x/y` is no image"),
        (index(json!({ "schemaVersion": 1, "manifests": [] })), "manifest has schemaVersion 1, want 2"),
        (index(json!({ "schemaVersion": 2, "manifests": entry(&nowhere) })), "is not there"),
        (index(json!({ "schemaVersion": 2, "manifests": entry("sha256:..") })), "is not a digest"),
        (index(json!([])), "not a valid manifest"),
        (index(json!({ "schemaVersion": 2, "manifests": {} })), "not a valid image index"),
        (
            with(plain_layout(), "oci-layout", Some(br#"{"imageLayoutVersion":"2.0.0"}"#)),
            "not an image layout of version 1",
        ),
        (with(plain_layout(), "oci-layout", Some(b"x")), "`oci-layout` is not what it should be"),
        (with(plain_layout(), "index.json", Some(&vec![b'['; 1 << 20])), "not a valid manifest"),
        (with(plain_layout(), "index.json", Some(&vec![b' '; 5 << 20])), "more than the 4194304 bytes that are read"),
    ];
    for (files, said) in &cases {
        check(files, said);
    }
}

#[test]
fn indexes_end_and_images_have_a_bounded_number_of_layers() {
    let index =
        |manifests: Value| json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests });
    let mut files = plain_layout();
    let mut bytes = index(json!([])).to_string().into_bytes();
    for _ in 0..6 {
        let mut descriptor = Descriptor::of(MediaType::OCI_INDEX, &bytes);
        files.insert(blob_name(&descriptor.digest), Some(bytes));
        descriptor.platform = Some(Platform::host());
        bytes = index(json!([descriptor])).to_string().into_bytes();
    }
    check(&with(files, "index.json", Some(&bytes)), "more than 4 of them");

    let tar_of_layer = layer("f");
    let many = vec![&tar_of_layer[..]; 501];
    let config = Document::write(config(&many));
    let files = listing(|image| {
        image["Config"] = json!("c.json");
        image["Layers"] = json!(vec!["a/layer.tar"; 501]);
    });
    check(&with(files, "c.json", Some(config.bytes())), "an image has 501 layers, more than the 500 that are kept");
}

#[test]
fn an_archive_with_one_broken_image_gives_none() {
    let files = docker();
    let mut list: Value = serde_json::from_slice(files["manifest.json"].as_deref().unwrap()).unwrap();
    let broken = Document::write(config(&[&layer("other")]));
    list.as_array_mut().unwrap().push(json!({ "Config": "c.json", "RepoTags": ["b:1"], "Layers": ["missing.tar"] }));
    let files = with(files, "manifest.json", Some(list.to_string().as_bytes()));
    let files = with(files, "c.json", Some(broken.bytes()));
    for is_stream in [false, true] {
        let site = Site::new();
        assert!(site.load(&tar(&files), is_stream).unwrap_err().contains("`missing.tar` is not there"));
        assert!(site.store.images().unwrap().is_empty());
    }
}

#[test]
fn an_image_for_several_platforms_is_the_one_that_is_asked_for() {
    let mut files = plain_layout();
    let mut entries = Vec::new();
    for architecture in ["arm64", "riscv64"] {
        let mut config = config(&[&layer("f")]);
        config.platform = format!("linux/{architecture}").parse().unwrap();
        let config = Document::write(config);
        let manifest = Manifest::new(
            config.descriptor(MediaType::OCI_CONFIG),
            vec![Descriptor::of(MediaType::OCI_LAYER, &layer("f"))],
        );
        let manifest = Document::write(manifest);
        files.insert(blob_name(&config.digest()), Some(config.bytes().to_vec()));
        files.insert(blob_name(&manifest.digest()), Some(manifest.bytes().to_vec()));
        let mut entry = manifest.descriptor(MediaType::OCI_MANIFEST);
        entry.platform = Some(config.value().platform.clone());
        entries.push(entry);
    }
    let load = |entries: &[Descriptor], platform: Option<&str>| {
        let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string().into_bytes();
        let descriptor = Descriptor::of(MediaType::OCI_INDEX, &index);
        let top = json!({ "schemaVersion": 2, "manifests": [descriptor] }).to_string();
        let files =
            with(with(files.clone(), "index.json", Some(top.as_bytes())), &blob_name(&descriptor.digest), Some(&index));
        let site = Site::new();
        let archive = ImageArchive::stream(&site.store, Cursor::new(tar(&files))).unwrap();
        let platform = platform.map(|platform| platform.parse().unwrap());
        let images = archive.images(platform.as_ref()).map_err(|error| error.to_string())?;
        Ok(images[0].config.value().platform.to_string())
    };
    assert_eq!(load(&entries, Some("linux/riscv64")), Ok("linux/riscv64".to_owned()));
    assert_eq!(load(&entries, Some("linux/s390x")), Err("nothing there is for linux/s390x".to_owned()));
    assert_eq!(load(&entries[..1], None), Ok("linux/arm64".to_owned()), "it is the only one");
    assert_eq!(load(&entries[..1], Some("linux/riscv64")), Err("nothing there is for linux/riscv64".to_owned()));
}

#[test]
fn a_directory_is_not_left_and_nothing_is_waited_for() {
    let site = Site::new();
    let root = site.directory.path().join("archive");
    std::fs::write(site.directory.path().join("secret"), layer("f")).unwrap();
    let load = |files: &Files, prepare: &dyn Fn()| {
        let _ = std::fs::remove_dir_all(&root);
        for (name, content) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content.as_deref().unwrap()).unwrap();
        }
        prepare();
        let archive = ImageArchive::directory(&root).unwrap();
        load(&site.store, &archive, None, &Nobody, &|| false).map(drop).map_err(|error| causes(&error))
    };
    let replace = |name: &'static str, with: &'static str| {
        let path = root.join(name);
        move || {
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(with, &path).unwrap();
        }
    };
    let fifo = || {
        let path = root.join("manifest.json");
        std::fs::remove_file(&path).unwrap();
        let fifo = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, path, fifo.0, fifo.1, 0).unwrap();
    };
    let out = listing(|image| image["Layers"] = json!(["../secret"]));
    let absolute = listing(|image| image["Config"] = json!("/etc/passwd"));
    let cases: [(&Files, &dyn Fn(), &str); 5] = [
        (&out, &|| {}, "cannot read"),
        (&absolute, &|| {}, "cannot read"),
        (&docker(), &replace("a/layer.tar", "../../secret"), "cannot read"),
        (&docker(), &replace("a/layer.tar", "/dev/zero"), "cannot read"),
        (&docker(), &fifo, "it is not a regular file"),
    ];
    for (files, prepare, said) in cases {
        let error = load(files, prepare).unwrap_err();
        assert!(error.contains(said) && site.is_empty(), "want `{said}` in: {error}");
    }
    load(&with(docker(), "b/x.tar", Some(&layer("f"))), &replace("a/layer.tar", "../b/x.tar")).unwrap();
}

#[test]
fn a_plain_layer_that_a_manifest_calls_gzip_is_loaded_all_the_same() {
    let site = Site::new();
    let files = layout(|layer| layer["mediaType"] = json!(MediaType::OCI_LAYER_GZIP), |_, _| {});
    assert_eq!(site.load(&tar(&files), false).unwrap(), ["app:1"]);
    let image = site.store.images().unwrap().remove(0).unwrap();
    assert!(site.store.image(&image.id).unwrap().manifests.is_empty(), "a manifest that is wrong is not kept");
}
