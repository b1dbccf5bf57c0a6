//! Trees by git: which commit a source means, and its files.
//!
//! ```text
//! resolve:    ls-remote ─▶ commit           (not asked when the source names a whole commit)
//! check_out:  fetch that commit, no history ─▶ files ─▶ the same for each submodule ─▶ subdir, modes, times ─▶ `into`
//! ```
//!
//! The `git` program does it, in an environment of our making (`command.rs`); nobody's configuration, hooks, filters, templates
//! or credential helpers are looked at. So files of Git LFS are the pointers that the repository holds.

mod command;
mod error;
mod process;
mod refs;
mod repository;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_transport::Proxies;
use tempfile::TempDir;

use crate::authorization::HttpAuthorization;
use crate::source::{GitDir, GitRemote, GitSource, Submodules, is_commit_id};
use repository::Repository;

pub use error::{GitError, GitFailure};

/// How deep submodules may be nested, and how many there may be in all.
const MAX_DEPTH: usize = 10;
const MAX_SUBMODULES: usize = 1000;
/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Fetches trees with the `git` program.
#[derive(Clone, Debug)]
pub struct Git {
    options: GitOptions,
}

/// What [`Git`] is made with.
#[derive(Clone)]
pub struct GitOptions {
    /// Directories with programs: git, and the ssh that it starts.
    pub path: Vec<PathBuf>,
    /// The socket of an ssh agent. ssh's own files (`~/.ssh`) are used as they are, without ever asking a question.
    pub ssh_agent: Option<PathBuf>,
    /// What servers are told, by `host` or `host:port`; only over https, and over http on loopback. Redirects are not followed
    /// then, because git would take the header along. User and password of a URL go before.
    pub authorizations: BTreeMap<String, HttpAuthorization>,
    /// The proxies to go through.
    pub proxies: Proxies,
    /// A bundle of certificates in PEM form; as git was built, it replaces the machine's bundle or adds to it.
    pub ca_file: Option<PathBuf>,
    /// How long a server may say nothing.
    pub patience: Duration,
}

/// A commit of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    id: String,
    /// The whole name of the ref that led to it.
    reference: Option<String>,
    /// The annotated tag that the ref is.
    tag: Option<String>,
}

/// What is true of a tree that was checked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedOut {
    /// When the commit was made, in seconds since 1970: the time of all files.
    pub commit_time: i64,
}

/// A repository whose files are to be written.
struct Node {
    remote: GitRemote,
    commit: Commit,
    work_tree: PathBuf,
    /// Paths of the submodules that lead to it.
    through: Vec<String>,
}

impl GitOptions {
    /// No agent, nothing to tell, no proxies, the machine's certificates.
    pub fn new(path: Vec<PathBuf>) -> Self {
        Self {
            path,
            ssh_agent: None,
            authorizations: BTreeMap::new(),
            proxies: Proxies::default(),
            ca_file: None,
            patience: PATIENCE,
        }
    }
}

impl Commit {
    /// Returns the whole id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the whole name of the ref that led to it; `None` when no ref was asked for.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    fn of_id(id: &str) -> Self {
        Self { id: id.to_owned(), reference: None, tag: None }
    }

    /// Tells whether the commit, or its tag, is what a checksum demands.
    fn is_demanded(&self, checksum: &str) -> bool {
        self.id.starts_with(checksum) || self.tag.as_ref().is_some_and(|tag| tag.starts_with(checksum))
    }
}

impl Git {
    /// Nothing is looked for or started yet.
    pub fn new(options: GitOptions) -> Self {
        Self { options }
    }

    /// Finds out which commit a source means.
    ///
    /// A ref is looked for as `refs/<ref>`, then as a branch, then as a tag, as git-checkout(1) and BuildKit do; an annotated tag
    /// means its commit. A source that names a whole commit, and no ref, is not asked for.
    ///
    /// # Errors
    ///
    /// [`GitError::NoRef`] with similar names, [`GitError::CommitMismatch`] when the ref is not the commit that was demanded, and
    /// what stands in the way of asking.
    pub async fn resolve(&self, source: &GitSource) -> Result<Commit, GitError> {
        let named = source.reference().or(source.checksum()).filter(|name| is_commit_id(name));
        let commit = match (named, source.checksum()) {
            (_, Some(checksum)) if source.is_fetched_by_commit() => {
                let reference = source.reference().filter(|name| name.starts_with("refs/")).map(str::to_owned);
                Commit { reference, ..Commit::of_id(checksum) }
            }
            (Some(id), _) => Commit::of_id(id),
            (None, _) => self.look_up(source.remote(), source.reference().unwrap_or(refs::HEAD)).await?,
        };
        match source.checksum() {
            Some(expected) if !commit.is_demanded(expected) => Err(GitError::CommitMismatch {
                asked: source.to_string(),
                actual: commit.id,
                expected: expected.to_owned(),
            }),
            _ => Ok(commit),
        }
    }

    async fn look_up(&self, remote: &GitRemote, name: &str) -> Result<Commit, GitError> {
        let found = self.list(remote, &refs::patterns(name)).await?;
        if let Some(commit) = refs::choose(&found, name) {
            return Ok(commit);
        }
        let all = self.list(remote, &[]).await?;
        let nearest = refs::nearest(&all, name);
        Err(GitError::NoRef { remote: remote.to_string(), reference: name.to_owned(), nearest })
    }

    async fn list(&self, remote: &GitRemote, patterns: &[String]) -> Result<Vec<refs::Ref>, GitError> {
        let command = self.command(remote).args(["ls-remote", "--", remote.url()]).args(patterns);
        let output = command.over_the_network().run().await;
        let output = output.map_err(|failed| GitError::of(remote, failed))?;
        Ok(refs::read(&output))
    }

    /// Writes the tree of `commit` into the empty directory `into`.
    ///
    /// A directory of the source becomes the root. Submodules come along, as files, unless the source says otherwise. All files
    /// belong to the caller, have the modes 0644 or 0755, and the time of the commit.
    ///
    /// With [`GitDir::Keep`], and no subdir, `.git` comes along: HEAD detached at the commit, the ref that led to it, no history,
    /// no credentials. It is the same for the same commit, ref, URL and version of git, except where a server refuses to give
    /// single commits: then it has the history, and all refs of that moment.
    ///
    /// # Errors
    ///
    /// [`GitError`]; what `into` holds then is of no use. Dropping the future kills git, and removes what it works with.
    pub async fn check_out(
        &self,
        source: &GitSource,
        commit: &Commit,
        keep: GitDir,
        into: &Path,
    ) -> Result<CheckedOut, GitError> {
        // git works elsewhere than this process.
        let absolute = std::path::absolute(into);
        let into = &absolute.map_err(|source| GitError::Write { path: into.to_owned(), source })?;
        let scratch = scratch_in(into)?;
        let work_tree = scratch.path().join("tree");
        let top = Node {
            remote: source.remote().clone(),
            commit: commit.clone(),
            work_tree: work_tree.clone(),
            through: Vec::new(),
        };
        make_directory(&work_tree)?;
        let repository = self.check_out_node(&top, &scratch.path().join("git")).await?;
        let commit_time = repository.commit_time(commit).await?;
        if source.submodules() == Submodules::Recursive {
            self.check_out_submodules(&top, &repository, scratch.path()).await?;
        }
        let is_kept = keep == GitDir::Keep && source.subdir().is_none();
        if is_kept {
            repository.make_presentable(commit).await?;
        }
        let place = tree::Place {
            work_tree,
            git_dir: is_kept.then(|| repository.dir().to_owned()),
            subdir: source.subdir().unwrap_or(".").to_owned(),
            into: into.to_owned(),
            time: commit_time,
        };
        let placed = tokio::task::spawn_blocking(move || place.run(scratch)).await;
        let placed = placed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        placed.map_err(|fault| GitError::of_tree(source, commit, fault))?;
        Ok(CheckedOut { commit_time })
    }

    async fn check_out_node(&self, node: &Node, dir: &Path) -> Result<Repository<'_>, GitError> {
        let repository = Repository::init(self, &node.remote, dir, &node.commit).await?;
        repository.fetch(&node.commit).await?;
        repository.write_tree(&node.commit, &node.work_tree).await?;
        Ok(repository)
    }

    async fn check_out_submodules(
        &self,
        top: &Node,
        repository: &Repository<'_>,
        scratch: &Path,
    ) -> Result<(), GitError> {
        let mut waiting = submodules_of(top, repository).await?;
        let mut count = 0;
        while let Some(node) = waiting.pop() {
            count += 1;
            let in_submodule = |source| GitError::in_submodule(&node.through, source);
            if count > MAX_SUBMODULES || node.through.len() > MAX_DEPTH {
                return Err(in_submodule(GitError::TooManySubmodules { depth: MAX_DEPTH, count: MAX_SUBMODULES }));
            }
            let dir = scratch.join(format!("submodule-{count}"));
            let repository = self.check_out_node(&node, &dir).await.map_err(in_submodule)?;
            waiting.extend(submodules_of(&node, &repository).await?);
            remove_directory(&dir)?;
        }
        Ok(())
    }
}

/// Lists the submodules of a tree that was written, and makes sure that each has a directory of its own in it.
async fn submodules_of(node: &Node, repository: &Repository<'_>) -> Result<Vec<Node>, GitError> {
    let listed = repository.submodules(&node.commit).await;
    let mut nodes = Vec::new();
    for submodule in listed.map_err(|source| GitError::in_submodule(&node.through, source))? {
        let mut through = node.through.clone();
        through.push(submodule.path.clone());
        let in_submodule = |source| GitError::in_submodule(&through, source);
        let remote = submodule.url.as_deref().ok_or(GitError::NoSubmoduleUrl).and_then(|url| {
            let remote = node.remote.submodule(url);
            remote.map_err(|source| GitError::SubmoduleUrl { url: crate::source::without_secrets(url), source })
        });
        let remote = remote.map_err(in_submodule)?;
        tree::check_directory(&node.work_tree, &submodule.path)
            .map_err(|source| in_submodule(GitError::Write { path: submodule.path.clone().into(), source }))?;
        let work_tree = node.work_tree.join(&submodule.path);
        nodes.push(Node { remote, commit: Commit::of_id(&submodule.commit), work_tree, through });
    }
    Ok(nodes)
}

/// Makes the directory in which git works: in `into`, so that files need not be copied from one file system to another.
fn scratch_in(into: &Path) -> Result<TempDir, GitError> {
    let fail = |source| GitError::Write { path: into.to_owned(), source };
    if std::fs::read_dir(into).map_err(fail)?.next().is_some() {
        return Err(fail(std::io::ErrorKind::DirectoryNotEmpty.into()));
    }
    tempfile::Builder::new().prefix(".wharf-git-").tempdir_in(into).map_err(fail)
}

fn make_directory(path: &Path) -> Result<(), GitError> {
    std::fs::create_dir(path).map_err(|source| GitError::Write { path: path.to_owned(), source })
}

fn remove_directory(path: &Path) -> Result<(), GitError> {
    std::fs::remove_dir_all(path).map_err(|source| GitError::Write { path: path.to_owned(), source })
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl fmt::Debug for GitOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("GitOptions");
        debug.field("path", &self.path).field("ssh_agent", &self.ssh_agent).field("proxies", &self.proxies);
        debug.field("ca_file", &self.ca_file).field("patience", &self.patience).finish_non_exhaustive()
    }
}
