//! Leases: what running commands hold, so that nobody removes it.
//!
//! ```text
//! leases/lock          shared: while a hold is written and its object looked for;  exclusive: while removal decides and renames
//! leases/<name>        locked by its command for as long as that lives; one line per hold: `layer sha256:…`
//! tmp/<name>/          that command's unfinished work
//! ```
//!
//! | step | may it race with a prune? |
//! |---|---|
//! | hold, then look | no: both happen under the shared lock, so a prune sees the hold, or the command sees that the object is gone |
//! | make, then rename into place | no: the hold is written before the object is visible |
//! | kill -9 | the lock goes with the process: the lease is void, and the next `open` sweeps it |
//!
//! Deleting happens after the exclusive lock is dropped: victims are only renamed under it.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use oci::{DiffId, Digest};
use rustix::fs::{FlockOperation, OFlags};

use crate::file_error::failed;
use crate::remove_tree::remove_tree;
use crate::store::{Inner, Purpose, list};
use crate::{FileError, ImageId, Store, VolumeName, sys};

/// How long a partial download is kept for somebody to continue it.
const PARTIAL_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// One thing that a command uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Layer(DiffId),
    Blob(Digest),
    Image(ImageId),
    Volume(VolumeName),
}

/// What commands hold, for those who remove.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    pub(crate) own: HashSet<Held>,
    pub(crate) others: HashSet<Held>,
    /// How many of the others hold a thing.
    times: HashMap<Held, u64>,
}

impl Holds {
    pub(crate) fn has(&self, held: &Held) -> bool {
        self.own.contains(held) || self.others.contains(held)
    }

    /// Returns how many running commands hold it, this one among them.
    pub(crate) fn users(&self, held: &Held) -> u64 {
        u64::from(self.own.contains(held)) + self.times.get(held).copied().unwrap_or(0)
    }
}

/// A command's lease.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    pub(crate) directory: PathBuf,
    file: File,
    held: Mutex<HashSet<Held>>,
    counter: AtomicU64,
}

impl Lease {
    pub(crate) fn new(root: &Path) -> Result<Self, FileError> {
        let _lock = StoreLock::shared(root)?;
        let name = generated_name(root)?;
        let path = root.join("leases").join(&name);
        let directory = root.join("tmp").join(&name);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(failed("write", &path))?;
        sys::flock(&file, FlockOperation::LockExclusive).map_err(failed("lock", &path))?;
        std::fs::create_dir(&directory).map_err(failed("make", &directory)).inspect_err(|_| {
            // what remains is void, and swept by the next `open`
            let _ = std::fs::remove_file(&path);
        })?;
        Ok(Self { path, directory, file, held: Mutex::default(), counter: AtomicU64::new(0) })
    }

    pub(crate) fn fresh(&self, purpose: &'static str) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{purpose}-{number}"))
    }

    fn has(&self, held: &Held) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(held)
    }

    fn add(&self, held: Held) -> Result<(), FileError> {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains(&held) {
            return Ok(());
        }
        (&self.file).write_all(held.line().as_bytes()).map_err(failed("write", &self.path))?;
        all.insert(held);
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let lease = self.lease.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(lease) = lease else { return };
        // mounts go before the directories that they are on
        self.mounted.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        // a failure leaves what the next `open` sweeps
        let _ = remove_tree(&lease.directory);
        let _ = std::fs::remove_file(&lease.path);
    }
}

impl Held {
    fn line(&self) -> String {
        match self {
            Self::Layer(diff_id) => format!("layer {diff_id}\n"),
            Self::Blob(digest) => format!("blob {digest}\n"),
            Self::Image(id) => format!("image {id}\n"),
            Self::Volume(name) => format!("volume {name}\n"),
        }
    }
}

impl FromStr for Held {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (kind, name) = line.split_once(' ').ok_or(())?;
        let digest = || name.parse::<Digest>().map_err(drop);
        match kind {
            "layer" => Ok(Self::Layer(DiffId(digest()?))),
            "blob" => Ok(Self::Blob(digest()?)),
            "image" => Ok(Self::Image(ImageId(digest()?))),
            "volume" => name.parse().map(Self::Volume).map_err(drop),
            _ => Err(()),
        }
    }
}

impl Store {
    /// Adds a hold, and tells whether `path`, its object, is there: if so it stays until this command ends.
    pub(crate) fn hold(&self, held: Held, path: &Path) -> Result<bool, FileError> {
        if self.0.purpose == Purpose::Look {
            return exists(path);
        }
        match self.try_hold(held, path) {
            // nobody can remove anything from a store that cannot be written
            Err(error) if error.source.kind() == io::ErrorKind::ReadOnlyFilesystem => exists(path),
            // on a full disk what is here can be read; if a prune takes it meanwhile, it is not found
            Err(error) if sys::is_full(&error.source) => exists(path),
            result => result,
        }
    }

    fn try_hold(&self, held: Held, path: &Path) -> Result<bool, FileError> {
        let lease = self.lease()?;
        if lease.has(&held) {
            return exists(path);
        }
        let _lock = StoreLock::shared(self.root())?;
        lease.add(held)?;
        exists(path)
    }

    /// Reads what every running command holds; the exclusive lock keeps them from holding more meanwhile.
    pub(crate) fn holds(&self, _lock: &StoreLock) -> Result<Holds, FileError> {
        self.read_holds()
    }

    /// Reads what every running command holds at the moment.
    pub(crate) fn read_holds(&self) -> Result<Holds, FileError> {
        let own = self.0.lease.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut holds = Holds::default();
        for path in leases(self.root())? {
            if own.as_ref().is_some_and(|own| own.path == path) || void(&path)?.is_some() {
                continue;
            }
            let Some(text) = read(&path)? else { continue };
            for held in text.lines().filter_map(|line| line.parse::<Held>().ok()) {
                *holds.times.entry(held.clone()).or_insert(0) += 1;
                holds.others.insert(held);
            }
        }
        if let Some(own) = own {
            holds.own = own.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        Ok(holds)
    }
}

/// The lock of the whole store, dropped with this value.
#[derive(Debug)]
pub(crate) struct StoreLock {
    _file: File,
}

impl StoreLock {
    pub(crate) fn shared(root: &Path) -> Result<Self, FileError> {
        Self::lock(root, FlockOperation::LockShared)
    }

    pub(crate) fn exclusive(root: &Path) -> Result<Self, FileError> {
        Self::lock(root, FlockOperation::LockExclusive)
    }

    fn lock(root: &Path, operation: FlockOperation) -> Result<Self, FileError> {
        let path = root.join("leases/lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(failed("open", &path))?;
        sys::flock(&file, operation).map_err(failed("lock", &path))?;
        Ok(Self { _file: file })
    }
}

/// Removes what dead commands left.
pub(crate) fn sweep(root: &Path) -> Result<(), FileError> {
    let abandoned = match collect_abandoned(root) {
        Err(error) if error.source.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(()),
        abandoned => abandoned?,
    };
    for path in abandoned {
        match remove_tree(&path) {
            // outside of its user namespace, a user cannot remove what a step made for other owners; inside, the next command can
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// Removes void leases, and returns the paths in `tmp/` that belong to no living command.
fn collect_abandoned(root: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = list(&root.join("tmp"))?;
    let leases_before = leases(root)?;
    if entries.is_empty() && leases_before.is_empty() {
        return Ok(Vec::new());
    }
    let _lock = StoreLock::exclusive(root)?;
    let mut alive = HashSet::new();
    for path in leases(root)? {
        match void(&path)? {
            Some(_void) => match std::fs::remove_file(&path) {
                // its command ended, and removed it, after it was found here
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed("remove", &path))?,
            },
            None => alive.extend(path.file_name().map(ToOwned::to_owned)),
        }
    }
    let mut abandoned = Vec::new();
    for path in list(&root.join("tmp"))? {
        let Some(name) = path.file_name() else { continue };
        let is_partial = name.to_string_lossy().starts_with(PARTIAL);
        if (is_partial && is_expired(&path)) || (!is_partial && !alive.contains(name)) {
            abandoned.push(path);
        }
    }
    Ok(abandoned)
}

/// The start of the names of partial downloads in `tmp/`.
pub(crate) const PARTIAL: &str = "partial-";

fn is_expired(partial: &Path) -> bool {
    let modified = std::fs::symlink_metadata(partial).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > PARTIAL_LIFETIME) && void(partial).is_ok_and(|file| file.is_some())
}

/// Returns the locked file when no living process holds its lock.
pub(crate) fn void(path: &Path) -> Result<Option<File>, FileError> {
    let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open", path)(error)),
    };
    match sys::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed("lock", path)(error)),
    }
}

fn leases(root: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut leases = list(&root.join("leases"))?;
    leases.retain(|path| path.file_name().is_some_and(|name| name != "lock"));
    Ok(leases)
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

pub(crate) fn exists(path: &Path) -> Result<bool, FileError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("find", path)(error)),
    }
}

fn generated_name(root: &Path) -> Result<String, FileError> {
    let mut random = [0_u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(failed("name a lease in", root))?;
    Ok(format!("{}-{}", std::process::id(), hex::encode(random)))
}

pub(crate) fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits().cast_signed()
}
