//! The program that `--init` makes process 1: it reaps what others leave behind and passes signals on.
//!
//! Its source is `runtime/init/main.rs`, which `build.rs` compiles for the same machine, without a C library. Nothing of our own
//! binary is in it.

use crate::{GeneratedFile, GeneratedKind};

/// Where the program is in a container, as docker has it.
const PATH: &str = "/sbin/docker-init";
const PROGRAM: &[u8] = include_bytes!(env!("WHARF_INIT"));

/// Returns the init program as a file of a container, and the words that go before the command: `/sbin/docker-init --`.
///
/// It looks the command up in `PATH` itself, and exits with its code; 127 when it is not there and 126 when it cannot be run.
pub fn init_program() -> (GeneratedFile, [String; 2]) {
    let file = GeneratedFile { path: PATH.to_owned(), contents: PROGRAM.to_vec(), kind: GeneratedKind::Program };
    (file, [PATH.to_owned(), "--".to_owned()])
}
