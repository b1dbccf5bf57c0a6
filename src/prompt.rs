//! Asking people: yes or no, a name, a password.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::Context;

use crate::output;

/// Bytes of a password on standard input that are read at most.
const MAX_PASSWORD: u64 = 64 << 10;

/// Asks whether to go on after `warning`; only `y` and `yes` mean that.
///
/// # Errors
///
/// When the question cannot be printed or the answer not be read.
pub(crate) fn confirm(warning: &str) -> anyhow::Result<bool> {
    output::print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let answer = line().context("cannot read the answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for one line of text.
///
/// # Errors
///
/// When standard input is no terminal, or cannot be read.
pub(crate) fn ask(question: &str) -> anyhow::Result<String> {
    output::print(question)?;
    Ok(line().context("cannot read the answer")?.trim().to_owned())
}

/// Asks for a password, which is not shown.
///
/// # Errors
///
/// When there is no terminal to ask on.
pub(crate) fn password(question: &str) -> anyhow::Result<String> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).context("cannot ask for the password")?;
    rpassword::read_password().context("cannot read the password")
}

/// Reads a password from standard input, up to its end, without the line break after it.
///
/// # Errors
///
/// When it cannot be read, or is no text.
pub(crate) fn password_from_stdin() -> anyhow::Result<String> {
    let mut password = String::new();
    io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut password).context("cannot read the password")?;
    let password = password.strip_suffix('\n').unwrap_or(&password);
    Ok(password.strip_suffix('\r').unwrap_or(password).to_owned())
}

/// Tells whether there is somebody to ask.
pub(crate) fn has_user() -> bool {
    io::stdin().is_terminal()
}

fn line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line)
}
