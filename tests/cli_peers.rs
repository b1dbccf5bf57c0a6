//! What wharf pushed and saved, read by programs of others: skopeo copies it, umoci unpacks it, and the files are the same; and what
//! they write, loaded.

#![cfg(test)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use test_support::{Auth, Registry, TestEnv, images};

/// Prints kind, mode, owner, time and content of everything below the working directory; the same on the host and in busybox.
const LISTING: &str = "find . ! -type l | LC_ALL=C sort | while read -r f; do stat -c '%n %f %u %g %Y' \"$f\"; \
    [ ! -f \"$f\" ] || sha256sum < \"$f\"; done; find . -type l | LC_ALL=C sort | while read -r f; do \
    echo \"$f $(readlink \"$f\")\"; done";

/// Runs a program of Debian's, which `make test` installs.
#[track_caller]
fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let ran = Command::new(program).args(arguments).current_dir(directory).output();
    let output =
        ran.unwrap_or_else(|error| panic!("{program} cannot be run ({error}): `scripts/need.sh test` installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn dockerfile(registry: &Registry) -> String {
    let mut text = String::new();
    let run = "mkdir -p /data/kept /data/emptied /data/gone && echo 1 > /data/gone/f && echo 1 > /data/emptied/old \
        && echo 1 > /data/removed && echo x > /data/kept/a && ln /data/kept/a /data/kept/hard && ln -s a /data/kept/soft \
        && cp /bin/busybox /data/kept/suid && chmod 4755 /data/kept/suid && chown 601:602 /data/kept/a";
    let changed = "rm -r /data/gone /data/removed /data/emptied && mkdir /data/emptied && echo 2 > /data/emptied/new \
        && mkdir /data/removed && chmod 700 /data/kept && mkfifo /data/fifo";
    writeln!(text, "FROM {}/demo/base:1\nRUN {run}\nRUN {changed}", registry.address()).unwrap();
    writeln!(text, "COPY --chown=7:8 tree /data/tree/\nCOPY <<EOF /data/tree/{}\nhi\nEOF", "long".repeat(40)).unwrap();
    text
}

#[test]
fn skopeo_and_umoci_find_the_files_that_wharf_built() {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", dockerfile(&registry));
    env.file("tree/sub/file", "text\n");
    let name = format!("{}/demo/app:1", registry.address());
    env.wharf(&["build", "-q", "-t", &name, "."]).success();
    let in_container = format!("cd /data && {LISTING}");
    let built = env.wharf(&["run", "--rm", &name, "sh", "-c", &in_container]).success().stdout;
    assert!(built.contains("./emptied/new") && !built.contains("./emptied/old") && !built.contains("gone"), "{built}");

    env.wharf(&["push", &name]).success();
    let (source, layout) = (format!("docker://{name}"), "oci:layout:app");
    let work = env.work();
    run("skopeo", &["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", &source, layout], &work);
    run("umoci", &["unpack", "--image", "layout:app", "bundle"], &work);
    let unpacked = run("sh", &["-c", LISTING], &work.join("bundle/rootfs/data"));
    assert_eq!(unpacked, built);

    let other = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    other.file("Dockerfile", "FROM app\n");
    let context = format!("app=oci-layout://{}:app", work.join("layout").display());
    other.wharf(&["build", "-q", "-t", "again", "--build-context", &context, "."]).success();
    assert_eq!(other.wharf(&["run", "--rm", "again", "sh", "-c", &in_container]).success().stdout, built);
}

/// Names an archive of skopeo's: its transport, its file, and what is called so in it.
fn place(transport: &str, name: &str) -> String {
    match transport {
        "docker-archive" => format!("docker-archive:{name}:example.com/app:1"),
        "dir" => format!("dir:{name}"),
        _ => format!("{transport}:{name}:1"),
    }
}

#[test]
fn skopeo_reads_every_archive_that_wharf_saves_and_wharf_every_one_of_skopeos() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /a/b/\nCOPY Dockerfile /c\n");
    let name = "example.com/app:1";
    env.wharf(&["build", "-q", "-t", name, "."]).success();
    let id = env.wharf(&["images", "-q", "--no-trunc"]).success().stdout;
    let digest = id.trim().trim_start_matches("sha256:");
    let work = env.work();
    let copy = |from: &str, to: &str| run("skopeo", &["--insecure-policy", "copy", "--quiet", from, to], &work);
    let saved = [
        ("docker-archive", "docker-archive"),
        ("docker-archive", "oci-archive"),
        ("oci-archive", "oci-archive"),
        ("oci-dir", "oci"),
        ("docker-dir", "dir"),
    ];
    for (number, (format, transport)) in saved.into_iter().enumerate() {
        let ours = format!("ours-{number}");
        env.wharf(&["save", "--format", format, "-o", &ours, name]).success();
        let from = place(transport, &ours);
        let config = run("skopeo", &["inspect", "--config", "--raw", &from], &work);
        assert_eq!(oci::Digest::of(config.as_bytes()).hex(), digest, "{from}");
        let theirs = format!("theirs-{number}");
        copy(&from, &place(transport, &theirs));
        let other = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
        let said = other.wharf(&["load", "-i", work.join(&theirs).to_str().unwrap()]).success().stdout;
        // the other transports keep a tag, or no name at all
        let named = if transport == "docker-archive" {
            format!("Loaded image: {name}\n")
        } else {
            format!("Loaded image ID: {id}")
        };
        assert_eq!(said, named, "{from}");
        assert_eq!(other.wharf(&["images", "-q", "--no-trunc"]).success().stdout, id, "{from}");
    }
}

#[test]
fn umoci_changes_an_image_that_wharf_saved_and_wharf_loads_it() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    env.wharf(&["build", "-q", "-t", "example.com/app:1", "."]).success();
    env.wharf(&["save", "--format", "oci-dir", "-o", "layout", "example.com/app:1"]).success();
    run("umoci", &["config", "--image", "layout:1", "--config.label", "by=umoci"], &env.work());
    let said = env.wharf(&["load", "-i", "layout"]).success().stdout;
    let id = said.trim().rsplit(' ').next().unwrap();
    let labels = env.wharf(&["inspect", "--format", "{{json .Config.Labels}}", id]).success().stdout;
    assert_eq!(labels, "{\"by\":\"umoci\"}\n");
}
