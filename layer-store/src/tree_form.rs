//! Makes the tree of a layer that is only a tar, when somebody mounts it and its index cannot be (`tar_form`).
//!
//! ```text
//! layer.tar ─entries─▶ tmp/<lease>/tree-<n>/tree ─rename─▶ layers/<diff-id>/tree ─▶ record says `tree` ─▶ layer.tar goes
//! ```
//!
//! | moment | what the record says | what is believed |
//! |---|---|---|
//! | killed before the record | `tar` | the tar; a tree beside it is made again |
//! | killed after the record | `tree` | the tree; a tar beside it goes with the next mount |
//!
//! - Under a lock on the layer's directory: of several commands one makes the tree, the others wait and find it.
//! - The tar goes, with its index, when its bytes come back: from the tree, or from a blob when others wrote it. Where they would not
//!   (something was left out that this user may not make, or the file system keeps no such times), both stay.
//! - Who opened the tar before keeps reading it; who finds it gone looks at the record again.
//! - Nothing is hashed again: the diff ID was computed when the tar was written, and the store is believed to be what it wrote.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use oci::DiffId;
use rustix::fs::{AtFlags, CWD, FlockOperation};

use crate::apply::entries::Entries;
use crate::apply::tree::{ForeignOwner, TreeBuilder};
use crate::file_error::failed;
use crate::layers::{Form, LayerRecord, Origin, Skipped};
use crate::lease::StoreLock;
use crate::remove_tree::remove_tree;
use crate::sys::{self, Time};
use crate::tar_form::{INDEX, TAR};
use crate::{ApplyError, FileError, SnapshotError, Store};

impl Store {
    /// Makes the trees of those of `layers` that have none, several at the same time.
    pub(crate) fn make_trees<'a>(&self, layers: impl Iterator<Item = &'a DiffId>) -> Result<(), SnapshotError> {
        let mut missing = Vec::new();
        for diff_id in layers {
            if !self.layer(diff_id)?.form.has_tree() && !missing.contains(&diff_id) {
                missing.push(diff_id);
            }
        }
        let make = |diff_id: &DiffId| {
            self.make_tree(diff_id).map_err(|source| SnapshotError::Tree { diff_id: diff_id.clone(), source })
        };
        if missing.len() < 2 {
            return missing.into_iter().try_for_each(make);
        }
        let threads = thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        thread::scope(|scope| {
            let share = |first| missing.iter().copied().skip(first).step_by(threads);
            let running: Vec<_> =
                (0..threads).map(share).map(|mut share| scope.spawn(move || share.try_for_each(make))).collect();
            let mut results = running.into_iter().map(|thread| thread.join());
            results.try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    fn make_tree(&self, diff_id: &DiffId) -> Result<(), ApplyError> {
        let path = self.layer_path(diff_id);
        let directory = sys::open_directory(&path).map_err(failed("open", &path))?;
        sys::flock(&directory, FlockOperation::LockExclusive).map_err(failed("lock", &path))?;
        let record = self.read_layer(diff_id)?;
        if record.form.has_tree() {
            return Ok(());
        }
        let scratch = self.scratch("tree")?;
        let made = scratch.make("tree")?;
        let (made_of, times) = self.unpack_tar(diff_id, &path.join(TAR), &made)?;
        let is_exact = match record.origin {
            Origin::Received => !self.kept(record.blobs.iter())?.is_empty(),
            Origin::Built => {
                made_of.skipped == Skipped::default()
                    && times.is_none_or(|(first, last)| keeps_times(&scratch.directory, first, last))
            }
        };
        let tree = path.join("tree");
        remove_tree(&tree)?;
        std::fs::rename(&made, &tree).map_err(failed("make", &tree))?;
        let form = if is_exact { Form::Tree } else { Form::Both };
        if form == Form::Tree {
            // an image may name the layer: its tar must not go before the tree is on the disk
            self.flush()?;
        }
        self.set_form(diff_id, form, made_of.skipped)?;
        if form == Form::Tree {
            drop_tar(&path)?;
        }
        Ok(())
    }

    /// Fills `tree` from the tar, and returns what is known of it with the earliest and the latest time of its entries.
    pub(crate) fn unpack_tar(&self, diff_id: &DiffId, tar: &Path, tree: &Path) -> Result<Unpacked, ApplyError> {
        let broken = |source| ApplyError::Tar { diff_id: diff_id.clone(), source };
        let file = File::open(tar).map_err(failed("open", tar))?;
        let mut builder = TreeBuilder::new(tree, self.overlay_xattrs()?, ForeignOwner::Counted)?;
        let mut entries = Entries::new(file);
        let mut times: Option<(Time, Time)> = None;
        while let Some(entry) = entries.next().map_err(broken)? {
            let time = entry.modified;
            times = Some(times.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
            builder.add(&entry, &mut entries).map_err(|fault| fault.into_error(diff_id))?;
        }
        let record = builder.finish().map_err(|fault| fault.into_error(diff_id))?;
        Ok((record, times))
    }

    fn set_form(&self, diff_id: &DiffId, form: Form, skipped: Skipped) -> Result<(), ApplyError> {
        let _lock = StoreLock::exclusive(self.root())?;
        let record = LayerRecord { form, skipped, ..self.read_layer(diff_id)? };
        Ok(self.write_record(&self.layer_path(diff_id).join("record.json"), &record)?)
    }

    /// Opens the tree of a layer that has one.
    pub(crate) fn open_layer_tree(&self, record: &LayerRecord) -> Result<OwnedFd, FileError> {
        let path = self.layer_path(&record.diff_id);
        if record.form == Form::Tree {
            drop_tar(&path)?;
        }
        let tree = path.join("tree");
        sys::open_directory(&tree).map_err(failed("open", &tree))
    }
}

type Unpacked = (LayerRecord, Option<(Time, Time)>);

/// Tells whether files keep times from `first` to `last` to the nanosecond; tried on `scratch`.
fn keeps_times(scratch: &Path, first: Time, last: Time) -> bool {
    let keeps = |time: Time| {
        let set = rustix::fs::utimensat(CWD, scratch, &sys::timestamps(time), AtFlags::empty());
        set.is_ok() && rustix::fs::stat(scratch).is_ok_and(|stat| sys::modified(&stat) == time)
    };
    keeps(Time { nanoseconds: 1, ..first }) && keeps(Time { nanoseconds: 999_999_999, ..last })
}

/// Removes a tar that a tree stands for, and its index; whoever was killed in between left them.
fn drop_tar(layer: &Path) -> Result<(), FileError> {
    for name in [INDEX, TAR] {
        let path = layer.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => {
                return Err(failed("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
