//! Shows errors: what was being done, every cause, what was tried, and at most one hint.
//!
//! ```text
//! error: cannot push registry.example.com/team/app:1.4
//!   caused by: POST https://registry.example.com/… was refused (401 Unauthorized)
//!   tried: user `ci-bot` from ~/.docker/config.json, scope `repository:team/app:pull,push`
//! hint: to use another account, run `wharf login registry.example.com`
//! ```
//!
//! | file | what |
//! |---|---|
//! | `build.rs` | errors that stand at a place in a Dockerfile, with an excerpt |
//! | `hint.rs` | the hints: the only texts that name flags |
//!
//! Everything here goes to standard error; what others wrote is made harmless first.

mod build;
mod hint;

use std::error::Error;
use std::fmt::Write;

use clap::error::ErrorKind;
use registry_client::RequestError;

use crate::config::Display;
use crate::ending::{Ending, exit_code};
use crate::output;
use crate::shown::shown;
use crate::table::ellipsis;

pub(crate) use build::{BuildFailure, DockerfileText, Seen, diagnostics, warnings};
pub(crate) use hint::obstacle;

const USAGE: u8 = 125;
/// Characters of a cause that are shown: a command may be a whole script.
const MAX_CAUSE: usize = 500;

/// Shows why the command line was not understood, or the help that it asks for; returns the exit code.
pub(crate) fn usage(error: &clap::Error) -> u8 {
    let help = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    let is_help = error.kind() == help || matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let _unheard = error.print();
    if is_help { 0 } else { USAGE }
}

/// Shows `error` and returns the exit code that it means.
pub(crate) fn error(error: &anyhow::Error, display: Display) -> u8 {
    let is_silent = error.downcast_ref::<Ending>().is_some_and(Ending::is_silent);
    if !is_silent {
        output::notice(text(error, display).trim_end());
    }
    exit_code(error)
}

/// Shows one of several errors of a command that goes on.
pub(crate) fn one_of_several(error: &anyhow::Error) {
    output::notice(text(error, Display::Plain).trim_end());
}

/// Shows what a command left out because of an error, and that error's causes.
pub(crate) fn note(text: &str, error: &(dyn Error + 'static)) {
    let mut text = format!("note: {}\n  caused by: {}\n", shown(text), shown(&error.to_string()));
    write_causes(&mut text, error);
    output::notice(text.trim_end());
}

fn text(error: &anyhow::Error, display: Display) -> String {
    if let Some(failure) = error.downcast_ref::<BuildFailure>() {
        return build::text(failure, display);
    }
    let mut text = format!("error: {}\n", shown(&error.to_string()));
    details(&mut text, error.as_ref());
    text
}

/// Adds causes, what was tried, and the hint.
fn details(text: &mut String, error: &(dyn Error + 'static)) {
    write_causes(text, error);
    let refused = find::<RequestError>(error).filter(|request| request.is_denied());
    if let Some(tried) = refused.and_then(RequestError::tried) {
        let _infallible = writeln!(text, "  tried: {}", shown(&tried.to_string()));
    }
    if let Some(hint) = hint::hint(error) {
        let _infallible = writeln!(text, "hint: {hint}");
    }
}

/// Adds every cause that says something new.
fn write_causes(text: &mut String, error: &(dyn Error + 'static)) {
    let mut said = error.to_string();
    for cause in causes(error) {
        let cause = cause.to_string();
        if cause != said {
            let _infallible = writeln!(text, "  caused by: {}", ellipsis(&shown(&cause), MAX_CAUSE));
        }
        said = cause;
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// Finds the error of a type in a chain, wherever its owner keeps it.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    std::iter::once(error).chain(causes(error)).find_map(|cause| {
        let boxed = || cause.downcast_ref::<Box<T>>().map(Box::as_ref);
        let shared = || cause.downcast_ref::<std::sync::Arc<T>>().map(std::sync::Arc::as_ref);
        cause.downcast_ref::<T>().or_else(boxed).or_else(shared)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::io;

    #[test]
    fn every_cause_is_shown_once_and_harmless() {
        let error = io::Error::other("no \u{1b}[2J such thing");
        let error = Err::<(), _>(error).context("cannot read `x`").context("cannot build").unwrap_err();
        let shown = "error: cannot build\n  caused by: cannot read `x`\n  caused by: no \\u{1b}[2J such thing\n";
        assert_eq!(text(&error, Display::Plain), shown);
        let error = anyhow::anyhow!("once").context("once");
        assert_eq!(text(&error, Display::Plain), "error: once\n");
    }

    #[test]
    fn a_full_disk_has_a_hint() {
        let error = anyhow::Error::from(io::Error::from_raw_os_error(28)).context("cannot keep the layer");
        assert!(text(&error, Display::Plain).contains("hint: "), "{}", text(&error, Display::Plain));
    }
}
