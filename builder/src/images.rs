//! Where base images come from: the local store first, then their registry.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use layer_store::{FindError, ImageError as StoredImageError, Store};
use oci::{DiffId, Digest, ImageConfig, Platform, Reference};
use registry_client::{Client, PullError, RemoteImage};
use tokio_util::sync::CancellationToken;

use crate::image_archive::{ArchivedImage, ImageArchiveError};
use crate::progress::{Event, Progress};
use crate::transfer::{Transfer, TransferError, TransferProgress};

/// When a registry is asked for an image that is here already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Never: what is here is used; only what is missing is asked for.
    Missing,
    /// Always: the name may mean something newer.
    Always,
}

/// An image that a stage begins with, pinned to one config.
#[derive(Clone, Debug)]
pub struct BaseImage {
    /// As the Dockerfile names it, for people.
    pub name: String,
    /// The image ID.
    pub id: Digest,
    /// Its config.
    pub config: ImageConfig,
    /// Where its layers are.
    pub place: ImagePlace,
}

/// Where the layers of an image are.
#[derive(Clone, Debug)]
pub enum ImagePlace {
    /// In the store.
    Store,
    /// In a registry, which said this of it.
    Registry(Arc<RemoteImage>),
    /// In a directory.
    Layout(Arc<ArchivedImage>),
}

impl BaseImage {
    /// Returns its layers, lowest first.
    pub fn diff_ids(&self) -> impl Iterator<Item = &DiffId> {
        self.config.rootfs.diff_ids.iter()
    }
}

/// Why a base image cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ImageError {
    #[error("the name is ambiguous")]
    Find { source: FindError },
    #[error("the image in the store cannot be read")]
    Stored { source: StoredImageError },
    #[error("it is not in the local store, and its registry does not give it")]
    Pull { source: PullError },
    #[error("its layers cannot be fetched")]
    Transfer { source: TransferError },
    #[error("its layers cannot be taken from its layout")]
    Layout { source: ImageArchiveError },
    #[error("the image is for {}, but {wanted} is built", .image.config.platform)]
    Platform { wanted: Platform, image: Box<BaseImage> },
}

/// A place that knows images by name.
pub trait ImageSource: Send + Sync {
    /// Finds out which image `name` means.
    fn resolve<'a>(
        &'a self,
        name: &'a Reference,
        platform: &'a Platform,
        pull: Pull,
    ) -> BoxFuture<'a, Result<BaseImage, ImageError>>;

    /// Brings the layers of `base` into the store.
    fn fetch<'a>(
        &'a self,
        base: &'a BaseImage,
        progress: &'a Arc<dyn Progress>,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), ImageError>>;
}

/// The local store, backed by registries.
#[derive(Debug)]
pub struct RegistryImages {
    store: Store,
    client: Arc<Client>,
}

impl RegistryImages {
    /// Looks into `store`, then asks through `client`.
    pub fn new(store: Store, client: Arc<Client>) -> Self {
        Self { store, client }
    }

    fn stored(&self, name: &Reference, platform: &Platform) -> Result<Option<BaseImage>, ImageError> {
        let id = match self.store.find(&name.to_string()) {
            Ok(id) => id,
            Err(FindError::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(ImageError::Find { source }),
        };
        let image = match self.store.image(&id) {
            Ok(image) => image,
            // a prune beside this build was faster
            Err(StoredImageError::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(ImageError::Stored { source }),
        };
        let config = image.config.value().clone();
        if !config.platform.runs_on(platform) {
            return Ok(None);
        }
        Ok(Some(BaseImage { name: name.familiar(), id: id.0, config, place: ImagePlace::Store }))
    }

    async fn take_layers(
        &self,
        image: Arc<ArchivedImage>,
        progress: Arc<dyn TransferProgress>,
        stop: &CancellationToken,
    ) -> Result<(), ImageError> {
        let (store, stop) = (self.store.clone(), stop.clone());
        let take = move || image.store_layers(&store, &*progress, &|| stop.is_cancelled());
        let stored = tokio::task::spawn_blocking(take).await;
        stored.expect("copying layers does not panic").map_err(|source| ImageError::Layout { source })
    }

    async fn remote(&self, name: &Reference, platform: &Platform) -> Result<BaseImage, ImageError> {
        let remote = self.client.pull_image(name, platform).await.map_err(|source| ImageError::Pull { source })?;
        let config = remote.config.value().clone();
        let id = remote.config.digest();
        let image = BaseImage { name: name.familiar(), id, config, place: ImagePlace::Registry(Arc::new(remote)) };
        if !image.config.platform.runs_on(platform) {
            return Err(ImageError::Platform { wanted: platform.clone(), image: Box::new(image) });
        }
        Ok(image)
    }
}

impl ImageSource for RegistryImages {
    fn resolve<'a>(
        &'a self,
        name: &'a Reference,
        platform: &'a Platform,
        pull: Pull,
    ) -> BoxFuture<'a, Result<BaseImage, ImageError>> {
        async move {
            if pull == Pull::Missing
                && let Some(base) = self.stored(name, platform)?
            {
                return Ok(base);
            }
            self.remote(name, platform).await
        }
        .boxed()
    }

    fn fetch<'a>(
        &'a self,
        base: &'a BaseImage,
        progress: &'a Arc<dyn Progress>,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), ImageError>> {
        async move {
            let progress: Arc<dyn TransferProgress> = Arc::new(Forwarded(Arc::clone(progress)));
            let remote = match &base.place {
                ImagePlace::Store => return Ok(()),
                ImagePlace::Layout(image) => return self.take_layers(Arc::clone(image), progress, stop).await,
                ImagePlace::Registry(remote) => remote,
            };
            let transfer = Transfer { store: self.store.clone(), client: Arc::clone(&self.client), progress };
            let stored = tokio::select! {
                stored = transfer.store_image(remote) => stored,
                () = stop.cancelled() => Err(TransferError::Cancelled),
            };
            stored.map(|_| ()).map_err(|source| ImageError::Transfer { source })
        }
        .boxed()
    }
}

/// Hands the progress of a transfer on as the progress of a build.
struct Forwarded(Arc<dyn Progress>);

impl TransferProgress for Forwarded {
    fn moved(&self, name: &str, done: u64, total: u64) {
        self.0.event(Event::Transfer { name, done, total });
    }

    fn note(&self, text: &str) {
        self.0.event(Event::Note { text });
    }
}
