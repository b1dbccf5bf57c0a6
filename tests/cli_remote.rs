//! What is fetched: ADD of files and trees from elsewhere, and build contexts; as root, and as a user with one id.

#![cfg(test)]

use std::path::Path;
use std::process::Command;

use test_support::{FileServer, TestEnv};

fn envs() -> Vec<TestEnv> {
    let program = env!("CARGO_BIN_EXE_wharf");
    std::iter::once(TestEnv::new(program)).chain(TestEnv::as_user(program, "nobody")).collect()
}

/// Makes a repository with two commits, `v1` and `main`, that any file server can serve.
fn repository(at: &Path) {
    let work = tempfile::tempdir().expect("a directory can be made");
    let git = |directory: &Path, arguments: &[&str]| {
        let configured = ["-c", "user.name=n", "-c", "user.email=e@example.com", "-c", "init.defaultBranch=main"];
        let ran = Command::new("git").args(configured).args(arguments).current_dir(directory).output();
        let output = ran.expect("git can be run: `scripts/need.sh test` installs it");
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let write = |path: &str, text: &str| std::fs::write(work.path().join(path), text).expect("a file can be written");
    std::fs::create_dir(work.path().join("sub")).expect("a directory can be made");
    git(work.path(), &["init", "-q"]);
    write("sub/x", "1");
    write("Dockerfile", "FROM scratch\nCOPY sub /s/\n");
    write(".dockerignore", "sub");
    git(work.path(), &["add", "."]);
    git(work.path(), &["commit", "-qm", "one"]);
    git(work.path(), &["tag", "v1"]);
    write("sub/x", "2");
    git(work.path(), &["commit", "-qam", "two"]);
    git(work.path(), &["clone", "-q", "--bare", ".", &at.display().to_string()]);
    git(at, &["update-server-info"]);
}

/// Returns what the layers of an image hold, as `path mode owner mtime content`; directories are left out.
fn files(env: &TestEnv, image: &str) -> Vec<String> {
    let format = "{{range .RootFS.Layers}}{{println .}}{{end}}";
    let layers = env.wharf(&["inspect", "-f", format, image]).success().stdout;
    let mut found = Vec::new();
    for diff_id in layers.split_whitespace() {
        let tar = env.store().join("layers").join(diff_id.trim_start_matches("sha256:")).join("layer.tar");
        let mut archive = tar::Archive::new(std::fs::File::open(tar).expect("a copied layer is a tar"));
        for entry in archive.entries().expect("it is a tar") {
            let mut entry = entry.expect("it is a tar");
            let (path, header) = (entry.path().expect("it has a path").display().to_string(), entry.header().clone());
            if path.ends_with('/') {
                continue;
            }
            let content = std::io::read_to_string(&mut entry).expect("it is text");
            let (mode, owner) = (header.mode().expect("a mode"), header.uid().expect("an owner"));
            let mtime = header.mtime().expect("a time");
            found.push(format!("{path} {mode:o} {owner} {mtime} {}", content.trim_end()));
        }
    }
    found
}

#[test]
fn files_from_elsewhere_are_asked_for_again_and_fetched_once() {
    for env in envs() {
        let server = FileServer::start();
        std::fs::write(server.path().join("f"), "1\n").expect("a file can be written");
        let url = server.url("f");
        env.file("Dockerfile", format!("FROM scratch\nADD {url} /a/\nADD --chmod=644 --chown=5 {url} /b\n"));
        let build = || env.wharf(&["build", "-q", "-t", "x", "."]).success().stdout;
        let first = build();
        assert_eq!(files(&env, "x"), ["a/f 600 0 1000000000 1", "b 644 5 1000000000 1"]);
        assert_eq!(server.asked(), ["f 200"]);
        assert_eq!(build(), first);
        assert_eq!(server.asked(), ["f 304"]);
        std::fs::write(server.path().join("f"), "2\n").expect("a file can be written");
        assert_ne!(build(), first);
        assert_eq!(files(&env, "x"), ["a/f 600 0 1000000000 2", "b 644 5 1000000000 2"]);

        let checksum = "sha256:53c234e5e8472b6ac51c1ae1cab3fe06fad053beb8ebfd8977b010655bfdd3c3";
        env.file("Dockerfile", format!("FROM scratch\nADD --checksum={checksum} {url} /a/\n"));
        build();
        server.asked();
        build();
        assert!(server.asked().is_empty(), "who knows the checksum asks nobody");
        std::fs::write(server.path().join("f"), "3\n").expect("a file can be written");
        let failed = env.wharf(&["build", "--no-cache", "-t", "y", "."]).exits_with(1).stderr;
        assert!(failed.contains(&format!("but {checksum} was demanded")), "{failed}");
        assert!(env.wharf(&["images", "-q", "y"]).success().stdout.is_empty());
        assert_eq!(std::fs::read_dir(env.store().join("tmp")).map_or(0, Iterator::count), 0);
    }
}

#[test]
fn a_secret_is_sent_to_its_host_and_kept_nowhere() {
    let (env, server) = (TestEnv::new(env!("CARGO_BIN_EXE_wharf")), FileServer::start());
    std::fs::create_dir(server.path().join("private")).expect("a directory can be made");
    std::fs::write(server.path().join("private/f"), "f").expect("a file can be written");
    let url = server.url("private/f");
    env.file("Dockerfile", format!("FROM scratch\nADD {url} /\n"));
    let refused = env.wharf(&["build", "."]).exits_with(1).stderr;
    assert!(refused.contains("401 Unauthorized"), "{refused}");
    env.file("token", "open-sesame\n");
    let host = url.split('/').nth(2).expect("a URL has a host");
    let secret = format!("id=HTTP_AUTH_TOKEN_{host},src=token");
    env.wharf(&["build", "-t", "x", "--secret", &secret, "."]).success();
    let found = Command::new("grep").args(["-r", "open-sesame"]).arg(env.store()).output().expect("grep can be run");
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn trees_from_elsewhere_have_the_times_of_their_commits() {
    for env in envs() {
        let server = FileServer::start();
        repository(&server.path().join("r.git"));
        let url = server.url("r.git");
        env.file(
            "Dockerfile",
            format!("FROM scratch\nADD {url}#v1:sub /a/\nADD --exclude=D* --exclude=.d* {url} /b/\n"),
        );
        let build = || env.wharf(&["build", "-q", "-t", "x", "."]).success().stdout;
        let first = build();
        let found = files(&env, "x");
        assert!(found[0].starts_with("a/x 644 0 ") && found[0].ends_with(" 1"), "{found:?}");
        assert!(found[1].starts_with("b/sub/x 644 0 ") && found[1].ends_with(" 2") && found.len() == 2, "{found:?}");
        server.asked();
        assert_eq!(build(), first);
        assert!(server.asked().iter().all(|asked| !asked.contains("/objects/")), "only refs are asked for");
        assert_eq!(env.wharf(&["build", "-q", "--no-cache", "-t", "x", "."]).success().code, Some(0));
        assert_eq!(files(&env, "x"), found, "the same commit is the same files");
    }
}

#[test]
fn a_build_context_may_be_a_repository_an_archive_or_a_dockerfile_elsewhere() {
    for env in envs() {
        let server = FileServer::start();
        repository(&server.path().join("r.git"));
        let build = |context: &str| env.wharf(&["build", "-q", "-t", "x", context]).success();
        build(&server.url("r.git#v1"));
        let found = files(&env, "x");
        assert!(
            found[0].starts_with("s/x 644 0 ") && found[0].ends_with(" 1"),
            "its ignore file does not count: {found:?}"
        );

        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in [("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "in the archive")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o640);
            tar.append_data(&mut header, path, text.as_bytes()).expect("memory can be written");
        }
        let archive = tar.into_inner().expect("memory can be written");
        std::fs::write(server.path().join("archive"), archive).expect("a file can be written");
        build(&server.url("archive"));
        assert_eq!(files(&env, "x"), ["f 640 0 0 in the archive"]);

        std::fs::write(server.path().join("file"), "FROM scratch\nLABEL a=b\n").expect("a file can be written");
        build(&server.url("file"));
        let missing = env.wharf(&["build", &server.url("nothing")]).exits_with(1).stderr;
        assert!(missing.contains("the server says 404 Not Found"), "{missing}");

        env.file("Dockerfile", "FROM scratch\nCOPY --from=named sub/x /n\n");
        let named = format!("named={}", server.url("r.git"));
        env.wharf(&["build", "-q", "-t", "x", "--build-context", &named, "."]).success();
        assert!(files(&env, "x")[0].ends_with(" 2"));
        for (path, why) in [("file", "is no tar archive"), ("nothing", "404 Not Found")] {
            let named = format!("named={}", server.url(path).replace("http://", "http://user:s3cr3t@"));
            let failed = env.wharf(&["build", "--build-context", &named, "."]).exits_with(1).stderr;
            assert!(
                failed.starts_with("error: cannot use the named context `named`") && failed.contains(why),
                "{failed}"
            );
            assert!(!failed.contains("s3cr3t"), "{failed}");
        }
        assert_eq!(std::fs::read_dir(env.store().join("tmp")).map_or(0, Iterator::count), 0);
    }
}
