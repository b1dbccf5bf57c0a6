//! Named volumes: directories that containers share and that outlive them.
//!
//! ```text
//! volumes/<name>/_data/         what containers see
//!                record.json    when it was made, and its labels; a directory without one is no volume
//!
//! nothing ─make─▶ tmp/<lease>/volume-<n>/ ─rename─▶ a volume ─▶ used (volume_fill) ─remove─▶ tmp/<lease>/trash-<n>/ ─▶ nothing
//! ```
//!
//! - A command holds what it uses (`lease`), so that nobody removes it meanwhile; any number may use one at the same time.
//! - No prune of images or of the build cache looks at volumes: what is in them cannot be made again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::file_error::failed;
use crate::flushed::flush_directory;
use crate::lease::{Held, StoreLock, exists};
use crate::prune::{Victim, measured, remove};
use crate::store::list;
use crate::{FileError, Freed, FreedKind, LabelFilter, RecordError, Store, VolumeName, record};

/// The directory of a volume that containers see.
pub(crate) const DATA: &str = "_data";
pub(crate) const RECORD: &str = "record.json";

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// When it was made.
    pub created: SystemTime,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The directory that containers see.
    pub data: PathBuf,
}

impl Volume {
    /// The label of volumes that nobody gave a name.
    pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
}

/// Which volumes to remove: only those that no running command uses.
#[derive(Clone, Debug, Default)]
pub struct VolumePrune {
    /// Also those that somebody gave a name.
    pub named: bool,
    /// Only those for which all of these hold.
    pub labels: Vec<LabelFilter>,
    /// Whether to tell only what would be removed.
    pub dry_run: bool,
}

/// Why a volume could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum VolumeError {
    #[error("no volume is called `{name}`")]
    NotFound { name: VolumeName },
    #[error("volume `{name}` is used by a command that is running")]
    InUse { name: VolumeName },
    #[error("volume `{name}` cannot be read")]
    Record { name: VolumeName, source: RecordError },
    #[error(transparent)]
    File(#[from] FileError),
}

/// The file beside the data.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VolumeRecord {
    /// Nanoseconds since 1970.
    created: u64,
    labels: BTreeMap<String, String>,
}

impl VolumeRecord {
    fn new(labels: BTreeMap<String, String>) -> Self {
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { created: u64::try_from(created.as_nanos()).unwrap_or(u64::MAX), labels }
    }
}

impl Store {
    /// Finds a volume.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotFound`].
    pub fn volume(&self, name: &VolumeName) -> Result<Volume, VolumeError> {
        self.read_volume(name)?.ok_or_else(|| VolumeError::NotFound { name: name.clone() })
    }

    /// Finds a volume, or makes it with these labels; this command holds it.
    ///
    /// # Errors
    ///
    /// [`VolumeError::File`] when it cannot be made.
    pub fn make_volume(&self, name: &VolumeName, labels: &BTreeMap<String, String>) -> Result<Volume, VolumeError> {
        let path = self.volume_path(name);
        self.hold(Held::Volume(name.clone()), &path)?;
        if let Some(volume) = self.read_volume(name)? {
            return Ok(volume);
        }
        let scratch = self.scratch("volume")?;
        let made = scratch.make("new")?;
        make_data(&made)?;
        self.write_lasting_record(&made.join(RECORD), &VolumeRecord::new(labels.clone()))?;
        let lock = StoreLock::exclusive(self.root())?;
        if self.read_volume(name)?.is_none() {
            if exists(&path)? {
                // a removal on a full disk was killed
                std::fs::rename(&path, scratch.directory.join("old")).map_err(failed("remove", &path))?;
            }
            std::fs::rename(&made, &path).map_err(failed("make", &path))?;
            flush_directory(&self.root().join("volumes"))?;
        }
        drop(lock);
        self.volume(name)
    }

    /// Writes the record of a volume anew, without labels: what is in the volume is kept.
    pub(crate) fn rewrite_volume(&self, name: &VolumeName) -> Result<(), VolumeError> {
        Ok(self.write_lasting_record(&self.volume_path(name).join(RECORD), &VolumeRecord::new(BTreeMap::new()))?)
    }

    /// Lists the volumes by name; one that cannot be read is an error of its own.
    ///
    /// # Errors
    ///
    /// [`VolumeError::File`] when the store cannot be listed.
    pub fn volumes(&self) -> Result<Vec<Result<Volume, VolumeError>>, VolumeError> {
        let paths = list(&self.root().join("volumes"))?;
        let names = paths.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok());
        Ok(names.filter_map(|name| self.read_volume(&name).transpose()).collect())
    }

    /// Returns the names of the volumes that running commands use.
    ///
    /// # Errors
    ///
    /// [`VolumeError::File`] when the store cannot be read.
    pub fn used_volumes(&self) -> Result<BTreeSet<VolumeName>, VolumeError> {
        let holds = self.read_holds()?;
        let held = holds.own.into_iter().chain(holds.others);
        Ok(held.filter_map(|held| if let Held::Volume(name) = held { Some(name) } else { None }).collect())
    }

    /// Removes a volume with all that is in it.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotFound`]; [`VolumeError::InUse`] when another running command uses it.
    pub fn remove_volume(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let trash = self.trash()?;
        let lock = StoreLock::exclusive(self.root())?;
        let path = self.volume_path(name);
        if !exists(&path)? {
            return Err(VolumeError::NotFound { name: name.clone() });
        }
        if self.holds(&lock)?.others.contains(&Held::Volume(name.clone())) {
            return Err(VolumeError::InUse { name: name.clone() });
        }
        let victim = Victim::new(FreedKind::Volume, name, "it was asked for", path);
        remove(vec![victim], trash.as_deref(), lock)?;
        Ok(())
    }

    /// Removes volumes that no running command uses, and returns them.
    ///
    /// # Errors
    ///
    /// [`VolumeError::File`] when the store cannot be read or one cannot be removed; what was removed before stays so.
    pub fn prune_volumes(&self, what: &VolumePrune) -> Result<Vec<Freed>, VolumeError> {
        if what.dry_run {
            let victims = self.volumes_to_prune(what, &self.used_volumes()?)?;
            return Ok(victims.into_iter().filter_map(|victim| measured(victim.freed, &victim.path)).collect());
        }
        let trash = self.trash()?;
        let lock = StoreLock::exclusive(self.root())?;
        let victims = self.volumes_to_prune(what, &self.used_volumes()?)?;
        Ok(remove(victims, trash.as_deref(), lock)?)
    }

    fn volumes_to_prune(&self, what: &VolumePrune, used: &BTreeSet<VolumeName>) -> Result<Vec<Victim>, VolumeError> {
        let is_meant = |volume: &Volume| {
            let is_of_kind = what.named || volume.labels.contains_key(Volume::ANONYMOUS);
            is_of_kind && !used.contains(&volume.name) && what.labels.iter().all(|filter| filter.holds(&volume.labels))
        };
        // of one that cannot be read nobody knows whether it is meant
        let volumes = self.volumes()?.into_iter().filter_map(Result::ok).filter(is_meant);
        let why = "no running command uses it";
        Ok(volumes
            .map(|volume| Victim::new(FreedKind::Volume, &volume.name, why, self.volume_path(&volume.name)))
            .collect())
    }

    fn read_volume(&self, name: &VolumeName) -> Result<Option<Volume>, VolumeError> {
        let path = self.volume_path(name);
        let record = record::read::<VolumeRecord>(&path.join(RECORD));
        let record = record.map_err(|source| VolumeError::Record { name: name.clone(), source })?;
        Ok(record.map(|VolumeRecord { created, labels }| Volume {
            name: name.clone(),
            created: SystemTime::UNIX_EPOCH + Duration::from_nanos(created),
            labels,
            data: path.join(DATA),
        }))
    }
}

/// Makes an empty directory for a volume's data: its owner's to write, everybody's to read.
pub(crate) fn make_data(parent: &Path) -> Result<PathBuf, FileError> {
    let data = parent.join(DATA);
    std::fs::create_dir(&data).map_err(failed("make", &data))?;
    std::fs::set_permissions(&data, Permissions::from_mode(0o755)).map_err(failed("make", &data))?;
    Ok(data)
}
