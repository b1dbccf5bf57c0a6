//! Control groups: the kernel's accounts of what a container takes, and the limits on them.
//!
//! ```text
//! Limits ─settings.rs▶ files and values ─directory.rs▶ one directory in each hierarchy that is needed ─▶ entrances
//!                                                                                                          │
//!              the child is cloned into it (version 2) or writes itself into it first of all (version 1) ◀──┘
//! ```
//!
//! - Only files are used, no daemon: what may be limited is what the files of this machine let us write.
//! - A container has one cgroup in each hierarchy that keeps one of its limits, and none elsewhere.
//! - Settings are written before the process joins. The name is `wharf-PID-START-NAMESPACE-N`, of the process that made it; it
//!   removes the cgroup when the container has ended, and of a process that was killed the next command does. Who is still in it is
//!   killed: with a pid namespace of its own a container leaves nobody, and in the host's only if its guard was killed.
//! - A limit that nobody asked for ([`PidsLimit::WherePossible`]) never keeps a container from starting.
//!
//! Decision and figures: `docs/adr/0010-cgroups-by-files.md`.

mod directory;
mod hierarchy;
mod settings;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use self::directory::{Directory, Entrance, Owner};
use self::hierarchy::{Hierarchy, Version};
pub use self::settings::Limit;
use self::settings::{Controller, most_pids, settings, wanted};
use crate::limits::{LimitHit, Limits, PidsLimit};

/// Why there is no cgroup that keeps a limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CgroupError {
    #[error("no cgroup of this machine has the controller `{controller}`")]
    NoController { controller: &'static str },
    #[error("cannot make a cgroup in `{}`", .parent.display())]
    Make { parent: PathBuf, source: io::Error },
    #[error("the cgroup `{}` holds other processes, and so can have no part with a limit", .path.display())]
    Shared { path: PathBuf },
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write `{value}` to `{}`", .path.display())]
    Write { path: PathBuf, value: String, source: io::Error },
    #[error("cannot open `{}`", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot limit the block device `{}`", .path.display())]
    Device { path: PathBuf, source: io::Error },
}

/// A limit that cannot be kept.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) limit: Limit,
    pub(crate) error: CgroupError,
}

/// Makes the cgroups of this process' containers.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    hierarchies: OnceLock<Vec<Hierarchy>>,
    made: AtomicU64,
}

impl Cgroups {
    /// Makes a cgroup that keeps `limits`; `None` where there is nothing to keep.
    pub(crate) fn make(&self, limits: &Limits) -> Result<Option<Cgroup>, Refused> {
        match self.make_all(limits) {
            Err(Refused { limit: Limit::Pids, .. }) if matches!(limits.pids, PidsLimit::WherePossible(_)) => {
                self.make_all(&Limits { pids: PidsLimit::Unlimited, ..limits.clone() })
            }
            other => other,
        }
    }

    fn make_all(&self, limits: &Limits) -> Result<Option<Cgroup>, Refused> {
        let mut parts: Vec<(&Hierarchy, Vec<Limit>)> = Vec::new();
        for limit in wanted(limits) {
            let hierarchy = self.keeper_of(limit).map_err(|error| Refused { limit, error })?;
            match parts.iter_mut().find(|(known, _)| *known == hierarchy) {
                Some((_, kept)) => kept.push(limit),
                None => parts.push((hierarchy, vec![limit])),
            }
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let owner = Owner::this().map_err(|error| Refused { limit: parts[0].1[0], error })?;
        let name = owner.directory_name(self.made.fetch_add(1, Ordering::Relaxed));
        let directories = parts.iter().map(|(hierarchy, kept)| make_part(hierarchy, kept, limits, &name));
        Ok(Some(Cgroup {
            directories: directories.collect::<Result<_, _>>()?,
            memory: limits.memory,
            pids: most_pids(limits.pids),
        }))
    }

    fn keeper_of(&self, limit: Limit) -> Result<&Hierarchy, CgroupError> {
        let controller = limit.controller();
        let missing = CgroupError::NoController { controller: controller.name(Version::Two) };
        self.hierarchies()?.iter().find(|hierarchy| hierarchy.has(controller)).ok_or(missing)
    }

    /// Finds the hierarchies when they are first needed, and sweeps what dead processes left in them.
    fn hierarchies(&self) -> Result<&Vec<Hierarchy>, CgroupError> {
        if let Some(found) = self.hierarchies.get() {
            return Ok(found);
        }
        let mut found = hierarchy::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        found.iter_mut().for_each(directory::survey);
        found.retain(|hierarchy| Controller::ALL.iter().any(|controller| hierarchy.has(*controller)));
        found.iter().for_each(directory::sweep);
        Ok(self.hierarchies.get_or_init(|| found))
    }
}

fn read(path: &str) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|source| CgroupError::Read { path: path.into(), source })
}

/// Makes the directory in one hierarchy and writes the settings of the limits that are `kept` there.
fn make_part(hierarchy: &Hierarchy, kept: &[Limit], limits: &Limits, name: &str) -> Result<Directory, Refused> {
    let refused = |limit| move |error| Refused { limit, error };
    let mut controllers: Vec<Controller> = Vec::new();
    for controller in kept.iter().map(|limit| limit.controller()) {
        if !controllers.contains(&controller) {
            controllers.push(controller);
        }
    }
    let made = Directory::make(hierarchy, controllers, name).map_err(refused(kept[0]))?;
    for &limit in kept {
        let settings = settings(limits, limit, hierarchy.version).map_err(refused(limit))?;
        settings.iter().try_for_each(|setting| made.write(setting)).map_err(refused(limit))?;
    }
    Ok(made)
}

/// The ways into the cgroup of a container.
#[derive(Debug, Default)]
pub(crate) struct Entrances {
    /// Files into which the process writes 0, for version 1.
    pub(crate) written: Vec<OwnedFd>,
    /// The directory into which it is cloned, for version 2.
    pub(crate) cloned: Option<OwnedFd>,
}

/// The cgroup of one container; dropped, it is removed, and whoever is in it is killed.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directories: Vec<Directory>,
    memory: Option<u64>,
    pids: Option<u64>,
}

impl Cgroup {
    /// Opens the ways in.
    pub(crate) fn entrances(&self) -> Result<Entrances, CgroupError> {
        let mut entrances = Entrances::default();
        for directory in &self.directories {
            match directory.open_entrance()? {
                Entrance::Written(file) => entrances.written.push(file),
                Entrance::Cloned(directory) => entrances.cloned = Some(directory),
            }
        }
        Ok(entrances)
    }

    /// Returns the limit that its processes ran into, the gravest if several.
    pub(crate) fn hit(&self) -> Option<LimitHit> {
        let memory = || {
            let limit = self.memory?;
            self.with(Controller::Memory)?.has_killed_for_memory().then_some(LimitHit::Memory { limit })
        };
        let pids = || {
            let limit = self.pids?;
            self.with(Controller::Pids)?.has_refused_processes().then_some(LimitHit::Pids { limit })
        };
        memory().or_else(pids)
    }

    fn with(&self, controller: Controller) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.controllers.contains(&controller))
    }
}
