//! Runs containers from a busybox root filesystem and looks at them from inside.
//!
//! A program of its own instead of the usual harness: `runtime::enter` comes before the first thread. It takes words to filter by
//! and the flags that `cargo test` and `cargo nextest` pass. Modes (`--hold`, …) are the program itself, started again in another role by a test.
//!
//! Needs root, or a user with subordinate ids, and `/bin/busybox` (package busybox-static).

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "this is a test program, though not built as one")]

mod image;
mod isolation;
mod mounts;
mod process;
mod security;
mod terminal;
mod unprivileged;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use runtime::Runtime;

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
        ["--hold", rootfs, command @ ..] => process::hold(rootfs, command),
        ["--single-id", rootfs] => unprivileged::single_id(rootfs),
        ["--threads-first"] => unprivileged::threads_first(),
        _ => run_all(&words),
    }
}

/// Does what `cargo test` and `cargo nextest` ask of a harness: list the tests, or run those that the words name.
fn run_all(words: &[String]) -> ExitCode {
    let has = |flag: &str| words.iter().any(|word| word == flag);
    // `--format terse` is the one flag with a value that the two pass
    let filters: Vec<&String> = words.iter().filter(|word| !word.starts_with("--") && *word != "terse").collect();
    let is_exact = has("--exact");
    let is_named = |name: &str, filter: &str| if is_exact { name == filter } else { name.contains(filter) };
    let groups =
        [isolation::TESTS, mounts::TESTS, process::TESTS, security::TESTS, terminal::TESTS, unprivileged::TESTS];
    let selected: Vec<&Test> = groups
        .into_iter()
        .flatten()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| is_named(name, filter)))
        .collect();
    if has("--list") {
        if !has("--ignored") {
            selected.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    run(&selected)
}

fn run(tests: &[&Test]) -> ExitCode {
    let runtime = runtime::enter().expect("these tests need root, or user namespaces and subordinate ids");
    let mut failed = Vec::new();
    for (name, test) in tests {
        let passed = catch_unwind(AssertUnwindSafe(|| test(&runtime))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(name);
        }
    }
    println!("{} passed, {} failed", tests.len() - failed.len(), failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
