//! Writing to standard output and standard error.
//!
//! - Whoever reads may stop: a closed standard output ends the command quietly, as [`Ending::OutputClosed`].
//! - Standard error is for people; what cannot be written there is lost.

use std::io::{self, Write};

use crate::ending::Ending;

/// Writes `text` to standard output.
///
/// # Errors
///
/// [`Ending::OutputClosed`] when nobody reads it, [`Ending::Output`] for any other failure, such as a full disk.
pub(crate) fn print(text: &str) -> Result<(), Ending> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|source| match source.kind() {
        io::ErrorKind::BrokenPipe => Ending::OutputClosed,
        _ => Ending::Output { source },
    })
}

/// Writes `text` and a line break to standard output.
///
/// # Errors
///
/// As [`print`].
pub(crate) fn line(text: &str) -> Result<(), Ending> {
    print(&format!("{text}\n"))
}

/// Writes `text` and a line break to standard error.
pub(crate) fn notice(text: &str) {
    let _unheard = writeln!(io::stderr().lock(), "{text}");
}
