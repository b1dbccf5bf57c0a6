//! Enters the namespaces in which a whole command works: once, first in `main`, before any thread.
//!
//! | who | namespaces | ids inside |
//! |---|---|---|
//! | root with `CAP_SYS_ADMIN` (also of a namespace that somebody else made) | mount | as they are |
//! | anybody else with subordinate ids | user, mount | 0 is the user, 1 and up the subordinate ids |
//! | anybody else | user, mount | 0 is the user, no other exists |
//!
//! Subordinate ids are mapped by `newuidmap` and `newgidmap`, which are set-uid and must run in the old namespace: a child is forked
//! there first, waits for the `unshare`, and runs both. They are looked for in fixed directories, never in a `PATH`.
//!
//! Mounts are private from here on: what is mounted dies with the process, and nothing of it reaches the host.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::{fmt, fs};

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, getegid, geteuid, getppid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::Runtime;
use crate::id_map::IdMap;
use crate::subordinate_ids::{Range, map_arguments, ranges};
use crate::sys;

const HELPER_DIRECTORIES: [&str; 3] = ["/usr/bin", "/bin", "/usr/sbin"];

/// What a process may do, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Root of the machine.
    Root,
    /// Root of a user namespace with many ids.
    SubordinateIds,
    /// Root of a user namespace with one id: every file belongs to it, and `chown` to another fails. `setgroups` is forbidden there,
    /// so that containers keep the supplementary groups of the user.
    SingleId,
}

/// Why there are no subordinate ids.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// The user has no line in `/etc/subuid` or `/etc/subgid`.
    Range {
        /// The file without a line.
        file: PathBuf,
        /// The user, by name where it has one.
        user: String,
    },
    /// The program that maps them is not installed (package `uidmap`).
    Helper {
        /// `newuidmap` or `newgidmap`.
        name: &'static str,
    },
    /// The program did not map them.
    Refused {
        /// Its path.
        helper: PathBuf,
        /// What it said.
        message: String,
    },
    /// Somebody else made this user namespace, with one id.
    Inherited,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { file, user } => write!(f, "{} has no line for `{user}`", file.display()),
            Self::Helper { name } => write!(f, "`{name}` is not installed (package uidmap)"),
            Self::Refused { helper, message } => write!(f, "{} failed: {message}", helper.display()),
            Self::Inherited => f.write_str("this user namespace was made with one id"),
        }
    }
}

/// What keeps a user from making a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// `kernel.unprivileged_userns_clone` is 0.
    UnprivilegedClone,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// `user.max_user_namespaces` is 0, or that many exist.
    Limit,
    /// Nothing that can be read; a filter or security module.
    Unknown,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnprivilegedClone => "sysctl kernel.unprivileged_userns_clone is 0",
            Self::AppArmor => "sysctl kernel.apparmor_restrict_unprivileged_userns is 1",
            Self::Limit => "sysctl user.max_user_namespaces allows no more",
            Self::Unknown => "the kernel, a container or a security module forbids it",
        })
    }
}

/// Why the namespaces could not be entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum EnterError {
    #[error("namespaces must be entered before the first thread is started")]
    Threads,
    #[error("cannot read {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot make a user namespace: {obstacle}")]
    UserNamespace { obstacle: Obstacle, source: io::Error },
    #[error("cannot make a mount namespace")]
    MountNamespace { source: io::Error },
    #[error("cannot make mounts private ({obstacle})")]
    Private { obstacle: Obstacle, source: io::Error },
    #[error("cannot write {}", .path.display())]
    Map { path: PathBuf, source: io::Error },
    #[error("cannot map subordinate ids: {} failed: {message}", .helper.display())]
    Helper { helper: PathBuf, message: String },
    #[error("cannot start the process that maps subordinate ids")]
    Fork { source: io::Error },
}

/// What [`enter`] found out.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) privilege: Privilege,
    pub(crate) missing: Option<Missing>,
    pub(crate) uids: IdMap,
    pub(crate) gids: IdMap,
    pub(crate) may_set_groups: bool,
}

/// Enters the namespaces of this command. Call it once, first in `main`.
///
/// Afterwards the process is uid 0 in its user namespace, and its mounts are private.
///
/// # Errors
///
/// [`EnterError::Threads`] when there is more than one thread, [`EnterError::UserNamespace`] with what forbids it, otherwise the
/// file or program that failed. The process must not go on then: it may be half-way in.
pub fn enter() -> Result<Runtime, EnterError> {
    let threads = fs::read_dir("/proc/self/task").map_err(|source| read_error("/proc/self/task", source))?;
    if threads.count() != 1 {
        return Err(EnterError::Threads);
    }
    let missing = if is_privileged() {
        sys::unshare(libc::CLONE_NEWNS).map_err(|errno| EnterError::MountNamespace { source: errno.into() })?;
        None
    } else {
        enter_user_namespace()?
    };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)
        .map_err(|errno| EnterError::Private { obstacle: obstacle(errno), source: errno.into() })?;
    look_around(missing).map(Runtime::new)
}

fn is_privileged() -> bool {
    geteuid().is_root() && capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn look_around(missing: Option<Missing>) -> Result<Entered, EnterError> {
    let uids = IdMap::parse(&read("/proc/self/uid_map")?);
    let gids = IdMap::parse(&read("/proc/self/gid_map")?);
    let may_set_groups = read("/proc/self/setgroups")?.trim() == "allow";
    let privilege = match uids.len().min(gids.len()) {
        _ if uids.is_identity() && gids.is_identity() => Privilege::Root,
        0 | 1 => Privilege::SingleId,
        _ => Privilege::SubordinateIds,
    };
    let missing = match privilege {
        Privilege::SingleId => missing.or(Some(Missing::Inherited)),
        Privilege::Root | Privilege::SubordinateIds => None,
    };
    Ok(Entered { privilege, missing, uids, gids, may_set_groups })
}

/// Makes a user and a mount namespace, and maps as many ids as possible. Returns why there is only one.
fn enter_user_namespace() -> Result<Option<Missing>, EnterError> {
    let mapper = match find_mapping()? {
        Ok(mapping) => Ok(Mapper::fork(mapping)?),
        Err(missing) => Err(missing),
    };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
        .map_err(|errno| EnterError::UserNamespace { obstacle: obstacle(errno), source: errno.into() })?;
    let missing = match mapper {
        Ok(mapper) => match mapper.map()? {
            None => return Ok(None),
            Some(missing) => missing,
        },
        Err(missing) => missing,
    };
    write_map("/proc/self/setgroups", "deny")?;
    write_map("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write_map("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    Ok(Some(missing))
}

fn obstacle(errno: Errno) -> Obstacle {
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if errno == Errno::NOSPC || is("/proc/sys/user/max_user_namespaces", "0") {
        Obstacle::Limit
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        Obstacle::UnprivilegedClone
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        Obstacle::AppArmor
    } else {
        Obstacle::Unknown
    }
}

/// The two programs to run, each with its arguments after the pid.
struct Mapping {
    uid: (PathBuf, Vec<String>),
    gid: (PathBuf, Vec<String>),
}

fn find_mapping() -> Result<Result<Mapping, Missing>, EnterError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let name = user_name(uid);
    let mut found = Vec::new();
    for (file, helper, own_id) in [("/etc/subuid", "newuidmap", uid), ("/etc/subgid", "newgidmap", gid)] {
        let path = Path::new(file);
        let ranges: Vec<Range> = ranges(path, uid, name.as_deref()).map_err(|source| read_error(file, source))?;
        if ranges.is_empty() {
            let user = name.unwrap_or_else(|| uid.to_string());
            return Ok(Err(Missing::Range { file: path.to_owned(), user }));
        }
        let Some(program) = find_helper(helper) else { return Ok(Err(Missing::Helper { name: helper })) };
        found.push((program, map_arguments(own_id, &ranges)));
    }
    let [uid, gid] = found.try_into().expect("the loop has two rounds");
    Ok(Ok(Mapping { uid, gid }))
}

fn find_helper(name: &str) -> Option<PathBuf> {
    HELPER_DIRECTORIES.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file())
}

fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))?;
    line.first().map(|name| (*name).to_owned())
}

/// A child in the old namespace that maps ids when it is told to.
struct Mapper {
    pid: libc::pid_t,
    go: OwnedFd,
    answer: OwnedFd,
    mapping: Mapping,
}

impl Mapper {
    const DONE: &'static [u8] = b"";

    fn fork(mapping: Mapping) -> Result<Self, EnterError> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fork_error);
        let ((go_reader, go), (answer, answer_writer)) = (pipe()?, pipe()?);
        let go_number = std::os::fd::AsRawFd::as_raw_fd(&go);
        let (mut go_reader, mut answer_writer) = (fs::File::from(go_reader), fs::File::from(answer_writer));
        let pid = sys::fork_single_threaded(|| {
            // Its own copy of the other end would keep it waiting if the parent died.
            sys::close_one(go_number);
            run_mapper(&mapping, &mut go_reader, &mut answer_writer)
        })
        .map_err(fork_error)?;
        Ok(Self { pid, go, answer, mapping })
    }

    /// Tells it to map the ids of this process, now that it is in its namespace. Returns what kept it, if nothing was mapped.
    fn map(self) -> Result<Option<Missing>, EnterError> {
        let mut answer = Vec::new();
        let told = fs::File::from(self.go).write_all(b"!");
        let read = told.and_then(|()| fs::File::from(self.answer).read_to_end(&mut answer));
        read.map_err(|source| EnterError::Fork { source })?;
        let options = rustix::process::WaitOptions::empty();
        while matches!(rustix::process::waitpid(Pid::from_raw(self.pid), options), Err(Errno::INTR)) {}
        let message = |text: &[u8]| String::from_utf8_lossy(text).trim().to_owned();
        match answer.split_first() {
            Some((b'=', Self::DONE)) => Ok(None),
            Some((b'u', text)) => Ok(Some(Missing::Refused { helper: self.mapping.uid.0, message: message(text) })),
            Some((b'g', text)) => Err(EnterError::Helper { helper: self.mapping.gid.0, message: message(text) }),
            _ => Err(EnterError::Fork { source: io::ErrorKind::UnexpectedEof.into() }),
        }
    }
}

/// The child's side: waits, runs both programs, answers `=`, or `u` or `g` and the words of the one that failed.
fn run_mapper(mapping: &Mapping, go: &mut fs::File, answer: &mut fs::File) -> i32 {
    let mut byte = [0];
    let Some(parent) = getppid() else { return 1 };
    if go.read_exact(&mut byte).is_err() {
        return 1;
    }
    for (which, (program, arguments)) in [(b'u', &mapping.uid), (b'g', &mapping.gid)] {
        if let Err(message) = run_helper(program, parent, arguments) {
            let told = answer.write_all(&[&[which], message.as_bytes()].concat());
            return i32::from(told.is_err());
        }
    }
    i32::from(answer.write_all(b"=").is_err())
}

fn run_helper(program: &Path, process: Pid, arguments: &[String]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg(process.as_raw_nonzero().to_string()).args(arguments).env_clear().stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(words(&output.stderr, output.status)) }
}

fn words(stderr: &[u8], status: ExitStatus) -> String {
    let said = String::from_utf8_lossy(stderr).trim().to_owned();
    if said.is_empty() { status.to_string() } else { said }
}

fn fork_error(errno: Errno) -> EnterError {
    EnterError::Fork { source: errno.into() }
}

fn read_error(path: &str, source: io::Error) -> EnterError {
    EnterError::Read { path: path.into(), source }
}

fn read(path: &str) -> Result<String, EnterError> {
    fs::read_to_string(path).map_err(|source| read_error(path, source))
}

fn write_map(path: &str, text: &str) -> Result<(), EnterError> {
    fs::write(path, text).map_err(|source| EnterError::Map { path: path.into(), source })
}
