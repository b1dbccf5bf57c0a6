//! Moves whole images between the store and a registry.
//!
//! ```text
//! pull   manifest, config ─▶ every layer at once: blob ─verify▶ store ─apply▶ layer ─▶ image, tag
//! push   layers ─compress once▶ blobs ─▶ registry, then config, then manifest
//! ```
//!
//! - An image is in the store only when all of its layers are.
//! - A layer that is here is not fetched; a blob that the registry has is not sent.

use std::io::{self, Write};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use layer_store::{ApplyError, Compression, ImageError, ImageId, LayerError, ManifestError, Skipped, Store, TagError};
use oci::{BlobError, BlobSink, BlobSource, BlobWriter, Descriptor, DiffId, Reference, Verified};
use registry_client::{Client, LayerEvent, PullError, Push, PushError, Pushed, RemoteImage};
use tokio::sync::mpsc::UnboundedSender;

/// Blobs that move at the same time.
const PARALLEL: usize = 6;

/// Receives how far blobs have moved; called from many threads.
pub trait TransferProgress: Send + Sync {
    /// `done` of `total` bytes of the blob `name` (12 hexadecimal digits) have moved.
    fn moved(&self, name: &str, done: u64, total: u64);

    /// A layer is here already and is not moved.
    fn existed(&self, _name: &str) {}

    /// A layer is complete.
    fn completed(&self, _name: &str) {}

    /// Something the user should know, though nothing failed.
    fn note(&self, _text: &str) {}
}

/// Why an image could not be moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum TransferError {
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Push(#[from] PushError),
    #[error("the manifest has {layers} layers, but the config names {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("layer {number} of {total} ({digest}) cannot be used")]
    Apply { number: usize, total: usize, digest: String, source: ApplyError },
    #[error("layer {diff_id} cannot be looked up")]
    Layer { diff_id: DiffId, source: LayerError },
    #[error("the config cannot be kept")]
    Config { source: BlobError },
    #[error("the image cannot be kept")]
    Image { source: ImageError },
    #[error("the name cannot be kept")]
    Tag { source: TagError },
    #[error("its manifest cannot be made")]
    Manifest { source: ManifestError },
    #[error("stopped")]
    Cancelled,
}

/// A pulled image.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image ID.
    pub id: ImageId,
    /// What the name meant: a manifest, or the index it was chosen from.
    pub root: Descriptor,
    /// Whether the name meant this image before.
    pub is_up_to_date: bool,
}

/// A store and a registry, with images to be moved between them.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields' types say it")]
pub struct Transfer {
    pub store: Store,
    pub client: Arc<Client>,
    pub progress: Arc<dyn TransferProgress>,
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Transfer {
    /// Brings the layers of an image whose documents are known into the store, and tags it with its name.
    ///
    /// # Errors
    ///
    /// [`TransferError`]; what was fetched before an error is kept for the next try, but no image is visible.
    pub async fn store_image(&self, remote: &RemoteImage) -> Result<Pulled, TransferError> {
        let layers = &remote.manifest.value().layers;
        let diff_ids = &remote.config.value().rootfs.diff_ids;
        if layers.len() != diff_ids.len() {
            return Err(TransferError::LayerCount { layers: layers.len(), diff_ids: diff_ids.len() });
        }
        let total = layers.len();
        let numbered = layers.iter().zip(diff_ids).zip(1..);
        let jobs: Vec<LayerJob> = numbered
            .map(|((layer, diff_id), number)| {
                let (layer, diff_id) = (layer.clone(), diff_id.clone());
                LayerJob { transfer: self.clone(), name: remote.name.clone(), layer, diff_id, number, total }
            })
            .collect();
        stream::iter(jobs.into_iter().map(LayerJob::run)).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        let (store, remote) = (self.store.clone(), remote.clone());
        tokio::task::spawn_blocking(move || keep(&store, &remote)).await.expect("keeping an image does not panic")
    }

    /// Pushes the image `id` under `name`, its layers compressed as `compression` says; `events` hears of each blob as soon as
    /// it is there.
    ///
    /// # Errors
    ///
    /// [`TransferError`] when a layer cannot be compressed or the registry refuses something.
    pub async fn push(
        &self,
        id: &ImageId,
        name: &Reference,
        compression: Compression,
        events: Option<UnboundedSender<LayerEvent>>,
    ) -> Result<Pushed, TransferError> {
        let (store, image_id) = (self.store.clone(), id.clone());
        let manifest = tokio::task::spawn_blocking(move || store.manifest(&image_id, compression)).await;
        let (image, manifest) =
            manifest.expect("making a manifest does not panic").map_err(|source| TransferError::Manifest { source })?;
        let siblings = self.siblings(id, name)?;
        let from: Arc<dyn BlobSource> =
            Arc::new(CountedSource { inner: self.store.clone(), progress: Arc::clone(&self.progress) });
        let push = Push { name, image: &image, manifest: &manifest, from, mount_from: &siblings, events };
        let pushed = self.client.push_image(push).await?;
        self.store
            .add_manifest(id, &manifest, image.media_type, Some(name))
            .map_err(|source| TransferError::Image { source })?;
        Ok(pushed)
    }

    /// Returns the repositories of the same registry that this image came from or went to.
    fn siblings(&self, id: &ImageId, name: &Reference) -> Result<Vec<Reference>, TransferError> {
        let image = self.store.image(id).map_err(|source| TransferError::Image { source })?;
        let is_sibling = |other: &Reference| other.registry() == name.registry() && other.path() != name.path();
        Ok(image.repo_digests.into_iter().filter(is_sibling).collect())
    }
}

fn keep(store: &Store, remote: &RemoteImage) -> Result<Pulled, TransferError> {
    let config_type = remote.manifest.value().config.media_type.clone();
    store.put_blob(config_type, remote.config.bytes()).map_err(|source| TransferError::Config { source })?;
    let id = store.add_image(&remote.config).map_err(|source| TransferError::Image { source })?;
    let media_type = remote.descriptor.media_type.clone();
    store
        .add_manifest(&id, &remote.manifest, media_type, Some(&remote.name))
        .map_err(|source| TransferError::Image { source })?;
    let before = match remote.name.tag() {
        Some(_) => store.tag(&remote.name, &id).map_err(|source| TransferError::Tag { source })?,
        None => None,
    };
    let is_up_to_date = before.as_ref() == Some(&id);
    Ok(Pulled { id, root: remote.root.clone(), is_up_to_date })
}

/// One layer on its way into the store.
struct LayerJob {
    transfer: Transfer,
    name: Reference,
    layer: Descriptor,
    diff_id: DiffId,
    number: usize,
    total: usize,
}

impl LayerJob {
    async fn run(self) -> Result<(), TransferError> {
        let Transfer { store, client, progress } = self.transfer.clone();
        let short = self.layer.digest.short().to_owned();
        let diff_id = self.diff_id.clone();
        if store.has_layer(&diff_id).map_err(|source| TransferError::Layer { diff_id, source })? {
            progress.existed(&short);
            return Ok(());
        }
        let sink: Arc<dyn BlobSink> = Arc::new(CountedSink { inner: store.clone(), progress: Arc::clone(&progress) });
        client.pull_blob(&self.name, &self.layer, sink).await?;
        let applied = tokio::task::spawn_blocking(move || self.apply(&store)).await;
        let skipped = applied.expect("applying a layer does not panic")?;
        progress.completed(&short);
        if skipped.owners > 0 {
            progress.note(&format!(
                "{short}: files with owners that you cannot give here: {}; they are root's in containers, and a push keeps the true owners",
                skipped.owners
            ));
        }
        Ok(())
    }

    fn apply(self, store: &Store) -> Result<Skipped, TransferError> {
        let applied = store.apply(&self.layer, &self.diff_id).and_then(|()| Ok(store.layer(&self.diff_id)?.skipped));
        applied.map_err(|source| TransferError::Apply {
            number: self.number,
            total: self.total,
            digest: self.layer.digest.to_string(),
            source,
        })
    }
}

/// The store as a sink that tells how much it has received.
struct CountedSink {
    inner: Store,
    progress: Arc<dyn TransferProgress>,
}

impl BlobSink for CountedSink {
    fn begin(&self, blob: &Descriptor) -> Result<Option<Box<dyn BlobWriter>>, BlobError> {
        let Some(writer) = self.inner.begin(blob)? else { return Ok(None) };
        let name = blob.digest.short().to_owned();
        Ok(Some(Box::new(CountedWriter { writer, name, total: blob.size, progress: Arc::clone(&self.progress) })))
    }
}

struct CountedWriter {
    writer: Box<dyn BlobWriter>,
    name: String,
    total: u64,
    progress: Arc<dyn TransferProgress>,
}

impl Write for CountedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.writer.write(bytes)?;
        self.progress.moved(&self.name, self.writer.received(), self.total);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl BlobWriter for CountedWriter {
    fn received(&self) -> u64 {
        self.writer.received()
    }

    fn restart(&mut self) -> Result<(), BlobError> {
        self.writer.restart()
    }

    fn commit(self: Box<Self>) -> Result<(), BlobError> {
        self.writer.commit()
    }
}

/// The store as a source that tells how much was read from it.
pub(crate) struct CountedSource {
    pub(crate) inner: Store,
    pub(crate) progress: Arc<dyn TransferProgress>,
}

impl BlobSource for CountedSource {
    fn open(&self, blob: &Descriptor) -> Result<Verified<Box<dyn io::Read + Send>>, BlobError> {
        let counted = |reader| CountedReader {
            reader,
            name: blob.digest.short().to_owned(),
            total: blob.size,
            done: 0,
            progress: Arc::clone(&self.progress),
        };
        Ok(self.inner.open(blob)?.map(|reader| Box::new(counted(reader)) as Box<dyn io::Read + Send>))
    }
}

struct CountedReader {
    reader: Box<dyn io::Read + Send>,
    name: String,
    total: u64,
    done: u64,
    progress: Arc<dyn TransferProgress>,
}

impl io::Read for CountedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.done += count as u64;
        self.progress.moved(&self.name, self.done, self.total);
        Ok(count)
    }
}
