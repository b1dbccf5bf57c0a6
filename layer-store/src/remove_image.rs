//! Removes one image, and everything that only it needed.

use crate::lease::{Held, StoreLock};
use crate::needs::Contents;
use crate::prune::{Freed, FreedKind, Victim, remove};
use crate::{FileError, ImageId, Store};

/// Why an image could not be removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum RemoveError {
    #[error("image {id} is not here")]
    NotFound { id: ImageId },
    #[error("image {id} is used by a command that is running")]
    InUse { id: ImageId },
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Removes an image with its names, and the layers and blobs that no other image, no cache record and no running command
    /// needs; what this command itself holds is kept until a later prune.
    ///
    /// # Errors
    ///
    /// [`RemoveError::NotFound`]; [`RemoveError::InUse`] when another running command uses it.
    pub fn remove_image(&self, id: &ImageId) -> Result<Vec<Freed>, RemoveError> {
        let trash = self.trash()?;
        let lock = StoreLock::exclusive(self.root())?;
        let contents = Contents::read(self)?;
        let Some(image) = contents.images.get(id) else { return Err(RemoveError::NotFound { id: id.clone() }) };
        let mut holds = self.holds(&lock)?;
        let held = Held::Image(id.clone());
        if holds.others.contains(&held) {
            return Err(RemoveError::InUse { id: id.clone() });
        }
        holds.own.remove(&held);

        let names = contents.tags_of(id);
        let mut victims: Vec<Victim> =
            names.map(|name| Victim::new(FreedKind::Tag, name, "its image is removed", self.tag_path(name))).collect();
        victims.push(Victim::new(FreedKind::Image, id, "it was asked for", self.image_path(id)));
        let others = contents.images.keys().filter(|other| *other != id);
        let needed = contents.needed(others, contents.cached_layers(), &holds);
        let why = "only this image needed it";
        let mut blobs: std::collections::BTreeSet<_> = image.blobs.iter().collect();
        for diff_id in &image.layers {
            let Some(of_layer) = contents.layers.get(diff_id).filter(|_| !needed.layers.contains(diff_id)) else {
                continue;
            };
            blobs.extend(of_layer);
            victims.push(Victim::new(FreedKind::Layer, diff_id, why, self.layer_path(diff_id)));
        }
        for digest in blobs.into_iter().filter(|digest| !needed.blobs.contains(*digest)) {
            victims.push(Victim::new(FreedKind::Blob, digest, why, self.blob_path(digest)));
        }
        Ok(remove(victims, trash.as_deref(), lock)?)
    }
}
