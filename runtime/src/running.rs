//! A container that has been started: waiting for it, signalling it, ending it.
//!
//! It is held by a handle of the kernel (pidfd), so a signal can never reach another process that got the same number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{WaitId, waitid};

use crate::LimitHit;
use crate::cgroup::Cgroup;
use crate::guard;
use crate::output::ContainerOutput;
use crate::spawner::Spawner;
use crate::sys::{self, WAIT};
use crate::targets::MadeTargets;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By exiting with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it exited with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// Returns the code that a shell shows: 128 and the signal's number for a signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Why a container could not be waited for.
#[derive(Debug, thiserror::Error)]
#[error("cannot wait for the container")]
pub struct WaitError {
    source: io::Error,
}

/// Why a signal could not be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot send signal {signal} to the container")]
pub struct SignalError {
    signal: i32,
    source: io::Error,
}

/// A started container. Dropped, it is killed and everything of it is gone when the drop returns.
///
/// The command is process 1 of its pid namespace: when it ends, the kernel ends everything it started, and signals that it does
/// not handle do nothing, except `SIGKILL`. In the host's pid namespace a guard ends everything, and signals do what they usually do.
#[derive(Debug)]
pub struct Running {
    process: Arc<Process>,
    made: Option<MadeTargets>,
    cgroup: Option<Cgroup>,
    limit_hit: Option<LimitHit>,
    terminal: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

/// What stands for a container in this process.
#[derive(Debug)]
pub(crate) enum Process {
    /// The command itself, process 1 of its pid namespace.
    Init {
        handle: OwnedFd,
        /// It ends all containers with it.
        _spawner: Arc<Spawner>,
    },
    /// The guard of a command in the host's pid namespace. It ends as the command did, once nothing of the container is left.
    Guarded { handle: OwnedFd, orders: OwnedFd },
}

impl Process {
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        match self {
            Self::Init { handle, .. } | Self::Guarded { handle, .. } => handle.as_fd(),
        }
    }

    /// Sends a signal to the command; the kernel or the guard ends everything by `SIGKILL`.
    fn signal(&self, signal: i32) -> Result<(), SignalError> {
        let sent = match self {
            Self::Init { handle, .. } => sys::send_signal(handle.as_fd(), signal),
            Self::Guarded { orders, .. } => guard::order(orders, signal),
        };
        match sent {
            Err(source) if source.raw_os_error() != Some(libc::ESRCH) => Err(SignalError { signal, source }),
            _ => Ok(()),
        }
    }
}

impl Running {
    pub(crate) fn new(
        process: Process,
        (made, cgroup): (MadeTargets, Option<Cgroup>),
        terminal: Option<OwnedFd>,
    ) -> Self {
        let (process, made) = (Arc::new(process), Some(made));
        Self { process, made, cgroup, limit_hit: None, terminal, status: None }
    }

    /// Waits until the command has ended, and returns how; again and again if asked.
    ///
    /// When it returns, no process of the container is left, its mounts and its cgroup are gone, and so is what was made for them.
    ///
    /// # Errors
    ///
    /// [`WaitError`] when somebody else has waited for this child of the process, as `waitpid(-1)` does.
    pub fn wait(&mut self) -> Result<ExitStatus, WaitError> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let found = loop {
            match waitid(WaitId::PidFd(self.process.handle()), WAIT) {
                Err(Errno::INTR) => (),
                other => break other,
            }
        };
        let ended =
            found.and_then(|status| status.ok_or(Errno::CHILD)).map_err(|errno| WaitError { source: errno.into() });
        self.made = None;
        self.limit_hit = self.cgroup.take().and_then(|cgroup| cgroup.hit());
        let ended = ended?;
        let status = match (ended.exit_status(), ended.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, signal) => ExitStatus::Signal(signal.unwrap_or(libc::SIGKILL)),
        };
        self.status = Some(status);
        Ok(status)
    }

    /// Returns the limit that it ran into, the gravest if several; nothing before it has been waited for.
    pub fn limit_hit(&self) -> Option<LimitHit> {
        self.limit_hit
    }

    /// Returns the caller's end of the terminal, if it was started with one. Read errors with `EIO` once nobody has the other.
    pub fn terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref()
    }

    /// Returns what it writes to the other side of `from`, a pipe or its terminal: until it has ended, whoever else has that side.
    pub fn output(&self, from: OwnedFd) -> ContainerOutput {
        ContainerOutput::new(from, Arc::clone(&self.process))
    }

    /// Returns a handle to signal it from another thread, also while one waits.
    pub fn killer(&self) -> Killer {
        Killer { process: Arc::clone(&self.process) }
    }

    /// Sends a signal to the command. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`SignalError`] when the kernel refuses, as for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<(), SignalError> {
        self.process.signal(signal)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ended = self.signal(libc::SIGKILL);
            let _nobody_asks = self.wait();
        }
    }
}

/// Signals a container from anywhere; harmless once it has ended.
#[derive(Clone, Debug)]
pub struct Killer {
    process: Arc<Process>,
}

impl Killer {
    /// Ends every process of the container at once.
    ///
    /// # Errors
    ///
    /// [`SignalError`] when the kernel refuses.
    pub fn kill(&self) -> Result<(), SignalError> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal to the command. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`SignalError`] when the kernel refuses, as for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<(), SignalError> {
        self.process.signal(signal)
    }
}
