//! Joins this process's standard input, output and error with those of a container.
//!
//! ```text
//! no terminal   0 ─(only with -i)▶ pipe ─▶ 0        1 ◀─ pipe ◀─ 1        2 ◀─ pipe ◀─ 2
//! terminal      0 ─(raw, only with -i)▶ master      1 ◀─ master           SIGWINCH ─▶ size
//! ```
//!
//! - A container never gets a descriptor of the caller: through `/proc` it could open what is behind it anew.
//! - When nobody reads our output any more, the container is killed, as a program in a shell would be: process 1 gets no SIGPIPE, and
//!   might write for ever.
//! - Copying output ends when the container has; copying input is left behind by the end of the process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::{self, JoinHandle};

use anyhow::Context;
use runtime::{ContainerOutput, Killer, Running, Stdio, terminal};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::container::Terminal;
use crate::ending::Ending;

/// Ends a line discipline's input, as Ctrl-D does.
const END_OF_TRANSMISSION: u8 = 4;

/// Whether our standard input is the container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Closed,
    Passed,
}

/// The ends of pipes that stay here.
#[derive(Debug)]
pub(crate) struct Ends {
    input: Input,
    stdin: Option<OwnedFd>,
    outputs: Vec<(OwnedFd, Target)>,
}

/// How copying an output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Copied,
    /// Nobody reads it any more.
    Unread,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Stdout,
    Stderr,
}

/// What copies while a container runs; dropped, the caller's terminal is as it was.
#[derive(Debug)]
pub(crate) struct Copying {
    outputs: Vec<JoinHandle<Output>>,
    _raw: Option<terminal::RawMode<OwnedFd>>,
}

/// Makes the container's side of standard input, output and error, and keeps ours.
///
/// # Errors
///
/// When pipes cannot be made.
pub(crate) fn open(terminal: Terminal, input: Input) -> anyhow::Result<(Stdio, Ends)> {
    if terminal == Terminal::Present {
        let size = terminal::size(io::stdout()).or_else(|_| terminal::size(io::stdin())).unwrap_or_default();
        return Ok((Stdio::Terminal { size }, Ends { input, stdin: None, outputs: Vec::new() }));
    }
    let pipe = || pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe");
    let (out_reader, stdout) = pipe()?;
    let (err_reader, stderr) = pipe()?;
    let (stdin, writer) = match input {
        Input::Closed => (None, None),
        Input::Passed => {
            let (reader, writer) = pipe()?;
            (Some(reader), Some(writer))
        }
    };
    let outputs = vec![(out_reader, Target::Stdout), (err_reader, Target::Stderr)];
    Ok((Stdio::Piped { stdin, stdout, stderr }, Ends { input, stdin: writer, outputs }))
}

impl Ends {
    /// Starts to copy.
    ///
    /// # Errors
    ///
    /// When our terminal cannot be switched to raw mode, or descriptors run out.
    pub(crate) fn copy(self, running: &Running) -> anyhow::Result<Copying> {
        let Some(master) = running.terminal() else {
            if let Some(stdin) = self.stdin {
                thread::spawn(move || drop(copy(io::stdin(), File::from(stdin))));
            }
            let copy_output = |(pipe, target)| {
                let output = running.output(pipe);
                let killer = running.killer();
                thread::spawn(move || copy_to(target, output, &killer))
            };
            return Ok(Copying { outputs: self.outputs.into_iter().map(copy_output).collect(), _raw: None });
        };
        let reader = running.output(master.try_clone().context("cannot share the terminal")?);
        let raw = match self.input {
            Input::Closed => None,
            Input::Passed => {
                let mut writer = File::from(master.try_clone().context("cannot share the terminal")?);
                thread::spawn(move || {
                    let _whichever_ended = copy(io::stdin(), &writer);
                    let _ended_already = writer.write_all(&[END_OF_TRANSMISSION]);
                });
                raw_stdin()?
            }
        };
        let killer = running.killer();
        let output = thread::spawn(move || copy_to(Target::Stdout, reader, &killer));
        Ok(Copying { outputs: vec![output], _raw: raw })
    }
}

impl Copying {
    /// Waits until everything that the container wrote is written.
    ///
    /// # Errors
    ///
    /// [`Ending::OutputClosed`] when nobody reads that any more.
    pub(crate) fn finish(self) -> Result<(), Ending> {
        let ended: Vec<_> = self.outputs.into_iter().map(JoinHandle::join).collect();
        if ended.iter().any(|output| matches!(output, Ok(Output::Unread))) {
            return Err(Ending::OutputClosed);
        }
        Ok(())
    }
}

/// Gives the container's terminal the size of ours.
pub(crate) fn resize(master: impl AsFd) {
    if let Ok(size) = terminal::size(io::stdout()).or_else(|_| terminal::size(io::stdin())) {
        let _gone = terminal::resize(master, size);
    }
}

fn raw_stdin() -> anyhow::Result<Option<terminal::RawMode<OwnedFd>>> {
    if !terminal::is_terminal(io::stdin()) {
        return Ok(None);
    }
    let stdin = io::stdin().as_fd().try_clone_to_owned().context("cannot share the terminal")?;
    terminal::RawMode::enter(stdin).map(Some).context("cannot switch the terminal to raw mode")
}

fn copy_to(target: Target, from: ContainerOutput, killer: &Killer) -> Output {
    let copied = match target {
        Target::Stdout => copy(from, io::stdout()),
        Target::Stderr => copy(from, io::stderr()),
    };
    match copied {
        // EIO: of a terminal that is gone
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::PIPE | Errno::IO)) => {
            let _it_has_ended = killer.kill();
            Output::Unread
        }
        _ => Output::Copied,
    }
}

/// Copies without holding anything back, until either side ends; an error is that of writing.
fn copy(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // a terminal without its other side, among others
            Err(_) => return Ok(()),
        };
        to.write_all(&buffer[..count]).and_then(|()| to.flush())?;
    }
}
