//! What people want to know of an image: the fields that several verbs show.

use std::cmp::Reverse;

use layer_store::{ImageError, ListedImage, Store};
use time::OffsetDateTime;

use crate::age;
use crate::report;

/// Whether digests are shown whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// Twelve digits.
    Short,
    /// With their algorithm.
    Whole,
}

impl Ids {
    /// Returns what the flag `--no-trunc` asks for.
    pub(crate) fn from_no_trunc(no_trunc: bool) -> Self {
        if no_trunc { Self::Whole } else { Self::Short }
    }

    /// Writes a digest.
    pub(crate) fn show(self, digest: &oci::Digest) -> String {
        match self {
            Self::Short => digest.short().to_owned(),
            Self::Whole => digest.to_string(),
        }
    }
}

/// Returns when an image was made, if its config says so.
pub(crate) fn created(image: &ListedImage) -> Option<OffsetDateTime> {
    image.created.as_deref().and_then(age::parse)
}

/// The images of a store, and whether all of them could be read.
pub(crate) struct Images {
    /// Those that can, latest first.
    pub(crate) readable: Vec<ListedImage>,
    /// The others.
    pub(crate) unreadable: Vec<ImageError>,
}

impl Images {
    /// Reads all images of `store`.
    ///
    /// # Errors
    ///
    /// When the store cannot be listed.
    pub(crate) fn of(store: &Store) -> Result<Self, ImageError> {
        let mut images = Self { readable: Vec::new(), unreadable: Vec::new() };
        for image in store.images()? {
            match image {
                Ok(image) => images.readable.push(image),
                Err(error) => images.unreadable.push(error),
            }
        }
        images.readable.sort_by_cached_key(|image| (Reverse(created(image)), image.id.clone()));
        Ok(images)
    }

    /// Reports the images that cannot be read; returns the exit code of a list that lacks them.
    pub(crate) fn report_unreadable(self) -> u8 {
        let code = u8::from(!self.unreadable.is_empty());
        for error in self.unreadable {
            report::one_of_several(&error.into());
        }
        code
    }
}
