//! Files and trees from servers on loopback: every fault is survived, or ends in the error that names it.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod files;
mod git_server;
mod hostile_trees;
mod http_server;
mod trees;

use std::error::Error;
use std::path::PathBuf;

use remote_files::{GitSource, HttpSource, RemoteSource, Use};

/// Nothing listens there.
const NOBODY: &str = "127.0.0.1:1";

fn source(text: &str) -> RemoteSource {
    RemoteSource::parse(text, Use::Add).unwrap().unwrap()
}

fn file(text: &str) -> HttpSource {
    match source(text) {
        RemoteSource::Http(source) => source,
        RemoteSource::Git(_) => panic!("{text} is a tree"),
    }
}

fn tree(text: &str) -> GitSource {
    match source(text) {
        RemoteSource::Git(source) => source,
        RemoteSource::Http(_) => panic!("{text} is a file"),
    }
}

/// Where git is on the machines that run this.
fn programs() -> Vec<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from).into()
}

/// An error and its causes, as a user reads them.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
