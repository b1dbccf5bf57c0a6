//! `save`, `load`, `import` and `export`, on an image built from scratch.

#![cfg(test)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use test_support::{TestEnv, images};

const DOCKERFILE: &str = "FROM scratch\nCOPY hello.txt /\nCOPY big /d/\nCMD [\"/hello\"]\n";
const PROGRAM: &str = env!("CARGO_BIN_EXE_wharf");

/// An environment with the images `app:1`, also called `example.com/team/app:2`, and `other:latest`.
fn with_images() -> TestEnv {
    let env = TestEnv::new(PROGRAM);
    env.file("Dockerfile", DOCKERFILE);
    env.file("hello.txt", "hello\n");
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    });
    let noise: Vec<u8> = noise.take(3_000_000).collect();
    env.file("big", noise);
    env.wharf(&["build", "-q", "-t", "app:1", "-t", "example.com/team/app:2", "."]).success();
    env.file("Dockerfile", "FROM app:1\nLABEL a=b\n");
    env.wharf(&["build", "-q", "-t", "other", "."]).success();
    env
}

/// Runs the program with a file as standard input or output.
fn piped(env: &TestEnv, arguments: &[&str], input: Option<&Path>, output: &Path) {
    let mut command = env.command();
    let input = input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into());
    let ran = command.args(arguments).stdin(input).stdout(File::create(output).unwrap()).output().unwrap();
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn what_is_saved_is_loaded_elsewhere_with_the_same_ids_and_manifests() {
    let env = with_images();
    let names = ["app:1", "example.com/team/app:2", "other"];
    let archive = env.work().join("images.tar");
    env.wharf(&[&["save", "-o", "images.tar"][..], &names].concat()).success();
    piped(&env, &[&["image", "save"][..], &names].concat(), None, &env.work().join("again.tar"));
    let bytes = fs::read(&archive).unwrap();
    assert!(bytes == fs::read(env.work().join("again.tar")).unwrap(), "the same images make the same bytes");
    let said = "Loaded image: app:1\nLoaded image: example.com/team/app:2\nLoaded image: other:latest\n";

    let check = |load: &dyn Fn(&TestEnv) -> String| {
        let other = TestEnv::new(PROGRAM);
        assert_eq!(load(&other), said);
        other.wharf(&[&["save", "-o", "again.tar"][..], &names].concat()).success();
        assert!(
            bytes == fs::read(other.work().join("again.tar")).unwrap(),
            "configs, manifests and layers are the same"
        );
    };
    let path = archive.to_str().unwrap();
    check(&|other| other.wharf(&["load", "-i", path]).success().stdout);
    check(&|other| other.wharf_with_input(&["load"], &bytes).success().stdout);
    check(&|other| {
        let output = other.work().join("said");
        piped(other, &["image", "load", "-q"], Some(&archive), &output);
        fs::read_to_string(output).unwrap()
    });
    check(&|other| other.wharf_with_input(&["load"], images::gzip(&bytes)).success().stdout);
}

#[test]
fn directories_are_saved_whole_and_loaded_again() {
    let env = with_images();
    let id = env.wharf(&["images", "-q", "--no-trunc", "app"]).success().stdout;
    for (format, said) in [("oci-dir", "Loaded image: app:1\n"), ("docker-dir", &format!("Loaded image ID: {id}"))] {
        env.wharf(&["save", "--format", format, "-o", format, "app:1"]).success();
        let other = TestEnv::new(PROGRAM);
        let path = env.work().join(format);
        assert_eq!(other.wharf(&["load", "-i", path.to_str().unwrap()]).success().stdout, said);
        assert_eq!(other.wharf(&["images", "-q", "--no-trunc"]).success().stdout, id);
        let refused = env.wharf(&["save", "--format", format, "-o", format, "app:1"]).exits_with(1);
        assert!(refused.stderr.contains("it is there, and no empty directory"), "{}", refused.stderr);
    }
    let refused = env.wharf(&["save", "--format", "docker-dir", "-o", "x", "app:1", "other"]).exits_with(1);
    assert!(refused.stderr.contains("this directory holds one image, not 2"), "{}", refused.stderr);
    assert!(!env.work().join("x").exists());
    let left = fs::read_dir(env.work()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.contains("partial")), "a directory that failed is gone");
}

#[test]
fn a_name_without_a_tag_is_saved_with_all_of_its_tags_and_an_id_with_none() {
    let env = with_images();
    env.wharf(&["tag", "other", "app:3"]).success();
    env.wharf(&["save", "-o", "app.tar", "app"]).success();
    let id = env.wharf(&["images", "-q", "--no-trunc", "app:1"]).success().stdout;
    env.wharf(&["save", "-o", "id.tar", id.trim()]).success();
    let other = TestEnv::new(PROGRAM);
    let load = |name: &str| other.wharf(&["load", "-i", env.work().join(name).to_str().unwrap()]).success().stdout;
    assert_eq!(load("app.tar"), "Loaded image: app:1\nLoaded image: app:3\n");
    assert_eq!(load("id.tar"), format!("Loaded image ID: {id}"));
}

#[test]
fn a_root_file_system_is_exported_and_imported_with_changes() {
    let env = with_images();
    env.wharf(&["export", "-o", "root.tar", "app:1"]).success();
    let change = ["-c", "CMD [\"/x\"]", "--change", "ENV A=b", "-m", "from afar"];
    let id = env.wharf(&[&["import"][..], &change, &["root.tar", "flat:1"]].concat()).success().stdout;
    let format = "{{.Id}} {{json .Config.Cmd}} {{json .Config.Env}}";
    let shown = env.wharf(&["inspect", "--format", format, "flat:1"]).success().stdout;
    assert_eq!(shown, format!("{} [\"/x\"] [\"A=b\"]\n", id.trim()));
    assert_eq!(env.wharf(&["history", "--format", "{{.Comment}}", "flat:1"]).success().stdout, "from afar\n");
    env.wharf(&["export", "-o", "again.tar", "flat:1"]).success();
    let read = |name: &str| fs::read(env.work().join(name)).unwrap();
    assert!(read("root.tar") == read("again.tar"), "an import loses nothing");
    let from_stdin = env.wharf_with_input(&["import", "-"], read("root.tar")).success().stdout;
    assert!(from_stdin.starts_with("sha256:"));

    let refused = env.wharf(&["import", "-c", "RUN x", "root.tar"]).exits_with(1).stderr;
    assert!(refused.contains("RUN changes no config"), "{refused}");
    let refused = env.wharf(&["load", "-i", "root.tar"]).exits_with(1).stderr;
    assert!(
        refused.contains("no archive of images") && refused.contains("hint: if it is a root file system"),
        "{refused}"
    );
    let refused = env.wharf(&["import", "Dockerfile"]).exits_with(1).stderr;
    assert!(refused.contains("cannot import `Dockerfile`\n  caused by: it is no tar archive"), "{refused}");
}

#[test]
fn a_killed_load_leaves_nothing() {
    let env = with_images();
    env.wharf(&["save", "-o", "images.tar", "app:1"]).success();
    let bytes = fs::read(env.work().join("images.tar")).unwrap();
    let other = TestEnv::new(PROGRAM);
    let mut child = other.command().arg("load").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // more than a pipe and the buffers behind it hold: the rest has been spooled
    child.stdin.as_mut().unwrap().write_all(&bytes[..bytes.len() / 2]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let spooled = || fs::read_dir(other.store().join("tmp")).unwrap().count();
    assert!(spooled() > 0, "it was killed too early to show anything");
    assert_eq!(other.wharf(&["images", "-q"]).success().stdout, "");
    // a listing writes nothing; whatever does sweeps first
    other.wharf(&["image", "prune", "-f"]).success();
    assert_eq!(spooled(), 0);
    for directory in ["blobs/sha256", "layers", "images", "tags"] {
        assert_eq!(fs::read_dir(other.store().join(directory)).unwrap().count(), 0, "{directory}");
    }
}

#[test]
fn who_reads_no_further_ends_a_save_quietly() {
    let env = with_images();
    let mut child =
        env.command().args(["save", "app:1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(141), ""));
}
