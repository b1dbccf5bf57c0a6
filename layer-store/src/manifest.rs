//! The manifest under which an image goes out.
//!
//! An image that was pulled goes out as it came, if all of its blobs are still here and known to hold its layers, and nothing else is forced. Else its layers
//! are compressed, those that have no such blob, and an OCI manifest is written; base layers keep the blobs they came in.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use oci::{BlobError, Descriptor, DiffId, Document, DocumentError, Manifest, MediaType};

use crate::images::KnownManifest;
use crate::{CompressError, Compression, ImageError, ImageId, Store};

/// Layers that are compressed at the same time; each uses all processors.
const AT_ONCE: usize = 2;

/// Why an image has no manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ManifestError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Layer(#[from] CompressError),
    #[error("a manifest of image {id} cannot be read")]
    Document { id: ImageId, source: DocumentError },
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Store {
    /// Returns the manifest of an image, all of whose blobs are here and stay until this command ends.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Layer`] when a layer has no blob and cannot be compressed.
    pub fn manifest(
        &self,
        id: &ImageId,
        compression: Compression,
    ) -> Result<(Descriptor, Document<Manifest>), ManifestError> {
        let record = self.held_image(id)?;
        for known in record.manifests.iter().rev() {
            if self.has_all(known)? && self.go_out(&record.layers, known, compression)? {
                let bytes = self.read_blob(&known.manifest.digest, Manifest::MAX_SIZE)?;
                let document = Document::parse(bytes, "image manifest", Manifest::MAX_SIZE);
                let document = document.map_err(|source| ManifestError::Document { id: id.clone(), source })?;
                return Ok((known.manifest.clone(), document));
            }
        }
        let layers = self.layer_blobs(&record.layers, compression)?;
        let config = self.config(id)?.descriptor(MediaType::OCI_CONFIG);
        let document = Document::write(Manifest::new(config, layers));
        self.add_manifest(id, &document, MediaType::OCI_MANIFEST, None)?;
        Ok((document.descriptor(MediaType::OCI_MANIFEST), document))
    }

    fn has_all(&self, known: &KnownManifest) -> Result<bool, BlobError> {
        for blob in std::iter::once(&known.manifest).chain(&known.blobs) {
            if !self.holds_blob(blob)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells whether each blob is what its layer goes out as. That a manifest names it only claims that it holds the layer.
    fn go_out(
        &self,
        layers: &[DiffId],
        known: &KnownManifest,
        compression: Compression,
    ) -> Result<bool, CompressError> {
        for (diff_id, blob) in layers.iter().zip(known.blobs.iter().skip(1)) {
            let outgoing = self.outgoing(&self.layer(diff_id)?, compression)?;
            if !outgoing.iter().any(|of| of.digest == blob.digest) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn layer_blobs(&self, layers: &[DiffId], compression: Compression) -> Result<Vec<Descriptor>, CompressError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some((at, layer)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, layers.get(at)?)))
            {
                done.push((at, self.layer_blob(layer, compression).map(as_oci)));
            }
            done
        };
        let mut all: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE.min(layers.len())).map(|_| scope.spawn(work)).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, blob)| blob).collect()
    }
}

/// An OCI manifest names OCI media types only: Docker's layers are the same bytes under other names.
fn as_oci(blob: Descriptor) -> Descriptor {
    let media_type = blob.media_type.layer_compression().map_or(blob.media_type, MediaType::oci_layer);
    Descriptor::new(media_type, blob.digest, blob.size)
}
