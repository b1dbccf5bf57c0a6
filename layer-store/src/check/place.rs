//! Lists what has a name in the store's directories, and examines cache mounts, volumes, and names that are nobody's.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use super::{Fault, Problem, Repair, Subject};
use crate::cache_mounts::CacheMountRecord;
use crate::file_error::failed;
use crate::needs::key_of;
use crate::store::{digest_of_name, list};
use crate::volumes::{DATA, RECORD, VolumeRecord};
use crate::{CacheKey, FileError, Store, VolumeName, record};

/// A directory of the store, and what a name in it means; `None` when it means nothing.
type Place = (&'static str, fn(&Path) -> Option<Option<Subject>>);

/// Images, layers and blobs are listed by who needs what (`needs`).
const PLACES: [Place; 7] = [
    ("layers", |path| path.file_name().and_then(digest_of_name).map(|_| None)),
    ("images", |path| record_digest(path).map(|_| None)),
    ("tags", |path| record_digest(path).map(|_| Some(Subject::Tag(path.to_owned())))),
    ("cache", |path| key_of(path).map(|_| Some(Subject::CacheRecord(path.to_owned())))),
    ("contexts", |path| path.file_name()?.to_str()?.parse::<CacheKey>().ok().map(|_| None)),
    ("mounts", |path| path.file_name().and_then(digest_of_name).map(|_| Some(Subject::CacheMount(path.to_owned())))),
    ("volumes", |path| path.file_name()?.to_str()?.parse().ok().map(|name| Some(Subject::Volume(name)))),
];

fn record_digest(path: &Path) -> Option<oci::Digest> {
    path.file_stem().filter(|_| path.extension().is_some_and(|extension| extension == "json")).and_then(digest_of_name)
}

impl Store {
    /// Lists names, cache records, cache mounts, volumes and strays.
    pub(super) fn named_subjects(&self) -> Result<Vec<Subject>, FileError> {
        let mut subjects = Vec::new();
        for (directory, meaning) in PLACES {
            for path in list(&self.root().join(directory))? {
                subjects.extend(meaning(&path).unwrap_or_else(|| Some(Subject::Stray(path.clone()))));
            }
        }
        for directory in list(&self.root().join("blobs"))? {
            let algorithm = directory.file_name().unwrap_or_default();
            let is_blob = |path: &PathBuf| {
                let digest = path.file_name().and_then(digest_of_name);
                digest.is_some_and(|digest| digest.algorithm().name() == algorithm)
            };
            let strays = list(&directory)?.into_iter().filter(|path| !is_blob(path));
            subjects.extend(strays.map(Subject::Stray));
        }
        Ok(subjects)
    }

    pub(super) fn examine_stray(&self, path: &Path) -> Result<Option<Problem>, FileError> {
        let problem = || Problem::new(&Subject::Stray(path.to_owned()), Fault::Stray, Repair::Leave);
        Ok(look(path)?.map(|_| problem()))
    }

    pub(super) fn examine_cache_mount(&self, path: &Path) -> Result<Option<Problem>, FileError> {
        let problem = |fault| Some(Problem::new(&Subject::CacheMount(path.to_owned()), fault, Repair::Remove));
        if look(path)?.is_none() {
            return Ok(None);
        }
        for name in ["lock", "data", "record.json"] {
            if look(&path.join(name))?.is_none() {
                return Ok(problem(Fault::Part { name }));
            }
        }
        match record::read::<CacheMountRecord>(&path.join("record.json")) {
            Ok(_) => Ok(None),
            Err(error) => Ok(problem(Fault::Record(error))),
        }
    }

    pub(super) fn examine_volume(&self, name: &VolumeName) -> Result<Option<Problem>, FileError> {
        let path = self.volume_path(name);
        let problem = |fault, repair| Some(Problem::new(&Subject::Volume(name.clone()), fault, repair));
        if look(&path)?.is_none() {
            return Ok(None);
        }
        match record::read::<VolumeRecord>(&path.join(RECORD)) {
            Err(error) => Ok(problem(Fault::Record(error), Repair::WriteRecord)),
            // the record goes before the data
            Ok(None) => Ok(problem(Fault::NoRecord, Repair::Remove)),
            Ok(Some(_)) if look(&path.join(DATA))?.is_none() => {
                Ok(problem(Fault::Part { name: DATA }, Repair::MakeData))
            }
            Ok(Some(_)) => Ok(None),
        }
    }
}

/// Looks at a file without following it; `None` when it is not there.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>, FileError> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("examine", path)(error)),
    }
}
