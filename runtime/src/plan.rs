//! Turns a [`Container`] into all that the child needs: strings, handles, the filter, allocated before it exists.
//!
//! The order of opening is the order of mounting, so that a target below an earlier mount is made inside that mount.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit};
use rustix::thread::CapabilitySet;

use crate::cgroup::{Cgroup, Entrances};
use crate::detached::{self, Console, DEVICES};
use crate::limits::{Bound, DEFAULT_SHM_SIZE, Limits};
use crate::runtime::{RunError, Runtime};
use crate::seccomp::Filter;
use crate::sys::{CStringArray, above_standard};
use crate::targets::{Kind, MadeTargets, TargetError, Targets};
use crate::terminal::{self, Pair};
use crate::{
    Access, Container, DeviceNodes, GeneratedKind, KernelFiles, Mount, MountSource, Namespace, Namespaces,
    NetworkNamespace, NewPrivileges, Stdio, SystemCalls, Tmpfs,
};

/// Searched when the environment of the container has no `PATH`; it is not set for the command.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const OPEN_FILES: (u64, u64) = (1024, 524_288);
const LONGEST_HOSTNAME: usize = 64;

/// All that the child needs.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rootfs: CString,
    pub(crate) root: OwnedFd,
    pub(crate) cgroups: Entrances,
    pub(crate) scratch: OwnedFd,
    pub(crate) dev: OwnedFd,
    pub(crate) pts: OwnedFd,
    pub(crate) shm: OwnedFd,
    pub(crate) devices: Vec<(OwnedFd, &'static CStr)>,
    /// Further nodes of the host, below `/dev`.
    pub(crate) host_devices: Vec<CString>,
    pub(crate) named_devices: Vec<PlannedMount>,
    pub(crate) mounts: Vec<PlannedMount>,
    pub(crate) files: Vec<PlannedFile>,
    pub(crate) thermal_throttle: Arc<Vec<CString>>,
    pub(crate) confinement: PlannedConfinement,
    pub(crate) network: NetworkPlan,
    pub(crate) namespaces: Namespaces,
    pub(crate) stdio: StdioPlan,
    pub(crate) hostname: Vec<u8>,
    pub(crate) cwd: CString,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    /// `None` where the namespace forbids `setgroups`.
    pub(crate) groups: Option<Vec<Gid>>,
    pub(crate) rlimits: Vec<(Resource, Rlimit)>,
    pub(crate) oom_score: Option<String>,
    pub(crate) args: CStringArray,
    pub(crate) env: CStringArray,
    pub(crate) candidates: Vec<CString>,
    pub(crate) own_binary: (u64, u64),
    pub(crate) status: OwnedFd,
    /// Numbers of all descriptors above, ascending.
    pub(crate) kept: Vec<u32>,
}

impl Plan {
    /// The flags of `clone` for the namespaces that are made with the process. The cgroup namespace is made by the child, once it is in
    /// its cgroup.
    pub(crate) fn clone_flags(&self) -> i32 {
        let Namespaces { ipc, uts, pid: _ } = self.namespaces;
        let own = |namespace, flag| if namespace == Namespace::Own { flag } else { 0 };
        let network = if matches!(self.network, NetworkPlan::New) { libc::CLONE_NEWNET } else { 0 };
        libc::CLONE_NEWNS | own(ipc, libc::CLONE_NEWIPC) | own(uts, libc::CLONE_NEWUTS) | network
    }

    /// Lists the descriptors that the child needs.
    fn descriptors(&self) -> Vec<u32> {
        let own = [&self.root, &self.scratch, &self.dev, &self.pts, &self.shm, &self.status];
        let devices = self.devices.iter().map(|(node, _)| node);
        let mounts = self.mounts.iter().chain(&self.named_devices).map(|mount| &mount.mount);
        let network = match &self.network {
            NetworkPlan::Given(namespace) => Some(&**namespace),
            NetworkPlan::New | NetworkPlan::Host => None,
        };
        let streams: &[OwnedFd] = match &self.stdio {
            StdioPlan::Inherit => &[],
            StdioPlan::Piped(streams) => streams,
            StdioPlan::Terminal(slave) => std::slice::from_ref(slave),
        };
        let all =
            own.into_iter().chain(&self.cgroups.written).chain(devices).chain(mounts).chain(network).chain(streams);
        let mut numbers: Vec<u32> = all.map(|descriptor| descriptor.as_raw_fd().cast_unsigned()).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// What the child gives up and hides.
#[derive(Debug)]
pub(crate) struct PlannedConfinement {
    pub(crate) kernel_files: KernelFiles,
    pub(crate) rootfs: Access,
    /// What stays in the bounding set.
    pub(crate) capabilities: CapabilitySet,
    /// `None`: every call goes through.
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) has_no_new_privs: bool,
}

impl PlannedConfinement {
    fn new(runtime: &Runtime, container: &Container) -> Result<Self, RunError> {
        let wanted = &container.confinement;
        let held = prepare("the capabilities", rustix::thread::capabilities(None))?.permitted;
        let capabilities = wanted.capabilities.granted(held).map_err(|name| RunError::Capability { name })?;
        let filter = match wanted.system_calls {
            SystemCalls::Filtered => Some(runtime.filter(capabilities)),
            SystemCalls::Unfiltered => None,
        };
        let has_no_new_privs = match wanted.new_privileges {
            NewPrivileges::DeniedToRoot => container.user.uid == 0,
            NewPrivileges::Denied => true,
            NewPrivileges::Allowed => false,
        };
        let (kernel_files, rootfs) = (wanted.kernel_files, wanted.rootfs);
        Ok(Self { kernel_files, rootfs, capabilities, filter, has_no_new_privs })
    }
}

/// A mount of the caller, and its real path relative to the root.
#[derive(Debug)]
pub(crate) struct PlannedMount {
    pub(crate) mount: OwnedFd,
    pub(crate) target: CString,
}

/// A generated file: its name in the scratch mount, and its real path relative to the root.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub(crate) name: CString,
    pub(crate) target: CString,
    pub(crate) kind: GeneratedKind,
}

#[derive(Debug)]
pub(crate) enum NetworkPlan {
    New,
    Host,
    Given(Arc<OwnedFd>),
}

#[derive(Debug)]
pub(crate) enum StdioPlan {
    Inherit,
    Piped([OwnedFd; 3]),
    Terminal(OwnedFd),
}

/// A plan and what stays behind in the parent.
pub(crate) struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) made: MadeTargets,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) terminal: Option<OwnedFd>,
    /// The end of the status pipe to read from.
    pub(crate) status: OwnedFd,
}

impl Prepared {
    /// Opens and allocates everything for `container`.
    pub(crate) fn new(runtime: &Runtime, container: &Container, stdio: Stdio) -> Result<Self, RunError> {
        check(runtime, container)?;
        let rootfs = std::path::absolute(&container.rootfs).map_err(|source| rootfs_error(container, source))?;
        let writable_root = open_rootfs(container, &rootfs, Access::ReadWrite)?;
        let host_devices = host_devices(container);
        let tty_group = runtime.tty_group();
        let pts = prepare("/dev/pts", detached::pts(tty_group))?;
        let (stdio, terminal) = plan_stdio(stdio, &pts, container.user.uid, tty_group)?;
        let (reader, status) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|errno| RunError::Spawn { source: errno.into() })?;
        let mut world = World {
            targets: Targets::new(duplicate(&writable_root)?),
            dev: prepare("/dev", detached::dev(&host_devices, console(&stdio)))?,
            shm: shm(container)?,
        };
        world.cover_system_directories(&writable_root)?;
        let named_devices = world.devices(container)?;
        let mounts = world.mounts(container)?;
        let files = world.files(container)?;
        let root = match container.confinement.rootfs {
            Access::ReadWrite => writable_root,
            Access::ReadOnly => open_rootfs(container, &rootfs, Access::ReadOnly)?,
        };
        let user = &container.user;
        let (cgroup, cgroups) = make_cgroup(runtime, &container.limits)?;
        let mut plan = Plan {
            rootfs: c_string("the root filesystem's path", rootfs.as_os_str().as_bytes())?,
            root,
            cgroups,
            scratch: detached::scratch(&container.files).map_err(|source| prepare_error("generated files", source))?,
            dev: world.dev,
            pts,
            shm: world.shm,
            devices: devices()?,
            host_devices,
            named_devices,
            mounts,
            files,
            thermal_throttle: runtime.thermal_throttle(),
            confinement: PlannedConfinement::new(runtime, container)?,
            network: plan_network(&container.network),
            namespaces: container.confinement.namespaces,
            stdio,
            hostname: container.hostname.clone().into_bytes(),
            cwd: c_string("the working directory", container.cwd.as_bytes())?,
            uid: Uid::from_raw(user.uid),
            gid: Gid::from_raw(user.gid),
            groups: runtime.may_set_groups().then(|| groups(container)),
            rlimits: rlimits(&container.limits),
            oom_score: container.limits.oom_score.map(|score| score.to_string()),
            args: c_strings("the command", &container.args)?,
            env: c_strings("the environment", &container.env)?,
            candidates: candidates(container)?,
            own_binary: own_binary()?,
            status: above(status)?,
            kept: Vec::new(),
        };
        plan.kept = plan.descriptors();
        Ok(Self { plan, made: world.targets.into_made(), cgroup, terminal, status: reader })
    }
}

/// Opens the root filesystem. Read-only it is another mount of it: targets are made and removed in the writable one.
fn open_rootfs(container: &Container, path: &Path, access: Access) -> Result<OwnedFd, RunError> {
    detached::rootfs(path, access, container.confinement.device_nodes)
        .map_err(|errno| rootfs_error(container, errno.into()))
}

fn console(stdio: &StdioPlan) -> Console {
    if matches!(stdio, StdioPlan::Terminal(_)) { Console::Present } else { Console::Absent }
}

fn shm(container: &Container) -> Result<OwnedFd, RunError> {
    match (container.confinement.namespaces.ipc, container.limits.shm_size) {
        (Namespace::Own, size) => prepare("/dev/shm", detached::shm(size.unwrap_or(DEFAULT_SHM_SIZE))),
        (Namespace::Host, None) => prepare("the host's /dev/shm", detached::host_shm()),
        (Namespace::Host, Some(_)) => Err(RunError::HostShm),
    }
}

fn host_devices(container: &Container) -> Vec<CString> {
    match container.confinement.device_nodes {
        DeviceNodes::Basic => Vec::new(),
        DeviceNodes::Host => detached::host_devices(),
    }
}

/// Refuses what can be seen to be wrong without opening anything.
fn check(runtime: &Runtime, container: &Container) -> Result<(), RunError> {
    if container.args.first().is_none_or(String::is_empty) {
        return Err(RunError::NoCommand);
    }
    if container.hostname.is_empty() || container.hostname.len() > LONGEST_HOSTNAME {
        return Err(RunError::Hostname { name: container.hostname.clone() });
    }
    if !container.cwd.starts_with('/') {
        let source = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(RunError::WorkingDirectory { path: container.cwd.clone(), source });
    }
    if let Some(entry) = container.env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
        return Err(RunError::Environment { entry: entry.clone() });
    }
    let user = &container.user;
    if !runtime.has_uid(user.uid) {
        return Err(RunError::UnmappedUser { id: user.uid });
    }
    let mut groups = std::iter::once(user.gid).chain(user.additional_gids.iter().copied());
    match groups.find(|group| !runtime.has_gid(*group)) {
        Some(id) => Err(RunError::UnmappedGroup { id }),
        None => Ok(()),
    }
}

/// The part of a plan in which mounts go above one another.
struct World {
    targets: Targets,
    dev: OwnedFd,
    shm: OwnedFd,
}

impl World {
    fn cover_system_directories(&mut self, root: &OwnedFd) -> Result<(), RunError> {
        for name in ["proc", "sys", "dev"] {
            let path = Path::new("/").join(name);
            let stat = rustix::fs::statat(root, name, AtFlags::SYMLINK_NOFOLLOW);
            if stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink) {
                return Err(RunError::LinkedSystemDirectory { path });
            }
            self.targets.ensure(&path, Kind::Directory).map_err(|problem| target_error(&path, problem))?;
        }
        self.targets.cover(Path::new("proc"), None);
        self.targets.cover(Path::new("sys"), None);
        self.targets.cover(Path::new("dev"), Some(duplicate(&self.dev)?));
        self.targets.cover(Path::new("dev/shm"), Some(duplicate(&self.shm)?));
        self.targets.cover(Path::new("dev/pts"), None);
        self.targets.cover(Path::new("dev/mqueue"), None);
        Ok(())
    }

    fn devices(&mut self, container: &Container) -> Result<Vec<PlannedMount>, RunError> {
        let mut planned = Vec::new();
        for device in &container.confinement.devices {
            let path = || device.host.clone();
            let node = detached::named_device(&device.host)
                .map_err(|errno| RunError::Device { path: path(), source: errno.into() })?
                .ok_or_else(|| RunError::NotADevice { path: path() })?;
            let target = Path::new(&device.target);
            let real = self.targets.ensure(target, Kind::File).map_err(|problem| target_error(target, problem))?;
            planned.push(PlannedMount { mount: node, target: c_string("a device", real.as_os_str().as_bytes())? });
        }
        Ok(planned)
    }

    fn mounts(&mut self, container: &Container) -> Result<Vec<PlannedMount>, RunError> {
        let mut planned = Vec::new();
        for mount in in_mount_order(container) {
            let handle = open_source(mount)?;
            let stat = rustix::fs::fstat(&handle).map_err(|errno| prepare_error(&mount.target, errno.into()))?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let kind = if is_directory { Kind::Directory } else { Kind::File };
            let target = Path::new(&mount.target);
            let real = self.targets.ensure(target, kind).map_err(|problem| target_error(target, problem))?;
            self.targets.cover(&real, Some(duplicate(&handle)?));
            planned.push(PlannedMount { mount: handle, target: c_string("a mount", real.as_os_str().as_bytes())? });
        }
        self.working_directory(container)?;
        Ok(planned)
    }

    /// Makes the working directory where it lies in a tmpfs, in which nobody else can make it.
    fn working_directory(&mut self, container: &Container) -> Result<(), RunError> {
        let cwd = Path::new(&container.cwd);
        let deepest = in_mount_order(container).into_iter().rfind(|mount| cwd.starts_with(&mount.target));
        match deepest {
            Some(Mount { source: MountSource::Tmpfs(Tmpfs { access: Access::ReadWrite, .. }), .. }) => {
                let made = self.targets.ensure(cwd, Kind::Directory);
                made.map(drop).map_err(|problem| target_error(cwd, problem))
            }
            _ => Ok(()),
        }
    }

    fn files(&mut self, container: &Container) -> Result<Vec<PlannedFile>, RunError> {
        let mut planned = Vec::new();
        for (number, file) in container.files.iter().enumerate() {
            let target = Path::new(&file.path);
            let real = self.targets.ensure(target, Kind::File).map_err(|problem| target_error(target, problem))?;
            let target = c_string("a generated file", real.as_os_str().as_bytes())?;
            planned.push(PlannedFile { name: detached::scratch_name(number), target, kind: file.kind });
        }
        Ok(planned)
    }
}

/// The caller's mounts, shallower targets first.
pub(crate) fn in_mount_order(container: &Container) -> Vec<&Mount> {
    let mut mounts: Vec<&Mount> = container.mounts.iter().collect();
    mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
    mounts
}

fn open_source(mount: &Mount) -> Result<OwnedFd, RunError> {
    match &mount.source {
        MountSource::Bind { path, access } => detached::bind(path, *access)
            .map_err(|errno| RunError::MountSource { path: path.clone(), source: errno.into() }),
        MountSource::Tmpfs(tmpfs) => prepare(&format!("a tmpfs for `{}`", mount.target), detached::tmpfs(tmpfs)),
    }
}

fn devices() -> Result<Vec<(OwnedFd, &'static CStr)>, RunError> {
    let open = |(name, major, minor): (&'static CStr, u32, u32)| match detached::device(name, major, minor) {
        Ok(node) => Ok((node, name)),
        Err(errno) => Err(prepare_error(&format!("/dev/{}", name.to_string_lossy()), errno.into())),
    };
    DEVICES.into_iter().map(open).collect()
}

fn plan_network(network: &NetworkNamespace) -> NetworkPlan {
    match network {
        NetworkNamespace::None => NetworkPlan::New,
        NetworkNamespace::Host => NetworkPlan::Host,
        NetworkNamespace::Given(namespace) => NetworkPlan::Given(Arc::clone(namespace)),
    }
}

fn plan_stdio(
    stdio: Stdio,
    pts: &OwnedFd,
    uid: u32,
    tty_group: Option<u32>,
) -> Result<(StdioPlan, Option<OwnedFd>), RunError> {
    match stdio {
        Stdio::Inherit => Ok((StdioPlan::Inherit, None)),
        Stdio::Piped { stdin, stdout, stderr } => {
            let stdin = stdin.map_or_else(open_null, Ok)?;
            Ok((StdioPlan::Piped([above(stdin)?, above(stdout)?, above(stderr)?]), None))
        }
        Stdio::Terminal { size } => {
            let Pair { master, slave } = prepare("a terminal", terminal::open(pts, size, uid, tty_group))?;
            Ok((StdioPlan::Terminal(above(slave)?), Some(master)))
        }
    }
}

fn open_null() -> Result<OwnedFd, RunError> {
    prepare("/dev/null", rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()))
}

/// The groups of the process: the primary one too, as docker and podman do, so that dropping it takes nothing away unseen.
fn groups(container: &Container) -> Vec<Gid> {
    let mut groups = vec![container.user.gid];
    for group in &container.user.additional_gids {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    groups.into_iter().map(Gid::from_raw).collect()
}

fn make_cgroup(runtime: &Runtime, limits: &Limits) -> Result<(Option<Cgroup>, Entrances), RunError> {
    let cgroup = runtime
        .cgroups()
        .make(limits)
        .map_err(|refused| RunError::Limit { limit: refused.limit, source: refused.error })?;
    let entrances = cgroup.as_ref().map(Cgroup::entrances).transpose();
    let entrances = entrances.map_err(|source| RunError::Cgroup { source })?;
    Ok((cgroup, entrances.unwrap_or_default()))
}

/// What the caller asks for, in that order, and the defaults for the rest.
fn rlimits(limits: &Limits) -> Vec<(Resource, Rlimit)> {
    let number = |bound| match bound {
        Bound::AtMost(number) => Some(number),
        Bound::Unlimited => None,
    };
    let asked = limits
        .ulimits
        .iter()
        .map(|ulimit| (ulimit.resource, Rlimit { current: number(ulimit.soft), maximum: number(ulimit.hard) }));
    let mut all: Vec<_> = asked.collect();
    let core = Rlimit { current: Some(0), maximum: Some(0) };
    for default in [(Resource::Nofile, open_files()), (Resource::Core, core)] {
        if !all.iter().any(|(resource, _)| *resource == default.0) {
            all.push(default);
        }
    }
    all
}

fn open_files() -> Rlimit {
    let hard = getrlimit(Resource::Nofile).maximum.map_or(OPEN_FILES.1, |hard| hard.min(OPEN_FILES.1));
    Rlimit { current: Some(hard.min(OPEN_FILES.0)), maximum: Some(hard) }
}

/// The paths to try for the command, as `execvp` would.
fn candidates(container: &Container) -> Result<Vec<CString>, RunError> {
    let Some(command) = container.args.first() else { return Err(RunError::NoCommand) };
    if command.contains('/') {
        return Ok(vec![c_string("the command", command.as_bytes())?]);
    }
    let path = container.env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':')
        .map(|directory| if directory.is_empty() { "." } else { directory })
        .map(|directory| c_string("the command", format!("{directory}/{command}").as_bytes()))
        .collect()
}

fn own_binary() -> Result<(u64, u64), RunError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata("/proc/self/exe").map_err(|source| prepare_error("/proc/self/exe", source))?;
    Ok((metadata.dev(), metadata.ino()))
}

fn c_string(what: &'static str, bytes: &[u8]) -> Result<CString, RunError> {
    CString::new(bytes).map_err(|_nul| RunError::Nul { what })
}

fn c_strings(what: &'static str, strings: &[String]) -> Result<CStringArray, RunError> {
    let strings: Result<Vec<_>, _> = strings.iter().map(|string| c_string(what, string.as_bytes())).collect();
    strings.map(CStringArray::new)
}

fn duplicate(handle: &OwnedFd) -> Result<OwnedFd, RunError> {
    handle.as_fd().try_clone_to_owned().map_err(|source| RunError::Spawn { source })
}

fn above(handle: OwnedFd) -> Result<OwnedFd, RunError> {
    above_standard(handle).map_err(|source| RunError::Spawn { source })
}

fn prepare<T>(object: &str, result: Result<T, rustix::io::Errno>) -> Result<T, RunError> {
    result.map_err(|errno| prepare_error(object, errno.into()))
}

fn prepare_error(object: &str, source: io::Error) -> RunError {
    RunError::Prepare { object: object.to_owned(), source }
}

fn rootfs_error(container: &Container, source: io::Error) -> RunError {
    RunError::Rootfs { path: container.rootfs.clone(), source }
}

fn target_error(path: &Path, problem: TargetError) -> RunError {
    let path = path.to_owned();
    match problem {
        TargetError::Path => RunError::TargetPath { path },
        TargetError::OfTheKernel => RunError::TargetOfTheKernel { path },
        TargetError::Kind => RunError::TargetKind { path },
        TargetError::System(errno) => RunError::Target { path, source: errno.into() },
    }
}
