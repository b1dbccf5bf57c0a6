//! Examines blobs: the bytes under a digest.
//!
//! A blob is its digest: one with other bytes is none, whoever needs it, and can be received again once it is gone.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci::{Algorithm, Descriptor, Digest};
use rustix::io::Errno;

use super::place::look;
use super::{Depth, Fault, Problem, Repair, Subject, Survey};
use crate::apply::Hashing;
use crate::file_error::failed;
use crate::lease::no_follow;
use crate::{FileError, Store};

impl Store {
    pub(super) fn examine_blob(&self, digest: &Digest, survey: &Survey) -> Result<Option<Problem>, FileError> {
        let path = self.blob_path(digest);
        let Some(metadata) = look(&path)? else { return Ok(None) };
        let has_size = survey.sizes.get(digest).is_none_or(|size| *size == metadata.len());
        // only its bytes are evidence enough to remove it
        if survey.depth == Depth::Quick && has_size {
            return Ok(None);
        }
        let fault = match hash(&path, u64::MAX, digest.algorithm()) {
            Ok(actual) if actual == *digest => return Ok(None),
            Ok(actual) => Fault::Bytes { actual },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => unreadable(&path, error)?,
        };
        Ok(Some(Problem::new(&Subject::Blob(digest.clone()), fault, Repair::Remove)))
    }

    /// Tells whether the blob is here with its size.
    pub(super) fn has_blob(&self, blob: &Descriptor) -> bool {
        let path = self.blob_path(&blob.digest);
        std::fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == blob.size)
    }
}

/// Describes a file that cannot be read; an error that says nothing about the file is one of the check.
pub(super) fn unreadable(path: &Path, error: io::Error) -> Result<Fault, FileError> {
    const OF_THE_FILE: [Errno; 6] = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    let is_of_file = Errno::from_io_error(&error).is_none_or(|errno| OF_THE_FILE.contains(&errno));
    let error = failed("read", path)(error);
    if is_of_file { Ok(Fault::Unreadable(error)) } else { Err(error) }
}

/// Computes the digest of the first `size` bytes of a file.
pub(super) fn hash(path: &Path, size: u64, algorithm: Algorithm) -> io::Result<Digest> {
    let file = OpenOptions::new().read(true).custom_flags(no_follow()).open(path)?;
    let mut bytes = Hashing::new(file.take(size), algorithm);
    io::copy(&mut bytes, &mut io::sink())?;
    Ok(bytes.finish())
}
