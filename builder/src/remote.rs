//! What ADD names elsewhere: pinned first, and fetched only when a layer is made of it.
//!
//! ```text
//! remote source ─pin▶ the digest of a file, or a commit: part of the cache key
//!                      │ hit: nothing is fetched
//!                      ╰ miss ─fetch▶ a directory of this command's, copied like any other
//! ```
//!
//! | source | is pinned by |
//! |---|---|
//! | a file with `--checksum` | the checksum, without asking anybody |
//! | a file that was fetched before | its digest then, if its server says that it is still the same (`ETag`, `Last-Modified`) |
//! | any other file | fetching it |
//! | a tree of a git repository | its commit: asking for it, unless the source names the whole id |
//!
//! Spec: Dockerfile reference, "ADD", "Adding files from a remote URL", "Adding files from a Git repository".

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use layer_store::FileError;
use remote_files::{
    Commit, FileChecksum, GitDir, GitError, GitSource, HttpFileError, HttpSource, Submodules, VerifyError,
};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::file_tree::FileTree;

/// Something that ADD fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// A file.
    File {
        /// Where it is.
        source: HttpSource,
        /// What it must be.
        checksum: Option<FileChecksum>,
    },
    /// A tree; what its commit must be is part of the source.
    Tree {
        /// Where it is.
        source: GitSource,
        /// Whether `.git` comes along.
        git_dir: GitDir,
    },
}

/// What a remote source was when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pin {
    /// A file with this digest or checksum.
    File(String),
    /// A commit.
    #[serde(serialize_with = "id")]
    Commit(Commit),
}

/// Only the commit counts, not the ref that led to it.
fn id<S: Serializer>(commit: &Commit, serializer: S) -> Result<S::Ok, S::Error> {
    commit.id().serialize(serializer)
}

/// A pinned source, with its files where they had to be fetched to know it.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// What it is.
    pub pin: Pin,
    /// Its files; those of a file are a tree with nothing else in it.
    pub fetched: Option<Arc<FileTree>>,
}

/// Why a remote source could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum RemoteError {
    #[error(transparent)]
    Http(#[from] HttpFileError),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("`{url}` is not what it should be")]
    Checksum { url: String, source: VerifyError },
    #[error("`{url}` changed while it was fetched: it was {expected}, and is {actual}")]
    Changed { url: String, expected: String, actual: String },
    #[error("cannot keep `{url}`")]
    Keep { url: String, source: std::io::Error },
    #[error("cannot make a directory for it")]
    Directory(#[from] FileError),
}

/// A place that fetches files and trees.
pub trait RemoteFiles: Send + Sync {
    /// Finds out what a source is now.
    fn pin<'a>(&'a self, remote: &'a Remote) -> BoxFuture<'a, Result<Pinned, RemoteError>>;

    /// Fetches what was pinned.
    fn fetch<'a>(&'a self, remote: &'a Remote, pin: &'a Pin) -> BoxFuture<'a, Result<FileTree, RemoteError>>;
}

/// Without secrets.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { source, .. } => source.fmt(f),
            Self::Tree { source, .. } => source.fmt(f),
        }
    }
}

impl Hash for Remote {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::File { source, .. } => source.url().hash(state),
            Self::Tree { source, .. } => source.to_string().hash(state),
        }
    }
}

/// What enters a cache key beside the pin; it holds no secret of a URL.
impl Serialize for Remote {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::File { source, .. } => map.serialize_entry("file", &source.to_string())?,
            Self::Tree { source, git_dir } => {
                map.serialize_entry("tree", source.url())?;
                map.serialize_entry("subdir", &source.subdir())?;
                map.serialize_entry("submodules", &(source.submodules() == Submodules::Recursive))?;
                map.serialize_entry("git_dir", &(*git_dir == GitDir::Keep))?;
            }
        }
        map.end()
    }
}

type Answer<T> = Result<T, Arc<RemoteError>>;
type Asked<T> = Mutex<HashMap<Remote, Shared<BoxFuture<'static, Answer<T>>>>>;

/// The remote sources of one build, each pinned and fetched once.
pub(crate) struct Remotes {
    files: Arc<dyn RemoteFiles>,
    pinned: Asked<Pinned>,
    fetched: Asked<Arc<FileTree>>,
}

impl Remotes {
    pub(crate) fn new(files: Arc<dyn RemoteFiles>) -> Self {
        Self { files, pinned: Mutex::default(), fetched: Mutex::default() }
    }

    pub(crate) async fn pin(&self, remote: &Remote) -> Answer<Pinned> {
        let (files, asked) = (Arc::clone(&self.files), remote.clone());
        once(&self.pinned, remote, async move { files.pin(&asked).await.map_err(Arc::new) }.boxed()).await
    }

    /// Fetches a source that was pinned.
    pub(crate) async fn fetch(&self, remote: &Remote, pinned: &Pinned) -> Answer<Arc<FileTree>> {
        if let Some(fetched) = &pinned.fetched {
            return Ok(Arc::clone(fetched));
        }
        let (files, asked, pin) = (Arc::clone(&self.files), remote.clone(), pinned.pin.clone());
        let fetch = async move { files.fetch(&asked, &pin).await.map(Arc::new).map_err(Arc::new) };
        once(&self.fetched, remote, fetch.boxed()).await
    }
}

/// Returns the answer about `remote` that was asked for first.
fn once<T: Clone>(
    asked: &Asked<T>,
    remote: &Remote,
    ask: BoxFuture<'static, Answer<T>>,
) -> Shared<BoxFuture<'static, Answer<T>>> {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    asked.entry(remote.clone()).or_insert_with(|| ask.shared()).clone()
}
