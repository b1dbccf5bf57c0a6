//! Makes the mounts of a RUN, and holds what they show until its process has ended.
//!
//! - A path of a stage, an image or a context is opened in its own root, links and all, and mounted by that handle: nothing of the
//!   host is reached, whoever changes a link meanwhile.
//! - Files that may be written to are a snapshot of their own, which nobody keeps.
//! - An agent gets a socket of its own, so that its owner and mode are those of the mount.
//! - Caches that have to be waited for are taken in the order of their ids, so that two steps never wait for each other.

use std::collections::{BTreeMap, HashMap};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dockerfile::Sharing;
use layer_store::{ActiveSnapshot, CacheMountSpec, CacheSharing, CopyUp, Lower, ScratchDirectory, Skeleton, View};
use runtime::{Access, GeneratedFile, GeneratedKind, Mount, MountSource, Tmpfs};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use ssh_agent::Serving;

use super::StepError;
use crate::exec_mount::{CacheMount, ExecMount, FilesMount, MountAccess, MountedFiles, Need, SecretMount, SshMount};
use crate::file_tree::open_below;
use crate::graph::Exec;
use crate::progress::Event;
use crate::sandbox::Lending;
use crate::solve::Solver;

/// How long a step waits before it asks for a cache again that somebody else has.
const PATIENCE: Duration = Duration::from_millis(20);

/// The mounts of one process.
pub(super) struct StepMounts {
    /// What the sandbox gets.
    pub(super) lending: Lending,
    _handles: Vec<OwnedFd>,
    _snapshots: Vec<ActiveSnapshot>,
    _views: HashMap<usize, View>,
    _caches: BTreeMap<String, layer_store::CacheMount>,
    _agents: Vec<(Serving, ScratchDirectory)>,
}

impl StepMounts {
    /// Makes the mounts of `exec`, which shows files of `inputs`.
    pub(super) fn make(solver: &Solver, exec: &Exec, inputs: &[Vec<Lower>]) -> Result<Self, StepError> {
        let mut making = Making {
            solver,
            inputs,
            lending: Lending::default(),
            handles: Vec::new(),
            snapshots: Vec::new(),
            views: HashMap::new(),
            agents: Vec::new(),
        };
        let caches = making.caches(exec)?;
        for mount in &exec.mounts {
            match mount {
                ExecMount::Files(mount) => making.files(mount)?,
                ExecMount::Cache(mount) => {
                    let path = caches[&mount.id].path().to_owned();
                    making.bind(path, &mount.target, mount.access);
                }
                ExecMount::Tmpfs(mount) => {
                    let source = MountSource::Tmpfs(Tmpfs { size: mount.size, ..Tmpfs::default() });
                    making.lending.mounts.push(Mount { source, target: mount.target.clone() });
                }
                ExecMount::Secret(mount) => making.secret(mount)?,
                ExecMount::Ssh(mount) => making.agent(mount)?,
            }
        }
        let Making { lending, handles, snapshots, views, agents, .. } = making;
        Ok(Self { lending, _handles: handles, _snapshots: snapshots, _views: views, _caches: caches, _agents: agents })
    }
}

/// Mounts in the making.
struct Making<'a> {
    solver: &'a Solver,
    inputs: &'a [Vec<Lower>],
    lending: Lending,
    handles: Vec<OwnedFd>,
    snapshots: Vec<ActiveSnapshot>,
    views: HashMap<usize, View>,
    agents: Vec<(Serving, ScratchDirectory)>,
}

impl Making<'_> {
    fn bind(&mut self, path: PathBuf, target: &str, access: MountAccess) {
        let access = match access {
            MountAccess::ReadOnly => Access::ReadOnly,
            MountAccess::ReadWrite => Access::ReadWrite,
        };
        self.lending.mounts.push(Mount { source: MountSource::Bind { path, access }, target: target.to_owned() });
    }

    fn files(&mut self, mount: &FilesMount) -> Result<(), StepError> {
        let handle = match mount.access {
            MountAccess::ReadOnly => open(self.view(mount.files.input)?, &mount.files)?,
            MountAccess::ReadWrite => {
                let below = &self.inputs[mount.files.input];
                let snapshot = self.solver.backend.store.prepare(below, Skeleton::None);
                let snapshot = snapshot.map_err(|source| StepError::Snapshot { source })?;
                let handle = open(snapshot.path(), &mount.files)?;
                self.snapshots.push(snapshot);
                handle
            }
        };
        self.bind(named(&handle), &mount.target, mount.access);
        self.handles.push(handle);
        Ok(())
    }

    /// Returns where the files of an input are mounted to be read.
    fn view(&mut self, input: usize) -> Result<&Path, StepError> {
        let store = &self.solver.backend.store;
        let view = match self.views.entry(input) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(store.view(&self.inputs[input]).map_err(|source| StepError::Snapshot { source })?)
            }
        };
        Ok(view.path())
    }

    /// Takes the caches of all mounts, by id.
    fn caches(&mut self, exec: &Exec) -> Result<BTreeMap<String, layer_store::CacheMount>, StepError> {
        let mut wanted: BTreeMap<&str, (&CacheMount, CacheSharing)> = BTreeMap::new();
        for mount in &exec.mounts {
            let ExecMount::Cache(mount) = mount else { continue };
            let sharing = sharing(mount.sharing);
            let known = wanted.entry(&mount.id).or_insert((mount, sharing));
            if sharing == CacheSharing::Locked {
                known.1 = sharing;
            }
        }
        let taken = wanted.into_iter().map(|(id, (mount, sharing))| Ok((id.to_owned(), self.cache(mount, sharing)?)));
        taken.collect()
    }

    /// Takes a cache, waiting for who has it.
    fn cache(&mut self, mount: &CacheMount, sharing: CacheSharing) -> Result<layer_store::CacheMount, StepError> {
        let spec = CacheMountSpec { id: mount.id.clone(), mode: mount.mode, owner: mount.owner };
        if let Some(files) = &mount.files {
            // what is not there is said also where the cache is
            open(self.view(files.input)?, files)?;
        }
        let copy_up = mount
            .files
            .as_ref()
            .map(|files| CopyUp { rootfs: self.views[&files.input].path(), target: Path::new(&files.source) });
        let failed = |source| StepError::CacheMount { id: mount.id.clone(), source };
        let mut is_told = false;
        loop {
            let taken = self.solver.backend.store.cache_mount(&spec, sharing, copy_up);
            if let Some(cache) = taken.map_err(failed)? {
                return Ok(cache);
            }
            if self.solver.stop.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            if !is_told {
                let text = format!("waiting for the cache `{}`, which somebody else uses", mount.id);
                self.solver.backend.progress.event(Event::Note { text: &text });
                is_told = true;
            }
            std::thread::sleep(PATIENCE);
        }
    }

    fn secret(&mut self, mount: &SecretMount) -> Result<(), StepError> {
        let Some(secret) = self.solver.backend.lent.secrets.get(&mount.id) else {
            return match mount.need {
                Need::Optional => Ok(()),
                Need::Required => Err(StepError::NoSecret { id: mount.id.clone() }),
            };
        };
        if let Some(name) = &mount.variable {
            let no_text = || StepError::SecretIsNoText { id: mount.id.clone(), variable: name.clone() };
            let value = std::str::from_utf8(secret.bytes()).ok().filter(|value| !value.contains('\0'));
            self.lending.env.push(format!("{name}={}", value.ok_or_else(no_text)?));
        }
        if let Some(target) = &mount.target {
            let kind = GeneratedKind::Secret { mode: mount.mode, owner: mount.owner };
            self.lending.files.push(GeneratedFile { path: target.clone(), contents: secret.bytes().to_vec(), kind });
        }
        Ok(())
    }

    fn agent(&mut self, mount: &SshMount) -> Result<(), StepError> {
        let Some(agent) = self.solver.backend.lent.agents.get(&mount.id) else {
            return match mount.need {
                Need::Optional => Ok(()),
                Need::Required => Err(StepError::NoAgent { id: mount.id.clone() }),
            };
        };
        let directory = self.solver.backend.store.scratch_directory();
        let directory = directory.map_err(|source| StepError::AgentDirectory { source })?;
        let socket = directory.path().join("agent");
        let serving = listen(&socket, mount).and_then(|listener| agent.serve(listener));
        let serving = serving.map_err(|source| StepError::Agent { id: mount.id.clone(), source })?;
        self.bind(socket, &mount.target, MountAccess::ReadWrite);
        self.agents.push((serving, directory));
        if !self.lending.env.iter().any(|entry| entry.starts_with("SSH_AUTH_SOCK=")) {
            self.lending.env.push(format!("SSH_AUTH_SOCK={}", mount.target));
        }
        Ok(())
    }
}

/// Opens what a mount shows, with links resolved as if `root` were `/`.
fn open(root: &Path, files: &MountedFiles) -> Result<OwnedFd, StepError> {
    let failed = |errno: Errno| StepError::MountSource { path: files.source.clone(), source: errno.into() };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty()).map_err(failed)?;
    open_below(&root, Path::new(&files.source), OFlags::PATH, ResolveFlags::IN_ROOT).map_err(failed)
}

/// Makes the socket of an agent, for whom the mount says.
fn listen(path: &Path, mount: &SshMount) -> io::Result<UnixListener> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // the address of a socket holds a hundred bytes, and the store may be anywhere
    let directory = std::fs::File::open(directory)?;
    let address = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    let listener = UnixListener::bind(&address)?;
    let (uid, gid) = mount.owner;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
    std::fs::set_permissions(path, Permissions::from_mode(mount.mode & 0o777))?;
    Ok(listener)
}

fn named(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

fn sharing(written: Sharing) -> CacheSharing {
    match written {
        Sharing::Shared => CacheSharing::Shared,
        Sharing::Private => CacheSharing::Private,
        Sharing::Locked => CacheSharing::Locked,
    }
}
