//! What the tests of this workspace share; nothing here is part of the product.
//!
//! | name | what it is |
//! |---|---|
//! | [`Registry`], [`Auth`], [`Fault`] | an OCI registry in memory on loopback, with a request log and scripted faults |
//! | [`MemoryBlobs`] | a blob source and sink in memory |
//! | [`TestEnv`], [`Output`] | the built program in an environment of its own |
//! | `leftovers.rs` | what commands of a [`TestEnv`] have left on the machine |
//! | [`FileServer`] | a directory served by HTTP on loopback, with entity tags |
//! | [`images`] | small images to start from |
//! | [`harness`] | a test harness for programs whose `main` must run before the first thread |
//!
//! Everything panics with a sentence instead of returning errors: a broken test environment is a failed test.

#![forbid(unsafe_code)]

mod env;
mod file_server;
pub mod harness;
pub mod images;
mod leftovers;
mod memory;
mod registry;

pub use env::{Output, TestEnv};
pub use file_server::FileServer;
pub use memory::MemoryBlobs;
pub use registry::{Account, Auth, Fault, Recorded, Registry, Tokens};
