//! Examines images, their names and cache records: that each leads to what it names.

use std::path::Path;

use oci::{Document, Hasher, ImageConfig};

use super::place::look;
use super::{Fault, Problem, Repair, Subject, Survey};
use crate::images::ImageRecord;
use crate::tags::TagRecord;
use crate::{CacheRecord, FileError, ImageId, Store, record};

impl Store {
    pub(super) fn examine_image(&self, id: &ImageId, survey: &Survey) -> Option<Problem> {
        let problem = |fault, repair| Some(Problem::new(&Subject::Image(id.clone()), fault, repair));
        let fault = match record::read::<ImageRecord>(&self.image_path(id)) {
            Ok(None) => return None,
            Ok(Some(record)) if record.id == *id => None,
            Ok(Some(_)) => Some(Fault::ForeignRecord),
            Err(error) => Some(Fault::Record(error)),
        };
        let config = match self.stored_config(id) {
            Ok(config) => config,
            Err(config_fault) => return problem(fault.unwrap_or(config_fault), Repair::Remove),
        };
        let layers = &config.value().rootfs.diff_ids;
        let is_gone = |diff_id: &&oci::DiffId| !survey.contents.layers.contains_key(*diff_id);
        if let Some(diff_id) = layers.iter().find(is_gone) {
            // one that can be made again is mended for itself
            let returns = !self.blobs_of_layer(diff_id, survey).is_empty();
            return if returns { None } else { problem(Fault::NoLayer { diff_id: diff_id.clone() }, Repair::Remove) };
        }
        if let Some(fault) = fault {
            return problem(fault, Repair::WriteRecord);
        }
        let record = self.read_image(id).ok()?;
        if record.layers != *layers {
            return problem(Fault::OtherLayers, Repair::WriteRecord);
        }
        let mut named = record.manifests.iter().flat_map(|known| {
            std::iter::once(&known.manifest).chain(&known.blobs).map(move |blob| (&known.manifest.digest, blob))
        });
        let (manifest, blob) = named.find(|(_, blob)| !self.has_blob(blob))?;
        let fault = Fault::NoBlob { manifest: manifest.clone(), digest: blob.digest.clone() };
        problem(fault, Repair::ForgetManifest(manifest.clone()))
    }

    /// Reads an image's config without holding it.
    fn stored_config(&self, id: &ImageId) -> Result<Document<ImageConfig>, Fault> {
        let not_here = || Fault::NoConfig { digest: id.0.clone() };
        let path = self.blob_path(&id.0);
        let size = std::fs::symlink_metadata(&path).map_err(|_| not_here())?.len();
        if size > ImageConfig::MAX_SIZE as u64 {
            return Err(not_here());
        }
        let bytes = std::fs::read(&path).map_err(|_| not_here())?;
        let mut hasher = Hasher::new(id.0.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != id.0 {
            return Err(not_here());
        }
        Document::parse(bytes, "image config", ImageConfig::MAX_SIZE).map_err(Fault::Config)
    }

    pub(super) fn examine_tag(&self, path: &Path) -> Result<Option<Problem>, FileError> {
        let subject = Subject::Tag(path.to_owned());
        let problem = |fault| Problem::new(&subject, fault, Repair::Remove);
        let record = match record::read::<TagRecord>(path) {
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(problem(Fault::Record(error)))),
            Ok(Some(record)) => record,
        };
        if self.tag_path(&record.name) != *path {
            return Ok(Some(problem(Fault::ForeignRecord)));
        }
        if look(&self.image_path(&record.image))?.is_some() {
            return Ok(None);
        }
        let name = record.name.familiar();
        Ok(Some(Problem { name, ..problem(Fault::NoImage { id: record.image }) }))
    }

    pub(super) fn examine_cache_record(&self, path: &Path, survey: &Survey) -> Result<Option<Problem>, FileError> {
        let subject = Subject::CacheRecord(path.to_owned());
        let problem = |fault| Problem::new(&subject, fault, Repair::Remove);
        let record = match record::read::<CacheRecord>(path) {
            Ok(None) => return Ok(None),
            Err(error) => return Ok(Some(problem(Fault::Record(error)))),
            Ok(Some(record)) => record,
        };
        let Some(diff_id) = record.diff_id.filter(|diff_id| !survey.contents.layers.contains_key(diff_id)) else {
            return Ok(None);
        };
        // one that was made since the survey is here
        let is_gone = look(&self.layer_path(&diff_id))?.is_none();
        Ok(is_gone.then(|| problem(Fault::NoLayer { diff_id })))
    }
}
