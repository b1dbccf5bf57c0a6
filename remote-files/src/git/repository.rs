//! A repository on this side: a commit is fetched into it, and its files are written out of it.
//!
//! | a server gives | then |
//! |---|---|
//! | any commit | that commit, without history |
//! | only what refs point at | the ref, without history; if it has moved on since, everything |
//! | only whole histories (plain files over http) | everything |

use std::path::{Path, PathBuf};

use super::command::{Command, Failed};
use super::error::GitFailure;
use super::{Commit, Git, GitError};
use crate::source::{GitRemote, is_commit_id};

const EVERYTHING: [&str; 2] = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];

/// A repository on this side.
pub(super) struct Repository<'a> {
    git: &'a Git,
    remote: GitRemote,
    dir: PathBuf,
}

/// A submodule as a tree and its `.gitmodules` describe it.
pub(super) struct Submodule {
    pub(super) path: String,
    pub(super) commit: String,
    pub(super) url: Option<String>,
}

/// What `.gitmodules` says of one submodule.
#[derive(Default)]
struct Described {
    path: Option<String>,
    url: Option<String>,
    update: Option<String>,
}

impl<'a> Repository<'a> {
    /// Makes an empty one.
    pub(super) async fn init(git: &'a Git, remote: &GitRemote, dir: &Path, commit: &Commit) -> Result<Self, GitError> {
        let repository = Self { git, remote: remote.clone(), dir: dir.to_owned() };
        let format = if commit.id.len() == 64 { "sha256" } else { "sha1" };
        let arguments = ["init", "--quiet", "--bare", "--template=", "--object-format", format, "--"];
        let command = git.command(remote).args(arguments).args([dir]);
        repository.checked(command).await?;
        Ok(repository)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Brings a commit here, with as little else as the server allows.
    pub(super) async fn fetch(&self, commit: &Commit) -> Result<(), GitError> {
        let wanted = commit.tag.as_deref().unwrap_or(&commit.id);
        let mut failure = self.try_fetch(&["--depth=1"], &[wanted]).await?;
        if self.has(commit).await {
            return Ok(());
        }
        if let Some(reference) = commit.reference() {
            self.try_fetch(&["--depth=1"], &[reference]).await?;
            if self.has(commit).await {
                return Ok(());
            }
        }
        let is_shallow = self.dir.join("shallow").exists();
        let depth: &[&str] = if is_shallow { &["--unshallow"] } else { &[] };
        if let Some(last) = self.try_fetch(depth, &EVERYTHING).await? {
            failure = Some(last);
        }
        if self.has(commit).await {
            return Ok(());
        }
        Err(GitError::NoCommit { remote: self.remote.to_string(), commit: commit.id.clone(), source: failure })
    }

    /// Fetches; a server that does not give this is no error, but what it says.
    async fn try_fetch(&self, options: &[&str], wanted: &[&str]) -> Result<Option<GitFailure>, GitError> {
        let fixed = ["fetch", "--progress", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"];
        let command = self.command(&self.dir).args(fixed).args(options).args(["--", self.remote.url()]).args(wanted);
        match command.over_the_network().run().await {
            Ok(_) => Ok(None),
            Err(Failed::Git(failure)) if failure.is_about_the_request() => Ok(Some(failure)),
            Err(failed) => Err(GitError::of(&self.remote, failed)),
        }
    }

    async fn has(&self, commit: &Commit) -> bool {
        let object = format!("{}^{{commit}}", commit.id);
        self.command(&self.dir).args(["cat-file", "-e", &object]).run().await.is_ok()
    }

    /// Writes the files of a commit into the empty directory `work_tree`.
    pub(super) async fn write_tree(&self, commit: &Commit, work_tree: &Path) -> Result<(), GitError> {
        let command = self.command(work_tree).args(["read-tree", "--reset", "-u", &commit.id]);
        self.checked(command).await.map(drop)
    }

    /// Returns when a commit was made, in seconds since 1970.
    pub(super) async fn commit_time(&self, commit: &Commit) -> Result<i64, GitError> {
        let command = self.command(&self.dir).args(["log", "-1", "--format=%ct", &commit.id]);
        let output = self.checked(command).await?;
        // A commit without a readable date has none, as in git.
        Ok(String::from_utf8_lossy(&output).trim().parse().unwrap_or(0))
    }

    /// Lists the submodules of a commit, but for those that are never to be fetched.
    pub(super) async fn submodules(&self, commit: &Commit) -> Result<Vec<Submodule>, GitError> {
        let command = self.command(&self.dir).args(["ls-tree", "-r", "-z", "--full-tree", &commit.id]);
        let listed = self.checked(command).await?;
        let links: Vec<_> = records(&listed).filter_map(|line| gitlink(&line)).collect();
        if links.is_empty() {
            return Ok(Vec::new());
        }
        let described = self.described(commit).await?;
        let describe = |(commit, path): (String, String)| {
            let found = described.iter().find(|described| described.path.as_deref() == Some(&path));
            let is_none = found.is_some_and(|found| found.update.as_deref() == Some("none"));
            (!is_none).then(|| Submodule { url: found.and_then(|found| found.url.clone()), path, commit })
        };
        Ok(links.into_iter().filter_map(describe).collect())
    }

    /// Reads `.gitmodules` as git does, without includes; none is empty.
    async fn described(&self, commit: &Commit) -> Result<Vec<Described>, GitError> {
        let blob = format!("{}:.gitmodules", commit.id);
        let exists = self.command(&self.dir).args(["cat-file", "-e", &blob]).run().await.is_ok();
        if !exists {
            return Ok(Vec::new());
        }
        let command = self.command(&self.dir).args(["config", "-z", "--no-includes", "--blob", &blob, "--list"]);
        let output = self.checked(command).await?;
        let mut all = std::collections::BTreeMap::<String, Described>::new();
        for record in records(&output) {
            let (key, value) = record.split_once('\n').unwrap_or((&record, ""));
            let Some((name, variable)) = key.strip_prefix("submodule.").and_then(|key| key.rsplit_once('.')) else {
                continue;
            };
            let described = all.entry(name.to_owned()).or_default();
            match variable {
                "path" => described.path = Some(value.trim_end_matches('/').to_owned()),
                "url" => described.url = Some(value.to_owned()),
                "update" => described.update = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(all.into_values().collect())
    }

    /// Makes it a repository as a user has one beside the files, and the same for the same commit.
    pub(super) async fn make_presentable(&self, commit: &Commit) -> Result<(), GitError> {
        let settings = [
            ("core.bare", "false"),
            ("remote.origin.url", self.remote.url()),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
        ];
        for (key, value) in settings {
            self.checked(self.command(&self.dir).args(["config", "--local", key, value])).await?;
        }
        self.update_ref(&["--no-deref", "HEAD", &commit.id]).await?;
        if let Some(reference) = commit.reference().filter(|reference| reference.starts_with("refs/")) {
            self.update_ref(&[reference, commit.tag.as_deref().unwrap_or(&commit.id)]).await?;
        }
        // Packs as servers send them differ from day to day.
        self.checked(self.command(&self.dir).args(["repack", "-a", "-d", "-f", "-n", "-q"])).await?;
        self.checked(self.command(&self.dir).args(["prune-packed", "-q"])).await?;
        // An index that knows nothing of inodes and times.
        self.checked(self.command(&self.dir).args(["read-tree", &commit.id])).await?;
        Ok(())
    }

    async fn update_ref(&self, arguments: &[&str]) -> Result<(), GitError> {
        self.checked(self.command(&self.dir).args(["update-ref"]).args(arguments)).await.map(drop)
    }

    fn command<'b>(&'b self, work_tree: &'b Path) -> Command<'b> {
        self.git.command(&self.remote).inside(&self.dir, work_tree)
    }

    async fn checked(&self, command: Command<'_>) -> Result<Vec<u8>, GitError> {
        command.run().await.map_err(|failed| GitError::of(&self.remote, failed))
    }
}

/// Splits what a call with `-z` printed.
fn records(output: &[u8]) -> impl Iterator<Item = String> {
    let records = output.split(|&byte| byte == 0).filter(|record| !record.is_empty());
    records.map(|record| String::from_utf8_lossy(record).into_owned())
}

/// Reads commit and path of a submodule out of a line of `git ls-tree`.
fn gitlink(line: &str) -> Option<(String, String)> {
    let (about, path) = line.split_once('\t')?;
    let id = about.strip_prefix("160000 commit ")?;
    is_commit_id(id).then(|| (id.to_owned(), path.to_owned()))
}
