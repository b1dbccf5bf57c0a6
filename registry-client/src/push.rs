//! Pushing an image: its blobs side by side, then its config, then its manifest, so that a tag never names what is not there.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{BlobSource, Descriptor, Digest, Document, Manifest, Reference};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::mpsc::UnboundedSender;

use crate::client::Client;
use crate::error::{PushError, RequestError};
use crate::manifest::digest_of;
use crate::origin::Repository;
use crate::payload::Payload;
use crate::transport::{Access, Call};
use crate::upload::{Upload, UploadFailure};

/// Blobs that are uploaded at the same time.
const PARALLEL: usize = 6;

/// What is to be pushed, and where.
#[derive(Clone)]
pub struct Push<'a> {
    /// The repository, with a tag, a digest or neither; without a tag, the manifest is put under its digest.
    pub name: &'a Reference,
    /// The manifest: its media type is announced, its digest is compared.
    pub image: &'a Descriptor,
    /// The manifest's bytes, and the blobs they name.
    pub manifest: &'a Document<Manifest>,
    /// Where the blobs are read from; how far each is can be seen by wrapping it.
    pub from: Arc<dyn BlobSource>,
    /// Repositories that may hold some of the blobs; those of other registries are left out.
    pub mount_from: &'a [Reference],
    /// Told about each blob as soon as it is in the repository.
    pub events: Option<UnboundedSender<LayerEvent>>,
}

/// What became of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerEvent {
    /// The blob.
    pub digest: Digest,
    /// How it came to be in the repository.
    pub outcome: Outcome,
}

/// How a blob came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Existed,
    /// The registry linked it from another repository.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's bytes.
    pub size: u64,
    /// Each different layer in the manifest's order, then the config.
    pub blobs: Vec<LayerEvent>,
}

impl Client {
    /// Pushes an image: every blob that the repository does not have, then the manifest.
    ///
    /// Repeating it is safe. When it fails, the tag still means what it meant before.
    ///
    /// # Errors
    ///
    /// [`PushError::Blob`] when a blob cannot be read, [`PushError::DigestMismatch`] when the manifest is not the one that
    /// was announced, [`PushError::Request`] and [`PushError::Manifest`] for the registry's part.
    pub async fn push_image(&self, push: Push<'_>) -> Result<Pushed, PushError> {
        check_digest(&push)?;
        let fail = |source| PushError::Manifest { name: Box::new(push.name.clone()), source: Box::new(source) };
        let access = self.transport.access(push.name, "pull,push").map_err(fail)?;
        let others = self.others(&push).map_err(fail)?;
        let manifest = push.manifest.value();
        let mut seen = BTreeSet::from([&manifest.config.digest]);
        let layers: Vec<_> = manifest.layers.iter().filter(|layer| seen.insert(&layer.digest)).collect();
        let uploads = layers.into_iter().enumerate().map(async |(number, layer)| {
            let event = self.push_blob(&push, &access, &others, layer).await?;
            Ok::<_, PushError>((number, event))
        });
        let mut done: Vec<_> = stream::iter(uploads).buffer_unordered(PARALLEL).try_collect().await?;
        done.sort_by_key(|(number, _)| *number);
        let mut blobs: Vec<LayerEvent> = done.into_iter().map(|(_, event)| event).collect();
        blobs.push(self.push_blob(&push, &access, &others, &manifest.config).await?);
        self.put_manifest(&push, &access).await.map_err(fail)?;
        Ok(Pushed { digest: push.image.digest.clone(), size: push.manifest.bytes().len() as u64, blobs })
    }

    /// Returns the other repositories of the same registry.
    fn others(&self, push: &Push<'_>) -> Result<Vec<Repository>, RequestError> {
        let mut seen = BTreeSet::from([push.name.path()]);
        let same_registry = push.mount_from.iter().filter(|name| name.registry() == push.name.registry());
        let others = same_registry.filter(|name| seen.insert(name.path()));
        others.map(|name| self.transport.access(name, "pull").map(|access| access.repository)).collect()
    }

    async fn push_blob(
        &self,
        push: &Push<'_>,
        access: &Access,
        others: &[Repository],
        blob: &Descriptor,
    ) -> Result<LayerEvent, PushError> {
        let upload = Upload { transport: &self.transport, access, blob, from: &push.from, mount_from: others };
        let (name, digest) = (Box::new(push.name.clone()), blob.digest.clone());
        let outcome = match upload.run().await {
            Ok(outcome) => outcome,
            Err(UploadFailure::Blob(source)) => return Err(PushError::Blob { name, digest, source }),
            Err(UploadFailure::Request(source)) => {
                return Err(PushError::Request { name, digest, source: Box::new(source) });
            }
        };
        let event = LayerEvent { digest, outcome };
        if let Some(events) = &push.events {
            // Whoever stopped listening does not want to know.
            let _ = events.send(event.clone());
        }
        Ok(event)
    }

    async fn put_manifest(&self, push: &Push<'_>, access: &Access) -> Result<(), RequestError> {
        let under = push.name.tag().map_or_else(|| push.image.digest.to_string(), str::to_owned);
        let url = access.repository.url(&format!("manifests/{under}"));
        let media_type = HeaderValue::from_str(push.image.media_type.as_str());
        let media_type = media_type.unwrap_or(HeaderValue::from_static("application/octet-stream"));
        let body = Payload::Bytes(Bytes::copy_from_slice(push.manifest.bytes()));
        let call = Call::new(Method::PUT, url).header(CONTENT_TYPE, media_type).payload(body);
        self.transport.retried(access, &call).await.map(drop)
    }
}

/// Checks that the manifest is the announced one, and the one that the name may ask for.
fn check_digest(push: &Push<'_>) -> Result<(), PushError> {
    for expected in std::iter::once(&push.image.digest).chain(push.name.digest()) {
        let actual = digest_of(push.manifest.bytes(), expected.algorithm());
        if actual != *expected {
            return Err(PushError::DigestMismatch {
                name: Box::new(push.name.clone()),
                expected: expected.clone(),
                actual,
            });
        }
    }
    Ok(())
}

impl fmt::Debug for Push<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Push");
        debug.field("name", self.name).field("image", self.image).field("mount_from", &self.mount_from);
        debug.finish_non_exhaustive()
    }
}
