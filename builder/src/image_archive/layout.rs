//! Images whose documents describe each other: an image layout (`oci-layout`, `index.json`, `blobs/<algorithm>/<hex>`), and what
//! skopeo writes for `dir:` (`manifest.json`, `<hex>`).
//!
//! - Documents are what their descriptors say, or an error.
//! - Reading an image reads its documents only; its layers come into the store when somebody needs them.
//!
//! Spec: image-spec 1.1, image-layout.md; containers-transports(5), `dir:`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use oci::{
    Descriptor, Digest, Document, ImageConfig, Index, Manifest, ManifestOrIndex, MediaType, Platform, Reference,
    Verified,
};

use super::archived_image::{ArchivedImage, layers};
use super::files::{Files, ImageArchiveError};

/// The annotation that names an image: by its tag, or, of some programs, by its whole name.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation that names an image by its whole name.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// Indexes in indexes.
pub(super) const MAX_DEPTH: usize = 4;

/// A directory of images, or a tar of one.
#[derive(Clone, Debug)]
pub struct ImageLayout {
    files: Arc<Files>,
    shape: Shape,
}

/// How files are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As image-spec says.
    Layout,
    /// As skopeo's `dir:`.
    Directory,
}

/// Which image of a layout is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayoutName {
    /// The name it has there; without one it is the only image, or the one called `latest`.
    pub tag: Option<String>,
    /// Its digest, or that of the index it stands in.
    pub digest: Option<Digest>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

impl ImageLayout {
    /// Opens a directory as a layout.
    ///
    /// # Errors
    ///
    /// [`ImageArchiveError`] when it has no `oci-layout` of version 1.
    pub fn open(root: &Path) -> Result<Self, ImageArchiveError> {
        let layout = Self::new(Arc::new(Files::directory(root)?), Shape::Layout);
        layout.check_version()?;
        Ok(layout)
    }

    pub(super) fn new(files: Arc<Files>, shape: Shape) -> Self {
        Self { files, shape }
    }

    pub(super) fn check_version(&self) -> Result<(), ImageArchiveError> {
        let path = || self.files.shown("oci-layout");
        let bytes = self.files.read("oci-layout", "`oci-layout`", Manifest::MAX_SIZE)?;
        let marker = Document::<Marker>::parse(bytes, "`oci-layout`", Manifest::MAX_SIZE);
        let marker = marker.map_err(|source| ImageArchiveError::Document { path: path(), source })?;
        match marker.value().image_layout_version.split('.').next() {
            Some("1") => Ok(()),
            _ => Err(ImageArchiveError::Version { path: path() }),
        }
    }

    /// Reads the documents of an image for `platform`.
    ///
    /// # Errors
    ///
    /// [`ImageArchiveError`] when there is no such image, or one of its documents is not what it should be.
    pub fn image(&self, name: &LayoutName, platform: &Platform) -> Result<ArchivedImage, ImageArchiveError> {
        let index = self.index()?;
        let descriptor = choose(&index.manifests, name, platform)?;
        self.described(descriptor, |index| select(index, Some(platform)))
    }

    /// Reads the documents of all images; of several for one name, those for `platform`, or for this machine.
    ///
    /// # Errors
    ///
    /// [`ImageArchiveError`], also when one of them is not for `platform`.
    pub(super) fn images(&self, platform: Option<&Platform>) -> Result<Vec<ArchivedImage>, ImageArchiveError> {
        let mut images: Vec<ArchivedImage> = Vec::new();
        for descriptor in self.wanted(platform)? {
            let mut image = self.described(&descriptor, |index| select(index, platform))?;
            image.names.extend(name(&descriptor)?);
            let known = images.iter_mut().find(|known| known.manifest_digest() == image.manifest_digest());
            match known {
                Some(known) => known.names.append(&mut image.names),
                None => images.push(image),
            }
        }
        Ok(images)
    }

    /// Lists what is to be loaded: everything but attestations, and images for others where there is one for us.
    fn wanted(&self, platform: Option<&Platform>) -> Result<Vec<Descriptor>, ImageArchiveError> {
        if self.shape == Shape::Directory {
            return self.only_manifest().map(|descriptor| vec![descriptor]);
        }
        let platform = platform.cloned().unwrap_or_else(Platform::host);
        let runs = |descriptor: &Descriptor| descriptor.platform.as_ref().is_none_or(|own| own.runs_on(&platform));
        let index = self.index()?;
        let names: Vec<_> = index.manifests.iter().filter(|entry| runs(entry)).map(labels).collect();
        let is_wanted = |entry: &Descriptor| !is_attestation(entry) && (runs(entry) || !names.contains(&labels(entry)));
        Ok(index.manifests.iter().filter(|entry| is_wanted(entry)).cloned().collect())
    }

    fn index(&self) -> Result<Index, ImageArchiveError> {
        let bytes = self.files.read("index.json", "image index", Manifest::MAX_SIZE)?;
        let path = self.files.shown("index.json");
        match ManifestOrIndex::parse(bytes, Some(&MediaType::OCI_INDEX)) {
            Ok(ManifestOrIndex::Index(index)) => Ok(index.into_parts().1),
            Ok(ManifestOrIndex::Manifest(_)) => {
                Err(ImageArchiveError::NotAnImage { media_type: MediaType::OCI_MANIFEST })
            }
            Err(source) => Err(ImageArchiveError::Document { path, source }),
        }
    }

    /// Describes the one document that nothing describes.
    fn only_manifest(&self) -> Result<Descriptor, ImageArchiveError> {
        let bytes = self.files.read("manifest.json", "manifest", Manifest::MAX_SIZE)?;
        let path = self.files.shown("manifest.json");
        let parsed =
            ManifestOrIndex::parse(bytes, None).map_err(|source| ImageArchiveError::Document { path, source })?;
        let media_type = match &parsed {
            ManifestOrIndex::Manifest(manifest) => {
                manifest.value().media_type.clone().unwrap_or(MediaType::OCI_MANIFEST)
            }
            ManifestOrIndex::Index(index) => index.value().media_type.clone().unwrap_or(MediaType::OCI_INDEX),
        };
        Ok(Descriptor::of(media_type, parsed.bytes()))
    }

    /// Reads the image that a descriptor leads to.
    fn described(
        &self,
        descriptor: &Descriptor,
        select: impl Fn(&Index) -> Result<Descriptor, ImageArchiveError>,
    ) -> Result<ArchivedImage, ImageArchiveError> {
        let mut descriptor = descriptor.clone();
        let mut file = match self.shape {
            Shape::Layout => self.blob_name(&descriptor.digest),
            Shape::Directory => "manifest.json".to_owned(),
        };
        for _ in 0..MAX_DEPTH {
            match self.manifest(&file, &descriptor)? {
                ManifestOrIndex::Manifest(manifest) => return self.complete(manifest),
                ManifestOrIndex::Index(index) => descriptor = select(index.value())?,
            }
            file = match self.shape {
                Shape::Layout => self.blob_name(&descriptor.digest),
                Shape::Directory => format!("{}.manifest.json", descriptor.digest.hex()),
            };
        }
        Err(ImageArchiveError::TooDeep)
    }

    fn manifest(&self, file: &str, descriptor: &Descriptor) -> Result<ManifestOrIndex, ImageArchiveError> {
        let bytes = self.document(file, descriptor, "manifest", Manifest::MAX_SIZE)?;
        let path = self.files.shown(file);
        ManifestOrIndex::parse(bytes, Some(&descriptor.media_type))
            .map_err(|source| ImageArchiveError::Document { path, source })
    }

    fn complete(&self, manifest: Document<Manifest>) -> Result<ArchivedImage, ImageArchiveError> {
        let described = &manifest.value().config;
        if !described.media_type.is_config() {
            return Err(ImageArchiveError::NotAnImage { media_type: described.media_type.clone() });
        }
        let file = self.blob_name(&described.digest);
        let bytes = self.document(&file, described, "image config", ImageConfig::MAX_SIZE)?;
        let config = Document::<ImageConfig>::parse(bytes, "image config", ImageConfig::MAX_SIZE);
        let path = self.files.shown(&file);
        let config = config.map_err(|source| ImageArchiveError::Document { path, source })?;
        let blobs = manifest.value().layers.iter();
        let blobs = blobs.map(|layer| (self.blob_name(&layer.digest), Some(layer.clone()))).collect();
        let layers = layers(config.value(), blobs)?;
        let (names, files) = (Vec::new(), Arc::clone(&self.files));
        Ok(ArchivedImage { names, config, files, manifest: Some(manifest), layers })
    }

    /// Reads a small blob into memory.
    fn document(
        &self,
        file: &str,
        descriptor: &Descriptor,
        what: &'static str,
        limit: usize,
    ) -> Result<Vec<u8>, ImageArchiveError> {
        let bytes = self.files.read(file, what, limit)?;
        let mut verified = Vec::with_capacity(bytes.len());
        match Verified::new(&bytes[..], descriptor).read_to_end(&mut verified) {
            Ok(_) => Ok(verified),
            Err(source) => Err(ImageArchiveError::Read { path: self.files.shown(file), source }),
        }
    }

    fn blob_name(&self, digest: &Digest) -> String {
        match self.shape {
            Shape::Layout => format!("blobs/{}/{}", digest.algorithm().name(), digest.hex()),
            Shape::Directory => digest.hex().to_owned(),
        }
    }
}

impl ArchivedImage {
    fn manifest_digest(&self) -> Option<Digest> {
        self.manifest.as_ref().map(Document::digest)
    }
}

/// Chooses among the images of an index; where no platform is asked for, the only one will do.
fn select(index: &Index, platform: Option<&Platform>) -> Result<Descriptor, ImageArchiveError> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let mut images = index.manifests.iter().filter(|entry| !is_attestation(entry));
    let only = match (images.next(), images.next(), platform) {
        (Some(only), None, None) => Some(only),
        _ => None,
    };
    let chosen = index.select(&wanted).or(only).cloned();
    chosen.ok_or(ImageArchiveError::NoPlatform { wanted })
}

/// Tells whether a descriptor is of what buildx says about an image.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn labels(descriptor: &Descriptor) -> (Option<String>, Option<String>) {
    let label = |key| descriptor.annotations.get(key).cloned();
    (label(IMAGE_NAME), label(REF_NAME))
}

/// Returns the name of an image that is more than a tag.
fn name(descriptor: &Descriptor) -> Result<Option<Reference>, ImageArchiveError> {
    let parsed = match labels(descriptor) {
        (Some(name), _) => name.parse::<Reference>().map_err(|source| ImageArchiveError::Name { source })?,
        // what a program calls an image within its layout need not be a name elsewhere
        (None, Some(label)) if label.contains(['/', ':']) => match label.parse() {
            Ok(name) => name,
            Err(_) => return Ok(None),
        },
        _ => return Ok(None),
    };
    // by a digest no image can be called
    Ok(Some(parsed.or_latest()).filter(|name| name.digest().is_none()))
}

/// Finds what a name means among the entries of `index.json`.
fn choose<'a>(
    entries: &'a [Descriptor],
    name: &LayoutName,
    platform: &Platform,
) -> Result<&'a Descriptor, ImageArchiveError> {
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
        [] => Err(ImageArchiveError::NotFound { wanted: wanted(), names: names() }),
        [_, _, ..] if is_unnamed => Err(ImageArchiveError::NotFound { wanted: wanted(), names: names() }),
        [first, ..] => Ok(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::TransferProgress;
    use layer_store::Store;
    use oci::DiffId;

    struct Nobody;

    impl TransferProgress for Nobody {
        fn moved(&self, _: &str, _: u64, _: u64) {}
    }

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
            let image = ImageLayout::open(root).unwrap().image(name, &Platform::host());
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
        let image = ImageLayout::open(&root).unwrap().image(&LayoutName::default(), &Platform::host()).unwrap();
        let layer = image.manifest.as_ref().unwrap().value().layers[0].clone();
        let path = root.join("blobs/sha256").join(layer.digest.hex());
        let take = |store: &Store| image.store_layers(store, &Nobody, &|| false);
        let bytes = std::fs::read(&path).unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let broken = [&bytes[..512], b"y", &bytes[513..]].concat();
        for bytes in [&broken[..], &bytes[..1000], &[bytes.as_slice(), b"z"].concat()] {
            std::fs::write(&path, bytes).unwrap();
            assert!(take(&store).is_err());
            assert!(!store.has_layer(&image.config.value().rootfs.diff_ids[0]).unwrap());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(take(&store), Err(ImageArchiveError::Missing { .. })));
        std::fs::write(&path, &bytes).unwrap();
        take(&store).unwrap();
        assert!(store.has_layer(&image.config.value().rootfs.diff_ids[0]).unwrap());
    }

    #[test]
    fn what_is_no_layout_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert!(matches!(ImageLayout::open(root), Err(ImageArchiveError::Missing { .. })));
        let fifo = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
        rustix::fs::mknodat(rustix::fs::CWD, root.join("oci-layout"), fifo.0, fifo.1, 0).unwrap();
        assert!(matches!(ImageLayout::open(root), Err(ImageArchiveError::Read { .. })), "nothing waits for a pipe");
        std::fs::remove_file(root.join("oci-layout")).unwrap();
        std::fs::write(root.join("oci-layout"), "{}").unwrap();
        assert!(matches!(ImageLayout::open(root), Err(ImageArchiveError::Document { .. })));
        std::fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(matches!(ImageLayout::open(root), Err(ImageArchiveError::Version { .. })));
    }
}
