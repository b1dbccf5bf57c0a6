//! Images in a directory, laid out as image-spec says: `oci-layout`, `index.json`, `blobs/<algorithm>/<hex>`.
//!
//! - Nothing is believed: documents and layers are what their descriptors say, or an error.
//! - Reading an image reads its documents only; its layers come into the store when a build needs them.
//!
//! Spec: image-spec 1.1, image-layout.md.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use layer_store::{ApplyError, LayerError, Store};
use oci::{
    BlobError, BlobSink, BlobSource, Descriptor, DiffId, Digest, Document, DocumentError, ImageConfig, Manifest,
    ManifestOrIndex, MediaType, Platform, Verified,
};
use rustix::fs::OFlags;

/// The annotation that names an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes in indexes.
const MAX_DEPTH: usize = 4;

/// A directory of images.
#[derive(Clone, Debug)]
pub struct OciLayout {
    root: PathBuf,
}

/// Which image of a layout is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutName {
    /// The name it has there; without one it is the only image, or the one called `latest`.
    pub tag: Option<String>,
    /// Its digest, or that of the index it stands in.
    pub digest: Option<Digest>,
}

/// An image of a layout: its documents, verified.
#[derive(Clone, Debug)]
pub struct LayoutImage {
    layout: OciLayout,
    manifest: Document<Manifest>,
    /// The config.
    pub config: Document<ImageConfig>,
}

/// Why an image of a layout cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum LayoutError {
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not what it should be", .path.display())]
    Document { path: PathBuf, source: DocumentError },
    #[error("`{}` is not an image layout of version 1", .path.display())]
    Version { path: PathBuf },
    #[error("no image there is called `{wanted}`: {}", listed(.names))]
    NotFound { wanted: String, names: Vec<String> },
    #[error("nothing there is for {wanted}")]
    NoPlatform { wanted: Platform },
    #[error("`{media_type}` is no image")]
    NotAnImage { media_type: MediaType },
    #[error("an index in an index in an index: more than {MAX_DEPTH} of them")]
    TooDeep,
    #[error("the manifest has {layers} layers, but the config names {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("blob {digest} cannot be copied")]
    Copy { digest: Digest, source: io::Error },
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("layer {diff_id} cannot be looked up")]
    Layer { diff_id: DiffId, source: LayerError },
    #[error("layer {digest} cannot be used")]
    Apply { digest: Digest, source: ApplyError },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "its images have no names".to_owned() } else { format!("there is {}", names.join(", ")) }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl OciLayout {
    /// Opens a directory as a layout.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when it has no `oci-layout` of version 1.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        let layout = Self { root: root.to_owned() };
        let path = root.join("oci-layout");
        let bytes = read(&path)?;
        let marker = Document::<Marker>::parse(bytes, "`oci-layout`", Manifest::MAX_SIZE);
        let marker = marker.map_err(|source| LayoutError::Document { path: path.clone(), source })?;
        if marker.value().image_layout_version.split('.').next() != Some("1") {
            return Err(LayoutError::Version { path });
        }
        Ok(layout)
    }

    /// Reads the documents of an image for `platform`.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] when there is no such image, or one of its documents is not what it should be.
    pub fn image(&self, name: &LayoutName, platform: &Platform) -> Result<LayoutImage, LayoutError> {
        let path = self.root.join("index.json");
        let index = ManifestOrIndex::parse(read(&path)?, Some(&MediaType::OCI_INDEX));
        let ManifestOrIndex::Index(index) = index.map_err(|source| LayoutError::Document { path, source })? else {
            return Err(LayoutError::NotAnImage { media_type: MediaType::OCI_MANIFEST });
        };
        let mut descriptor = choose(&index.value().manifests, name, platform)?.clone();
        for _ in 0..MAX_DEPTH {
            match self.manifest(&descriptor)? {
                ManifestOrIndex::Manifest(manifest) => return self.complete(manifest),
                ManifestOrIndex::Index(index) => {
                    let chosen = index.value().select(platform);
                    let none = || LayoutError::NoPlatform { wanted: platform.clone() };
                    descriptor = chosen.ok_or_else(none)?.clone();
                }
            }
        }
        Err(LayoutError::TooDeep)
    }

    fn manifest(&self, descriptor: &Descriptor) -> Result<ManifestOrIndex, LayoutError> {
        let bytes = self.document(descriptor, Manifest::MAX_SIZE)?;
        let path = self.blob_path(&descriptor.digest);
        ManifestOrIndex::parse(bytes, Some(&descriptor.media_type))
            .map_err(|source| LayoutError::Document { path, source })
    }

    fn complete(&self, manifest: Document<Manifest>) -> Result<LayoutImage, LayoutError> {
        let described = manifest.value().config.clone();
        if !described.media_type.is_config() {
            return Err(LayoutError::NotAnImage { media_type: described.media_type });
        }
        let bytes = self.document(&described, ImageConfig::MAX_SIZE)?;
        let config = Document::<ImageConfig>::parse(bytes, "image config", ImageConfig::MAX_SIZE);
        let path = self.blob_path(&described.digest);
        let config = config.map_err(|source| LayoutError::Document { path, source })?;
        let (layers, diff_ids) = (manifest.value().layers.len(), config.value().rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(LayoutError::LayerCount { layers, diff_ids });
        }
        Ok(LayoutImage { layout: self.clone(), manifest, config })
    }

    /// Reads a small blob into memory.
    fn document(&self, descriptor: &Descriptor, limit: usize) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob_path(&descriptor.digest);
        let size = usize::try_from(descriptor.size).unwrap_or(usize::MAX);
        if size > limit {
            let source = DocumentError::TooLarge { what: "document", size, limit };
            return Err(LayoutError::Document { path, source });
        }
        let mut bytes = Vec::new();
        let read = self.open(descriptor)?.read_to_end(&mut bytes);
        read.map_err(|source| LayoutError::Read { path, source })?;
        Ok(bytes)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }
}

/// Finds what a name means among the entries of `index.json`.
fn choose<'a>(
    entries: &'a [Descriptor],
    name: &LayoutName,
    platform: &Platform,
) -> Result<&'a Descriptor, LayoutError> {
    let names = || entries.iter().filter_map(|entry| entry.annotations.get(REF_NAME).cloned()).collect();
    let is_called = |entry: &&Descriptor, tag: &str| {
        // some programs write the whole reference
        let called = entry.annotations.get(REF_NAME);
        called.is_some_and(|called| called == tag || called.rsplit_once(':').is_some_and(|(_, last)| last == tag))
    };
    let mut found: Vec<&Descriptor> = match (&name.digest, &name.tag) {
        (Some(digest), _) => entries.iter().filter(|entry| entry.digest == *digest).collect(),
        (None, Some(tag)) => entries.iter().filter(|entry| is_called(entry, tag)).collect(),
        (None, None) => {
            let latest: Vec<_> = entries.iter().filter(|entry| is_called(entry, "latest")).collect();
            if latest.is_empty() { entries.iter().collect() } else { latest }
        }
    };
    // one image for several platforms may be as many entries
    let runs = |entry: &&Descriptor| entry.platform.as_ref().is_none_or(|own| own.runs_on(platform));
    if found.len() > 1 {
        found.retain(runs);
    }
    let is_unnamed = name.tag.is_none() && name.digest.is_none();
    let wanted = || {
        let digest = name.digest.as_ref().map(ToString::to_string);
        digest.or_else(|| name.tag.clone()).unwrap_or_else(|| "latest".to_owned())
    };
    match found[..] {
        [] => Err(LayoutError::NotFound { wanted: wanted(), names: names() }),
        [_, _, ..] if is_unnamed => Err(LayoutError::NotFound { wanted: wanted(), names: names() }),
        [first, ..] => Ok(first),
    }
}

impl BlobSource for OciLayout {
    fn open(&self, blob: &Descriptor) -> Result<Verified<Box<dyn Read + Send>>, BlobError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => BlobError::NotFound { digest: blob.digest.clone() },
            _ => BlobError::Io { action: "read", digest: blob.digest.clone(), source },
        };
        let file = open(&self.blob_path(&blob.digest)).map_err(failed)?;
        Ok(Verified::new(Box::new(file), blob))
    }
}

impl LayoutImage {
    /// Brings its layers into `store`.
    ///
    /// # Errors
    ///
    /// [`LayoutError`] with the layer that is missing or is not what it should be.
    pub(crate) fn store_layers(&self, store: &Store) -> Result<(), LayoutError> {
        let layers = self.manifest.value().layers.iter();
        for (layer, diff_id) in layers.zip(&self.config.value().rootfs.diff_ids) {
            let lookup = |source| LayoutError::Layer { diff_id: diff_id.clone(), source };
            if store.has_layer(diff_id).map_err(lookup)? {
                continue;
            }
            self.copy(layer, store)?;
            let digest = || layer.digest.clone();
            store.apply(layer, diff_id).map_err(|source| LayoutError::Apply { digest: digest(), source })?;
        }
        Ok(())
    }

    fn copy(&self, layer: &Descriptor, store: &Store) -> Result<(), LayoutError> {
        let Some(mut writer) = store.begin(layer)? else { return Ok(()) };
        writer.restart()?;
        let mut reader = self.layout.open(layer)?;
        let copied = io::copy(&mut reader, &mut writer);
        copied.map_err(|source| LayoutError::Copy { digest: layer.digest.clone(), source })?;
        Ok(writer.commit()?)
    }
}

/// Opens a regular file; nothing is waited for that is none.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

fn read(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let mut bytes = Vec::new();
    let most = Manifest::MAX_SIZE as u64 + 1;
    let read = open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a layout with one image under each name; returns the descriptors.
    fn layout(root: &Path, names: &[Option<&str>]) -> Vec<Descriptor> {
        let blob = |media_type, bytes: &[u8]| {
            let descriptor = Descriptor::of(media_type, bytes);
            let directory = root.join("blobs").join(descriptor.digest.algorithm().name());
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(descriptor.digest.hex()), bytes).unwrap();
            descriptor
        };
        let tar = {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_ustar();
            header.set_size(1);
            header.set_mode(0o644);
            tar.append_data(&mut header, "f", &b"x"[..]).unwrap();
            tar.into_inner().unwrap()
        };
        let described = names.iter().map(|name| {
            let layer = blob(MediaType::OCI_LAYER, &tar);
            let mut config = ImageConfig::empty(Platform::host());
            config.config.env = vec![format!("NAME={}", name.unwrap_or("none"))];
            config.rootfs.diff_ids = vec![DiffId(layer.digest.clone())];
            let config = blob(MediaType::OCI_CONFIG, Document::write(config).bytes());
            let manifest = Document::write(Manifest::new(config, vec![layer]));
            let mut descriptor = blob(MediaType::OCI_MANIFEST, manifest.bytes());
            descriptor.annotations.extend(name.map(|name| (REF_NAME.to_owned(), name.to_owned())));
            descriptor
        });
        let described: Vec<_> = described.collect();
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": described });
        std::fs::write(root.join("index.json"), index.to_string()).unwrap();
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        described
    }

    fn named(tag: &str) -> LayoutName {
        LayoutName { tag: Some(tag.to_owned()), digest: None }
    }

    #[test]
    fn an_image_is_found_by_its_name_or_digest_or_because_it_is_the_only_one() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let found = |name: &LayoutName| {
            let image = OciLayout::open(root).unwrap().image(name, &Platform::host());
            image.map(|image| image.config.value().config.env[0].clone()).map_err(|error| error.to_string())
        };
        let descriptors = layout(root, &[Some("1"), Some("example.com/app:2")]);
        assert_eq!(found(&named("1")).unwrap(), "NAME=1");
        assert_eq!(found(&named("2")).unwrap(), "NAME=example.com/app:2");
        let digest = Some(descriptors[1].digest.clone());
        assert_eq!(found(&LayoutName { tag: None, digest }).unwrap(), "NAME=example.com/app:2");
        let missing = "no image there is called `3`: there is 1, example.com/app:2";
        assert_eq!(found(&named("3")).unwrap_err(), missing);
        assert!(found(&LayoutName::default()).is_err(), "which one?");
        layout(root, &[None]);
        assert_eq!(found(&LayoutName::default()).unwrap(), "NAME=none");
        layout(root, &[Some("latest"), Some("other")]);
        assert_eq!(found(&LayoutName::default()).unwrap(), "NAME=latest");
    }

    #[test]
    fn layers_come_into_the_store_when_they_are_what_the_manifest_says() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("layout");
        std::fs::create_dir(&root).unwrap();
        layout(&root, &[None]);
        let image = OciLayout::open(&root).unwrap().image(&LayoutName::default(), &Platform::host()).unwrap();
        let layer = image.manifest.value().layers[0].clone();
        let path = image.layout.blob_path(&layer.digest);
        let bytes = std::fs::read(&path).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let broken = [&bytes[..512], b"y", &bytes[513..]].concat();
        for bytes in [&broken[..], &bytes[..1000], &[bytes.as_slice(), b"z"].concat()] {
            std::fs::write(&path, bytes).unwrap();
            assert!(image.store_layers(&store).is_err());
            assert!(!store.has_layer(&image.config.value().rootfs.diff_ids[0]).unwrap());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(image.store_layers(&store), Err(LayoutError::Blob(BlobError::NotFound { .. }))));
        std::fs::write(&path, &bytes).unwrap();
        image.store_layers(&store).unwrap();
        assert!(store.has_layer(&image.config.value().rootfs.diff_ids[0]).unwrap());
    }

    #[test]
    fn what_is_no_layout_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert!(matches!(OciLayout::open(root), Err(LayoutError::Read { .. })));
        let fifo = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, root.join("oci-layout"), fifo.0, fifo.1, 0).unwrap();
        assert!(matches!(OciLayout::open(root), Err(LayoutError::Read { .. })), "nothing waits for a pipe");
        std::fs::remove_file(root.join("oci-layout")).unwrap();
        std::fs::write(root.join("oci-layout"), "{}").unwrap();
        assert!(matches!(OciLayout::open(root), Err(LayoutError::Document { .. })));
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(matches!(OciLayout::open(root), Err(LayoutError::Version { .. })));
    }
}
