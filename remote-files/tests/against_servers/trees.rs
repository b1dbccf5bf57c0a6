//! Trees by git.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use remote_files::{Git, GitDir, GitError, GitOptions, HttpAuthorization};
use tempfile::TempDir;

use crate::git_server::{GitServer, Repo, TIME};
use crate::http_server::{HttpServer, answer};
use crate::{NOBODY, programs, told, tree};

pub(crate) fn git() -> Git {
    Git::new(GitOptions::new(programs()))
}

/// Resolves and checks out.
pub(crate) async fn fetch_with(git: &Git, url: &str, keep: GitDir) -> Result<TempDir, GitError> {
    let source = tree(url);
    let commit = git.resolve(&source).await?;
    let into = tempfile::tempdir().unwrap();
    let checked_out = git.check_out(&source, &commit, keep, into.path()).await?;
    assert_eq!(checked_out.commit_time, TIME);
    Ok(into)
}

pub(crate) async fn fetch(url: &str) -> Result<TempDir, GitError> {
    fetch_with(&git(), url, GitDir::Drop).await
}

/// Every path below `dir` with what is there: a mode and a content, or where a link leads.
pub(crate) fn listing(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (TIME, 0), "{}", path.display());
        let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            found.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
        } else if metadata.is_dir() {
            assert_eq!(mode, 0o755, "{name}");
            found.insert(name, "/".to_owned());
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let content = fs::read(&path).unwrap();
            found.insert(name, format!("{mode:o} {}", oci_digest(&content)));
        }
    }
    found
}

fn oci_digest(content: &[u8]) -> String {
    String::from_utf8(content.to_vec()).unwrap_or_else(|_| oci::Digest::of(content).to_string())
}

fn check(dir: &TempDir, expected: &[(&str, &str)]) {
    let mut wanted: BTreeMap<_, _> = expected.iter().map(|(name, what)| ((*name).into(), (*what).into())).collect();
    wanted.insert(String::new(), "/".to_owned());
    assert_eq!(listing(dir.path()), wanted);
}

async fn id(url: &str) -> String {
    git().resolve(&tree(url)).await.unwrap().id().to_owned()
}

#[tokio::test]
async fn a_tree_arrives_with_its_modes_links_and_one_time() {
    let server = GitServer::start();
    let repo = server.repo("a");
    fs::write(repo.dir().join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(repo.dir().join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("../../etc/passwd", repo.dir().join("link")).unwrap();
    repo.commit(&[("d/e/f", "deep"), (".gitattributes", "*.bin filter=lfs diff=lfs\n"), ("x.bin", "pointer")]);
    let expected = [
        (".gitattributes", "644 *.bin filter=lfs diff=lfs\n"),
        ("README", "644 hello\n"),
        ("d", "/"),
        ("d/e", "/"),
        ("d/e/f", "644 deep"),
        ("link", "-> ../../etc/passwd"),
        ("run", "755 #!/bin/sh\n"),
        ("x.bin", "644 pointer"),
    ];
    check(&fetch(&server.url("a")).await.unwrap(), &expected);
    check(&fetch(&server.url("a#main:d")).await.unwrap(), &[("e", "/"), ("e/f", "644 deep")]);
}

#[tokio::test]
async fn refs_mean_what_they_mean_to_git() {
    let server = GitServer::start();
    let repo = server.repo("a");
    let first = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["tag", "--annotate", "--message=x", "v1"]);
    repo.git(&["tag", "both"]);
    let second = repo.commit(&[("README", "second")]);
    repo.git(&["branch", "both"]);
    repo.git(&["update-ref", "refs/pull/1/head", &first]);
    for (name, expected) in [
        ("", &second),
        ("#main", &second),
        ("#HEAD", &second),
        ("#both", &second),
        ("?tag=both", &first),
        ("#v1", &first),
        ("#refs/tags/v1", &first),
        ("#pull/1/head", &first),
        ("?ref=main&checksum=", &second),
    ] {
        let checksum = if name.ends_with('=') { &expected[..7] } else { "" };
        assert_eq!(&id(&server.url(&format!("a{name}{checksum}"))).await, expected, "{name}");
    }
    let tag = repo.git(&["rev-parse", "v1"]);
    assert_eq!(id(&server.url(&format!("a?tag=v1&checksum={tag}"))).await, first);
    check(&fetch(&server.url("a#v1")).await.unwrap(), &[("README", "644 hello\n")]);
    check(&fetch(&server.url(&format!("a#{first}"))).await.unwrap(), &[("README", "644 hello\n")]);
    check(&fetch(&server.url(&format!("a?commit={first}"))).await.unwrap(), &[("README", "644 hello\n")]);
    let by_commit = format!("a?branch=main&fetch-by-commit&checksum={first}");
    check(&fetch(&server.url(&by_commit)).await.unwrap(), &[("README", "644 hello\n")]);
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let server = GitServer::start();
    let repo = server.repo("a");
    let commit = repo.git(&["rev-parse", "HEAD"]);
    repo.commit(&[("file", ""), ("d/f", "")]);
    symlink("..", repo.dir().join("out")).unwrap();
    symlink("/etc", repo.dir().join("absolute")).unwrap();
    symlink("loop", repo.dir().join("loop")).unwrap();
    symlink("d", repo.dir().join("inside")).unwrap();
    let last = repo.commit(&[]);
    server.empty_repo("empty", "sha1");
    let url = server.url("a");
    let none = "0123456789".repeat(4);
    let subdir = |name: &str, reason: &str| {
        (format!("#:{name}"), format!("{url} has no directory `{name}` at commit {last}: {reason}"))
    };
    let cases = [
        ("#mian".to_owned(), format!("{url} has no ref `mian`; similar ones are `main`")),
        (format!("#{none}"), format!("{url} has no commit {none}: git says: ")),
        (format!("?ref=main&checksum={commit}"), format!("{url}#main is commit {last}, but {commit} was demanded")),
        subdir("none", "nothing is there"),
        subdir("file", "it is a file, or below one"),
        subdir("file/x", "it is a file, or below one"),
        subdir("out", "a symbolic link leads out of the repository"),
        subdir("absolute", "a symbolic link leads out of the repository"),
        subdir("loop", "its symbolic links lead in circles"),
    ];
    for (rest, expected) in cases {
        let error = told(&fetch(&format!("{url}{rest}")).await.unwrap_err());
        assert!(error.starts_with(&expected), "{rest}: {error}");
    }
    check(&fetch(&format!("{url}#:inside")).await.unwrap(), &[("f", "644 ")]);
    let error = fetch(&server.url("empty")).await.unwrap_err();
    assert!(told(&error).ends_with("has no ref `HEAD`"), "{error}");
    let error = fetch(&server.url("none")).await.unwrap_err();
    assert!(matches!(error, GitError::NoRepository { .. }), "{error:?}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_told_apart() {
    for scheme in ["git", "http"] {
        let error = fetch(&format!("{scheme}://{NOBODY}/x.git")).await.unwrap_err();
        assert!(matches!(error, GitError::Unreachable { .. }), "{error:?}");
    }
    let server = HttpServer::start(|_, _| answer(401, "WWW-Authenticate: Basic realm=x", b""));
    for url in [server.url("x.git"), server.url("x.git").replace("http://", "http://ana:s3cret@")] {
        let error = fetch(&url).await.unwrap_err();
        assert!(matches!(error, GitError::Authentication { .. }), "{error:?}");
        assert!(!format!("{} {error:?}", told(&error)).contains("s3cret"));
    }
    let missing = Git::new(GitOptions::new(vec!["/nonexistent".into(), "relative".into()]));
    let error = missing.resolve(&tree("git://127.0.0.1/x")).await.unwrap_err();
    assert_eq!(error.to_string(), "git is not installed: none of /nonexistent, relative has it");
}

#[tokio::test]
async fn submodules_come_along_with_theirs() {
    let server = GitServer::start();
    let deep = server.repo("deep").commit(&[("x", "deep")]);
    let lib = server.repo("lib");
    lib.add_submodule("d/deep", "../deep", &deep);
    let commit = lib.commit_index();
    let top = server.repo("top");
    top.add_submodule("lib", "../lib", &commit);
    top.commit_index();
    let modules = |path: &str, url: &str| format!("644 [submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    let expected = [
        (".gitmodules", &*modules("lib", "../lib")),
        ("README", "644 hello\n"),
        ("lib", "/"),
        ("lib/.gitmodules", &*modules("d/deep", "../deep")),
        ("lib/README", "644 hello\n"),
        ("lib/d", "/"),
        ("lib/d/deep", "/"),
        ("lib/d/deep/README", "644 hello\n"),
        ("lib/d/deep/x", "644 deep"),
    ];
    check(&fetch(&server.url("top")).await.unwrap(), &expected);
    check(&fetch(&server.url("top?submodules=false")).await.unwrap(), &expected[..3]);
    let inner = fetch(&server.url("top#:lib/d/deep")).await.unwrap();
    check(&inner, &[("README", "644 hello\n"), ("x", "644 deep")]);
}

fn git_in(dir: &TempDir, arguments: &[&str]) -> String {
    Repo::at(dir.path()).git(arguments)
}

#[tokio::test]
async fn a_kept_repository_is_whole_clean_and_always_the_same() {
    let server = GitServer::start();
    let repo = server.repo("a");
    repo.commit(&[("README", "second"), ("d/x", "x")]);
    repo.git(&["tag", "--annotate", "--message=x", "v1"]);
    let url = server.url("a#v1");
    let kept = fetch_with(&git(), &url, GitDir::Keep).await.unwrap();
    let again = fetch_with(&git(), &url, GitDir::Keep).await.unwrap();
    assert_eq!(listing(kept.path()), listing(again.path()));
    let mut names: Vec<_> =
        fs::read_dir(kept.path().join(".git")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["HEAD", "config", "index", "objects", "refs", "shallow"]);
    assert_eq!(git_in(&kept, &["status", "--porcelain"]), "");
    assert_eq!(git_in(&kept, &["describe", "--exact-match"]), "v1");
    assert_eq!(git_in(&kept, &["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(git_in(&kept, &["remote", "get-url", "origin"]), server.url("a"));
    git_in(&kept, &["fsck", "--strict"]);
    let part = fetch_with(&git(), &server.url("a#v1:d"), GitDir::Keep).await.unwrap();
    check(&part, &[("x", "644 x")]);
}

#[tokio::test]
async fn a_repository_of_sha256_is_one() {
    let server = GitServer::start();
    let commit = server.empty_repo("a", "sha256").commit(&[("x", "y")]);
    assert_eq!(commit.len(), 64);
    check(&fetch(&server.url("a")).await.unwrap(), &[("x", "644 y")]);
}

/// A directory with a `git` that is a script; `$git` in it is the real one.
fn scripted(script: &str) -> (TempDir, Git) {
    let (dir, options) = scripted_program("git", script);
    (dir, Git::new(options))
}

fn scripted_program(name: &str, script: &str) -> (TempDir, GitOptions) {
    let dir = tempfile::tempdir().unwrap();
    let real = programs().into_iter().map(|dir| dir.join("git")).find(|path| path.exists()).unwrap();
    let path = dir.path().join(name);
    let text = format!("#!/bin/sh\ngit={}\nhere={}\n{script}\n", real.display(), dir.path().display());
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = vec![dir.path().to_owned()];
    path.extend(programs());
    (dir, GitOptions::new(path))
}

#[tokio::test]
async fn a_server_that_gives_no_single_commits_gives_them_all_the_same() {
    let server = GitServer::start();
    let repo = server.repo("a");
    let first = repo.git(&["rev-parse", "HEAD"]);
    repo.commit(&[("README", "second")]);
    repo.commit(&[("README", "third")]);
    // Version 0 of the protocol allows what refs point at, and no more.
    let (_dir, old) = scripted("exec $git -c protocol.version=0 \"$@\"");
    for (rest, content) in [("", "644 third"), (&format!("#{first}"), "644 hello\n")] {
        let into = fetch_with(&old, &server.url(&format!("a{rest}")), GitDir::Drop).await.unwrap();
        check(&into, &[("README", content)]);
    }
    let none = "0123456789".repeat(4);
    let error = fetch_with(&old, &server.url(&format!("a#{none}")), GitDir::Drop).await.unwrap_err();
    assert!(matches!(error, GitError::NoCommit { .. }), "{error:?}");
    let source = tree(&server.url("a#main"));
    let commit = old.resolve(&source).await.unwrap();
    repo.commit(&[("README", "moved on")]);
    let into = tempfile::tempdir().unwrap();
    old.check_out(&source, &commit, GitDir::Drop, into.path()).await.unwrap();
    check(&into, &[("README", "644 third")]);
}

/// Serves the files of a repository, as a web server that knows nothing of git.
fn file_server(server: &GitServer) -> HttpServer {
    let root = server.root().to_owned();
    HttpServer::start(move |request, _| {
        let path = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
        match fs::read(root.join(path)) {
            Ok(content) => answer(200, "", &content),
            Err(_) => answer(404, "", b""),
        }
    })
}

#[tokio::test]
async fn a_password_goes_to_its_server_and_into_no_argument() {
    let server = GitServer::start();
    let repo = server.repo("a.git");
    repo.git(&["update-server-info"]);
    let files = file_server(&server);
    let url = files.url("a.git/.git").replace("http://", "http://ana:s3cret@");
    let (dir, recording) =
        scripted("printf '%s\\n' \"$@\" >> $here/arguments; env >> $here/environment; exec $git \"$@\"");
    let kept = fetch_with(&recording, &url, GitDir::Keep).await.unwrap();
    assert_eq!(git_in(&kept, &["remote", "get-url", "origin"]), files.url("a.git/.git"));
    let basic = "Basic YW5hOnMzY3JldA==";
    assert!(files.requests().iter().all(|request| request.header("authorization") == Some(basic)));
    let arguments = fs::read_to_string(dir.path().join("arguments")).unwrap();
    assert!(arguments.contains("ls-remote") && arguments.contains("fetch"));
    assert!(!arguments.contains("s3cret") && !arguments.contains("YW5h"), "{arguments}");
    let environment = fs::read_to_string(dir.path().join("environment")).unwrap();
    assert!(environment.contains(basic) && environment.contains("GIT_CONFIG_GLOBAL=/dev/null"));
    assert!(!environment.contains("CARGO"), "nothing of this process is passed on: {environment}");
}

#[tokio::test]
async fn a_password_follows_no_redirect() {
    let elsewhere = HttpServer::start(|_, _| answer(404, "", b""));
    let to = elsewhere.url("");
    let server = HttpServer::start(move |request, _| answer(302, &format!("Location: {to}{}", request.path), b""));
    let url = server.url("x.git").replace("http://", "http://ana:s3cret@");
    let error = fetch(&url).await.unwrap_err();
    assert!(matches!(error, GitError::Redirected { .. }), "{error:?}");
    assert!(elsewhere.requests().is_empty());
    fetch(&server.url("x.git")).await.unwrap_err();
    assert_eq!(elsewhere.requests()[0].header("authorization"), None, "without a password it is followed");
}

#[tokio::test]
async fn ssh_is_asked_no_question_and_given_the_agent() {
    let server = GitServer::start();
    let repo = server.repo("a");
    // Does here what it is told to do there.
    let there = "printf '%s\\n' \"$@\" \"$SSH_AUTH_SOCK\" > $here/told; for last; do :; done; exec sh -c \"$last\"";
    let (dir, mut options) = scripted_program("ssh", there);
    options.ssh_agent = Some("/run/agent".into());
    let git = Git::new(options);
    for url in ["git@localhost:", "ssh://ana:s3cret@localhost:2222"] {
        let into = fetch_with(&git, &format!("{url}{}", repo.dir().display()), GitDir::Drop).await.unwrap();
        check(&into, &[("README", "644 hello\n")]);
        let told = fs::read_to_string(dir.path().join("told")).unwrap();
        assert!(told.contains("BatchMode=yes") && told.ends_with("/run/agent\n"), "{told}");
        assert!(told.contains("@localhost\n") && !told.contains("s3cret"), "{told}");
    }
}

#[tokio::test]
async fn one_commit_comes_by_http_too() {
    let server = GitServer::start();
    let repo = server.repo("a");
    let first = repo.git(&["rev-parse", "HEAD"]);
    repo.commit(&[("README", "second")]);
    let by_http = server.over_http();
    let url = by_http.url("a/.git").replace("http://", "http://ana:s3cret@");
    for (rest, content) in [("", "644 second"), (&format!("#{first}"), "644 hello\n")] {
        check(&fetch(&format!("{url}{rest}")).await.unwrap(), &[("README", content)]);
    }
    let requests = by_http.requests();
    assert!(requests.iter().all(|request| request.header("authorization").is_some()));
    assert!(requests.iter().any(|request| String::from_utf8_lossy(&request.body).contains("deepen 1")));
}

#[tokio::test]
async fn a_header_is_for_its_host_and_a_proxy_for_all() {
    let server = HttpServer::start(|_, _| answer(404, "", b""));
    let other = HttpServer::start(|_, _| answer(404, "", b""));
    let host = server.url("").replace("http://", "").replace('/', "");
    let mut options = GitOptions::new(programs());
    options.authorizations.insert(host, HttpAuthorization::new("Bearer t0ken12345").unwrap());
    for server in [&server, &other] {
        let error = Git::new(options.clone()).resolve(&tree(&server.url("x.git"))).await.unwrap_err();
        assert!(matches!(error, GitError::NoRepository { .. }), "{error:?}");
    }
    assert_eq!(server.requests()[0].header("authorization"), Some("Bearer t0ken12345"));
    assert_eq!(other.requests()[0].header("authorization"), None);
    options.proxies.http = Some(other.url(""));
    options.authorizations =
        [("example.invalid".to_owned(), HttpAuthorization::new("Bearer t0ken12345").unwrap())].into();
    Git::new(options).resolve(&tree("http://example.invalid/x.git")).await.unwrap_err();
    let proxied = other.requests().pop().unwrap();
    assert!(proxied.path.starts_with("http://example.invalid/x.git/info/refs"), "{proxied:?}");
    assert_eq!(proxied.header("authorization"), None, "it is not told to everybody who listens");
}

/// Tells whether a process still runs; one that nobody waited for does not.
fn is_running(id: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[tokio::test]
async fn what_is_dropped_or_silent_is_killed_with_its_children() {
    let (dir, stuck) = scripted("sleep 1000 & echo $! > $here/child.new; mv $here/child.new $here/child; wait");
    let pid_file = dir.path().join("child");
    let source = tree("git://127.0.0.1/x");
    let asking = tokio::spawn(async move { stuck.resolve(&source).await });
    while !pid_file.exists() {
        tokio::task::yield_now().await;
    }
    let child = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    assert!(is_running(&child));
    asking.abort();
    drop(asking.await);
    while is_running(&child) {
        tokio::task::yield_now().await;
    }
    let mut options = GitOptions::new(vec![dir.path().to_owned(), "/bin".into(), "/usr/bin".into()]);
    options.patience = Duration::from_millis(200);
    let error = Git::new(options).resolve(&tree("git://127.0.0.1/x")).await.unwrap_err();
    assert!(matches!(error, GitError::Silent { .. }), "{error:?}");
    let child = fs::read_to_string(&pid_file).unwrap().trim().to_owned();
    while is_running(&child) {
        tokio::task::yield_now().await;
    }
}
