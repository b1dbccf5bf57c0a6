//! Watches over a container in the host's pid namespace, where no init takes its processes along when it ends.
//!
//! ```text
//! process ─orders─▶ guard ─clone─▶ command ─▶ …      whatever loses its parent becomes a child of the guard, its subreaper
//! ```
//!
//! - When the command has ended, by the order `SIGKILL`, or when nobody is left to give orders, as after `kill -9` of the process, the
//!   guard kills its children, and those that become its children by that, until there are none. Then it ends as the command did.
//! - So the end of the guard is the end of the container, whether it has a cgroup or not, and whatever was set-uid in it.
//! - Only who kills the guard gets round it: with the host's processes in sight, a container of root, or of the same user, can, as
//!   it can kill the whole command. Then the kernel kills the command (parent-death signal), and what is in its cgroup is killed
//!   with that (`cgroup/directory.rs`).
//! - It is a fork of one thread, under the *child* rules of `sys.rs`, and blocks all signals.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper,
    set_dumpable_behavior, wait,
};

use crate::Step;
use crate::child::{self, Failure};
use crate::plan::Plan;
use crate::sys::{self, Block};

/// Waits for children whatever their exit signal is.
const ANY: WaitOptions = WaitOptions::from_bits_retain(libc::__WALL.cast_unsigned());

/// A guard that has been started.
pub(crate) struct Guard {
    /// It ends as the command does.
    pub(crate) handle: OwnedFd,
    /// Takes signals for the command; closed, the container ends.
    pub(crate) orders: OwnedFd,
}

/// Starts a guard, which starts the command of `plan`. The descriptors of the plan are closed here then.
pub(crate) fn start(plan: Plan) -> io::Result<Guard> {
    let (orders, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let theirs = sys::above_standard(theirs)?;
    // a thread of its own, as the fork has its signal mask
    let forking = thread::Builder::new().name("guard".to_owned()).spawn(move || {
        sys::block_signals(Block::All);
        sys::fork_bare(|| guard(&plan, &theirs))
    })?;
    let handle = forking.join().map_err(|_panicked| io::Error::from(io::ErrorKind::BrokenPipe))??;
    Ok(Guard { handle, orders })
}

/// Tells a guard to send a signal to its command; by `SIGKILL` everything ends. `ESRCH` when it has ended.
pub(crate) fn order(orders: &OwnedFd, signal: c_int) -> io::Result<()> {
    const LAST_SIGNAL: u8 = 64;
    let number = u8::try_from(signal).ok().filter(|number| *number <= LAST_SIGNAL).ok_or(Errno::INVAL)?;
    match send(orders, &[number], SendFlags::NOSIGNAL) {
        Ok(_) => Ok(()),
        Err(Errno::PIPE | Errno::CONNRESET) => Err(Errno::SRCH.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// The guard's whole life.
fn guard(plan: &Plan, orders: &OwnedFd) -> ! {
    let watched = match Watched::start(plan) {
        Ok(watched) => watched,
        Err(errno) => child::report(plan.status.as_fd(), &Failure { step: Step::Watch, object: 0, errno }),
    };
    let ended = if watched.close_foreign(orders).is_ok() { watched.follow(orders) } else { None };
    let ended = watched.end(ended);
    let _a_core_of_ours_is_of_no_use = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    match ended.and_then(|status| status.exit_status()) {
        Some(code) => sys::exit_now(code),
        None => sys::end_by(ended.and_then(|status| status.terminating_signal()).unwrap_or(libc::SIGKILL)),
    }
}

/// The command, and what is needed to see its end and to end all others.
struct Watched {
    command: OwnedFd,
    pid: Pid,
    /// Readable when a child has ended.
    ended: OwnedFd,
    /// Lists the children.
    children: OwnedFd,
}

impl Watched {
    fn start(plan: &Plan) -> Result<Self, Errno> {
        rustix::process::setsid()?;
        // ignored by our caller, SIGCHLD would not come
        sys::reset_signals();
        set_child_subreaper(Some(getpid()))?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let children = rustix::fs::openat(CWD, c"/proc/thread-self/children", flags, Mode::empty())?;
        let ended = sys::signal_handle(libc::SIGCHLD)?;
        let cgroup = plan.cgroups.cloned.as_ref().map(AsFd::as_fd);
        let (command, pid) = sys::fork_child(plan.clone_flags(), cgroup, || child::run(plan))?;
        let _cosmetic = rustix::thread::set_name(c"wharf-guard");
        Ok(Self { command, pid: Pid::from_raw(pid).ok_or(Errno::CHILD)?, ended, children })
    }

    /// Closes all that is not the guard's, among it its copy of the other end of `orders`, and the standard streams.
    fn close_foreign(&self, orders: &OwnedFd) -> Result<(), Errno> {
        let mut kept = [orders, &self.command, &self.ended, &self.children].map(|own| own.as_raw_fd().cast_unsigned());
        kept.sort_unstable();
        sys::close_all_but(&kept)?;
        sys::close_range(0, 2)
    }

    /// Follows orders until the command has ended, and returns how; or until everything shall end.
    fn follow(&self, orders: &OwnedFd) -> Option<WaitStatus> {
        loop {
            let mut polled = [PollFd::new(orders, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
            let _interrupted = poll(&mut polled, None);
            let is_ordered = polled.first().is_some_and(|orders| !orders.revents().is_empty());
            let mut signals = [0; 128];
            let _none_is_pending = rustix::io::read(&self.ended, &mut signals);
            if let Some(status) = self.reap(WaitOptions::NOHANG) {
                return Some(status);
            }
            let mut order = [0];
            match is_ordered.then(|| rustix::io::read(orders, &mut order)) {
                None => (),
                Some(Ok(1)) if c_int::from(order[0]) != libc::SIGKILL => {
                    let _refused = sys::send_signal(self.command.as_fd(), order[0].into());
                }
                Some(_) => return None,
            }
        }
    }

    /// Reaps children that have ended up to the command, and returns how that did.
    fn reap(&self, options: WaitOptions) -> Option<WaitStatus> {
        while let Ok(Some((pid, status))) = wait(ANY | options) {
            if pid == self.pid {
                return Some(status);
            }
        }
        None
    }

    /// Kills children until there are none; returns how the command ended.
    fn end(&self, mut status: Option<WaitStatus>) -> Option<WaitStatus> {
        loop {
            self.kill_children();
            // of those that were killed one ends; what it leaves behind is a child of ours by then
            match wait(ANY) {
                Err(Errno::CHILD) => return status,
                Ok(Some((pid, ended))) if pid == self.pid => status = Some(ended),
                _ => (),
            }
            while let Some(ended) = self.reap(WaitOptions::NOHANG) {
                status = Some(ended);
            }
        }
    }

    /// Kills the children that fit into the buffer. None of them is another process by then: only we reap them.
    fn kill_children(&self) {
        let mut list = [0; 4096];
        let Ok(length) = rustix::io::pread(&self.children, &mut list, 0) else { return };
        let list = list.get(..length).unwrap_or_default();
        // a number at the end of a full buffer may be a part of one
        let end = list.iter().rposition(|byte| *byte == b' ').unwrap_or(0);
        for word in list.get(..end).unwrap_or_default().split(|byte| *byte == b' ') {
            let digits = word.iter().map(|byte| i32::from(byte.wrapping_sub(b'0')));
            let number = digits.fold(0_i32, |number, digit| number.wrapping_mul(10).wrapping_add(digit));
            if let Some(pid) = Pid::from_raw(number) {
                let _it_has_ended = kill_process(pid, Signal::KILL);
            }
        }
    }
}
