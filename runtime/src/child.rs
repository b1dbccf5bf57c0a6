//! What the child does between `clone3` and `execve`: the steps of [`Step`], in their order.
//!
//! - It runs in a copy of a process whose other threads are gone, perhaps in the middle of `malloc`. So it makes system calls on
//!   what `plan.rs` allocated, and nothing else: no allocation, lock, formatting or panic. `rustix` calls take C strings here.
//! - The first failure ends it: step, object and errno go through the status pipe as twelve bytes. The pipe closes by `execve`.
//! - Up to [`Step::Pivot`] the files of the host are there, but only handles are used, and targets are found below them without
//!   following a link. From then on no path can leave the root filesystem, and from [`Step::CloseFiles`] on no descriptor does.
//!
//! `/proc`: a fresh one needs a pid namespace of our own user namespace. Rootless with the host's processes it is the host's.
//!
//! `/sys`: a fresh one needs a network namespace of our own user namespace. Rootless with the host's network it is the host's,
//! read-only; where even that is refused it is empty. `/sys/fs/cgroup` is always the unified hierarchy of the new cgroup namespace,
//! read-only: on hosts with version 1 controllers it shows none of the limits, which are not in that hierarchy. Only a kernel
//! without cgroup2, or an empty `/sys`, goes without. Both can be written to where the caller says so.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{Signal, setrlimit};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, set_capabilities};

use crate::capabilities::{dropped, only};
use crate::detached::{CONSOLE, EMPTY};
use crate::kernel_paths::{MASKED_PROC, MASKED_SYS, READ_ONLY_PROC};
use crate::plan::{NetworkPlan, Plan, PlannedFile, StdioPlan};
use crate::sys::{self, Block, Reach};
use crate::{Access, GeneratedKind, KernelFiles, Namespace, Step};

/// Where the status pipe is once the other descriptors are closed.
const STATUS: i32 = 3;

/// The step that failed, on which of its objects, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) object: u32,
    pub(crate) errno: Errno,
}

/// Bytes of a failure in the status pipe.
pub(crate) const FAILURE_SIZE: usize = 12;

impl Failure {
    fn to_bytes(&self) -> [u8; FAILURE_SIZE] {
        let mut bytes = [0; FAILURE_SIZE];
        let words = [self.step as u32, self.object, self.errno.raw_os_error().cast_unsigned()];
        for (to, from) in bytes.iter_mut().zip(words.iter().flat_map(|word| word.to_ne_bytes())) {
            *to = from;
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<4>() else { return None };
        let [step, object, errno] = words else { return None };
        let step = Step::from_number(u32::from_ne_bytes(*step))?;
        let errno = Errno::from_raw_os_error(i32::from_ne_bytes(*errno));
        Some(Self { step, object: u32::from_ne_bytes(*object), errno })
    }
}

fn at(step: Step) -> impl Fn(Errno) -> Failure {
    on(step, 0)
}

fn on(step: Step, object: usize) -> impl Fn(Errno) -> Failure {
    move |errno| Failure { step, object: u32::try_from(object).unwrap_or(u32::MAX), errno }
}

/// Becomes the command, or reports why not.
pub(crate) fn run(plan: &Plan) -> ! {
    if let Err(failure) = build_world(plan).and_then(|()| take_standard_streams(plan)) {
        report(plan.status.as_fd(), &failure);
    }
    match become_command(plan) {
        Err(failure) => report(sys::borrow(STATUS), &failure),
        Ok(never) => match never {},
    }
}

pub(crate) fn report(status: BorrowedFd<'_>, failure: &Failure) -> ! {
    let _nobody_left_to_tell = rustix::io::write(status, &failure.to_bytes());
    sys::exit_now(1)
}

fn build_world(plan: &Plan) -> Result<(), Failure> {
    sys::close_all_but(&plan.kept).map_err(at(Step::CloseForeign))?;
    join_cgroups(plan)?;
    match &plan.network {
        NetworkPlan::Host => (),
        NetworkPlan::New => sys::raise_loopback().map_err(at(Step::RaiseLoopback))?,
        NetworkPlan::Given(namespace) => {
            let kind = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).map_err(at(Step::JoinNetwork))?;
        }
    }
    rustix::process::setsid().map_err(at(Step::NewSession))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private).map_err(at(Step::PrivateMounts))?;
    place_below_host(&plan.scratch, plan).map_err(at(Step::AttachScratch))?;
    place_below_host(&plan.root, plan).map_err(at(Step::AttachRoot))?;
    mount_dev(plan)?;
    mount_kernel_filesystems(plan)?;
    for (number, device) in plan.named_devices.iter().enumerate() {
        attach(&device.mount, &plan.root, &device.target).map_err(on(Step::AttachNamedDevice, number))?;
    }
    for (number, mount) in plan.mounts.iter().enumerate() {
        attach(&mount.mount, &plan.root, &mount.target).map_err(on(Step::AttachMount, number))?;
    }
    for (number, file) in plan.files.iter().enumerate() {
        attach_file(plan, file).map_err(on(Step::AttachFile, number))?;
    }
    pivot(plan).map_err(at(Step::Pivot))
}

/// Joins the cgroups; the namespace that is made then shows them as its root.
fn join_cgroups(plan: &Plan) -> Result<(), Failure> {
    for entrance in &plan.cgroups.written {
        rustix::io::write(entrance, b"0").map_err(at(Step::JoinCgroup))?;
    }
    sys::unshare(libc::CLONE_NEWCGROUP).map_err(at(Step::NewCgroupNamespace))
}

/// Attaches a mount where the host has the root filesystem, above what is there.
fn place_below_host(mount: &OwnedFd, plan: &Plan) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::openat(CWD, plan.rootfs.as_c_str(), flags, Mode::empty())?;
    move_onto(mount, &place)
}

fn move_onto(mount: &OwnedFd, place: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", place, c"", flags)
}

/// Opens `path` below `root` without following a link.
fn find(root: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn attach(mount: &OwnedFd, root: &OwnedFd, target: &CStr) -> Result<(), Errno> {
    move_onto(mount, &find(root, target)?)
}

fn clone_mount(from: impl AsFd, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(from, path, flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
}

/// Attaches a generated file; the directory that holds them lets no program run.
fn attach_file(plan: &Plan, file: &PlannedFile) -> Result<(), Errno> {
    let mount = clone_mount(&plan.scratch, &file.name)?;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into();
    match file.kind {
        GeneratedKind::Program => {
            let clear = MountAttrFlags::MOUNT_ATTR_NOEXEC.bits().into();
            sys::change_mount(mount.as_fd(), (read_only, clear), Reach::Mount)?;
        }
        GeneratedKind::Data if plan.confinement.rootfs == Access::ReadWrite => {}
        GeneratedKind::Data | GeneratedKind::Secret { .. } => {
            sys::restrict_mount(mount.as_fd(), read_only, Reach::Mount)?;
        }
    }
    attach(&mount, &plan.root, &file.target)
}

/// Makes a mount of the namespaces that this process is in.
fn fresh(kind: &CStr, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", kind)?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

const INERT: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV).union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
const READ_ONLY: MountAttrFlags = INERT.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

fn mount_dev(plan: &Plan) -> Result<(), Failure> {
    attach(&plan.dev, &plan.root, c"dev").map_err(at(Step::AttachDev))?;
    for (number, (node, name)) in plan.devices.iter().enumerate() {
        attach(node, &plan.dev, name).map_err(on(Step::AttachDevice, number))?;
    }
    mount_host_devices(plan).map_err(on(Step::AttachDevice, usize::MAX))?;
    attach(&plan.pts, &plan.dev, c"pts").map_err(at(Step::AttachPts))?;
    if matches!(plan.stdio, StdioPlan::Terminal(_)) {
        mount_console(plan).map_err(at(Step::AttachPts))?;
    }
    attach(&plan.shm, &plan.dev, c"shm").map_err(at(Step::AttachShm))?;
    mount_queues(plan).map_err(at(Step::MountMqueue))
}

/// Attaches the terminal, the first in its instance, as the console.
fn mount_console(plan: &Plan) -> Result<(), Errno> {
    let terminal = clone_mount(&plan.pts, c"0")?;
    attach(&terminal, &plan.dev, CONSOLE)
}

/// The message queues. Without root, those of the host are there if it has them mounted.
fn mount_queues(plan: &Plan) -> Result<(), Errno> {
    let queues = match fresh(c"mqueue", INERT) {
        Err(Errno::PERM) if plan.namespaces.ipc == Namespace::Host => match host_queues() {
            Ok(Some(queues)) => queues,
            Ok(None) | Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        },
        other => other?,
    };
    attach(&queues, &plan.dev, c"mqueue")
}

fn host_queues() -> Result<Option<OwnedFd>, Errno> {
    const MQUEUE_MAGIC: u64 = 0x1980_0202;
    let queues = host_mount(c"/dev/mqueue", INERT)?;
    let is_queues = rustix::fs::fstatfs(&queues)?.f_type.cast_unsigned() == MQUEUE_MAGIC;
    Ok(is_queues.then_some(queues))
}

/// Attaches the nodes of the host's own `/dev`; one that has gone since is left out.
fn mount_host_devices(plan: &Plan) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let host = rustix::fs::openat(CWD, c"/dev", flags, Mode::empty())?;
    for path in &plan.host_devices {
        match clone_mount(&host, path) {
            Err(Errno::NOENT) => (),
            node => attach(&node?, &plan.dev, path)?,
        }
    }
    Ok(())
}

fn mount_kernel_filesystems(plan: &Plan) -> Result<(), Failure> {
    let proc = new_proc(plan).map_err(at(Step::MountProc))?;
    attach(&proc, &plan.root, c"proc").map_err(at(Step::MountProc))?;
    set_oom_score(plan, &proc).map_err(at(Step::OomScore))?;
    let access = if plan.confinement.kernel_files == KernelFiles::Writable { INERT } else { READ_ONLY };
    let sys = new_sys(plan, access).map_err(at(Step::MountSys))?;
    attach(&sys, &plan.root, c"sys").map_err(at(Step::MountSys))?;
    mount_cgroup(&sys, access).map_err(at(Step::MountCgroup))?;
    if plan.confinement.kernel_files == KernelFiles::Masked {
        hide_kernel_files(plan, &proc, &sys)?;
    }
    Ok(())
}

fn hide_kernel_files(plan: &Plan, proc: &OwnedFd, sys: &OwnedFd) -> Result<(), Failure> {
    for path in MASKED_PROC {
        mask(plan, proc, path).map_err(at(Step::Mask))?;
    }
    for path in MASKED_SYS.iter().copied().chain(plan.thermal_throttle.iter().map(|path| path.as_c_str())) {
        mask(plan, sys, path).map_err(at(Step::Mask))?;
    }
    for path in READ_ONLY_PROC {
        protect(proc, path).map_err(at(Step::ProtectKernelFile))?;
    }
    Ok(())
}

fn new_proc(plan: &Plan) -> Result<OwnedFd, Errno> {
    match fresh(c"proc", INERT) {
        Err(Errno::PERM) if plan.namespaces.pid == Namespace::Host => host_mount(c"/proc", INERT),
        other => other,
    }
}

fn new_sys(plan: &Plan, access: MountAttrFlags) -> Result<OwnedFd, Errno> {
    match fresh(c"sysfs", access) {
        Err(Errno::PERM) => host_mount(c"/sys", access).or_else(|_refused| empty_directory(plan)),
        other => other,
    }
}

/// A mount of the host, with those below it.
fn host_mount(path: &CStr, access: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let mount = clone_mount(CWD, path)?;
    sys::restrict_mount(mount.as_fd(), access.bits().into(), Reach::Tree)?;
    Ok(mount)
}

fn empty_directory(plan: &Plan) -> Result<OwnedFd, Errno> {
    let empty = clone_mount(&plan.scratch, EMPTY)?;
    sys::restrict_mount(empty.as_fd(), READ_ONLY.bits().into(), Reach::Mount)?;
    Ok(empty)
}

fn set_oom_score(plan: &Plan, proc: &OwnedFd) -> Result<(), Errno> {
    let Some(score) = &plan.oom_score else { return Ok(()) };
    let file = rustix::fs::openat(proc, c"self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, score.as_bytes()).map(drop)
}

fn mount_cgroup(sys: &OwnedFd, access: MountAttrFlags) -> Result<(), Errno> {
    let cgroup = match fresh(c"cgroup2", access) {
        Err(Errno::NODEV) => return Ok(()),
        other => other?,
    };
    match attach(&cgroup, sys, c"fs/cgroup") {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Hides a file behind `/dev/null`, a directory behind an empty one.
fn mask(plan: &Plan, root: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    let place = match find(root, path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other?,
    };
    let stat = rustix::fs::fstat(&place)?;
    let cover = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        empty_directory(plan)?
    } else {
        clone_mount(&plan.dev, c"null")?
    };
    move_onto(&cover, &place)
}

fn protect(root: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    let tree = match clone_mount(root, path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    sys::restrict_mount(tree.as_fd(), READ_ONLY.bits().into(), Reach::Tree)?;
    attach(&tree, root, path)
}

/// Makes the root filesystem the root, and detaches the old one, which lies above it for a moment.
fn pivot(plan: &Plan) -> Result<(), Errno> {
    rustix::process::fchdir(&plan.root)?;
    rustix::process::pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")
}

fn take_standard_streams(plan: &Plan) -> Result<(), Failure> {
    let step = || at(Step::Stdio);
    let streams = match &plan.stdio {
        StdioPlan::Inherit => None,
        StdioPlan::Piped(streams) => Some(streams.each_ref().map(|stream| stream.as_fd())),
        StdioPlan::Terminal(slave) => {
            rustix::process::ioctl_tiocsctty(slave).map_err(step())?;
            Some([slave.as_fd(); 3])
        }
    };
    for (number, stream) in (0..).zip(streams.into_iter().flatten()) {
        sys::duplicate(stream, number).map_err(step())?;
    }
    sys::duplicate(plan.status.as_fd(), STATUS).map_err(at(Step::CloseFiles))?;
    sys::close_range(STATUS.cast_unsigned() + 1, u32::MAX).map_err(at(Step::CloseFiles))
}

fn become_command(plan: &Plan) -> Result<Infallible, Failure> {
    if plan.namespaces.uts == Namespace::Own {
        rustix::system::sethostname(&plan.hostname).map_err(at(Step::Hostname))?;
    }
    enter_working_directory(&plan.cwd).map_err(at(Step::WorkingDirectory))?;
    limit(plan)?;
    sys::reset_signals();
    sys::block_signals(Block::None);
    bound_capabilities(plan.confinement.capabilities).map_err(at(Step::BoundCapabilities))?;
    become_user(plan).map_err(at(Step::Identity))?;
    if plan.namespaces.pid == Namespace::Host {
        // should the guard be killed; a change of the user would have cleared it
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(at(Step::Watch))?;
    }
    give_up_privileges(plan)?;
    execute(plan)
}

fn give_up_privileges(plan: &Plan) -> Result<(), Failure> {
    let keep = |set| set_capabilities(None, only(set)).map_err(at(Step::Capabilities));
    let kept = if plan.uid.is_root() { plan.confinement.capabilities } else { CapabilitySet::empty() };
    if plan.confinement.has_no_new_privs {
        keep(kept)?;
        rustix::thread::set_no_new_privs(true).map_err(at(Step::Capabilities))?;
        install_filter(plan).map_err(at(Step::Seccomp))
    } else {
        // Without no_new_privs, which would break sudo, a filter needs this capability: it goes right after.
        keep(kept | CapabilitySet::SYS_ADMIN)?;
        rustix::thread::set_keep_capabilities(false).map_err(at(Step::Capabilities))?;
        install_filter(plan).map_err(at(Step::Seccomp))?;
        keep(kept)
    }
}

fn enter_working_directory(cwd: &CStr) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, c"/", flags, Mode::empty())?;
    let directory = sys::open_in_root(&root, cwd, flags)?;
    rustix::process::fchdir(&directory)?;
    sys::check_reachable()
}

fn limit(plan: &Plan) -> Result<(), Failure> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    for (number, &(resource, limit)) in plan.rlimits.iter().enumerate() {
        setrlimit(resource, limit).map_err(on(Step::Limits, number))?;
    }
    Ok(())
}

fn bound_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    for capability in dropped(kept) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // Beyond the last that this kernel knows.
            Err(Errno::INVAL) => (),
            other => other?,
        }
    }
    rustix::thread::clear_ambient_capability_set()
}

fn become_user(plan: &Plan) -> Result<(), Errno> {
    if let Some(groups) = &plan.groups {
        rustix::thread::set_thread_groups(groups)?;
    }
    rustix::thread::set_keep_capabilities(true)?;
    rustix::thread::set_thread_res_gid(plan.gid, plan.gid, plan.gid)?;
    rustix::thread::set_thread_res_uid(plan.uid, plan.uid, plan.uid)
}

fn install_filter(plan: &Plan) -> Result<(), Errno> {
    plan.confinement.filter.as_ref().map_or(Ok(()), |filter| sys::install_filter(&filter.program))
}

/// Tries the candidates as `execvp` does: a missing one is skipped, a forbidden one remembered, anything else is final.
fn execute(plan: &Plan) -> Result<Infallible, Failure> {
    let mut outcome = Failure { step: Step::Execute, object: 0, errno: Errno::NOENT };
    for (number, candidate) in plan.candidates.iter().enumerate() {
        if is_own_binary(plan, candidate) {
            return Err(on(Step::OwnBinary, number)(Errno::ACCESS));
        }
        match sys::execute(candidate, &plan.args, &plan.env) {
            Errno::NOENT if outcome.errno == Errno::NOENT && rustix::fs::stat(candidate.as_c_str()).is_ok() => {
                outcome = on(Step::Interpreter, number)(Errno::NOENT);
            }
            Errno::NOENT | Errno::NOTDIR => (),
            Errno::ACCESS => outcome = on(Step::Execute, number)(Errno::ACCESS),
            errno => return Err(on(Step::Execute, number)(errno)),
        }
    }
    Err(outcome)
}

/// Whether `execve` of `path` would run this very program, as itself or as the interpreter of a script.
///
/// `/proc/self/exe` is still the host's program here. Run in the container it would load the image's libraries, and could be
/// written to once nothing of the host runs it.
fn is_own_binary(plan: &Plan, path: &CStr) -> bool {
    const DEEPEST_SCRIPT: usize = 6;
    let mut script = [0_u8; 256];
    let mut name = [0_u8; 257];
    for _ in 0..DEEPEST_SCRIPT {
        let Ok(path) = CStr::from_bytes_until_nul(&name).map(|found| if found.is_empty() { path } else { found })
        else {
            return false;
        };
        let Ok(stat) = rustix::fs::stat(path) else { return false };
        if (stat.st_dev, stat.st_ino) == plan.own_binary {
            return true;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return false;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            // A limit of open files must not keep us from looking.
            Err(Errno::MFILE) => return true,
            Err(_) => return false,
            Ok(file) => file,
        };
        let Ok(length) = rustix::io::read(&file, &mut script) else { return false };
        let Some(interpreter) = script.get(..length).and_then(interpreter) else { return false };
        name = [0; 257];
        name.iter_mut().zip(interpreter).for_each(|(to, from)| *to = *from);
    }
    false
}

/// The path after `#!`.
fn interpreter(script: &[u8]) -> Option<&[u8]> {
    let line = script.strip_prefix(b"#!")?.split(|byte| matches!(byte, b'\n' | b'\0')).next()?;
    line.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_pipe() {
        let failure = Failure { step: Step::AttachMount, object: 7, errno: Errno::NOTDIR };
        let read = Failure::from_bytes(&failure.to_bytes()).unwrap();
        assert_eq!((read.step, read.object, read.errno), (Step::AttachMount, 7, Errno::NOTDIR));
        assert!(Failure::from_bytes(&[0; FAILURE_SIZE]).is_none());
        assert!(Failure::from_bytes(&[1, 2, 3]).is_none());
    }

    #[test]
    fn the_interpreter_is_the_first_word_after_the_mark() {
        for (script, expected) in [
            ("#!/bin/sh\n", Some("/bin/sh")),
            ("#! \t/usr/bin/env -S x\n", Some("/usr/bin/env")),
            ("#!/no/newline", Some("/no/newline")),
            ("#!\n/bin/sh", None),
            ("\u{7f}ELF", None),
            ("", None),
        ] {
            assert_eq!(interpreter(script.as_bytes()), expected.map(str::as_bytes), "{script:?}");
        }
    }
}
