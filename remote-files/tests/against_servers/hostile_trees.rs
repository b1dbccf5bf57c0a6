//! Repositories of people who want something else than to be fetched.

use std::fs;
use std::os::unix::fs::symlink;

use remote_files::{GitDir, GitError};

use crate::git_server::GitServer;
use crate::trees::{fetch, git};
use crate::{told, tree};

async fn check_submodule(url: &str, expected: &[&str]) {
    let server = GitServer::start();
    let repo = server.repo("top");
    let commit = repo.git(&["rev-parse", "HEAD"]);
    repo.add_submodule("sub", url, &commit);
    repo.commit_index();
    let error = fetch(&server.url("top")).await.unwrap_err();
    let told = told(&error);
    assert!(expected.iter().all(|part| told.contains(part)), "{url}: {told}");
}

#[tokio::test]
async fn a_submodule_cannot_run_a_program_or_read_a_file() {
    let canary = tempfile::tempdir().unwrap();
    let file = canary.path().join("touched");
    let named = ["cannot fetch submodule `sub`", "is no place that submodules are fetched from"];
    check_submodule(&format!("ext::sh -c touch% {}", file.display()), &named).await;
    check_submodule("file:///etc", &named).await;
    check_submodule("/etc", &named).await;
    check_submodule("../../../../../../../../etc", &named).await;
    check_submodule("ftp://127.0.0.1/x", &named).await;
    check_submodule("ssh://a.com/-x", &named).await;
    // What git's own check of objects finds is refused even before.
    let touch = format!("--upload-pack=touch {}", file.display());
    check_submodule(&touch, &["gitmodulesUrl"]).await;
    check_submodule("ssh://-oProxyCommand=x/y", &["cannot fetch"]).await;
    assert!(!file.exists());
}

#[tokio::test]
async fn a_submodule_that_is_not_described_is_named() {
    let server = GitServer::start();
    let repo = server.repo("top");
    let commit = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},d/sub")]);
    repo.commit_index();
    let error = fetch(&server.url("top")).await.unwrap_err();
    assert_eq!(told(&error), "cannot fetch submodule `d/sub`: `.gitmodules` does not say where it is");
}

#[tokio::test]
async fn a_submodule_in_vain_names_the_way_to_it() {
    let server = GitServer::start();
    let lib = server.repo("lib");
    lib.add_submodule("inner", "../none", &"1".repeat(40));
    let commit = lib.commit_index();
    let top = server.repo("top");
    top.add_submodule("outer", "../lib", &commit);
    top.commit_index();
    let error = fetch(&server.url("top")).await.unwrap_err();
    assert!(told(&error).starts_with("cannot fetch submodule `outer/inner`: "), "{}", told(&error));
}

#[tokio::test]
async fn a_submodule_that_says_none_is_left_out() {
    let server = GitServer::start();
    let repo = server.repo("top");
    repo.add_submodule("sub", "../none", &"1".repeat(40));
    repo.git(&["config", "--file", ".gitmodules", "submodule.sub.update", "none"]);
    repo.git(&["add", ".gitmodules"]);
    repo.commit_index();
    let into = fetch(&server.url("top")).await.unwrap();
    assert_eq!(fs::read_dir(into.path().join("sub")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_directory_named_like_gits_own_is_refused() {
    let server = GitServer::start();
    let repo = server.repo("a");
    let blob = repo.git(&["hash-object", "-w", "README"]);
    let mktree = |name: &str, kind: &str, id: &str| {
        let script = format!("printf '{kind} {id}\\t{name}\\n' | git mktree");
        repo.git(&["-c", &format!("alias.make=!{script}"), "make"])
    };
    let config = mktree("config", "100644 blob", &blob);
    for name in [".git", ".GIT", "git~1", "..", "."] {
        let tree = mktree(name, "040000 tree", &config);
        let commit = repo.git(&["commit-tree", "-m", "x", &tree]);
        repo.git(&["update-ref", "refs/heads/evil", &commit]);
        let error = fetch(&server.url("a#evil")).await.unwrap_err();
        assert!(matches!(error, GitError::Failed { .. }) && told(&error).contains("fsck"), "{name}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_not_a_commit_is_none() {
    let server = GitServer::start();
    let repo = server.repo("a");
    let blob = repo.git(&["hash-object", "-w", "README"]);
    repo.git(&["tag", "blob", &blob]);
    let error = fetch(&server.url("a#blob")).await.unwrap_err();
    assert!(matches!(error, GitError::NoCommit { .. }), "{error:?}");
}

#[tokio::test]
async fn only_an_empty_directory_is_written_into() {
    let server = GitServer::start();
    server.repo("a");
    let source = tree(&server.url("a"));
    let commit = git().resolve(&source).await.unwrap();
    let into = tempfile::tempdir().unwrap();
    symlink("/etc", into.path().join("README")).unwrap();
    let error = git().check_out(&source, &commit, GitDir::Drop, into.path()).await.unwrap_err();
    assert!(matches!(error, GitError::Write { .. }), "{error:?}");
}

#[tokio::test]
async fn a_failed_check_out_leaves_nothing() {
    let server = GitServer::start();
    server.repo("a");
    let source = tree(&server.url("a#:none"));
    let commit = git().resolve(&source).await.unwrap();
    let into = tempfile::tempdir().unwrap();
    git().check_out(&source, &commit, GitDir::Drop, into.path()).await.unwrap_err();
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
}
