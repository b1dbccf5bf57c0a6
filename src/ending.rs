//! How a command ends when it does not succeed: every exit code that is not the command's own is decided here.
//!
//! | code | when |
//! |---|---|
//! | 1 | something failed |
//! | 125 | the command line makes no sense; `wharf run` could not start the container |
//! | 126, 127 | `wharf run`: the command cannot be executed, or is not there |
//! | 128 + n | stopped by signal n: 130 for Ctrl-C |
//! | 141 | nobody reads standard output any more (128 + SIGPIPE) |

use std::fmt;
use std::io;

use runtime::RunError;

use crate::shown::shown;

const FAILURE: u8 = 1;
const USAGE: u8 = 125;
const BROKEN_PIPE: u8 = 141;

/// An end that is no library's error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ending {
    /// Everything has been said already.
    #[error("some of it failed")]
    Reported,
    #[error("nobody reads standard output")]
    OutputClosed,
    #[error("cannot write to standard output")]
    Output { source: io::Error },
    #[error("stopped by {}", signal_name(*.signal))]
    Interrupted { signal: u8 },
    #[error("{message}")]
    Usage { message: String },
}

impl Ending {
    /// An error of the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// Tells whether there is nothing to report.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Reported | Self::OutputClosed)
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Reported | Self::Output { .. } => FAILURE,
            Self::OutputClosed => BROKEN_PIPE,
            Self::Interrupted { signal } => 128 + signal,
            Self::Usage { .. } => USAGE,
        }
    }
}

fn signal_name(signal: u8) -> String {
    match signal {
        1 => "SIGHUP".to_owned(),
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

/// What `wharf run` was doing when it failed: its failures are told from those of the command inside.
#[derive(Clone, Debug)]
pub(crate) struct NotStarted {
    /// The image, as the user names it.
    pub(crate) image: String,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot run {}", shown(&self.image))
    }
}

/// Returns the exit code that `error` means.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(ending) = error.chain().find_map(|cause| cause.downcast_ref::<Ending>()) {
        return ending.exit_code();
    }
    if error.downcast_ref::<NotStarted>().is_none() {
        return FAILURE;
    }
    let problem = error.chain().find_map(|cause| cause.downcast_ref::<RunError>()?.command_problem());
    problem.map_or(USAGE, |problem| problem.exit_code().try_into().unwrap_or(USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::CommandProblem;

    fn command(problem: CommandProblem) -> anyhow::Error {
        RunError::Command { name: "x".to_owned(), problem, source: io::ErrorKind::NotFound.into() }.into()
    }

    #[test]
    fn errors_become_dockers_exit_codes() {
        let run = |error: anyhow::Error| exit_code(&error.context(NotStarted { image: "app".to_owned() }));
        assert_eq!(exit_code(&anyhow::anyhow!("anything")), 1);
        assert_eq!(exit_code(&Ending::usage("no").into()), 125);
        assert_eq!(exit_code(&anyhow::Error::from(Ending::Interrupted { signal: 2 }).context("building")), 130);
        assert_eq!(run(anyhow::anyhow!("anything")), 125);
        assert_eq!(run(command(CommandProblem::NotFound)), 127);
        assert_eq!(run(command(CommandProblem::InterpreterNotFound)), 127);
        assert_eq!(run(command(CommandProblem::NotPermitted)), 126);
        assert_eq!(run(Ending::Interrupted { signal: 15 }.into()), 143);
    }
}
