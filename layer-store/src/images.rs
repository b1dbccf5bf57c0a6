//! Images: a config, its layers, and the manifests it came with or went out as.
//!
//! An image is its config's digest. Its record is complete in itself; the names that mean it are in `tags`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use oci::{Descriptor, DiffId, Digest, Document, DocumentError, ImageConfig, Manifest, MediaType, Reference};
use serde::{Deserialize, Serialize};

use crate::lease::Held;
use crate::store::{digest_of_name, list};
use crate::{FileError, LayerError, RecordError, Store, record};
use oci::BlobError;

/// Layers of one image, at most.
pub const MAX_LAYERS: usize = 500;

/// An image: the digest of its config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl std::fmt::Display for ImageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What the store knows of an image.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its config.
    pub id: ImageId,
    /// Its config, as it came.
    pub config: Document<ImageConfig>,
    /// The manifests it came with or went out as, latest last.
    pub manifests: Vec<Descriptor>,
    /// Where registries have it, by manifest digest.
    pub repo_digests: Vec<Reference>,
    /// The names that mean it, sorted.
    pub tags: Vec<Reference>,
    /// Bytes of the files in all of its layers.
    pub size: u64,
    /// When it came into this store.
    pub stored: SystemTime,
}

/// Why an image could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ImageError {
    #[error("image {id} is not here")]
    NotFound { id: ImageId },
    #[error("image {id} cannot be used")]
    Record { id: ImageId, source: RecordError },
    #[error("the config of image {id} cannot be read")]
    Config { id: ImageId, source: BlobError },
    #[error("the config of image {id} is not one")]
    ConfigDocument { id: ImageId, source: DocumentError },
    #[error("`{}` is not the record of an image", .name.escape_debug())]
    Stray { name: String },
    #[error("image {id} has {count} layers, more than the {MAX_LAYERS} that are kept")]
    TooManyLayers { id: ImageId, count: usize },
    #[error("image {id} cannot be kept without its layers")]
    Layer { id: ImageId, source: LayerError },
    #[error("manifest {manifest} is of image {actual}, not of {id}")]
    ForeignManifest { id: ImageId, manifest: Digest, actual: ImageId },
    #[error("manifest {manifest} of image {id} has {actual} layers, but its config has {expected}")]
    LayerCount { id: ImageId, manifest: Digest, expected: usize, actual: usize },
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The file in `images/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) id: ImageId,
    pub(crate) layers: Vec<DiffId>,
    /// Manifests with all the blobs they name, latest last.
    pub(crate) manifests: Vec<KnownManifest>,
    pub(crate) repo_digests: Vec<Reference>,
    /// Nanoseconds since 1970.
    pub(crate) stored: u64,
    /// `None` in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) facts: Option<ImageFacts>,
}

/// What follows from an image's ID, and so never changes: kept in its record for listings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageFacts {
    /// When it was made, as its config says it.
    pub(crate) created: Option<String>,
    /// Bytes of the files in all of its layers.
    pub(crate) size: u64,
}

/// A manifest of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct KnownManifest {
    pub(crate) manifest: Descriptor,
    /// The config, then the layers, lowest first.
    pub(crate) blobs: Vec<Descriptor>,
}

impl ImageRecord {
    fn new(id: ImageId, layers: Vec<DiffId>) -> Self {
        let stored = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stored = u64::try_from(stored.as_nanos()).unwrap_or(u64::MAX);
        Self { id, layers, manifests: Vec::new(), repo_digests: Vec::new(), stored, facts: None }
    }

    /// Returns every blob that the image needs to be pushed as it came.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let manifests = self.manifests.iter();
        let named = manifests.flat_map(|known| std::iter::once(&known.manifest).chain(&known.blobs));
        std::iter::once(&self.id.0).chain(named.map(|blob| &blob.digest))
    }

    pub(crate) fn stored(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.stored)
    }
}

impl Store {
    /// Keeps an image, all of whose layers are here; repeatable.
    ///
    /// What this command has made since the last image is on the disk before the image names it.
    ///
    /// # Errors
    ///
    /// [`ImageError::Layer`] when a layer is not here.
    pub fn add_image(&self, config: &Document<ImageConfig>) -> Result<ImageId, ImageError> {
        let id = ImageId(config.digest());
        let layers = config.value().rootfs.diff_ids.clone();
        if layers.len() > MAX_LAYERS {
            return Err(ImageError::TooManyLayers { id, count: layers.len() });
        }
        let mut size = 0_u64;
        for diff_id in &layers {
            let layer = self.layer(diff_id).map_err(|source| ImageError::Layer { id: id.clone(), source })?;
            size = size.saturating_add(layer.content_size);
        }
        self.put_blob(MediaType::OCI_CONFIG, config.bytes())?;
        self.flush_new()?;
        let path = self.image_path(&id);
        self.hold(Held::Image(id.clone()), &path)?;
        // one that cannot be read is written anew
        if !matches!(record::read::<ImageRecord>(&path), Ok(Some(known)) if known.id == id) {
            let facts = ImageFacts { created: config.value().created.clone(), size };
            self.write_lasting_record(
                &path,
                &ImageRecord { facts: Some(facts), ..ImageRecord::new(id.clone(), layers) },
            )?;
        }
        Ok(id)
    }

    /// Writes an image's record anew from its config; what else can be read of it is kept.
    pub(crate) fn rewrite_image(&self, id: &ImageId) -> Result<(), ImageError> {
        let layers = self.config(id)?.value().rootfs.diff_ids.clone();
        let _lock = crate::lease::StoreLock::exclusive(self.root())?;
        let record = match self.read_image(id) {
            Ok(known) => ImageRecord { layers, facts: None, ..known },
            Err(_) => ImageRecord::new(id.clone(), layers),
        };
        Ok(self.write_lasting_record(&self.image_path(id), &record)?)
    }

    /// Notes a manifest of the image: it came from, or went to, `name`.
    ///
    /// # Errors
    ///
    /// [`ImageError::ForeignManifest`] when the manifest is of another image, [`ImageError::LayerCount`] when it has another
    /// number of layers than the config.
    pub fn add_manifest(
        &self,
        id: &ImageId,
        manifest: &Document<Manifest>,
        media_type: MediaType,
        name: Option<&Reference>,
    ) -> Result<(), ImageError> {
        let mut record = self.held_image(id)?;
        let value = manifest.value();
        if value.config.digest != id.0 {
            let actual = ImageId(value.config.digest.clone());
            return Err(ImageError::ForeignManifest { id: id.clone(), manifest: manifest.digest(), actual });
        }
        if value.layers.len() != record.layers.len() {
            let (expected, actual) = (record.layers.len(), value.layers.len());
            return Err(ImageError::LayerCount { id: id.clone(), manifest: manifest.digest(), expected, actual });
        }
        let descriptor = self.put_blob(media_type, manifest.bytes())?;
        let blobs: Vec<Descriptor> = std::iter::once(&value.config).chain(&value.layers).cloned().collect();
        let path = self.image_path(id);
        let _lock = crate::lease::StoreLock::exclusive(self.root())?;
        // somebody else may have added another meanwhile
        record = self.read_image(id)?;
        record.manifests.retain(|known| known.manifest.digest != descriptor.digest);
        let digest = descriptor.digest.clone();
        record.manifests.push(KnownManifest { manifest: descriptor, blobs });
        if let Some(name) = name.map(|name| name.at(digest)).filter(|name| !record.repo_digests.contains(name)) {
            record.repo_digests.push(name);
        }
        Ok(self.write_lasting_record(&path, &record)?)
    }

    /// Returns an image; it stays until this command ends.
    ///
    /// # Errors
    ///
    /// [`ImageError::NotFound`], or what of it cannot be read.
    pub fn image(&self, id: &ImageId) -> Result<Image, ImageError> {
        let record = self.held_image(id)?;
        let tags = self.tags()?;
        self.describe(record, &tags)
    }

    pub(crate) fn held_image(&self, id: &ImageId) -> Result<ImageRecord, ImageError> {
        self.hold(Held::Image(id.clone()), &self.image_path(id))?;
        self.read_image(id)
    }

    pub(crate) fn read_image(&self, id: &ImageId) -> Result<ImageRecord, ImageError> {
        let read = record::read::<ImageRecord>(&self.image_path(id));
        match read.map_err(|source| ImageError::Record { id: id.clone(), source })? {
            Some(record) if record.id == *id => Ok(record),
            _ => Err(ImageError::NotFound { id: id.clone() }),
        }
    }

    /// Lists the images that have a record, readable or not.
    pub(crate) fn image_ids(&self) -> Result<Vec<Result<ImageId, ImageError>>, FileError> {
        let paths = list(&self.root().join("images"))?;
        Ok(paths.iter().map(|path| image_of_path(path)).collect())
    }

    /// Reads the config of an image, verified; the image may have no record.
    ///
    /// # Errors
    ///
    /// [`ImageError::Config`] or [`ImageError::ConfigDocument`] when it is not whole.
    pub fn config(&self, id: &ImageId) -> Result<Document<ImageConfig>, ImageError> {
        let bytes = self.read_blob(&id.0, ImageConfig::MAX_SIZE);
        let bytes = bytes.map_err(|source| ImageError::Config { id: id.clone(), source })?;
        let config = Document::parse(bytes, "image config", ImageConfig::MAX_SIZE);
        config.map_err(|source| ImageError::ConfigDocument { id: id.clone(), source })
    }

    fn describe(&self, record: ImageRecord, tags: &BTreeMap<Reference, ImageId>) -> Result<Image, ImageError> {
        let config = self.config(&record.id)?;
        let size = self.facts(&record)?.size;
        let tags = tags.iter().filter(|(_, id)| **id == record.id).map(|(name, _)| name.clone()).collect();
        let stored = record.stored();
        let manifests = record.manifests.into_iter().map(|known| known.manifest).collect();
        Ok(Image { id: record.id, config, manifests, repo_digests: record.repo_digests, tags, size, stored })
    }

    /// Returns what never changes of an image.
    pub(crate) fn facts(&self, record: &ImageRecord) -> Result<ImageFacts, ImageError> {
        if let Some(facts) = &record.facts {
            return Ok(facts.clone());
        }
        let created = self.config(&record.id)?.value().created.clone();
        let mut size = 0_u64;
        for diff_id in &record.layers {
            let layer = self.read_layer(diff_id);
            let layer = layer.map_err(|source| ImageError::Layer { id: record.id.clone(), source })?;
            size = size.saturating_add(layer.content_size);
        }
        Ok(ImageFacts { created, size })
    }
}

fn image_of_path(path: &Path) -> Result<ImageId, ImageError> {
    let is_record = path.extension().is_some_and(|extension| extension == "json");
    let digest = path.file_stem().filter(|_| is_record).and_then(digest_of_name);
    let stray = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    digest.map(ImageId).ok_or_else(|| ImageError::Stray { name: stray() })
}
