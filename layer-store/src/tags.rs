//! Tags: what names mean here.
//!
//! One file per name, called by the digest of the canonical name, so any legal name makes a legal file name and nothing else
//! does. Moving a tag leaves the image it meant without that name, and nothing more.

use std::collections::BTreeMap;

use oci::Reference;
use serde::{Deserialize, Serialize};

use crate::lease::{Held, StoreLock};
use crate::store::list;
use crate::{FileError, ImageId, RecordError, Store, record};

/// Why a name could not be given or taken away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum TagError {
    #[error("`{name}` has a digest, which names an image already")]
    HasDigest { name: Reference },
    #[error("image {id} is not here")]
    NoImage { id: ImageId },
    #[error("no image is called `{name}`")]
    NotFound { name: Reference },
    #[error("what `{name}` means cannot be read")]
    Record { name: Reference, source: Box<RecordError> },
    #[error(transparent)]
    File(#[from] FileError),
}

/// The file in `tags/`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TagRecord {
    pub(crate) name: Reference,
    pub(crate) image: ImageId,
}

impl Store {
    /// Lets `name` mean the image, and returns what it meant before; without a tag, `latest` is meant.
    ///
    /// # Errors
    ///
    /// [`TagError::NoImage`] when the image is not here, [`TagError::HasDigest`] for a name with a digest.
    pub fn tag(&self, name: &Reference, id: &ImageId) -> Result<Option<ImageId>, TagError> {
        let name = name.clone().or_latest();
        if name.digest().is_some() {
            return Err(TagError::HasDigest { name });
        }
        if !self.hold(Held::Image(id.clone()), &self.image_path(id))? {
            return Err(TagError::NoImage { id: id.clone() });
        }
        let _lock = StoreLock::exclusive(self.root())?;
        let path = self.tag_path(&name);
        // one that cannot be read means nothing any more
        let before = record::read::<TagRecord>(&path).ok().flatten().filter(|record| record.name == name);
        let before = before.map(|record| record.image);
        if before.as_ref() != Some(id) {
            self.write_lasting_record(&path, &TagRecord { name, image: id.clone() })?;
        }
        Ok(before)
    }

    /// Takes the name away from the image it means, and returns that image.
    ///
    /// # Errors
    ///
    /// [`TagError::NotFound`] when the name means nothing.
    pub fn untag(&self, name: &Reference) -> Result<ImageId, TagError> {
        let name = name.clone().or_latest();
        let _lock = StoreLock::exclusive(self.root())?;
        let image = self.tagged(&name)?.ok_or_else(|| TagError::NotFound { name: name.clone() })?;
        let path = self.tag_path(&name);
        std::fs::remove_file(&path).map_err(crate::file_error::failed("remove", &path))?;
        Ok(image)
    }

    /// Returns what the name means.
    pub(crate) fn tagged(&self, name: &Reference) -> Result<Option<ImageId>, TagError> {
        let read = record::read::<TagRecord>(&self.tag_path(name));
        let read = read.map_err(|source| TagError::Record { name: name.clone(), source: Box::new(source) })?;
        Ok(read.filter(|record| record.name == *name).map(|record| record.image))
    }

    /// Reads all names; those that cannot be read mean nothing.
    pub(crate) fn tags(&self) -> Result<BTreeMap<Reference, ImageId>, FileError> {
        let paths = list(&self.root().join("tags"))?;
        let records = paths.iter().filter_map(|path| {
            let record = record::read::<TagRecord>(path).ok().flatten()?;
            (self.tag_path(&record.name) == *path).then_some(record)
        });
        Ok(records.map(|record| (record.name, record.image)).collect())
    }
}
