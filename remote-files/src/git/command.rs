//! One call of git, and the environment in which it runs.
//!
//! | what could go wrong | what prevents it |
//! |---|---|
//! | the user's or the machine's configuration, hooks, templates, attributes | none is read: `GIT_CONFIG_*`, `HOME`, `core.hooksPath`, … |
//! | a question that nobody answers | no terminal, no askpass, no credential helper, `BatchMode` for ssh |
//! | `ext::sh -c …`, `file:///etc` as a submodule | `GIT_ALLOW_PROTOCOL`, besides the check of every URL before git sees it |
//! | a word that is taken for an option | `--` before it, besides the check of every ref and URL |
//! | a secret in the list of processes | configuration that holds one goes by `GIT_CONFIG_COUNT`, never by argument |
//! | a secret that follows a redirect | the header is for one origin, and there redirects are not followed |
//! | broken or hostile objects | `fsckObjects`; only three ancient blemishes are let through |
//! | processes that stay | their own group, killed on drop (`process.rs`); no maintenance in the background |

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_transport::shown;
use tokio::process::Command as Program;

use super::error::GitFailure;
use super::process::{Stopped, run};
use super::{Git, GitOptions};
use crate::authorization::HttpAuthorization;
use crate::source::GitRemote;

/// Shorter words of a header are not looked for in messages: `Basic` is one.
const MIN_SECRET: usize = 8;

const CONFIG: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.protectNTFS", "true"),
    ("core.protectHFS", "true"),
    ("core.logAllRefUpdates", "false"),
    ("protocol.ext.allow", "never"),
    ("protocol.file.allow", "never"),
    ("credential.helper", ""),
    ("fetch.fsckObjects", "true"),
    ("transfer.fsckObjects", "true"),
    ("fetch.fsck.zeroPaddedFilemode", "ignore"),
    ("fetch.fsck.badTimezone", "ignore"),
    ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "60"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("pack.threads", "1"),
    ("log.showSignature", "false"),
    ("init.defaultBranch", "main"),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_TEMPLATE_DIR", ""),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("GIT_ALLOW_PROTOCOL", "https:http:ssh:git"),
    ("GIT_LFS_SKIP_SMUDGE", "1"),
    ("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=30"),
    ("GIT_SSH_VARIANT", "ssh"),
];

/// A call of git that is being put together.
pub(super) struct Command<'a> {
    git: &'a Git,
    remote: &'a GitRemote,
    dirs: Option<(&'a Path, &'a Path)>,
    arguments: Vec<OsString>,
    patience: Option<Duration>,
}

/// Why a call did not succeed.
pub(super) enum Failed {
    NotInstalled { searched: Vec<PathBuf> },
    Stopped(Stopped),
    Git(GitFailure),
}

impl Git {
    /// Starts a call that is about `remote`; only one that goes over the network learns who asks.
    pub(super) fn command<'a>(&'a self, remote: &'a GitRemote) -> Command<'a> {
        Command { git: self, remote, dirs: None, arguments: Vec::new(), patience: None }
    }
}

impl<'a> Command<'a> {
    /// Works on a repository, and on the files in a directory.
    pub(super) fn inside(mut self, git_dir: &'a Path, work_tree: &'a Path) -> Self {
        self.dirs = Some((git_dir, work_tree));
        self
    }

    pub(super) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Allows to talk to the server, which may not be silent for too long.
    pub(super) fn over_the_network(mut self) -> Self {
        self.patience = Some(self.git.options.patience);
        self
    }

    /// Runs to the end and returns what git printed.
    pub(super) async fn run(self) -> Result<Vec<u8>, Failed> {
        let options = &self.git.options;
        let program = find(&options.path).ok_or_else(|| Failed::NotInstalled { searched: options.path.clone() })?;
        let ended = run(self.program(&program), self.patience).await.map_err(Failed::Stopped)?;
        if ended.status.success() {
            return Ok(ended.output);
        }
        Err(Failed::Git(GitFailure::new(self.shown(), &ended.messages, &self.secrets())))
    }

    fn program(&self, program: &Path) -> Program {
        let options = &self.git.options;
        let mut command = Program::new(program);
        command.env_clear().envs(ENVIRONMENT.iter().copied());
        command.env("PATH", std::env::join_paths(absolute(&options.path)).unwrap_or_default());
        command.current_dir("/");
        for (key, value) in CONFIG {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        if let Some((git_dir, work_tree)) = self.dirs {
            command.env("GIT_DIR", git_dir).env("GIT_WORK_TREE", work_tree).current_dir(work_tree);
        }
        if self.patience.is_some() {
            self.let_out(&mut command);
        }
        command.args(&self.arguments);
        command
    }

    /// Adds what only a call over the network may know.
    fn let_out(&self, command: &mut Program) {
        let GitOptions { proxies, ca_file, ssh_agent, .. } = &self.git.options;
        let proxy = [("http_proxy", &proxies.http), ("https_proxy", &proxies.https), ("no_proxy", &proxies.except)];
        command.envs(proxy.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))));
        command.envs(ca_file.as_ref().map(|file| ("GIT_SSL_CAINFO", file)));
        command.envs(ssh_agent.as_ref().map(|socket| ("SSH_AUTH_SOCK", socket)));
        let Some((origin, authorization)) = self.authorization() else { return };
        let secret = [
            (format!("http.{origin}.extraHeader"), format!("Authorization: {}", authorization.secret())),
            (format!("http.{origin}.followRedirects"), "false".to_owned()),
        ];
        command.env("GIT_CONFIG_COUNT", secret.len().to_string());
        for (number, (key, value)) in secret.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
    }

    /// Returns the one origin that learns who asks, and how.
    fn authorization(&self) -> Option<(&str, &HttpAuthorization)> {
        let origin = self.remote.origin()?;
        let by_host = self.git.options.authorizations.get(self.remote.host()).filter(|_| self.remote.is_private());
        Some((origin, self.remote.authorization().or(by_host)?))
    }

    fn secrets(&self) -> Vec<&str> {
        let secret = self.authorization().map(|(_, authorization)| authorization.secret());
        secret.into_iter().flat_map(|secret| secret.split(' ').filter(|word| word.len() >= MIN_SECRET)).collect()
    }

    /// Returns the call as a user would write it.
    fn shown(&self) -> String {
        let mut text = "git".to_owned();
        for argument in &self.arguments {
            write!(text, " {}", argument.to_string_lossy()).expect("a string can be written");
        }
        shown(&text)
    }
}

fn find(path: &[PathBuf]) -> Option<PathBuf> {
    absolute(path).map(|directory| directory.join("git")).find(|program| is_executable(program))
}

fn absolute(path: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    path.iter().filter(|directory| directory.is_absolute())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
