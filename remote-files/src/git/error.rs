//! Why a tree could not be fetched, told apart by what git says. No message holds a password.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_transport::shown;

use super::Commit;
use super::command::Failed;
use super::process::Stopped;
use super::tree::TreeFault;
use crate::source::{GitRemote, GitSource, SourceFault};

/// Lines of git's messages that are shown.
const MAX_LINES: usize = 5;

/// Why a tree could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum GitError {
    #[error("git is not installed: none of {} has it", list(.searched))]
    NotInstalled { searched: Vec<PathBuf> },
    #[error("cannot run git")]
    Run { source: io::Error },
    #[error("cannot reach the server of {remote}")]
    Unreachable { remote: String, source: GitFailure },
    #[error("the server of {remote} wants credentials, or other ones")]
    Authentication { remote: String, source: GitFailure },
    #[error("{remote} is no git repository, or not one that everybody may see")]
    NoRepository { remote: String, source: GitFailure },
    #[error("{remote} moved: its server redirects, which is not followed because the `Authorization` would go along")]
    Redirected { remote: String, source: GitFailure },
    #[error("the server of {remote} sent nothing for {} s", .after.as_secs())]
    Silent { remote: String, after: Duration },
    #[error("the server of {remote} sends too many refs")]
    TooManyRefs { remote: String },
    #[error("{remote} has no ref `{reference}`{}", similar(.nearest))]
    NoRef { remote: String, reference: String, nearest: Vec<String> },
    #[error("{remote} has no commit {commit}")]
    NoCommit { remote: String, commit: String, source: Option<GitFailure> },
    #[error("{asked} is commit {actual}, but {expected} was demanded")]
    CommitMismatch { asked: String, actual: String, expected: String },
    #[error("{remote} has no directory `{subdir}` at commit {commit}: {reason}")]
    NoSubdir { remote: String, commit: String, subdir: String, reason: &'static str },
    #[error("cannot fetch {remote}")]
    Failed { remote: String, source: GitFailure },
    #[error("cannot fetch submodule `{path}`")]
    Submodule { path: String, source: Box<GitError> },
    #[error("`{url}` is no place that submodules are fetched from")]
    SubmoduleUrl { url: String, source: SourceFault },
    #[error("`.gitmodules` does not say where it is")]
    NoSubmoduleUrl,
    #[error("submodules are nested more than {depth} deep, or more than {count}")]
    TooManySubmodules { depth: usize, count: usize },
    #[error("cannot write `{}`", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// A call of git that failed: what was tried, and the end of what git says about it, safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitFailure {
    tried: String,
    words: String,
}

impl GitFailure {
    pub(super) fn new(tried: String, messages: &[u8], secrets: &[&str]) -> Self {
        let mut text = String::from_utf8_lossy(messages).into_owned();
        for secret in secrets {
            text = text.replace(secret, "***");
        }
        let lines: Vec<_> = text.split(['\n', '\r']).map(str::trim).filter(|line| is_word(line)).collect();
        let last = &lines[lines.len().saturating_sub(MAX_LINES)..];
        Self { tried, words: shown(&last.join("; ")) }
    }

    /// Returns the call as a user would write it.
    pub fn tried(&self) -> &str {
        &self.tried
    }

    /// Returns what git says, on one line.
    pub fn words(&self) -> &str {
        &self.words
    }

    fn says(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.words.contains(phrase))
    }

    /// Tells whether the server does not give single commits, or not without their history.
    pub(super) fn is_about_the_request(&self) -> bool {
        self.says(&[
            "not our ref",
            "unadvertised object",
            "find remote ref",
            "no such remote ref",
            "does not support shallow",
            "does not support --depth",
        ])
    }
}

/// Tells a message from a report of progress.
fn is_word(line: &str) -> bool {
    let line = line.strip_prefix("remote:").map_or(line, str::trim_start);
    let counts = ["Enumerating objects", "Counting objects", "Compressing objects", "Receiving objects", "Total "];
    let more = ["Resolving deltas", "Unpacking objects", "Checking connectivity", "Finding sources", "Updating files"];
    !line.is_empty() && !counts.iter().chain(&more).any(|count| line.starts_with(count))
}

impl GitError {
    /// Sorts out why a call that is about `remote` failed.
    pub(super) fn of(remote: &GitRemote, failed: Failed) -> Self {
        let remote = remote.to_string();
        match failed {
            Failed::NotInstalled { searched } => Self::NotInstalled { searched },
            Failed::Stopped(Stopped::Io(source)) => Self::Run { source },
            Failed::Stopped(Stopped::Silent(after)) => Self::Silent { remote, after },
            Failed::Stopped(Stopped::TooMuchOutput) => Self::TooManyRefs { remote },
            Failed::Git(source) => Self::of_failure(remote, source),
        }
    }

    fn of_failure(remote: String, source: GitFailure) -> Self {
        let unreachable = [
            "Could not resolve",
            "unable to look up",
            "Connection refused",
            "Failed to connect",
            "Couldn't connect",
            "unable to connect",
            "timed out",
            "Network is unreachable",
            "No route to host",
            "Connection reset",
        ];
        let authentication = [
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "terminal prompts disabled",
            "Permission denied (",
            "returned error: 401",
            "returned error: 403",
            "Access denied",
        ];
        let repository = ["not exported", "does not appear to be a git repository", "returned error: 404", "not found"];
        if source.says(&unreachable) {
            Self::Unreachable { remote, source }
        } else if source.says(&authentication) {
            Self::Authentication { remote, source }
        } else if source.says(&["returned error: 30"]) {
            Self::Redirected { remote, source }
        } else if source.says(&repository) {
            Self::NoRepository { remote, source }
        } else {
            Self::Failed { remote, source }
        }
    }

    pub(super) fn of_tree(source: &GitSource, commit: &Commit, fault: TreeFault) -> Self {
        match fault {
            TreeFault::NoSubdir { reason } => Self::NoSubdir {
                remote: source.remote().to_string(),
                commit: commit.id().to_owned(),
                subdir: shown(source.subdir().unwrap_or_default()),
                reason,
            },
            TreeFault::Write { path, source } => Self::Write { path, source },
        }
    }

    /// Says in which submodule it happened; no path is the repository itself.
    pub(super) fn in_submodule(through: &[String], source: Self) -> Self {
        if through.is_empty() {
            return source;
        }
        Self::Submodule { path: shown(&through.join("/")), source: Box::new(source) }
    }
}

fn similar(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; similar ones are `{}`", names.join("`, `")),
    }
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    if names.is_empty() { "no directories".to_owned() } else { names.join(", ") }
}

impl fmt::Display for GitFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = if self.words.is_empty() { "nothing" } else { &self.words };
        write!(f, "git says: {words}; tried `{}`", self.tried)
    }
}

impl std::error::Error for GitFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_told_apart() {
        let remote = GitRemote::parse("https://a.com/b.git").unwrap();
        let check = |words: &str, expected: &str| {
            let failure = GitFailure::new("git ls-remote".to_owned(), words.as_bytes(), &[]);
            let error = format!("{:?}", GitError::of(&remote, Failed::Git(failure)));
            assert_eq!(error.split([' ', '{']).next(), Some(expected), "{words}");
        };
        check("fatal: unable to access 'https://a.com/b.git/': Could not resolve host: a.com", "Unreachable");
        check("ssh: connect to host a.com port 22: Connection refused\nfatal: Could not read", "Unreachable");
        check("fatal: could not read Username for 'https://a.com': terminal prompts disabled", "Authentication");
        check("git@a.com: Permission denied (publickey).\nfatal: Could not read from remote", "Authentication");
        check("fatal: unable to access 'https://a.com/': The requested URL returned error: 301", "Redirected");
        check("fatal: repository 'https://a.com/b.git/' not found", "NoRepository");
        check("fatal: protocol error: bad line length character", "Failed");
    }

    #[test]
    fn messages_are_the_last_lines_without_progress_and_secrets() {
        let messages =
            b"remote: Counting objects:  50% (1/2)\rReceiving objects: 10%\nfatal: dG9rZW4= \x1b[31mis bad\n\n";
        let failure = GitFailure::new("git fetch".to_owned(), messages, &["dG9rZW4="]);
        assert_eq!(failure.to_string(), "git says: fatal: *** \\u{1b}[31mis bad; tried `git fetch`");
    }
}
