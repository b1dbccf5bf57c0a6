//! Starts containers.
//!
//! Not here: how a process comes to be allowed to (`enter.rs`), what is prepared (`plan.rs`), what the child does (`child.rs`).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::cgroup::{CgroupError, Cgroups, Limit};
use crate::child::{FAILURE_SIZE, Failure};
use crate::detached::DEVICES;
use crate::enter::Entered;
use crate::guard::{self, Guard};
use crate::kernel_paths;
use crate::plan::{Plan, Prepared};
use crate::running::Process;
use crate::seccomp::Filter;
use crate::spawner::Spawner;
use crate::{Container, Missing, Namespace, Privilege, Running, Stdio, Step, Ulimit};

/// The right to run containers, and what they share: the usual filter, the thread that makes them. Made by [`crate::enter`].
///
/// Dropped, it ends with the last container that it started.
#[derive(Debug)]
pub struct Runtime {
    entered: Entered,
    filter: OnceLock<Arc<Filter>>,
    thermal_throttle: OnceLock<Arc<Vec<CString>>>,
    cgroups: Cgroups,
    spawner: Mutex<Option<Arc<Spawner>>>,
}

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum RunError {
    #[error("cannot run `{}`: {problem}", .name.escape_debug())]
    Command { name: String, problem: CommandProblem, source: io::Error },
    #[error("there is no command to run")]
    NoCommand,
    #[error("{what} holds a NUL byte")]
    Nul { what: &'static str },
    #[error("environment entry `{}` is not `NAME=value`", .entry.escape_debug())]
    Environment { entry: String },
    #[error("hostname `{}` is empty or longer than 64 bytes", .name.escape_debug())]
    Hostname { name: String },
    #[error("user id {id} does not exist in this user namespace")]
    UnmappedUser { id: u32 },
    #[error("group id {id} does not exist in this user namespace")]
    UnmappedGroup { id: u32 },
    #[error("cannot use the root filesystem `{}`", .path.display())]
    Rootfs { path: PathBuf, source: io::Error },
    #[error("cannot enter the working directory `{}` in the container", .path.escape_debug())]
    WorkingDirectory { path: String, source: io::Error },
    #[error("`{}` of the root filesystem is a symbolic link", .path.display())]
    LinkedSystemDirectory { path: PathBuf },
    #[error("cannot mount `{}`", .path.display())]
    MountSource { path: PathBuf, source: io::Error },
    #[error("mount target `{}` is not an absolute path below the root", .path.display())]
    TargetPath { path: PathBuf },
    #[error("mount target `{}` is in a filesystem of the kernel", .path.display())]
    TargetOfTheKernel { path: PathBuf },
    #[error("mount target `{}` is a directory where a file is mounted, or the other way round", .path.display())]
    TargetKind { path: PathBuf },
    #[error("cannot use the mount target `{}`", .path.display())]
    Target { path: PathBuf, source: io::Error },
    #[error("cannot limit {limit}")]
    Limit { limit: Limit, source: CgroupError },
    #[error("cannot use the cgroup of the container")]
    Cgroup { source: CgroupError },
    #[error("cannot set the ulimit `{ulimit}`: the hard limit of this process is {hard}")]
    Ulimit { ulimit: Ulimit, hard: String, source: io::Error },
    #[error("cannot prepare {object}")]
    Prepare { object: String, source: io::Error },
    #[error("the size of `/dev/shm` cannot be set in the host's ipc namespace: it is the host's")]
    HostShm,
    #[error("capability `{name}` cannot be given: this process does not have it")]
    Capability { name: &'static str },
    #[error("`{}` is not a device", .path.display())]
    NotADevice { path: PathBuf },
    #[error("cannot use the device `{}`", .path.display())]
    Device { path: PathBuf, source: io::Error },
    #[error("cannot make a process in new namespaces")]
    Spawn { source: io::Error },
    #[error("cannot start the container: `{object}`: cannot {step}")]
    Object { step: Step, object: String, source: io::Error },
    #[error("cannot start the container: cannot {step}")]
    Step { step: Step, source: io::Error },
    #[error("the container died while it was being started")]
    Died,
}

/// What is wrong with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandProblem {
    /// There is no such file.
    NotFound,
    /// It is there, but the interpreter or dynamic loader that it names is not.
    InterpreterNotFound,
    /// It may not be executed.
    NotPermitted,
    /// It is no program, or not one for this machine.
    NotExecutable,
    /// The kernel could not execute it for another reason, which is the error's source.
    Failed,
}

impl CommandProblem {
    /// Returns what a shell exits with: 127 when nothing was found, 126 when it could not be run.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::NotFound | Self::InterpreterNotFound => 127,
            Self::NotPermitted | Self::NotExecutable | Self::Failed => 126,
        }
    }
}

impl std::fmt::Display for CommandProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no such file",
            Self::InterpreterNotFound => "the interpreter or dynamic loader that it names is missing",
            Self::NotPermitted => "permission denied",
            Self::NotExecutable => "not a program for this machine",
            Self::Failed => "it could not be executed",
        })
    }
}

impl RunError {
    /// Returns what is wrong with the command itself, if that is the reason.
    pub fn command_problem(&self) -> Option<CommandProblem> {
        match self {
            Self::Command { problem, .. } => Some(*problem),
            _ => None,
        }
    }
}

impl Runtime {
    pub(crate) fn new(entered: Entered) -> Self {
        Self {
            entered,
            filter: OnceLock::new(),
            thermal_throttle: OnceLock::new(),
            cgroups: Cgroups::default(),
            spawner: Mutex::new(None),
        }
    }

    /// Returns what this process is allowed to do.
    pub fn privilege(&self) -> Privilege {
        self.entered.privilege
    }

    /// Returns why there is only one id, for [`Privilege::SingleId`].
    pub fn missing(&self) -> Option<&Missing> {
        self.entered.missing.as_ref()
    }

    /// Starts `container`; returns when its command runs.
    ///
    /// From any thread, any number at the same time; the container does not end with the thread.
    ///
    /// # Errors
    ///
    /// [`RunError::Command`] when the command cannot be executed (its [`CommandProblem`] knows the exit code), otherwise what could
    /// not be prepared, mounted or set. Nothing is left behind then.
    pub fn start(&self, container: &Container, stdio: Stdio) -> Result<Running, RunError> {
        let Prepared { plan, made, cgroup, terminal, status } = Prepared::new(self, container, stdio)?;
        let process = self.spawn(plan)?;
        let mut running = Running::new(process, (made, cgroup), terminal);
        let mut report = Vec::with_capacity(FAILURE_SIZE);
        File::from(status).read_to_end(&mut report).map_err(|source| RunError::Spawn { source })?;
        if report.is_empty() {
            return Ok(running);
        }
        let _it_says_more_than_the_exit_code = running.wait();
        Err(Failure::from_bytes(&report).map_or(RunError::Died, |failure| explain(container, &failure)))
    }

    /// The filter of a container with these capabilities; the usual one is assembled once.
    pub(crate) fn filter(&self, capabilities: CapabilitySet) -> Arc<Filter> {
        let assemble = || Arc::new(Filter::new(capabilities));
        if Filter::is_usual_for(capabilities) { Arc::clone(self.filter.get_or_init(assemble)) } else { assemble() }
    }

    pub(crate) fn thermal_throttle(&self) -> Arc<Vec<CString>> {
        Arc::clone(self.thermal_throttle.get_or_init(|| Arc::new(kernel_paths::thermal_throttle())))
    }

    pub(crate) fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    pub(crate) fn has_uid(&self, id: u32) -> bool {
        self.entered.uids.contains(id)
    }

    pub(crate) fn has_gid(&self, id: u32) -> bool {
        self.entered.gids.contains(id)
    }

    pub(crate) fn may_set_groups(&self) -> bool {
        self.entered.may_set_groups
    }

    /// The group that owns terminals on every distribution, where it exists here.
    pub(crate) fn tty_group(&self) -> Option<u32> {
        const TTY: u32 = 5;
        self.has_gid(TTY).then_some(TTY)
    }

    fn spawn(&self, plan: Plan) -> Result<Process, RunError> {
        let failed = |source| RunError::Spawn { source };
        match plan.namespaces.pid {
            Namespace::Own => {
                let spawner = self.spawner()?;
                let handle = spawner.spawn(plan).map_err(failed)?;
                Ok(Process::Init { handle, _spawner: spawner })
            }
            Namespace::Host => {
                let Guard { handle, orders } = guard::start(plan).map_err(failed)?;
                Ok(Process::Guarded { handle, orders })
            }
        }
    }

    fn spawner(&self) -> Result<Arc<Spawner>, RunError> {
        let mut spawner = self.spawner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spawner) = &*spawner {
            return Ok(Arc::clone(spawner));
        }
        let started = Spawner::start().map_err(|source| RunError::Spawn { source })?;
        Ok(Arc::clone(spawner.insert(started)))
    }
}

/// Says which of the caller's objects a failed step was about.
fn explain(container: &Container, failure: &Failure) -> RunError {
    let source = io::Error::from(failure.errno);
    let step = failure.step;
    let number = usize::try_from(failure.object).unwrap_or(usize::MAX);
    let object = match step {
        Step::Execute | Step::Interpreter | Step::OwnBinary => {
            let name = container.args.first().cloned().unwrap_or_default();
            return RunError::Command { name, problem: command_problem(step, failure.errno), source };
        }
        Step::WorkingDirectory => return RunError::WorkingDirectory { path: container.cwd.clone(), source },
        Step::Limits => match container.limits.ulimits.get(number) {
            Some(&ulimit) => return ulimit_error(ulimit, source),
            None => None,
        },
        Step::AttachMount => mount_target(container, number),
        Step::AttachFile => container.files.get(number).map(|file| file.path.clone()),
        Step::AttachDevice => DEVICES.get(number).map(|(name, ..)| format!("/dev/{}", name.to_string_lossy())),
        Step::AttachNamedDevice => container.confinement.devices.get(number).map(|device| device.target.clone()),
        Step::Hostname => Some(container.hostname.clone()),
        _ => None,
    };
    match object {
        Some(object) => RunError::Object { step, object, source },
        None => RunError::Step { step, source },
    }
}

fn ulimit_error(ulimit: Ulimit, source: io::Error) -> RunError {
    let hard = rustix::process::getrlimit(ulimit.resource).maximum;
    RunError::Ulimit { ulimit, hard: hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string()), source }
}

fn mount_target(container: &Container, number: usize) -> Option<String> {
    crate::plan::in_mount_order(container).get(number).map(|mount| mount.target.clone())
}

fn command_problem(step: Step, errno: Errno) -> CommandProblem {
    match (step, errno) {
        (Step::Interpreter, _) => CommandProblem::InterpreterNotFound,
        (_, Errno::NOENT | Errno::NOTDIR) => CommandProblem::NotFound,
        (_, Errno::ACCESS | Errno::PERM) => CommandProblem::NotPermitted,
        (_, Errno::NOEXEC | Errno::LIBBAD) => CommandProblem::NotExecutable,
        _ => CommandProblem::Failed,
    }
}
