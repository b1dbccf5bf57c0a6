//! Checks that the store is whole: that everything is here, and is what its digest says.
//!
//! ```text
//! survey: what names there are ─▶ examine each, several at the same time ─▶ faults ─examine again─▶ problems ─mend─▶ check again
//! ```
//!
//! | file | what is examined |
//! |---|---|
//! | `blob` | the bytes under a digest |
//! | `layer` | a layer in each form that it is kept in |
//! | `image` | images, their names, cache records: that each leads to what it names |
//! | `place` | cache mounts, volumes, and names that are nobody's |
//! | `mend` | what is done about each problem |
//!
//! - No lock is taken while something is examined, so nobody waits. What commands make is complete before it is visible, and they
//!   remove names before what these lead to: a fault that is still there when it is looked at again is one.
//! - What has no name and is of no use to anybody (garbage) is no fault: a prune removes it. What dead commands left in `leases/`
//!   and `tmp/` went when the store was opened.
//! - Nothing that is whole is removed, and nothing that nobody knows: beside the store's own directories everything is left alone.

mod blob;
mod image;
mod layer;
mod mend;
mod place;

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use oci::{Descriptor, DiffId, Digest, DocumentError};

use crate::lease::Holds;
use crate::needs::{Contents, Needed};
use crate::{FileError, ImageId, RecordError, Store, VolumeName};

pub use mend::{MendError, Repaired};

/// How much of the store is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Names, sizes and records.
    Quick,
    /// All bytes too.
    Whole,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many of each kind were examined.
    pub examined: BTreeMap<SubjectKind, u64>,
    /// Layers whose bytes nobody can verify: others wrote them, and their blob is not here.
    pub unverified: Vec<DiffId>,
    /// What is wrong, in the order in which it is mended.
    pub problems: Vec<Problem>,
}

/// The kinds of things that are examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SubjectKind {
    Blob,
    Layer,
    Image,
    Tag,
    CacheRecord,
    CacheMount,
    Volume,
    Stray,
}

impl SubjectKind {
    /// Returns its name, as messages use it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Layer => "layer",
            Self::Image => "image",
            Self::Tag => "name",
            Self::CacheRecord => "cache record",
            Self::CacheMount => "cache mount",
            Self::Volume => "volume",
            Self::Stray => "file",
        }
    }
}

/// Something that is examined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Blob(Digest),
    Layer(DiffId),
    Image(ImageId),
    Tag(PathBuf),
    CacheRecord(PathBuf),
    CacheMount(PathBuf),
    Volume(VolumeName),
    Stray(PathBuf),
}

impl Subject {
    fn kind(&self) -> SubjectKind {
        match self {
            Self::Blob(_) => SubjectKind::Blob,
            Self::Layer(_) => SubjectKind::Layer,
            Self::Image(_) => SubjectKind::Image,
            Self::Tag(_) => SubjectKind::Tag,
            Self::CacheRecord(_) => SubjectKind::CacheRecord,
            Self::CacheMount(_) => SubjectKind::CacheMount,
            Self::Volume(_) => SubjectKind::Volume,
            Self::Stray(_) => SubjectKind::Stray,
        }
    }

    fn path(&self, store: &Store) -> PathBuf {
        match self {
            Self::Blob(digest) => store.blob_path(digest),
            Self::Layer(diff_id) => store.layer_path(diff_id),
            Self::Image(id) => store.image_path(id),
            Self::Volume(name) => store.volume_path(name),
            Self::Tag(path) | Self::CacheRecord(path) | Self::CacheMount(path) | Self::Stray(path) => path.clone(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Blob(digest) => digest.to_string(),
            Self::Layer(diff_id) => diff_id.to_string(),
            Self::Image(id) => id.to_string(),
            Self::Volume(name) => name.to_string(),
            Self::Tag(path) | Self::CacheRecord(path) | Self::CacheMount(path) => {
                path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
            }
            Self::Stray(path) => path.display().to_string(),
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug)]
pub struct Problem {
    /// What kind of thing it is.
    pub kind: SubjectKind,
    /// Its name: a digest, a reference, a volume's, a path.
    pub name: String,
    /// What is wrong.
    pub fault: Fault,
    /// What mends it.
    pub repair: Repair,
    pub(crate) subject: Subject,
    /// The file that was examined; `None` when there was none.
    pub(crate) inode: Option<u64>,
}

impl Problem {
    fn new(subject: &Subject, fault: Fault, repair: Repair) -> Self {
        Self { kind: subject.kind(), name: subject.name(), fault, repair, subject: subject.clone(), inode: None }
    }
}

/// What is wrong with something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum Fault {
    #[error("its record cannot be read")]
    Record(#[source] RecordError),
    #[error("it has no record")]
    NoRecord,
    #[error("its record is of another")]
    ForeignRecord,
    #[error("it cannot be read")]
    Unreadable(#[source] FileError),
    #[error("its bytes have digest {actual}")]
    Bytes { actual: Digest },
    #[error("it is not here")]
    NotHere,
    #[error("its `{name}` is not here")]
    Part { name: &'static str },
    #[error("its tar has {actual} bytes, but its record says {expected}")]
    TarSize { expected: u64, actual: u64 },
    #[error("its tar has diff ID {actual}")]
    Tar { actual: DiffId },
    #[error("its index is not that of its tar")]
    Index,
    #[error("its tree has diff ID {actual}")]
    Tree { actual: DiffId },
    #[error("its tree is not what its tar unpacks to")]
    TreeDiffers,
    #[error("its config {digest} is not here")]
    NoConfig { digest: Digest },
    #[error("its config cannot be read")]
    Config(#[source] DocumentError),
    #[error("its config names other layers than its record")]
    OtherLayers,
    #[error("its layer {diff_id} is not here")]
    NoLayer { diff_id: DiffId },
    #[error("blob {digest} of its manifest {manifest} is not here")]
    NoBlob { manifest: Digest, digest: Digest },
    #[error("it means image {id}, which is not here")]
    NoImage { id: ImageId },
    #[error("no version of the store gives this name")]
    Stray,
}

/// What mends a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// It is removed.
    Remove,
    /// It is removed, and so are these images with their names, which cannot be used without it.
    RemoveWithImages(Vec<ImageId>),
    /// It is made again from this blob, which is here.
    Apply(Box<Descriptor>),
    /// Its index is made again from its tar.
    MakeIndex,
    /// The image forgets this manifest, and goes out under another.
    ForgetManifest(Digest),
    /// Its record is written anew.
    WriteRecord,
    /// It gets an empty directory of data.
    MakeData,
    /// Nothing is done: nobody knows what it is.
    Leave,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remove => f.write_str("removes it"),
            Self::RemoveWithImages(images) => {
                let ids: Vec<&str> = images.iter().map(|id| id.0.short()).collect();
                write!(f, "removes it, and what cannot be used without it: image {}", ids.join(", "))
            }
            Self::Apply(blob) => write!(f, "makes it again from blob {}", blob.digest),
            Self::MakeIndex => f.write_str("makes its index again"),
            Self::ForgetManifest(digest) => write!(f, "forgets manifest {digest}"),
            Self::WriteRecord => f.write_str("writes its record anew"),
            Self::MakeData => f.write_str("makes it empty"),
            Self::Leave => f.write_str("leaves it alone"),
        }
    }
}

/// Why a store could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CheckError {
    #[error(transparent)]
    File(#[from] FileError),
}

/// What an examination came to.
enum Verdict {
    Whole,
    /// Nothing can tell.
    Unverified,
    Problem(Box<Problem>),
}

/// What the store holds, and who needs it.
struct Survey {
    contents: Contents,
    needed: Needed,
    /// Bytes of blobs, as records say.
    sizes: BTreeMap<Digest, u64>,
    subjects: Vec<Subject>,
    depth: Depth,
}

impl Store {
    /// Checks that the store is whole; other commands may work with it meanwhile.
    ///
    /// # Errors
    ///
    /// [`CheckError::File`] when the store cannot be listed.
    pub fn check(&self, depth: Depth) -> Result<Checked, CheckError> {
        if depth == Depth::Whole {
            // what trees are read by: without it, nothing can be said of any
            self.overlay_xattrs()?;
        }
        let survey = self.survey(depth)?;
        let mut checked = Checked::default();
        for subject in &survey.subjects {
            *checked.examined.entry(subject.kind()).or_default() += 1;
        }
        let suspects = self.examine_all(&survey)?;
        if suspects.is_empty() {
            return Ok(checked);
        }
        let again = self.survey(depth)?;
        for subject in suspects {
            let inode = place::look(&subject.path(self))?.map(|metadata| metadata.ino());
            match (self.examine(&subject, &again)?, subject) {
                (Verdict::Problem(problem), _) => checked.problems.push(Problem { inode, ..*problem }),
                (Verdict::Unverified, Subject::Layer(diff_id)) => checked.unverified.push(diff_id),
                _ => {}
            }
        }
        checked.problems.sort_by_key(|problem| problem.kind);
        Ok(checked)
    }

    fn survey(&self, depth: Depth) -> Result<Survey, FileError> {
        let contents = Contents::read(self)?;
        let needed = contents.needed(contents.images.keys(), contents.cached_layers(), &Holds::default());
        let mut subjects: Vec<Subject> = contents.blobs.iter().cloned().map(Subject::Blob).collect();
        let missing = needed.layers.iter().filter(|diff_id| !contents.layers.contains_key(*diff_id));
        subjects.extend(contents.layers.keys().chain(missing).cloned().map(Subject::Layer));
        subjects.extend(contents.images.keys().cloned().map(Subject::Image));
        subjects.extend(self.named_subjects()?);
        let sizes = self.named_sizes(&contents);
        Ok(Survey { contents, needed, sizes, subjects, depth })
    }

    fn named_sizes(&self, contents: &Contents) -> BTreeMap<Digest, u64> {
        let images = contents.images.keys().filter_map(|id| self.read_image(id).ok());
        let of_images = images.flat_map(|record| record.manifests).flat_map(|known| {
            let mut blobs = known.blobs;
            blobs.push(known.manifest);
            blobs
        });
        let layers = contents.layers.keys().filter_map(|diff_id| self.read_layer(diff_id).ok());
        of_images.chain(layers.flat_map(|record| record.blobs)).map(|blob| (blob.digest, blob.size)).collect()
    }

    /// Examines everything, and returns what may be wrong.
    fn examine_all(&self, survey: &Survey) -> Result<Vec<Subject>, CheckError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut suspects = Vec::new();
            while let Some(subject) = survey.subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !matches!(self.examine(subject, survey)?, Verdict::Whole) {
                    suspects.push(subject.clone());
                }
            }
            Ok(suspects)
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(survey.subjects.len());
        thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let joined = running.into_iter().map(|thread| thread.join());
            let found = joined.map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            found.collect::<Result<Vec<_>, _>>().map(|found| found.concat())
        })
    }

    fn examine(&self, subject: &Subject, survey: &Survey) -> Result<Verdict, CheckError> {
        let found = match subject {
            Subject::Layer(diff_id) => return Ok(self.examine_layer(diff_id, survey)?),
            Subject::Blob(digest) => self.examine_blob(digest, survey)?,
            Subject::Image(id) => self.examine_image(id, survey),
            Subject::Tag(path) => self.examine_tag(path)?,
            Subject::CacheRecord(path) => self.examine_cache_record(path, survey)?,
            Subject::CacheMount(path) => self.examine_cache_mount(path)?,
            Subject::Volume(name) => self.examine_volume(name)?,
            Subject::Stray(path) => self.examine_stray(path)?,
        };
        Ok(found.map_or(Verdict::Whole, |problem| Verdict::Problem(Box::new(problem))))
    }
}
