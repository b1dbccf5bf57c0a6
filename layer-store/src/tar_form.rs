//! Layers that stay tars: the tar as it came, and an index through which the kernel, and `files`, read it.
//!
//! ```text
//! tar ─┬─▶ SHA-256 (diff ID), layers/<diff-id>/layer.tar        (`tar_output`)
//!      └─▶ entries ─▶ layers/<diff-id>/layer.erofs              (`index`)  ─mount─▶ a lower directory  (`erofs`)
//! ```
//!
//! - One pass: what is written was hashed, and what is indexed was written.
//! - An index can be made again from its tar at any time: one that is missing or damaged is, under the lock of the layer's directory.
//! - What an index cannot show (too many entries, sparse files at odd places) becomes a tree.
//! - Where indexes cannot be mounted the tree is made (`tree_form`); the index still tells `files` what is in the tar.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use oci::{DiffId, Digest, Hasher};
use rustix::fs::FlockOperation;

use crate::apply::entries::{Entries, Entry};
use crate::driver::Driver;
use crate::erofs::MountedIndex;
use crate::file_error::failed;
use crate::index::{IndexBuilder, IndexFault, IndexFile, IndexImage, Unsuitable};
use crate::layers::LayerRecord;
use crate::tar_output::Output;
use crate::tree_tar::writer::Pieces;
use crate::{ApplyError, FileError, LayerError, SnapshotError, Store, TarError, sys};

/// The name of a layer's tar in its directory.
pub(crate) const TAR: &str = "layer.tar";
/// The name of its index.
pub(crate) const INDEX: &str = "layer.erofs";
/// Bytes that are read at each header of a tar whose contents are passed over: enough for one with an extended header.
const HEADERS: usize = 2 << 10;
/// Entries of all tars that a command indexes at a time, at most: layers arrive together, and an index in the making takes memory.
const MAX_ENTRIES: u64 = 500_000;
/// Bytes that go to the file at once.
const PIECE: usize = 256 << 10;

/// A tar that was read to its end.
pub(crate) struct KeptTar<'a> {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) index: Result<Making<'a>, Unsuitable>,
}

/// Reads `tar` to its end, and keeps and indexes it in `directory`.
pub(crate) fn keep<'a>(
    directory: &Path,
    tar: impl Read,
    diff_id: &DiffId,
    indexing: &'a Indexing,
) -> Result<KeptTar<'a>, ApplyError> {
    let path = directory.join(TAR);
    let output = Output::create(&path, Hasher::new(diff_id.0.algorithm())).map_err(failed("make", &path))?;
    let mut keeping = Keeping { tar, output, piece: vec![0; PIECE], filled: 0, fault: None };
    let index = index_of(Entries::new(&mut keeping), |_| Ok(()), indexing);
    // what an index cannot show is kept all the same
    let is_tar = matches!(index, Ok(_) | Err(NoIndex::Fault(IndexFault::Unsuitable(_))));
    let rest = is_tar.then(|| io::copy(&mut keeping, &mut io::sink()));
    if let Some(fault) = keeping.fault {
        return Err(failed("write", &path)(fault).into());
    }
    let broken = |source| ApplyError::Tar { diff_id: diff_id.clone(), source };
    let index = match index {
        Ok(index) => Ok(index),
        Err(NoIndex::Tar(source)) => return Err(broken(source)),
        Err(NoIndex::Fault(IndexFault::Apply(error))) => return Err(error),
        Err(NoIndex::Fault(IndexFault::Unsuitable(why))) => Err(why),
    };
    rest.transpose().map_err(|error| broken(TarError::Read(error)))?;
    let (digest, size) = keeping.finish().map_err(failed("write", &path))?;
    Ok(KeptTar { digest, size, index })
}

/// Writes an index to its place in `directory`, which is not visible yet.
pub(crate) fn write_index(directory: &Path, image: &IndexImage) -> Result<(), FileError> {
    let path = directory.join(INDEX);
    let written = File::create_new(&path).and_then(|file| {
        let mut file = io::BufWriter::with_capacity(PIECE, file);
        image.write(&mut file)?;
        io::Write::flush(&mut file)
    });
    written.map_err(failed("write", &path))
}

impl Store {
    /// Opens the root directory of a layer that is a tar, mounted through its index; `None` when that cannot be done here.
    pub(crate) fn open_indexed(&self, record: &LayerRecord) -> Result<Option<OwnedFd>, SnapshotError> {
        if self.is_tree_only()? {
            return Ok(None);
        }
        let mut mounted = self.0.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = mounted.get(&record.diff_id) {
            return copy(index).map(Some);
        }
        let Some(index) = self.mount_index(record)? else { return Ok(None) };
        let root = copy(&index)?;
        mounted.insert(record.diff_id.clone(), index);
        Ok(Some(root))
    }

    fn mount_index(&self, record: &LayerRecord) -> Result<Option<MountedIndex>, SnapshotError> {
        let diff_id = &record.diff_id;
        let tree = |source| SnapshotError::Tree { diff_id: diff_id.clone(), source };
        let directory = self.layer_path(diff_id);
        let target = self.temporary_directory("erofs")?;
        let mount = || MountedIndex::new(&directory.join(INDEX), &directory.join(TAR), target.clone());
        if let Ok(index) = mount() {
            return Ok(Some(index));
        }
        // it may be missing or damaged, the tar may have become a tree just now, or nothing of the kind works here
        if self.driver()?.driver == Driver::Tree || self.make_index(diff_id).map_err(tree)?.is_none() {
            return Ok(None);
        }
        mount().map(Some).map_err(|source| SnapshotError::Index { diff_id: diff_id.clone(), source })
    }

    /// Returns what the index of a layer that is a tar tells; `None` when the layer needs a tree, or has become one.
    pub(crate) fn layer_index(&self, diff_id: &DiffId) -> Result<Option<Arc<IndexFile>>, ApplyError> {
        let mut indexes = self.0.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = indexes.get(diff_id) {
            return Ok(Some(Arc::clone(index)));
        }
        let path = self.layer_path(diff_id).join(INDEX);
        let read = || File::open(&path).and_then(|file| IndexFile::open(&file));
        let index = match read() {
            Ok(index) => index,
            Err(_) if self.make_index(diff_id)?.is_none() => return Ok(None),
            Err(_) => read().map_err(failed("read", &path))?,
        };
        let index = Arc::new(index);
        indexes.insert(diff_id.clone(), Arc::clone(&index));
        Ok(Some(index))
    }

    /// Makes the index of a layer anew; `None` when the layer is no tar any more, or one that an index cannot show.
    pub(crate) fn make_index(&self, diff_id: &DiffId) -> Result<Option<()>, ApplyError> {
        let path = self.layer_path(diff_id);
        let directory = sys::open_directory(&path).map_err(failed("open", &path))?;
        sys::flock(&directory, FlockOperation::LockExclusive).map_err(failed("lock", &path))?;
        let record = self.read_layer(diff_id)?;
        let Some(tar) = self.open_layer_tar(diff_id)? else { return Ok(None) };
        let Ok((_, image)) = index(tar.into_inner(), record.tar_size, diff_id, &self.0.indexing)? else {
            return Ok(None);
        };
        let scratch = self.scratch("index")?;
        write_index(&scratch.directory, &image)?;
        let index = path.join(INDEX);
        std::fs::rename(scratch.directory.join(INDEX), &index).map_err(failed("make", &index))?;
        Ok(Some(()))
    }

    /// Opens the tar of a layer as a file that ends where the tar does; `None` when it has become a tree.
    pub(crate) fn open_layer_tar(&self, diff_id: &DiffId) -> Result<Option<io::Take<File>>, LayerError> {
        let path = self.layer_path(diff_id).join(TAR);
        loop {
            let record = self.read_layer(diff_id)?;
            if !record.form.has_tar() {
                return Ok(None);
            }
            match File::open(&path) {
                Ok(file) => return Ok(Some(file.take(record.tar_size))),
                // somebody has just made the tree
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.read_layer(diff_id)?.form.has_tree() => {}
                Err(error) => return Err(failed("open", &path)(error).into()),
            }
        }
    }
}

/// Indexes a tar of `size` bytes that is a file, passing over its contents.
pub(crate) fn index(
    tar: File,
    size: u64,
    diff_id: &DiffId,
    indexing: &Indexing,
) -> Result<Result<(LayerRecord, IndexImage), Unsuitable>, ApplyError> {
    let made = index_of(Entries::with_buffer(tar, HEADERS), Entries::pass_content, indexing);
    match made.and_then(|index| index.finish(size).map_err(NoIndex::Fault)) {
        Ok(made) => Ok(Ok(made)),
        Err(NoIndex::Fault(IndexFault::Unsuitable(why))) => Ok(Err(why)),
        Err(NoIndex::Fault(IndexFault::Apply(error))) => Err(error),
        Err(NoIndex::Tar(source)) => Err(ApplyError::Tar { diff_id: diff_id.clone(), source }),
    }
}

fn copy(index: &MountedIndex) -> Result<OwnedFd, SnapshotError> {
    let root = index.root().as_fd().try_clone_to_owned();
    root.map_err(|source| FileError { action: "open", path: index.target().to_owned(), source }.into())
}

/// Why there is no index of a tar.
enum NoIndex {
    Tar(TarError),
    Fault(IndexFault),
}

/// Counts the entries of all tars that are being indexed.
#[derive(Debug, Default)]
pub(crate) struct Indexing(AtomicU64);

/// An index in the making.
pub(crate) struct Making<'a> {
    index: IndexBuilder,
    counted: Counted<'a>,
}

/// The entries of one tar.
struct Counted<'a> {
    indexing: &'a Indexing,
    entries: u64,
}

impl Making<'_> {
    fn add(&mut self, entry: &Entry, content: u64) -> Result<(), IndexFault> {
        self.counted.entries += 1;
        if self.counted.indexing.0.fetch_add(1, Ordering::Relaxed) >= MAX_ENTRIES {
            return Err(IndexFault::Unsuitable(Unsuitable::TooManyEntries));
        }
        self.index.add(entry, content)
    }

    /// Ends the index of a tar of `tar_size` bytes.
    pub(crate) fn finish(self, tar_size: u64) -> Result<(LayerRecord, IndexImage), IndexFault> {
        self.index.finish(tar_size)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.indexing.0.fetch_sub(self.entries, Ordering::Relaxed);
    }
}

/// Indexes all entries; `pass` may skip the content of one.
fn index_of<'a, R: Read>(
    mut entries: Entries<R>,
    pass: fn(&mut Entries<R>) -> Result<(), TarError>,
    indexing: &'a Indexing,
) -> Result<Making<'a>, NoIndex> {
    let mut index = Making { index: IndexBuilder::new(), counted: Counted { indexing, entries: 0 } };
    while let Some(entry) = entries.next().map_err(NoIndex::Tar)? {
        index.add(&entry, entries.position()).map_err(NoIndex::Fault)?;
        pass(&mut entries).map_err(NoIndex::Tar)?;
    }
    Ok(index)
}

/// A tar that is written to a file as it is read.
struct Keeping<R> {
    tar: R,
    output: Output,
    piece: Vec<u8>,
    filled: usize,
    /// Why it could not be written: no fault of who is read from.
    fault: Option<io::Error>,
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(buffer)?;
        self.write(&buffer[..count]).map_err(|error| {
            let kind = error.kind();
            self.fault = Some(error);
            io::Error::from(kind)
        })?;
        Ok(count)
    }
}

impl<R> Keeping<R> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.filled == self.piece.len() {
                self.piece = self.output.take(std::mem::take(&mut self.piece), self.filled)?;
                self.filled = 0;
            }
            let count = bytes.len().min(self.piece.len() - self.filled);
            self.piece[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.output.take(self.piece, self.filled)?;
        self.output.finish()
    }
}
