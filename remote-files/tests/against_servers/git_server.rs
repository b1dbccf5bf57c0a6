//! Repositories that a test makes, and `git daemon` on loopback to serve them.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::http_server::{HttpServer, answer};

/// The time of every commit.
pub(crate) const TIME: i64 = 1_600_000_000;

/// A directory of repositories, and a server of it for as long as the test program runs.
pub(crate) struct GitServer {
    root: TempDir,
    address: SocketAddr,
}

/// A repository with files beside it.
pub(crate) struct Repo {
    dir: PathBuf,
}

impl GitServer {
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let base = root.path().to_owned();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let output = stream.try_clone().unwrap();
                let mut daemon = plain_git(&base);
                daemon.args(["daemon", "--inetd", "--export-all"]).arg(format!("--base-path={}", base.display()));
                daemon.stdin(OwnedFd::from(stream)).stdout(OwnedFd::from(output)).stderr(Stdio::null());
                let mut daemon = daemon.spawn().unwrap();
                thread::spawn(move || daemon.wait());
            }
        });
        Self { root, address }
    }

    /// Serves the same repositories by http, as `git http-backend` does behind a web server.
    pub(crate) fn over_http(&self) -> HttpServer {
        let root = self.root().to_owned();
        HttpServer::start(move |request, _| {
            let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
            let mut backend = plain_git(&root);
            backend.arg("http-backend").env("GIT_PROJECT_ROOT", &root).env("GIT_HTTP_EXPORT_ALL", "1");
            backend.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", &request.method);
            for (variable, header) in [
                ("CONTENT_TYPE", "content-type"),
                ("CONTENT_LENGTH", "content-length"),
                ("HTTP_CONTENT_ENCODING", "content-encoding"),
                ("GIT_PROTOCOL", "git-protocol"),
            ] {
                backend.envs(request.header(header).map(|value| (variable, value)));
            }
            let mut backend = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            backend.stdin.take().unwrap().write_all(&request.body).unwrap();
            let output = backend.wait_with_output().unwrap().stdout;
            let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
            answer(200, &String::from_utf8_lossy(&output[..end]), &output[end + 4..])
        })
    }

    /// Makes a repository with one commit of one file.
    pub(crate) fn repo(&self, name: &str) -> Repo {
        let repo = self.empty_repo(name, "sha1");
        repo.commit(&[("README", "hello\n")]);
        repo
    }

    pub(crate) fn empty_repo(&self, name: &str, format: &str) -> Repo {
        let repo = Repo { dir: self.root.path().join(name) };
        fs::create_dir(&repo.dir).unwrap();
        repo.git(&["init", "--quiet", "--initial-branch=main", "--object-format", format]);
        repo
    }

    pub(crate) fn url(&self, rest: &str) -> String {
        format!("git://{}/{rest}", self.address)
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }
}

impl Repo {
    pub(crate) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Runs git in it and returns what it prints.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = plain_git(&self.dir).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Writes files and commits everything; returns the commit.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = self.dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.commit_index()
    }

    pub(crate) fn commit_index(&self) -> String {
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Puts a submodule into the next commit.
    pub(crate) fn add_submodule(&self, path: &str, url: &str, commit: &str) {
        let file = self.dir.join(".gitmodules");
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, format!("{before}[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n")).unwrap();
        self.git(&["add", ".gitmodules"]);
        self.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

fn plain_git(dir: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    let date = format!("@{TIME} +0000");
    git.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
    let who = [("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@a"), ("GIT_COMMITTER_NAME", "c")];
    git.envs(who).env("GIT_COMMITTER_EMAIL", "c@c");
    git
}
