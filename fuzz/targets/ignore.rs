//! Fuzz target: the patterns of `.dockerignore` files.
//!
//! Their file is included, since all of the crate `builder` would bring the runtime and the network with it.

#![no_main]

#[path = "../../builder/src/dockerignore.rs"]
#[allow(unfulfilled_lint_expectations, reason = "nothing here is public, so no documentation is missing")]
mod dockerignore;
#[path = "../src/ignore.rs"]
mod property;

use dockerignore::Dockerignore;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::ignore(bytes));
