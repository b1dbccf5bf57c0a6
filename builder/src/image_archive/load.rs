//! Loads the images of an archive into the store: all of them, or none.
//!
//! layers (at the same time) ─▶ configs, images, manifests ─▶ tags

use layer_store::{ImageError, ImageId, Store, TagError};
use oci::{Platform, Reference};

use super::archived_image::{ArchivedImage, store_all};
use super::files::ImageArchiveError;
use super::open::ImageArchive;
use crate::transfer::TransferProgress;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// The image ID.
    pub id: ImageId,
    /// The names that mean it now; an image of an archive may have none.
    pub names: Vec<LoadedName>,
}

/// A name that was given to a loaded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedName {
    /// The name.
    pub name: Reference,
    /// The other image that it meant before.
    pub replaced: Option<ImageId>,
}

/// Why images could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum LoadError {
    #[error(transparent)]
    Archive(#[from] ImageArchiveError),
    #[error("the image cannot be kept")]
    Image { source: ImageError },
    #[error("the name {} cannot be kept", .name.familiar())]
    Tag { name: Reference, source: TagError },
}

/// Loads all images of `archive`; of one for several platforms, the one for `platform`, or for this machine.
///
/// # Errors
///
/// [`LoadError`] with what of the archive is not what it should be; no image is there then that was not before.
pub fn load(
    store: &Store,
    archive: &ImageArchive,
    platform: Option<&Platform>,
    progress: &dyn TransferProgress,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<LoadedImage>, LoadError> {
    let images = archive.images(platform)?;
    store_all(&images, store, progress, is_stopped)?;
    images.iter().map(|image| keep(store, image)).collect()
}

fn keep(store: &Store, image: &ArchivedImage) -> Result<LoadedImage, LoadError> {
    let kept = |source| LoadError::Image { source };
    let id = store.add_image(&image.config).map_err(kept)?;
    if let Some((media_type, manifest)) = image.kept_manifest() {
        store.add_manifest(&id, manifest, media_type, None).map_err(kept)?;
    }
    let mut names = Vec::new();
    for name in &image.names {
        let before = store.tag(name, &id).map_err(|source| LoadError::Tag { name: name.clone(), source })?;
        let replaced = before.filter(|before| *before != id);
        names.push(LoadedName { name: name.clone(), replaced });
    }
    Ok(LoadedImage { id, names })
}
