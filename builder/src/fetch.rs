//! Fetches remote sources: files by HTTP, trees by git.
//!
//! - Of a file it is remembered by what its server recognises it, and its digest, so that the next build need not fetch it.
//! - Where a secret belongs to a host, only that host is told.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use layer_store::{CacheKey, ScratchDirectory, Store};
use remote_files::{
    Answer, Commit, Download, Downloaded, FileChecksum, Git, GitDir, GitSource, HttpAuthorization, HttpFiles,
    HttpSource, Validators, VerifyError,
};
use serde::{Deserialize, Serialize};

use crate::dockerignore::Dockerignore;
use crate::file_tree::{FileTree, Owners};
use crate::progress::{Event, Progress};
use crate::remote::{Pin, Pinned, Remote, RemoteError, RemoteFiles};

/// What a file is called whose URL has no name for it, as in BuildKit.
const UNNAMED: &str = "__unnamed__";

/// Fetches files and trees into directories of the store.
pub struct NetworkFiles {
    store: Store,
    http: HttpFiles,
    git: Git,
    /// What servers are told, by host.
    authorizations: BTreeMap<String, HttpAuthorization>,
    progress: Option<Arc<dyn Progress>>,
}

/// What is remembered of a file.
#[derive(Serialize, Deserialize)]
struct Known {
    validators: Validators,
    digest: String,
}

impl NetworkFiles {
    /// Prepares to fetch; nobody is asked yet.
    pub fn new(store: Store, http: HttpFiles, git: Git, authorizations: BTreeMap<String, HttpAuthorization>) -> Self {
        Self { store, http, git, authorizations, progress: None }
    }

    /// Tells `progress` how far downloads are.
    pub fn telling(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress: Some(progress), ..self }
    }

    /// Fetches a file or a tree, whatever it is at the moment.
    ///
    /// # Errors
    ///
    /// [`RemoteError`] when it cannot be had.
    pub async fn get(&self, remote: &Remote) -> Result<FileTree, RemoteError> {
        match remote {
            Remote::File { source, checksum } => Ok(self.file(source, checksum.as_ref()).await?.0),
            Remote::Tree { source, git_dir } => {
                let commit = self.git.resolve(source).await?;
                self.fetch_tree(source, *git_dir, &commit).await
            }
        }
    }

    async fn pin_file(&self, source: &HttpSource, checksum: Option<&FileChecksum>) -> Result<Pinned, RemoteError> {
        if let Some(checksum) = checksum {
            return Ok(Pinned { pin: Pin::File(checksum.to_string()), fetched: None });
        }
        let known = self.known(source);
        let validators = known.as_ref().map(|known| &known.validators);
        let (digest, fetched) = match self.http.get(source, self.authorization(source), validators).await? {
            Answer::File(download) => {
                let (fetched, downloaded) = self.download(source, *download, None).await?;
                (downloaded.sha256.to_string(), Some(Arc::new(fetched)))
            }
            Answer::NotModified => (known.map(|known| known.digest).unwrap_or_default(), None),
        };
        Ok(Pinned { pin: Pin::File(digest), fetched })
    }

    async fn fetch_file(
        &self,
        source: &HttpSource,
        checksum: Option<&FileChecksum>,
        digest: &str,
    ) -> Result<FileTree, RemoteError> {
        let (fetched, downloaded) = self.file(source, checksum).await?;
        let actual = downloaded.sha256.to_string();
        if checksum.is_none() && actual != digest {
            let (url, expected) = (source.to_string(), digest.to_owned());
            return Err(RemoteError::Changed { url, expected, actual });
        }
        Ok(fetched)
    }

    /// Fetches a file, whatever is known of it.
    async fn file(
        &self,
        source: &HttpSource,
        checksum: Option<&FileChecksum>,
    ) -> Result<(FileTree, Downloaded), RemoteError> {
        match self.http.get(source, self.authorization(source), None).await? {
            Answer::File(download) => self.download(source, *download, checksum).await,
            Answer::NotModified => unreachable!("no validators were sent"),
        }
    }

    /// Writes a file, mode 0600 and with the time that its server says, as docker does, into a directory of its own.
    async fn download(
        &self,
        source: &HttpSource,
        download: Download,
        checksum: Option<&FileChecksum>,
    ) -> Result<(FileTree, Downloaded), RemoteError> {
        let keep = |error| RemoteError::Keep { url: source.to_string(), source: error };
        let directory = self.store.scratch_directory()?;
        let name = source.file_name().unwrap_or_else(|| UNNAMED.to_owned());
        let path = directory.path().join(&name);
        let create = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = create.map_err(keep)?;
        let moved = |done, total| self.tell(&name, done, total);
        let downloaded = download.write_to(file.try_clone().map_err(keep)?, moved).await?;
        let modified = u64::try_from(downloaded.modified.unwrap_or_default()).unwrap_or_default();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(modified)).map_err(keep)?;
        if let Some(checksum) = checksum.cloned() {
            let verify = move || {
                let file = File::open(&path).map_err(|source| VerifyError::Read { source })?;
                checksum.verify(file)
            };
            let verified = tokio::task::spawn_blocking(verify).await.expect("verifying does not panic");
            verified.map_err(|error| RemoteError::Checksum { url: source.to_string(), source: error })?;
        }
        self.remember(source, &downloaded);
        Ok((fetched(directory).map_err(keep)?, downloaded))
    }

    /// Says how far a download is, where that is known.
    fn tell(&self, name: &str, done: u64, total: Option<u64>) {
        if let (Some(progress), Some(total)) = (&self.progress, total) {
            progress.event(Event::Transfer { name, done, total });
        }
    }

    async fn fetch_tree(&self, source: &GitSource, git_dir: GitDir, commit: &Commit) -> Result<FileTree, RemoteError> {
        let directory = self.store.scratch_directory()?;
        self.git.check_out(source, commit, git_dir, directory.path()).await?;
        fetched(directory).map_err(|error| RemoteError::Keep { url: source.to_string(), source: error })
    }

    /// Returns what the server of a file is told, by its host and port, or by its host.
    fn authorization(&self, source: &HttpSource) -> Option<&HttpAuthorization> {
        let (host, port) = source.host();
        let with_port = port.and_then(|port| self.authorizations.get(&format!("{host}:{port}")));
        with_port.or_else(|| self.authorizations.get(host))
    }

    fn known(&self, source: &HttpSource) -> Option<Known> {
        let bytes = self.store.read_context(&name(source)).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Remembers by what a file is recognised; that can be lost without harm.
    fn remember(&self, source: &HttpSource, downloaded: &Downloaded) {
        let validators = downloaded.validators.clone();
        if validators == Validators::default() {
            return;
        }
        let known = Known { validators, digest: downloaded.sha256.to_string() };
        let bytes = serde_json::to_vec(&known).expect("it has string keys and no failing serialisers");
        let _kept_or_fetched_again = self.store.write_context(&name(source), &bytes);
    }
}

impl RemoteFiles for NetworkFiles {
    fn pin<'a>(&'a self, remote: &'a Remote) -> BoxFuture<'a, Result<Pinned, RemoteError>> {
        async move {
            match remote {
                Remote::File { source, checksum } => self.pin_file(source, checksum.as_ref()).await,
                Remote::Tree { source, .. } => {
                    let commit = self.git.resolve(source).await?;
                    Ok(Pinned { pin: Pin::Commit(commit), fetched: None })
                }
            }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, remote: &'a Remote, pin: &'a Pin) -> BoxFuture<'a, Result<FileTree, RemoteError>> {
        async move {
            match (remote, pin) {
                (Remote::File { source, checksum }, Pin::File(digest)) => {
                    self.fetch_file(source, checksum.as_ref(), digest).await
                }
                (Remote::Tree { source, git_dir }, Pin::Commit(commit)) => {
                    self.fetch_tree(source, *git_dir, commit).await
                }
                _ => unreachable!("files are pinned as files and trees as commits"),
            }
        }
        .boxed()
    }
}

impl fmt::Debug for NetworkFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkFiles").field("http", &self.http).field("git", &self.git).finish_non_exhaustive()
    }
}

/// Opens a directory that is complete.
fn fetched(directory: ScratchDirectory) -> io::Result<FileTree> {
    let tree = FileTree::open(directory.path(), Dockerignore::default(), Owners::Root)?;
    Ok(tree.kept_by(directory))
}

/// Returns the name under which a file is remembered: the URL is part of it, but not readable.
fn name(source: &HttpSource) -> CacheKey {
    let hash = blake3::hash(format!("remote file\n{}", source.url()).as_bytes());
    hash.to_hex().as_str().parse().expect("BLAKE3 gives 64 hexadecimal digits")
}
