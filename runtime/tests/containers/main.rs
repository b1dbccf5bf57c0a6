//! Runs containers from a busybox root filesystem and looks at them from inside.
//!
//! A program of its own instead of the usual harness: `runtime::enter` comes before the first thread. It takes words to filter by
//! and the flags that `cargo test` and `cargo nextest` pass. Modes (`--hold`, …) are the program itself, started again in another role by a test.
//!
//! Needs root, or a user with subordinate ids, and `/bin/busybox` (package busybox-static).

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "this is a test program, though not built as one")]

mod confinement;
#[cfg(target_arch = "x86_64")]
mod i386;
mod image;
mod isolation;
mod limits;
mod mounts;
mod namespaces;
mod process;
mod security;
mod terminal;
mod unprivileged;

use std::process::ExitCode;

use runtime::{Namespace, Runtime};

/// A test: its name, what it does.
type Test = (&'static str, fn(&Runtime));

/// Lists test functions under their own names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn(&runtime::Runtime))),*] };
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--hold", rootfs, command @ ..] => process::hold(rootfs, command, Namespace::Own),
        ["--hold-among-the-hosts", rootfs, command @ ..] => process::hold(rootfs, command, Namespace::Host),
        ["--single-id", rootfs] => unprivileged::single_id(rootfs),
        ["--threads-first"] => unprivileged::threads_first(),
        _ => {
            let groups = [
                confinement::TESTS,
                #[cfg(target_arch = "x86_64")]
                i386::TESTS,
                isolation::TESTS,
                limits::TESTS,
                mounts::TESTS,
                namespaces::TESTS,
                process::TESTS,
                security::TESTS,
                terminal::TESTS,
                unprivileged::TESTS,
            ];
            let enter = || runtime::enter().expect("these tests need root, or user namespaces and subordinate ids");
            test_support::harness::run(&words, &groups.concat(), enter)
        }
    }
}
