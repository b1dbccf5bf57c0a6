//! Where build contexts come from, and `context ls`: as root, and as a user without namespaces or subordinate ids.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use test_support::TestEnv;

fn env() -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_wharf"))
}

/// Returns an environment for each kind of user that the caller can be.
fn envs() -> Vec<TestEnv> {
    let nobody = TestEnv::as_user(env!("CARGO_BIN_EXE_wharf"), "nobody");
    std::iter::once(env()).chain(nobody).collect()
}

/// A tar of files that belong to user 4321 and that only this user may use; a content that begins with `->` is a link's.
fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |mode, size| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_uid(4321);
        header.set_gid(4321);
        header.set_size(size);
        header
    };
    for (path, content) in files {
        match (path.strip_suffix('/'), content.strip_prefix("->")) {
            (Some(directory), _) => {
                let mut header = header(0o500, 0);
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, directory, std::io::empty()).expect("memory can be written");
            }
            (None, Some(target)) => {
                let mut header = header(0o777, 0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target).expect("memory can be written");
            }
            (None, None) => {
                let mut header = header(0o200, content.len() as u64);
                // the name as it is, `..` and all
                header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
                header.set_cksum();
                tar.append(&header, content.as_bytes()).expect("memory can be written");
            }
        }
    }
    tar.into_inner().expect("memory can be written")
}

#[track_caller]
fn check_nothing_is_left(env: &TestEnv) {
    for directory in ["tmp", "contexts"] {
        let left = std::fs::read_dir(env.store().join(directory)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{directory}");
    }
}

/// What standard error says of a build of `input` that has to fail.
#[track_caller]
fn refused(arguments: &[&str], input: impl AsRef<[u8]>) -> String {
    let env = env();
    let output = env.wharf_with_input(&[&["build", "--progress", "quiet"], arguments].concat(), input).exits_with(1);
    check_nothing_is_left(&env);
    output.stderr
}

#[test]
fn a_tar_is_a_context_from_standard_input_and_from_a_file() {
    let env = env();
    let tar = tar(&[
        ("x/Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("x/Dockerfile.dockerignore", "x\nlog"),
        ("log", "1"),
        ("d/", ""),
        ("d/f", "2"),
    ]);
    env.file("context.txt", &tar);
    let piped = env.wharf_with_input(&["build", "-q", "-f", "x/Dockerfile", "-"], &tar).success();
    let named = env.wharf(&["build", "-q", "-f", "x/Dockerfile", "context.txt"]).success();
    assert_eq!(named.stdout, piped.stdout);
    let third = env.wharf_with_input(&["build", "-f", "-", "context.txt"], "FROM scratch\nCOPY log /\n").success();
    assert!(third.stderr.contains("COPY log /"), "{}", third.stderr);
    check_nothing_is_left(&env);
    let seen = env.wharf(&["context", "ls", "-q", "-f", "x/Dockerfile", "context.txt"]).success().stdout;
    assert_eq!(seen, "d/\nd/f\n");
}

#[test]
fn a_dockerfile_on_standard_input_has_no_context() {
    let env = env();
    let built = env.wharf_with_input(&["build", "-q", "-"], "FROM scratch\nLABEL a=1\n").success();
    assert!(built.stdout.starts_with("sha256:"), "{}", built.stdout);
    let copied = refused(&["-"], "FROM scratch\nCOPY a /\n");
    assert!(copied.contains("caused by: this build has no context to copy from\nhint: "), "{copied}");
    env.wharf_with_input(&["build", "-f", "x", "-"], "FROM scratch\nLABEL a=1\n").exits_with(125);
    let both = env.wharf(&["build", "-f", "-", "-"]).exits_with(125).stderr;
    assert_eq!(both, "error: standard input cannot be both the build context and the Dockerfile\n");
}

#[test]
fn a_check_and_a_listing_need_no_privileges() {
    for env in envs() {
        let checked = env.wharf_with_input(&["build", "--check", "-"], "FROM scratch\nRUNN x\n").exits_with(1);
        assert!(checked.stdout.contains("--> -:2:1"), "{}", checked.stdout);
        let tar = tar(&[("d/", ""), ("d/f", "12"), ("Dockerfile", "FROM scratch\nRUNN x\n"), (".dockerignore", "*e")]);
        let checked = env.wharf_with_input(&["build", "--check", "-"], &tar).exits_with(1);
        assert!(checked.stdout.contains("--> Dockerfile:2:1"), "{}", checked.stdout);
        let listed = env.wharf_with_input(&["context", "ls", "-"], &tar).success();
        assert_eq!(listed.stdout, "SIZE      PATH\n-         d/\n2B        d/f\n");
        assert_eq!(listed.stderr, "seen: 1 file (2B); left out by .dockerignore: 2 files (22B)\n");
        check_nothing_is_left(&env);
        env.file("c/main.rs", "");
        env.file("c/.dockerignore", "*\n!b");
        let why = ["context", "ls", "--why", "./main.rs", "--why", "man.rs", "c"];
        let expected =
            "`main.rs` is left out by .dockerignore:1 (`*`)\n`man.rs` is not there; did you mean `main.rs`?\n";
        assert_eq!(env.wharf(&why).exits_with(1).stdout, expected);
    }
}

#[test]
fn an_ignored_dockerfile_still_steers_the_build_and_stages_are_not_ignored() {
    let env = env();
    env.file("Dockerfile", "FROM scratch AS stage\nCOPY a /out\nFROM scratch\nCOPY . /\nCOPY --from=stage out /\n");
    env.file(".dockerignore", "Dockerfile\n.dockerignore\nout");
    env.file("a", "");
    env.file("out", "");
    env.wharf(&["build", "."]).success();
    assert_eq!(env.wharf(&["context", "ls", "-q"]).success().stdout, "a\n");
    let rows = env.wharf(&["context", "ls", "--format", "{{.Path}} {{.Bytes}} {{.Type}}"]).success().stdout;
    assert_eq!(rows, "a 0 file\n");
}

#[test]
fn nothing_in_an_archive_leads_out_of_it() {
    let env = env();
    let secret = env.file("secret", "FROM secret\n");
    let target = format!("->{}", secret.display());
    for dockerfile in [target.as_str(), "->../../../../work/secret", "->/etc/passwd"] {
        let linked = refused(&["-"], tar(&[("Dockerfile", dockerfile)]));
        assert!(linked.starts_with("error: there is no Dockerfile `Dockerfile` in the archive from"), "{linked}");
    }
    let through = format!("->{}", env.work().display());
    let dockerfile = ("Dockerfile", "FROM scratch\nCOPY . /\n");
    let tar = tar(&[("l", &through), ("l/through", "x"), ("../../above", "x"), dockerfile]);
    env.wharf_with_input(&["build", "-q", "-"], &tar).success();
    let names: Vec<_> = std::fs::read_dir(env.work()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert!(!env.store().join("above").exists() && !env.store().join("tmp/above").exists());
}

#[test]
fn what_is_no_context_is_refused_in_a_line() {
    let dockerfile = ("Dockerfile", "FROM scratch\n");
    let cut = &tar(&[dockerfile, ("f", &"x".repeat(5000))])[..2000];
    assert!(refused(&["-"], cut).contains("it ends within an entry"));
    let zeros = vec![0; 100 << 20];
    assert_eq!(refused(&["-"], &zeros), "error: standard input is neither a Dockerfile nor a tar archive\n");
    for (input, expected) in [
        (&b""[..], "error: standard input is empty"),
        (b"PK\x03\x04rest", "error: standard input is a zip archive"),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "error: standard input is compressed with gzip, but no tar"),
    ] {
        let said = refused(&["-"], input);
        assert!(said.starts_with(expected) && said.lines().count() == 1, "{said}");
    }
    let directory = refused(&["-"], tar(&[("Dockerfile/", "")]));
    assert!(directory.starts_with("error: cannot read the Dockerfile `Dockerfile`\n"), "{directory}");
    let env = env();
    let zip = env.file("x.zip", "PK\x03\x04").display().to_string();
    let said = env.wharf(&["build", &zip]).exits_with(125).stderr;
    assert!(said.contains("is neither a directory nor a tar archive"), "{said}");
}

#[test]
fn ctrl_c_stops_reading_and_leaves_nothing() {
    let env = env();
    let mut command = env.command();
    command.args(["build", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&tar(&[("f", &"x".repeat(5000))])[..4096]).unwrap();
    let unpacking = || std::fs::read_dir(env.store().join("tmp")).is_ok_and(|mut entries| entries.next().is_some());
    let begun = Instant::now();
    while !unpacking() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never began to unpack");
        std::thread::yield_now();
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: stopped by SIGINT\n");
    check_nothing_is_left(&env);
}
