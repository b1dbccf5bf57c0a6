//! Reads what a container writes, and ends with it.
//!
//! - A pipe or terminal ends by itself when nobody has its other side any more. But a container can hand that to others, through a
//!   socket in a directory that it shares with them; so the end of its process counts instead.
//! - What it wrote until then is read: the kernel holds it. What others write meanwhile is not waited for, nor read without bound.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::running::Process;

/// Bytes that the kernel can hold of a stream, at most: more than its largest pipe for users.
const MOST_HELD: usize = 1 << 20;

/// Our end of a pipe or terminal that a container writes to.
#[derive(Debug)]
pub struct ContainerOutput {
    from: File,
    process: Arc<Process>,
    /// Bytes that are still read once the container has ended; `None` while it runs.
    left: Option<usize>,
}

impl ContainerOutput {
    pub(crate) fn new(from: OwnedFd, process: Arc<Process>) -> Self {
        Self { from: from.into(), process, left: None }
    }

    /// Waits until there is something to read; `false` when there will be nothing.
    fn wait(&mut self) -> Result<bool, Errno> {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let process = self.process.handle();
        let mut ready = [PollFd::new(&self.from, PollFlags::IN), PollFd::new(&process, PollFlags::IN)];
        let (watched, limit) =
            if self.left.is_none() { (ready.as_mut_slice(), None) } else { (&mut ready[..1], Some(&at_once)) };
        poll(watched, limit)?;
        let [is_readable, has_ended] = ready.map(|descriptor| !descriptor.revents().is_empty());
        if has_ended && self.left.is_none() {
            self.left = Some(MOST_HELD);
            // it may have written between the two looks
            return self.wait();
        }
        Ok(is_readable)
    }
}

impl Read for ContainerOutput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let is_readable = loop {
            match self.wait() {
                Err(Errno::INTR) => (),
                other => break other?,
            }
        };
        let most = self.left.unwrap_or(usize::MAX).min(buffer.len());
        if !is_readable || most == 0 {
            return Ok(0);
        }
        let count = self.from.read(buffer.get_mut(..most).unwrap_or_default())?;
        if let Some(left) = &mut self.left {
            *left -= count;
        }
        Ok(count)
    }
}
