//! Lists images: from one small record for each image, and one for each name.
//!
//! - What of an image never changes, its size and when it was made, is kept in its record: a listing opens neither configs nor layers.
//!   Records that earlier versions wrote lack it; then it is looked up.
//! - Nothing is held and nothing digested: a record is believed if it can be read. Who uses an image reads its config verified.

use std::collections::HashMap;
use std::time::SystemTime;

use oci::Reference;

use crate::images::ImageRecord;
use crate::{ImageError, ImageId, Store};

/// What a listing shows of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedImage {
    /// The digest of its config.
    pub id: ImageId,
    /// When it was made, as its config says it.
    pub created: Option<String>,
    /// Where registries have it, by manifest digest.
    pub repo_digests: Vec<Reference>,
    /// The names that mean it, sorted.
    pub tags: Vec<Reference>,
    /// Bytes of the files in all of its layers.
    pub size: u64,
    /// When it came into this store.
    pub stored: SystemTime,
}

impl Store {
    /// Lists the images, latest first; one that cannot be read is an error of its own.
    ///
    /// # Errors
    ///
    /// [`ImageError::File`] when the directory cannot be read.
    pub fn images(&self) -> Result<Vec<Result<ListedImage, ImageError>>, ImageError> {
        let mut names: HashMap<ImageId, Vec<Reference>> = HashMap::new();
        for (name, id) in self.tags()? {
            names.entry(id).or_default().push(name);
        }
        let mut listed = |id: Result<ImageId, ImageError>| {
            let record = self.read_image(&id?)?;
            let (facts, stored) = (self.facts(&record)?, record.stored());
            let tags = names.remove(&record.id).unwrap_or_default();
            let ImageRecord { id, repo_digests, .. } = record;
            Ok(ListedImage { id, created: facts.created, repo_digests, tags, size: facts.size, stored })
        };
        let images = self.image_ids()?.into_iter().map(&mut listed);
        // one that was removed meanwhile is no error
        let mut images: Vec<_> = images.filter(|image| !matches!(image, Err(ImageError::NotFound { .. }))).collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.as_ref().ok().map(|image| image.stored)));
        Ok(images)
    }
}
