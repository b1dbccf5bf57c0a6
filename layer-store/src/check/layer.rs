//! Examines layers, in each form that they are kept in.
//!
//! | kept as | is whole when |
//! |---|---|
//! | tar | its bytes have the diff ID, and its index, if there is one, is the one that they give |
//! | tree that we wrote | its files as a tar have the diff ID |
//! | tree of a tar that others wrote | it is the same tree as their blob, which has the diff ID, unpacked once more |
//! | tar and tree | both of it |
//!
//! - Which trees others wrote is told by no record: a tree without the diff ID is compared with what the layer's blobs hold.
//! - Without any of these blobs nobody can tell; without a record of any, the tree is ours, and broken.
//! - Parts that the record does not speak of are what a killed command left; they are replaced or go with the layer.
//!
//! What a layer is made from again: a blob that its record, or the manifest of an image, names.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use oci::{BlobError, Descriptor, DiffId, Hasher};

use super::blob::{hash, unreadable};
use super::place::look;
use super::{Depth, Fault, Problem, Repair, Subject, Survey, Verdict};
use crate::file_error::failed;
use crate::images::KnownManifest;
use crate::layers::{Form, LayerRecord};
use crate::tar_form::{self, INDEX, TAR};
use crate::tree_tar::header::BLOCK;
use crate::{ApplyError, FileError, ImageId, LayerError, Store, TreeTarError, sys, tree_tar};

impl Store {
    pub(super) fn examine_layer(&self, diff_id: &DiffId, survey: &Survey) -> Result<Verdict, FileError> {
        let needed = survey.needed.layers.contains(diff_id);
        let is_here = look(&self.layer_path(diff_id))?.is_some();
        let (record, fault) = match self.read_layer(diff_id) {
            Ok(record) => {
                let fault = self.missing_part(&record)?;
                (Some(record), fault)
            }
            Err(LayerError::Record { source, .. }) => (None, Some(Fault::Record(source))),
            // what nobody needs is what a removal has left
            Err(LayerError::NotFound { .. }) if !needed => (None, None),
            Err(LayerError::NotFound { .. }) if is_here => (None, Some(Fault::NoRecord)),
            Err(LayerError::NotFound { .. }) => (None, Some(Fault::NotHere)),
            Err(LayerError::File(error)) => return Err(error),
        };
        match (fault, record) {
            (Some(fault), record) => {
                Ok(Verdict::Problem(Box::new(self.broken(diff_id, fault, record.as_ref(), survey))))
            }
            (None, Some(record)) if survey.depth == Depth::Whole => self.examine_bytes(&record, needed, survey),
            (None, _) => Ok(Verdict::Whole),
        }
    }

    /// Finds what the record speaks of and is not here.
    fn missing_part(&self, record: &LayerRecord) -> Result<Option<Fault>, FileError> {
        let path = self.layer_path(&record.diff_id);
        if record.form.has_tree() && !look(&path.join("tree"))?.is_some_and(|tree| tree.is_dir()) {
            return Ok(Some(Fault::Part { name: "tree" }));
        }
        if !record.form.has_tar() {
            return Ok(None);
        }
        let (expected, tar) = (record.tar_size, look(&path.join(TAR))?);
        // zeros may follow, to the end of a block
        let is_right = |actual: u64| actual == expected || actual == expected.next_multiple_of(BLOCK as u64);
        Ok(match tar.map(|tar| tar.len()) {
            None => Some(Fault::Part { name: TAR }),
            Some(actual) => (!is_right(actual)).then_some(Fault::TarSize { expected, actual }),
        })
    }

    fn examine_bytes(&self, record: &LayerRecord, needed: bool, survey: &Survey) -> Result<Verdict, FileError> {
        let diff_id = &record.diff_id;
        let broken = |fault| Ok(Verdict::Problem(Box::new(self.broken(diff_id, fault, Some(record), survey))));
        let path = self.layer_path(diff_id);
        let (tar, tree) = (path.join(TAR), path.join("tree"));
        if record.form.has_tar() {
            match hash(&tar, record.tar_size, diff_id.0.algorithm()) {
                Ok(actual) if actual == diff_id.0 => {}
                Ok(actual) => return broken(Fault::Tar { actual: DiffId(actual) }),
                Err(error) => return broken(unreadable(&tar, error)?),
            }
        }
        if record.form.has_tar() && self.has_other_index(record)? {
            let problem = Problem::new(&Subject::Layer(diff_id.clone()), Fault::Index, Repair::MakeIndex);
            return Ok(Verdict::Problem(Box::new(problem)));
        }
        if !record.form.has_tree() {
            return Ok(Verdict::Whole);
        }
        let actual = match self.hash_tree(diff_id, &tree) {
            Ok(Some(actual)) if actual == *diff_id => return Ok(Verdict::Whole),
            Ok(actual) => actual,
            Err(error) => return broken(unreadable(&tree, error)?),
        };
        let is_ours = record.form == Form::Tree && record.blobs.is_empty();
        match (actual, self.unpacked_again(record)) {
            (Some(actual), Some(expected)) if actual == expected => Ok(Verdict::Whole),
            (Some(_), Some(_)) => broken(Fault::TreeDiffers),
            (Some(actual), None) if is_ours && needed => broken(Fault::Tree { actual }),
            // of a pull that was killed before it said what it unpacked
            (Some(_), None) if is_ours => Ok(Verdict::Whole),
            _ => Ok(Verdict::Unverified),
        }
    }

    /// Returns what a tree of the layer hashes to, made once more from its tar or from a blob; `None` when there is none that is right.
    fn unpacked_again(&self, record: &LayerRecord) -> Option<DiffId> {
        let scratch = self.scratch("check").ok()?;
        let made = if record.form.has_tar() {
            {
                let tar = self.layer_path(&record.diff_id).join(TAR);
                self.unpack_tar(&record.diff_id, &tar, &scratch.make("tree").ok()?).map(drop).ok()
            }
        } else {
            let mut here = record.blobs.iter().filter(|blob| self.has_blob(blob));
            here.find_map(|blob| {
                let directory = scratch.make(blob.digest.hex()).ok()?;
                self.unpack_blob(&directory, blob, &record.diff_id).ok()?;
                Some(directory.join("tree"))
            })
            .map(|tree| drop(std::fs::rename(tree, scratch.directory.join("tree"))))
        };
        made.and_then(|()| self.hash_tree(&record.diff_id, &scratch.directory.join("tree")).ok().flatten())
    }

    /// Tells whether the layer has an index, and it is not the one that its tar gives.
    fn has_other_index(&self, record: &LayerRecord) -> Result<bool, FileError> {
        let path = self.layer_path(&record.diff_id);
        let (index, tar) = (path.join(INDEX), path.join(TAR));
        let Ok(file) = File::open(&index) else { return Ok(false) };
        let tar = File::open(&tar).map_err(failed("open", &tar))?;
        let Ok(Ok((_, image))) = tar_form::index(tar, record.tar_size, &record.diff_id, &self.0.indexing) else {
            return Ok(true);
        };
        let mut same = Same(BufReader::new(file));
        let is_same = image.write(&mut same).is_ok() && same.0.fill_buf().is_ok_and(<[u8]>::is_empty);
        Ok(!is_same)
    }

    /// Hashes the tree as the tar that we would write of it; `None` for one that no tar of ours can hold.
    fn hash_tree(&self, diff_id: &DiffId, tree: &Path) -> io::Result<Option<DiffId>> {
        let directory = sys::open_directory(tree)?;
        let xattrs = self.overlay_xattrs().map_err(io::Error::other)?;
        let mut bytes = HashOnly(Hasher::new(diff_id.0.algorithm()));
        match tree_tar::write(&directory, xattrs, &mut bytes) {
            Ok(_) => Ok(Some(DiffId(bytes.0.finish()))),
            Err(TreeTarError::ReservedName { .. } | TreeTarError::XattrName { .. }) => Ok(None),
            Err(TreeTarError::Read { source, .. }) => Err(source),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Describes a broken layer, and finds what mends it.
    fn broken(&self, diff_id: &DiffId, fault: Fault, record: Option<&LayerRecord>, survey: &Survey) -> Problem {
        // on a full disk nothing can be held or read aside: that proves nothing against a blob
        let is_right = |blob: &Descriptor| {
            survey.depth == Depth::Quick
                || match self.verify_blob(blob, diff_id) {
                    Err(ApplyError::Tar { .. } | ApplyError::DiffIdMismatch { .. }) => false,
                    Err(ApplyError::Blob(error)) => matches!(error, BlobError::Io { .. }),
                    _ => true,
                }
        };
        let of_record = record.into_iter().flat_map(|record| record.blobs.iter().cloned());
        let mut blobs = of_record.filter(|blob| self.has_blob(blob)).chain(self.blobs_of_layer(diff_id, survey));
        let images = || -> Vec<ImageId> { images_of(diff_id, survey).cloned().collect() };
        let repair = match blobs.find(is_right) {
            Some(blob) => Repair::Apply(Box::new(blob)),
            None if images().is_empty() => Repair::Remove,
            None => Repair::RemoveWithImages(images()),
        };
        Problem::new(&Subject::Layer(diff_id.clone()), fault, repair)
    }

    /// Returns the blobs that are here and that manifests name in the place of the layer.
    pub(super) fn blobs_of_layer(&self, diff_id: &DiffId, survey: &Survey) -> Vec<Descriptor> {
        let records = images_of(diff_id, survey).filter_map(|id| self.read_image(id).ok());
        let named = records.flat_map(|record| {
            let of_manifest =
                |known: KnownManifest| record.layers.clone().into_iter().zip(known.blobs.into_iter().skip(1));
            record.manifests.into_iter().flat_map(of_manifest).collect::<Vec<_>>()
        });
        named.filter(|(layer, blob)| layer == diff_id && self.has_blob(blob)).map(|(_, blob)| blob).collect()
    }
}

fn images_of<'a>(diff_id: &'a DiffId, survey: &'a Survey) -> impl Iterator<Item = &'a ImageId> {
    survey.contents.images.iter().filter(|(_, needs)| needs.layers.contains(diff_id)).map(|(id, _)| id)
}

/// Takes only what its file has next.
struct Same(BufReader<File>);

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        self.0.read_exact(&mut there)?;
        if there == bytes { Ok(bytes.len()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct HashOnly(Hasher);

impl Write for HashOnly {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
