//! An image of an archive: its documents, read and compared with each other, and where its layers are.
//!
//! | the layer is | is kept as |
//! |---|---|
//! | described as gzip or zstd, or turns out to be | a blob, and applied |
//! | a plain tar, whatever a manifest calls it (podman's `docker-dir` says gzip) | the layer's tar beside its tree, not a blob |
//! | compressed by bzip2 or xz, in a docker archive | the same, decompressed |
//!
//! Layers are copied out of the archive once, hashed as they pass, and compared before anything of them is kept.

use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use layer_store::{ApplyError, MAX_LAYERS, SpooledFile, Store};
use oci::{
    Algorithm, BlobError, Descriptor, DiffId, Document, ImageConfig, LayerCompression, Manifest, MediaType, Reference,
};

use super::files::{Files, ImageArchiveError};
use crate::archive::{Content, content};
use crate::transfer::TransferProgress;

/// An image of an archive: its documents, verified.
#[derive(Clone, Debug)]
pub struct ArchivedImage {
    /// The names that the archive has for it.
    pub names: Vec<Reference>,
    /// The config.
    pub config: Document<ImageConfig>,
    pub(super) files: Arc<Files>,
    pub(super) manifest: Option<Document<Manifest>>,
    pub(super) layers: Vec<ArchivedLayer>,
}

/// A layer in an archive.
#[derive(Clone, Debug)]
pub(super) struct ArchivedLayer {
    pub(super) diff_id: DiffId,
    /// The file that holds it.
    pub(super) file: String,
    /// What a manifest says of the file.
    pub(super) blob: Option<Descriptor>,
}

impl ArchivedLayer {
    /// Tells whether a blob is the layer's tar itself.
    fn is_plain(&self, blob: &Descriptor) -> bool {
        blob.digest == self.diff_id.0 || blob.media_type.layer_compression() == Some(LayerCompression::None)
    }
}

/// Joins what names the layers of an image with the diff IDs of its config.
pub(super) fn layers(
    config: &ImageConfig,
    files: Vec<(String, Option<Descriptor>)>,
) -> Result<Vec<ArchivedLayer>, ImageArchiveError> {
    let (layers, diff_ids) = (files.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        return Err(ImageArchiveError::LayerCount { layers, diff_ids });
    }
    if layers > MAX_LAYERS {
        return Err(ImageArchiveError::TooManyLayers { count: layers });
    }
    let joined = config.rootfs.diff_ids.iter().zip(files);
    Ok(joined.map(|(diff_id, (file, blob))| ArchivedLayer { diff_id: diff_id.clone(), file, blob }).collect())
}

impl ArchivedImage {
    /// Brings its layers into `store`.
    pub(crate) fn store_layers(
        &self,
        store: &Store,
        progress: &dyn TransferProgress,
        is_stopped: &(dyn Fn() -> bool + Sync),
    ) -> Result<(), ImageArchiveError> {
        store_all(std::slice::from_ref(self), store, progress, is_stopped)
    }

    /// Returns the manifest with its media type, if all that it names can be kept as it is.
    pub(super) fn kept_manifest(&self) -> Option<(MediaType, &Document<Manifest>)> {
        let manifest = self.manifest.as_ref()?;
        let media_type = manifest.value().media_type.clone().unwrap_or(MediaType::OCI_MANIFEST);
        let is_plain = |layer: &ArchivedLayer| layer.blob.as_ref().is_none_or(|blob| layer.is_plain(blob));
        (!self.layers.iter().any(is_plain)).then_some((media_type, manifest))
    }
}

/// Brings the layers of all `images` into `store`, each once, several at the same time.
pub(super) fn store_all(
    images: &[ArchivedImage],
    store: &Store,
    progress: &dyn TransferProgress,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Result<(), ImageArchiveError> {
    let mut seen = HashSet::new();
    let numbered =
        images.iter().flat_map(|image| image.layers.iter().zip(1..).map(move |(layer, at)| (image, layer, at)));
    let jobs: Vec<LayerJob<'_>> = numbered
        .filter(|(_, layer, _)| seen.insert(&layer.diff_id))
        .map(|(image, layer, number)| LayerJob { image, layer, number, store, progress })
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let done = if is_stopped() { Err(ImageArchiveError::Stopped) } else { job.run() };
            if let Err(error) = done {
                // the first error counts, and nobody begins another layer
                next.store(jobs.len(), Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// One layer on its way into the store.
struct LayerJob<'a> {
    image: &'a ArchivedImage,
    layer: &'a ArchivedLayer,
    number: usize,
    store: &'a Store,
    progress: &'a dyn TransferProgress,
}

impl LayerJob<'_> {
    fn run(&self) -> Result<(), ImageArchiveError> {
        let diff_id = &self.layer.diff_id;
        let lookup = |source| ImageArchiveError::Layer { diff_id: diff_id.clone(), source };
        if self.store.has_layer(diff_id).map_err(lookup)? {
            self.progress.existed(diff_id.0.short());
            return Ok(());
        }
        match &self.layer.blob {
            Some(blob) => self.described(blob)?,
            None => self.found()?,
        }
        self.progress.completed(diff_id.0.short());
        Ok(())
    }

    /// Stores a layer whose blob a manifest describes.
    fn described(&self, blob: &Descriptor) -> Result<(), ImageArchiveError> {
        let media_type = blob.media_type.clone();
        if media_type.layer_compression().is_none() {
            return Err(self.unusable(ApplyError::MediaType { media_type }));
        }
        let mismatch = |source| ImageArchiveError::Blob { path: self.path(), source };
        check_size(self.image.files.open(&self.layer.file)?.size, blob).map_err(mismatch)?;
        let file = self.spool(blob.digest.algorithm())?;
        check(&file, blob).map_err(mismatch)?;
        if !self.layer.is_plain(blob) {
            return self.compressed(&file, media_type);
        }
        if file.digest().algorithm() == self.layer.diff_id.0.algorithm() {
            return self.plain(&file);
        }
        self.plain(&self.decompressed(&file)?)
    }

    /// Stores a layer of which only its config speaks.
    fn found(&self) -> Result<(), ImageArchiveError> {
        let file = self.spool(Algorithm::Sha256)?;
        let mut magic = [0; 4];
        let begin = file.open().map_err(|error| self.unreadable(error.source))?;
        let count = begin.take(4).read(&mut magic).map_err(|error| self.unreadable(error))?;
        match magic[..count] {
            [0x1f, 0x8b, ..] => self.compressed(&file, MediaType::OCI_LAYER_GZIP),
            [0x28, 0xb5, 0x2f, 0xfd] => self.compressed(&file, MediaType::OCI_LAYER_ZSTD),
            _ => {
                let is_tar = file.digest() == &self.layer.diff_id.0;
                if is_tar { self.plain(&file) } else { self.plain(&self.decompressed(&file)?) }
            }
        }
    }

    fn compressed(&self, file: &SpooledFile, media_type: MediaType) -> Result<(), ImageArchiveError> {
        let blob = self.store.keep_blob(file, media_type);
        let blob = blob.map_err(|source| ImageArchiveError::Keep { digest: file.digest().clone(), source })?;
        self.store.apply(&blob, &self.layer.diff_id).map_err(|source| self.unusable(source))
    }

    fn plain(&self, tar: &SpooledFile) -> Result<(), ImageArchiveError> {
        self.store.apply_tar(tar, &self.layer.diff_id).map_err(|source| self.unusable(source))
    }

    /// Spools the tar that is in a file: decompressed, if it is compressed at all.
    fn decompressed(&self, file: &SpooledFile) -> Result<SpooledFile, ImageArchiveError> {
        let file = file.open().map_err(|error| self.unreadable(error.source))?;
        let mut tar = match content(file).map_err(|error| self.unreadable(error))? {
            Content::Tar(bytes) | Content::Other(bytes) => bytes,
            Content::Compressed(method) => return Err(ImageArchiveError::Compressed { method }),
        };
        let spooled = self.store.spool(&mut tar, self.layer.diff_id.0.algorithm());
        spooled.map_err(|source| ImageArchiveError::Copy { path: self.path(), source })
    }

    fn spool(&self, algorithm: Algorithm) -> Result<Arc<SpooledFile>, ImageArchiveError> {
        let name = self.layer.diff_id.0.short();
        let mut moved = |done, total| self.progress.moved(name, done, total);
        self.image.files.spool(&self.layer.file, (self.store, algorithm), &mut moved)
    }

    fn path(&self) -> PathBuf {
        self.image.files.shown(&self.layer.file)
    }

    fn unreadable(&self, source: std::io::Error) -> ImageArchiveError {
        ImageArchiveError::Read { path: self.path(), source }
    }

    fn unusable(&self, source: ApplyError) -> ImageArchiveError {
        let (number, total, path) = (self.number, self.image.layers.len(), self.path());
        ImageArchiveError::Apply { number, total, path, source }
    }
}

/// Compares what was read with what was promised.
fn check(file: &SpooledFile, blob: &Descriptor) -> Result<(), BlobError> {
    check_size(file.size(), blob)?;
    if *file.digest() != blob.digest {
        return Err(BlobError::DigestMismatch { expected: blob.digest.clone(), actual: file.digest().clone() });
    }
    Ok(())
}

fn check_size(actual: u64, blob: &Descriptor) -> Result<(), BlobError> {
    if actual == blob.size {
        return Ok(());
    }
    Err(BlobError::SizeMismatch { digest: blob.digest.clone(), expected: blob.size, actual })
}
