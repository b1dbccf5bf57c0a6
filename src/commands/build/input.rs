//! Input that may be long in coming: reading it ends when the command is to stop.

use std::io::{self, Read};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

/// How long nothing may come before it is asked again whether to stop.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard input, read without waiting for more than is there.
#[derive(Debug)]
pub(super) struct StandardInput {
    pub(super) stop: CancellationToken,
}

/// Bytes that are no longer read once the command is to stop.
#[derive(Debug)]
pub(super) struct Stoppable<R> {
    pub(super) bytes: R,
    pub(super) stop: CancellationToken,
}

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let input = rustix::stdio::stdin();
        loop {
            go_on(&self.stop)?;
            match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&PATIENCE)) {
                Ok(0) | Err(Errno::INTR) => continue,
                polled => polled?,
            };
            match rustix::io::read(input, &mut *buffer) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        go_on(&self.stop)?;
        self.bytes.read(buffer)
    }
}

fn go_on(stop: &CancellationToken) -> io::Result<()> {
    // not `Interrupted`: that would be tried again
    if stop.is_cancelled() { Err(io::Error::other("stopped")) } else { Ok(()) }
}
