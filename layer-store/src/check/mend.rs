//! Mends what a check has found.
//!
//! ```text
//! problem ─exclusive lock─▶ in use? still the same file? ─▶ rename into tmp/ ─▶ unlock ─▶ delete       as a prune does
//! ```
//!
//! - What another running command holds is left to it.
//! - Removing a thing leaves what led to it without it: the store is checked again, by names and records, until nothing changes.
//! - A layer is made again before the broken one goes; killed at any moment, a later check finds one of the two.
//! - What only a removed image needed stays, and a prune removes it.

use std::os::unix::fs::MetadataExt;

use oci::{Descriptor, DiffId, Digest};

use super::place::look;
use super::{CheckError, Checked, Depth, Problem, Repair, Subject, SubjectKind, Verdict};
use crate::cache_mounts::is_free;
use crate::lease::{Held, StoreLock};
use crate::prune::{FreedKind, Victim, remove};
use crate::volumes::make_data;
use crate::{ApplyError, FileError, ImageError, ImageId, LayerError, Store, VolumeError};

/// Rounds of mending and checking: a blob, the image whose config it is, the names of that.
const ROUNDS: usize = 6;

/// What was mended and what was not.
#[derive(Debug, Default)]
pub struct Repaired {
    /// What was examined; its problems are in the other lists.
    pub checked: Checked,
    /// What was wrong and is mended, in that order.
    pub mended: Vec<Problem>,
    /// What is still wrong, and what kept it from being mended.
    pub left: Vec<(Problem, MendError)>,
}

/// Why a problem was not mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum MendError {
    #[error("nobody knows what it is: remove it, or move it elsewhere")]
    Stray,
    #[error("a command that is running uses it")]
    InUse,
    #[error("it has changed since it was examined")]
    Changed,
    #[error("it is still wrong after its repair")]
    Again,
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Checks the store and mends what is wrong; what is whole is not touched.
    ///
    /// # Errors
    ///
    /// [`CheckError::File`] when the store cannot be listed; what was mended before stays so.
    pub fn repair(&self, depth: Depth) -> Result<Repaired, CheckError> {
        let mut repaired = Repaired { checked: self.check(depth)?, ..Repaired::default() };
        let mut problems = std::mem::take(&mut repaired.checked.problems);
        for _ in 0..ROUNDS {
            for problem in problems {
                if !self.is_still_wrong(&problem)? {
                    continue;
                }
                match self.mend(&problem) {
                    Ok(()) => repaired.mended.push(problem),
                    Err(error) => repaired.left.push((problem, error)),
                }
            }
            // what only bytes tell was found in the first round
            problems = self.check(Depth::Quick)?.problems;
            let failed = |problem: &Problem| repaired.left.iter().any(|(left, _)| left.subject == problem.subject);
            problems.retain(|problem| !failed(problem));
            if problems.is_empty() {
                return Ok(repaired);
            }
        }
        repaired.left.extend(problems.into_iter().map(|problem| (problem, MendError::Again)));
        Ok(repaired)
    }

    /// Tells whether what was mended before has not mended this too.
    fn is_still_wrong(&self, problem: &Problem) -> Result<bool, CheckError> {
        match problem.subject {
            Subject::Image(_) | Subject::Tag(_) | Subject::CacheRecord(_) => {
                let survey = self.survey(Depth::Quick)?;
                Ok(matches!(self.examine(&problem.subject, &survey)?, Verdict::Problem(_)))
            }
            _ => Ok(true),
        }
    }

    fn mend(&self, problem: &Problem) -> Result<(), MendError> {
        match (&problem.repair, &problem.subject) {
            (Repair::Leave, _) => Err(MendError::Stray),
            (Repair::Apply(blob), Subject::Layer(diff_id)) => self.apply_again(diff_id, blob),
            (Repair::MakeIndex, Subject::Layer(diff_id)) => Ok(self.make_index(diff_id).map(drop)?),
            (Repair::ForgetManifest(manifest), Subject::Image(id)) => self.forget_manifest(id, manifest),
            (Repair::WriteRecord, Subject::Image(id)) => Ok(self.rewrite_image(id)?),
            (Repair::WriteRecord, Subject::Volume(name)) => Ok(self.rewrite_volume(name)?),
            (Repair::MakeData, Subject::Volume(name)) => Ok(make_data(&self.volume_path(name)).map(drop)?),
            (Repair::RemoveWithImages(images), subject) => {
                if self.is_in_use(subject, &StoreLock::exclusive(self.root())?)? {
                    return Err(MendError::InUse);
                }
                images.iter().try_for_each(|id| self.remove_broken_image(id))?;
                self.take_away(problem)
            }
            (_, Subject::Image(id)) => self.remove_broken_image(id),
            _ => self.take_away(problem),
        }
    }

    /// Removes what the problem is about, if it still is the file that was examined.
    fn take_away(&self, problem: &Problem) -> Result<(), MendError> {
        let path = problem.subject.path(self);
        let trash = self.trash()?;
        let lock = StoreLock::exclusive(self.root())?;
        if self.is_in_use(&problem.subject, &lock)? {
            return Err(MendError::InUse);
        }
        if look(&path)?.map(|metadata| metadata.ino()) != problem.inode {
            return Err(MendError::Changed);
        }
        let victim = Victim::new(freed_kind(problem.kind), &problem.name, "it is broken", path);
        remove(vec![victim], trash.as_deref(), lock)?;
        Ok(())
    }

    fn is_in_use(&self, subject: &Subject, lock: &StoreLock) -> Result<bool, FileError> {
        let held = match subject {
            Subject::Blob(digest) => Held::Blob(digest.clone()),
            Subject::Layer(diff_id) => Held::Layer(diff_id.clone()),
            Subject::Image(id) => Held::Image(id.clone()),
            Subject::Volume(name) => Held::Volume(name.clone()),
            Subject::CacheMount(path) => return Ok(!is_free(&path.join("lock"))?),
            Subject::Tag(_) | Subject::CacheRecord(_) | Subject::Stray(_) => return Ok(false),
        };
        Ok(self.holds(lock)?.others.contains(&held))
    }

    /// Removes an image that cannot be used, and its names before it.
    fn remove_broken_image(&self, id: &ImageId) -> Result<(), MendError> {
        let trash = self.trash()?;
        let lock = StoreLock::exclusive(self.root())?;
        if self.is_in_use(&Subject::Image(id.clone()), &lock)? {
            return Err(MendError::InUse);
        }
        let names = self.tags()?.into_iter().filter(|(_, image)| image == id);
        let why = "its image is broken";
        let mut victims: Vec<Victim> =
            names.map(|(name, _)| Victim::new(FreedKind::Tag, &name, why, self.tag_path(&name))).collect();
        victims.push(Victim::new(FreedKind::Image, id, "it is broken", self.image_path(id)));
        remove(victims, trash.as_deref(), lock)?;
        Ok(())
    }

    fn forget_manifest(&self, id: &ImageId, manifest: &Digest) -> Result<(), MendError> {
        // a lease is taken out under the shared lock, and so before this one
        self.lease()?;
        let _lock = StoreLock::exclusive(self.root())?;
        let mut record = self.read_image(id)?;
        record.manifests.retain(|known| known.manifest.digest != *manifest);
        Ok(self.write_lasting_record(&self.image_path(id), &record)?)
    }

    /// Puts a layer that is unpacked once more in the place of the broken one.
    fn apply_again(&self, diff_id: &DiffId, blob: &Descriptor) -> Result<(), MendError> {
        if self.read_holds()?.others.contains(&Held::Layer(diff_id.clone())) {
            return Err(MendError::InUse);
        }
        let scratch = self.scratch("layer")?;
        let made = scratch.make("made")?;
        let mut record = self.make_layer(&made, blob, diff_id)?;
        let known = self.read_layer(diff_id).map(|known| known.blobs).unwrap_or_default();
        record.blobs.extend(known.into_iter().filter(|known| known.digest != blob.digest));
        record.blobs.push(Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size));
        Ok(self.replace_layer(&made, &record)?)
    }
}

fn freed_kind(kind: SubjectKind) -> FreedKind {
    match kind {
        SubjectKind::Blob => FreedKind::Blob,
        SubjectKind::Layer => FreedKind::Layer,
        SubjectKind::Image => FreedKind::Image,
        SubjectKind::Tag => FreedKind::Tag,
        SubjectKind::CacheRecord => FreedKind::CacheRecord,
        SubjectKind::CacheMount => FreedKind::CacheMount,
        SubjectKind::Volume => FreedKind::Volume,
        SubjectKind::Stray => FreedKind::Temporary,
    }
}
