//! Finds the image that a user means.
//!
//! | given | means |
//! |---|---|
//! | `sha256:` and 64 digits, or 64 digits | the image with that ID |
//! | `name`, `name:tag` | what the tag means (`latest` when none is given; `docker.io/library` where docker assumes it) |
//! | `name@sha256:…` | the image that came from, or went to, that repository under that manifest digest |
//! | the first digits of an ID, with or without `sha256:` | the one image whose ID starts so, if the name means nothing |

use oci::{Digest, Reference};

use crate::{FileError, ImageError, ImageId, Store, TagError};

/// Why a name does not lead to one image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum FindError {
    #[error("no image is called `{}`", .name.escape_debug())]
    NotFound { name: String },
    #[error("`{}` is the start of {} image IDs: {}", .name.escape_debug(), .images.len(), join(.images))]
    Ambiguous { name: String, images: Vec<ImageId> },
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    File(#[from] FileError),
}

fn join(images: &[ImageId]) -> String {
    images.iter().map(|id| id.0.short()).collect::<Vec<_>>().join(", ")
}

impl Store {
    /// Returns the image that `name` means.
    ///
    /// # Errors
    ///
    /// [`FindError::NotFound`], or [`FindError::Ambiguous`] when it is the start of several IDs.
    pub fn find(&self, name: &str) -> Result<ImageId, FindError> {
        let not_found = || FindError::NotFound { name: name.to_owned() };
        if let Some(id) = full_id(name) {
            return if self.image_path(&id).exists() { Ok(id) } else { Err(not_found()) };
        }
        if let Ok(reference) = name.parse::<Reference>() {
            let found = match reference.digest() {
                Some(_) => self.find_digest(&reference)?,
                None => self.tagged(&reference.or_latest())?,
            };
            if let Some(id) = found {
                return Ok(id);
            }
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.is_empty() || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(not_found());
        }
        let mut images = self.image_ids()?;
        images.retain(|id| id.as_ref().is_ok_and(|id| id.0.hex().starts_with(digits)));
        let mut images: Vec<ImageId> = images.into_iter().flatten().collect();
        match images.len() {
            0 => Err(not_found()),
            1 => Ok(images.remove(0)),
            _ => Err(FindError::Ambiguous { name: name.to_owned(), images }),
        }
    }

    fn find_digest(&self, name: &Reference) -> Result<Option<ImageId>, FindError> {
        let Some(name) = name.digest().map(|digest| name.at(digest.clone())) else { return Ok(None) };
        for id in self.image_ids()? {
            // a record that cannot be read answers to no name
            let Ok(record) = id.and_then(|id| self.read_image(&id)) else { continue };
            if record.repo_digests.contains(&name) {
                return Ok(Some(record.id));
            }
        }
        Ok(None)
    }
}

fn full_id(name: &str) -> Option<ImageId> {
    let digest = name.parse::<Digest>().or_else(|_| format!("sha256:{name}").parse());
    digest.ok().map(ImageId)
}
