//! Input that may be long in coming, and output that may be long in going: both end when the command is to stop.

use std::io::{self, Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

/// How long nothing may come before it is asked again whether to stop.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Standard input, read without waiting for more than is there.
#[derive(Debug)]
pub(crate) struct StandardInput {
    pub(crate) stop: CancellationToken,
}

/// Bytes that are no longer read, or written, once the command is to stop.
#[derive(Debug)]
pub(crate) struct Stoppable<R> {
    pub(crate) bytes: R,
    pub(crate) stop: CancellationToken,
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

impl<W: Write> Write for Stoppable<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        go_on(&self.stop)?;
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.bytes.flush()
    }
}

fn go_on(stop: &CancellationToken) -> io::Result<()> {
    // not `Interrupted`: that would be tried again
    if stop.is_cancelled() { Err(io::Error::other("stopped")) } else { Ok(()) }
}
