//! Fetches what ADD and build contexts name elsewhere: a file by HTTP, a tree by git.
//!
//! ```text
//! source.rs            what a text names, if it is not a local path; pure
//!   ├─ HttpSource ──▶ HttpFiles::get ──▶ Download::write_to      http/
//!   └─ GitSource ───▶ Git::resolve ────▶ Git::check_out          git/, by the `git` program in an environment of our making
//! ```
//!
//! - User and password of a URL go to the server it names and nowhere else: not into a message, nor into a list of processes.
//! - What a server sends is stored as sent; nothing is decoded.
//! - Dropping a future ends its work: connections are closed, git and its children are killed.
//! - Nothing is read of the environment or the home directory; what is needed of them is an option. Only ssh reads its own files.

#![forbid(unsafe_code)]

mod authorization;
mod checksum;
mod git;
mod http;
mod source;

pub use authorization::{HttpAuthorization, InvalidAuthorization};
pub use checksum::{FileChecksum, InvalidChecksum, VerifyError};
pub use git::{CheckedOut, Commit, Git, GitError, GitFailure, GitOptions};
pub use http::{Answer, Download, Downloaded, HttpFileError, HttpFiles, Validators};
pub use source::{GitDir, GitSource, HttpSource, RemoteSource, RemoteSourceError, SourceFault, Submodules, Use};
