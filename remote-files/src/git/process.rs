//! One run of a program: its output, bounded in size and in silence; dropped, it is killed with all that it started.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// What a program may print: the refs of a repository with a million of them.
const MAX_OUTPUT: usize = 128 << 20;
/// What is kept of its messages: the end.
const MAX_MESSAGES: usize = 16 << 10;

/// A program that has ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    /// The end of what it printed to standard error.
    pub(super) messages: Vec<u8>,
}

/// Why there is no end to speak of.
pub(super) enum Stopped {
    Io(io::Error),
    /// It printed nothing for so long.
    Silent(Duration),
    TooMuchOutput,
}

/// Runs a program to its end; `patience` is how long it may print nothing.
pub(super) async fn run(mut command: Command, patience: Option<Duration>) -> Result<Ended, Stopped> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(Stopped::Io)?;
    let group = Group::of(&child);
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped");
    let (mut output, mut messages) = (Vec::new(), Vec::new());
    let (mut is_output_open, mut is_messages_open) = (true, true);
    while is_output_open || is_messages_open {
        let next = async {
            tokio::select! {
                read = append(&mut stdout, &mut output), if is_output_open => read.map(|more| is_output_open = more),
                read = append(&mut stderr, &mut messages), if is_messages_open => read.map(|more| is_messages_open = more),
            }
        };
        within(patience, next).await?.map_err(Stopped::Io)?;
        if output.len() > MAX_OUTPUT {
            return Err(Stopped::TooMuchOutput);
        }
        let excess = messages.len().saturating_sub(MAX_MESSAGES);
        messages.drain(..excess);
    }
    let status = within(patience, child.wait()).await?.map_err(Stopped::Io)?;
    group.has_ended();
    Ok(Ended { status, output, messages })
}

/// Reads what is there; false at the end.
async fn append(from: &mut (impl AsyncRead + Unpin), to: &mut Vec<u8>) -> io::Result<bool> {
    Ok(from.read_buf(to).await? > 0)
}

async fn within<F: Future>(patience: Option<Duration>, future: F) -> Result<F::Output, Stopped> {
    match patience {
        None => Ok(future.await),
        Some(patience) => tokio::time::timeout(patience, future).await.map_err(|_| Stopped::Silent(patience)),
    }
}

/// A process group whose leader is not yet waited for, so that its number is nobody else's.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)))
    }

    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have ended by itself in this moment.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
