//! Saves images of the store as an archive: the files of one are planned, then written in the order of their names.
//!
//! | format | is | holds |
//! |---|---|---|
//! | `docker-archive` | a tar | an image layout, and `manifest.json` with `repositories` beside it, as docker from 25 writes them |
//! | `oci-archive` | a tar | an image layout, with OCI media types throughout |
//! | `oci-dir` | a directory | the same |
//! | `docker-dir` | a directory | one image as skopeo's `dir:`, with Docker's media types |
//!
//! - Layers are the blobs that a push would send: what was pulled goes out as it came, what was built is compressed once and kept.
//! - Equal images make equal bytes: entries are sorted, times and owners are 0.
//! - Every blob is verified as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layer_store::{ArchiveWriter, Compression, ImageId, ManifestError, Store, TreeTarError};
use oci::{
    BlobError, BlobSource, Descriptor, Document, ImageConfig, Index, LayerCompression, Manifest, MediaType, Reference,
    Verified,
};
use serde::Serialize;

use super::docker::DockerImage;
use super::layout::{IMAGE_NAME, REF_NAME};
use crate::transfer::{CountedSource, TransferProgress};

/// An image to save, and the names it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedImage {
    /// The image ID.
    pub id: ImageId,
    /// Names with tags; none for an image that nobody called by a name.
    pub names: Vec<Reference>,
}

/// What an archive is for those who read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table of this file says it")]
pub enum SaveFormat {
    DockerArchive,
    OciArchive,
    OciDirectory,
    DockerDirectory,
}

/// Why images could not be saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SaveError {
    #[error("the manifest of image {id} cannot be made")]
    Manifest { id: ImageId, source: ManifestError },
    #[error("the config of image {id} cannot be read")]
    Config { id: ImageId, source: BlobError },
    #[error("this directory holds one image, not {count}")]
    SeveralImages { count: usize },
    #[error("blob {} cannot be read", .blob.digest)]
    Blob { blob: Descriptor, source: BlobError },
    #[error("blob {} is not what its digest says", .blob.digest)]
    Broken { blob: Descriptor, source: io::Error },
    #[error("the archive cannot be written")]
    Archive { source: TreeTarError },
    #[error("cannot write `{}`", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl SaveFormat {
    /// Tells whether it is a directory.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::OciDirectory | Self::DockerDirectory)
    }
}

/// Where an archive goes.
#[derive(Debug)]
pub enum SaveTo<'a, W: Write> {
    /// A tar to a stream.
    Stream(&'a mut W),
    /// Files into an empty directory.
    Directory(&'a Path),
}

/// What is in one file of an archive.
enum Content {
    Bytes(Vec<u8>),
    Blob(Box<Descriptor>),
}

/// Name → file; directories are not named.
type Files = BTreeMap<String, Content>;

/// Saves `images` from `store`, in a format and with layers compressed in a way.
///
/// # Errors
///
/// [`SaveError`]; what was written by then is to be thrown away.
pub fn save<W: Write>(
    store: &Store,
    images: &[SavedImage],
    (format, compression): (SaveFormat, Compression),
    to: &mut SaveTo<'_, W>,
    progress: &Arc<dyn TransferProgress>,
) -> Result<(), SaveError> {
    let files = plan(store, images, (format, compression))?;
    let blobs = Blobs(CountedSource { inner: store.clone(), progress: Arc::clone(progress) });
    match to {
        SaveTo::Stream(output) => write_tar(&blobs, &files, *output),
        SaveTo::Directory(directory) => write_directory(&blobs, &files, directory),
    }
}

/// An image with the documents it goes out with.
struct Documents<'a> {
    image: &'a SavedImage,
    config: Document<ImageConfig>,
    manifest: Document<Manifest>,
    media_type: MediaType,
}

impl<'a> Documents<'a> {
    fn read(
        store: &Store,
        image: &'a SavedImage,
        (format, compression): (SaveFormat, Compression),
    ) -> Result<Self, SaveError> {
        let id = || image.id.clone();
        let manifest =
            store.manifest(&image.id, compression).map_err(|source| SaveError::Manifest { id: id(), source })?;
        let config = store.image(&image.id).map_err(|error| SaveError::Manifest { id: id(), source: error.into() })?;
        let (described, manifest) = manifest;
        let (media_type, manifest) = match format {
            SaveFormat::DockerArchive => (described.media_type, manifest),
            SaveFormat::OciArchive | SaveFormat::OciDirectory => labelled(manifest, Family::Oci),
            SaveFormat::DockerDirectory => labelled(manifest, Family::Docker),
        };
        Ok(Self { image, config: config.config, manifest, media_type })
    }

    /// Returns the descriptors of `index.json`: one for each name.
    fn described(&self) -> Vec<Descriptor> {
        let mut plain = self.manifest.descriptor(self.media_type.clone());
        plain.platform = Some(self.config.value().platform.clone());
        let named = self.image.names.iter().map(|name| {
            let mut descriptor = plain.clone();
            descriptor.annotations.insert(IMAGE_NAME.to_owned(), name.to_string());
            descriptor.annotations.extend(name.tag().map(|tag| (REF_NAME.to_owned(), tag.to_owned())));
            descriptor
        });
        let named: Vec<_> = named.collect();
        if named.is_empty() { vec![plain] } else { named }
    }

    /// Returns the entry of `manifest.json`.
    fn docker(&self) -> DockerImage {
        let names: Vec<_> = self.image.names.iter().map(Reference::familiar).collect();
        let layers = self.manifest.value().layers.iter().map(blob_name).collect();
        let config = blob_name(&self.manifest.value().config);
        DockerImage { config, repo_tags: (!names.is_empty()).then_some(names), layers: Some(layers) }
    }
}

/// Whose media types a manifest uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Oci,
    Docker,
}

/// Gives a manifest the media types of a family; the blobs are the same.
fn labelled(manifest: Document<Manifest>, family: Family) -> (MediaType, Document<Manifest>) {
    let (own, config) = match family {
        Family::Oci => (MediaType::OCI_MANIFEST, MediaType::OCI_CONFIG),
        Family::Docker => (MediaType::DOCKER_MANIFEST, MediaType::DOCKER_CONFIG),
    };
    let label = |layer: &Descriptor| {
        let media_type = match (layer.media_type.layer_compression(), family) {
            (Some(LayerCompression::None), Family::Oci) => MediaType::OCI_LAYER,
            (Some(LayerCompression::Gzip), Family::Oci) => MediaType::OCI_LAYER_GZIP,
            (Some(LayerCompression::Zstd), Family::Oci) => MediaType::OCI_LAYER_ZSTD,
            (Some(LayerCompression::None), Family::Docker) => MediaType::DOCKER_LAYER,
            (Some(LayerCompression::Gzip), Family::Docker) => MediaType::DOCKER_LAYER_GZIP,
            (Some(LayerCompression::Zstd), Family::Docker) => MediaType::DOCKER_LAYER_ZSTD,
            (None, _) => layer.media_type.clone(),
        };
        Descriptor { media_type, ..layer.clone() }
    };
    let value = manifest.value();
    let layers: Vec<_> = value.layers.iter().map(label).collect();
    let is_so = value.media_type.as_ref() == Some(&own) && value.config.media_type == config && value.layers == layers;
    if is_so {
        return (own, manifest);
    }
    let config = Descriptor { media_type: config, ..value.config.clone() };
    let labelled = Manifest { media_type: Some(own.clone()), config, layers, ..value.clone() };
    (own, Document::write(labelled))
}

fn plan(
    store: &Store,
    images: &[SavedImage],
    (format, compression): (SaveFormat, Compression),
) -> Result<Files, SaveError> {
    if format == SaveFormat::DockerDirectory && images.len() != 1 {
        return Err(SaveError::SeveralImages { count: images.len() });
    }
    let documents = images.iter().map(|image| Documents::read(store, image, (format, compression)));
    let documents = documents.collect::<Result<Vec<_>, _>>()?;
    let mut files = Files::new();
    let name: fn(&Descriptor) -> String = match format {
        SaveFormat::DockerDirectory => |blob| blob.digest.hex().to_owned(),
        _ => blob_name,
    };
    for image in &documents {
        let manifest = image.manifest.value();
        files.extend(manifest.layers.iter().map(|layer| (name(layer), Content::Blob(Box::new(layer.clone())))));
        files.insert(name(&manifest.config), Content::Bytes(image.config.bytes().to_vec()));
        let manifest_name = match format {
            SaveFormat::DockerDirectory => "manifest.json".to_owned(),
            _ => name(&image.manifest.descriptor(image.media_type.clone())),
        };
        files.insert(manifest_name, Content::Bytes(image.manifest.bytes().to_vec()));
    }
    match format {
        SaveFormat::DockerDirectory => add(&mut files, "version", b"Directory Transport Version: 1.1\n".to_vec()),
        SaveFormat::DockerArchive => {
            add_layout(&mut files, &documents);
            add_docker(&mut files, &documents);
        }
        SaveFormat::OciArchive | SaveFormat::OciDirectory => add_layout(&mut files, &documents),
    }
    Ok(files)
}

fn add(files: &mut Files, name: &str, bytes: Vec<u8>) {
    files.insert(name.to_owned(), Content::Bytes(bytes));
}

fn add_layout(files: &mut Files, images: &[Documents<'_>]) {
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX),
        artifact_type: None,
        manifests: images.iter().flat_map(Documents::described).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    add(files, "index.json", json(&index));
    add(files, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
}

fn add_docker(files: &mut Files, images: &[Documents<'_>]) {
    let list: Vec<_> = images.iter().map(Documents::docker).collect();
    let mut repositories: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
    for image in images {
        let Some(top) = image.manifest.value().layers.last() else { continue };
        for (name, tag) in image.image.names.iter().filter_map(|name| Some((name, name.tag()?))) {
            repositories.entry(name.familiar_repository()).or_default().insert(tag, top.digest.hex());
        }
    }
    add(files, "manifest.json", json(&list));
    add(files, "repositories", json(&repositories));
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the documents of archives have string keys and no failing serialisers")
}

fn blob_name(blob: &Descriptor) -> String {
    format!("blobs/{}/{}", blob.digest.algorithm().name(), blob.digest.hex())
}

/// Lists the directories that the names imply.
fn directories(files: &Files) -> BTreeSet<&str> {
    let slashes = |name: &str| name.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    files.keys().flat_map(|name| slashes(name).into_iter().map(|at| &name[..=at])).collect()
}

fn write_tar(blobs: &Blobs, files: &Files, output: &mut impl Write) -> Result<(), SaveError> {
    let failed = |source| SaveError::Archive { source };
    let mut archive = ArchiveWriter::new(output);
    let directories = directories(files).into_iter().map(|name| (name, None));
    let files = files.iter().map(|(name, content)| (name.as_str(), Some(content)));
    let entries: BTreeMap<&str, Option<&Content>> = directories.chain(files).collect();
    for (name, content) in entries {
        match content {
            None => archive.directory(name).map_err(failed)?,
            Some(Content::Bytes(bytes)) => {
                archive.file(name, bytes.len() as u64, &mut &bytes[..]).map_err(failed)?;
            }
            Some(Content::Blob(blob)) => {
                let mut content = blobs.open(blob)?;
                archive.file(name, blob.size, &mut content).map_err(failed)?;
                blobs.verify(content, blob)?;
            }
        }
    }
    archive.finish().map_err(failed)
}

fn write_directory(blobs: &Blobs, files: &Files, root: &Path) -> Result<(), SaveError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SaveError::Write { path, source }
    };
    for name in directories(files) {
        let path = root.join(name);
        std::fs::create_dir(&path).map_err(failed(&path))?;
    }
    for (name, content) in files {
        let path = root.join(name);
        let mut file = File::create_new(&path).map_err(failed(&path))?;
        match content {
            Content::Bytes(bytes) => file.write_all(bytes).map_err(failed(&path))?,
            Content::Blob(blob) => {
                let mut content = blobs.open(blob)?;
                io::copy(&mut content, &mut file).map_err(failed(&path))?;
                blobs.verify(content, blob)?;
            }
        }
    }
    Ok(())
}

/// The blobs of the store, and how far they are written.
struct Blobs(CountedSource);

impl Blobs {
    fn open(&self, blob: &Descriptor) -> Result<impl Read + use<>, SaveError> {
        let content = self.0.open(blob).map_err(|source| SaveError::Blob { blob: blob.clone(), source })?;
        // nobody may compare it before it is needed
        Ok(Verified::new(content, blob))
    }

    /// Reads the end, at which the digest is compared.
    fn verify(&self, mut content: impl Read, blob: &Descriptor) -> Result<(), SaveError> {
        let ended = io::copy(&mut content, &mut io::sink());
        ended.map_err(|source| SaveError::Broken { blob: blob.clone(), source })?;
        self.0.progress.completed(blob.digest.short());
        Ok(())
    }
}
