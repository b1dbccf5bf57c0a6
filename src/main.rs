//! The `wharf` command.
//!
//! ```text
//! args ─▶ config ─▶ namespaces (where files are mounted or owned by others) ─▶ commands/<verb> ─▶ exit code
//!                                                                                    └ error ─▶ report
//! ```
//!
//! | file | what |
//! |---|---|
//! | `args`, `commands/` | the command line, and one file for each verb |
//! | `config` | the only reader of environment and home directory |
//! | `session` | what a verb works with: store, client, tokio, Ctrl-C |
//! | `limit_flags` | what a container may take |
//! | `prune_flags`, `prune_report` | what the prunes have in common |
//! | `container`, `confinement`, `environment`, `mounts`, `stdio`, `forwarded_signals` | `wharf run` |
//! | `input`, `destination` | where archives come from and go to |
//! | `report/`, `ending` | errors with their causes and one hint; exit codes |
//! | `progress/`, `transfer_report` | what people see while something runs |
//! | `output`, `shown`, `table`, `template`, `age`, `size` | what is printed |
//!
//! The program ends in one place, here, so that everything that is held is dropped: mounts, containers, leases.

mod age;
mod args;
mod commands;
mod compression_flags;
mod config;
mod confinement;
mod container;
mod destination;
mod ending;
mod environment;
mod filter;
mod forwarded_signals;
mod image_view;
mod input;
mod limit_flags;
mod listing;
mod mounts;
mod namespaces;
mod network;
mod output;
mod progress;
mod prompt;
mod prune_flags;
mod prune_report;
mod published;
mod report;
mod session;
mod shown;
mod size;
mod stdio;
mod table;
mod template;
mod transfer_report;
mod unkept;

use std::process::ExitCode;

use anyhow::Context;

use crate::args::Cli;
use crate::config::{Config, Display};
use crate::session::Session;

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(report::usage(&error)),
    };
    let mut display = Display::Plain;
    ExitCode::from(wharf(cli, &mut display).unwrap_or_else(|error| report::error(&error, display)))
}

/// Runs a command and returns its exit code; `display` becomes what standard error can show.
fn wharf(cli: Cli, display: &mut Display) -> anyhow::Result<u8> {
    let config = Config::read(cli.root, cli.storage_driver)?;
    *display = config.stderr;
    let command = cli.command.short();
    let runtime = command.needs_namespace().then(runtime::enter).transpose();
    let runtime = runtime.context("cannot enter namespaces of our own")?;
    commands::run(command, &Session::new(config, runtime))
}
