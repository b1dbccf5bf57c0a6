//! The one thread that makes containers, and the keeper that takes them along when the process dies.
//!
//! ```text
//! process ── spawner thread ─clone─▶ keeper      init of pid namespace K, killed when the spawner thread ends
//!                    └────────clone─▶ container   init of a pid namespace inside K
//! ```
//!
//! - When the process ends in whatever way, the kernel kills the keeper (parent-death signal), and with the init of K everything
//!   in K and in the namespaces below. A parent-death signal on the container itself would not do: the kernel clears it when
//!   the command is set-uid (`sudo`), and it fires when the *thread* that started the container ends.
//! - The keeper holds no descriptor and runs no code but a loop, in the memory of this process: nobody inside of a container sees
//!   it, and a copy would cost more than the rest of it. It does not survive the last [`Spawner`] either.
//! - The thread blocks all signals, and starts no thread: after `unshare(CLONE_NEWPID)` it could not.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, Timespec, pause, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open};

use crate::child;
use crate::plan::Plan;
use crate::sys::{self, Block, Companion, Stack};

/// A handle to the spawner thread; the last one that goes ends it, and every container with it.
#[derive(Debug)]
pub(crate) struct Spawner {
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    plan: Plan,
    reply: mpsc::SyncSender<Result<OwnedFd, Errno>>,
}

impl Spawner {
    /// Starts the thread and the keeper.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let (requests, inbox) = mpsc::channel();
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("spawner".to_owned()).spawn(move || match start_keeper() {
            Ok(_keeper) => {
                let _caller_waits = ready.send(Ok(()));
                serve(&inbox);
            }
            Err(errno) => {
                let _caller_waits = ready.send(Err(errno));
            }
        })?;
        let started = started.recv().map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
        started.map_err(io::Error::from)?;
        Ok(Arc::new(Self { requests: Mutex::new(Some(requests)), thread: Some(thread) }))
    }

    /// Clones the child of `plan` and returns its pidfd. The descriptors of the plan are closed here then.
    pub(crate) fn spawn(&self, plan: Plan) -> io::Result<OwnedFd> {
        let (reply, answer) = mpsc::sync_channel(1);
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        {
            let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            requests.as_ref().ok_or_else(gone)?.send(Request { plan, reply }).map_err(|_closed| gone())?;
        }
        answer.recv().map_err(|_closed| gone())?.map_err(io::Error::from)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.requests.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.take() {
            let _it_does_not_panic = thread.join();
        }
    }
}

fn serve(inbox: &mpsc::Receiver<Request>) {
    let mut stack = Stack::new();
    while let Ok(Request { plan, reply }) = inbox.recv() {
        let cgroup = plan.cgroups.cloned.as_ref().map(AsFd::as_fd);
        let mut body = || child::run(&plan);
        let child = sys::clone_in_nested_namespace(&mut stack, plan.clone_flags(), cgroup, &mut body);
        drop(plan);
        let _caller_waits = reply.send(child);
    }
}

fn start_keeper() -> Result<Companion, Errno> {
    sys::block_signals(Block::All);
    let parent = pidfd_open(getpid(), PidfdFlags::empty())?;
    sys::unshare(libc::CLONE_NEWPID)?;
    Companion::start(parent.as_fd(), keep)
}

/// The keeper's whole life: nothing but waiting to be killed. `parent` is a handle to the process. See [`Companion::start`].
fn keep(parent: RawFd) {
    let watched = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The parent may have died before the kernel knew what to do then: its handle is readable from that moment on.
    let parent = sys::borrow(parent);
    let mut alive = [PollFd::new(&parent, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if watched.is_err() || poll(&mut alive, Some(&now)) != Ok(0) || sys::close_range(0, u32::MAX).is_err() {
        sys::exit_now(1);
    }
    let _cosmetic = rustix::thread::set_name(c"wharf-keeper");
    loop {
        pause();
    }
}
