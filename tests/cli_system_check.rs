//! `wharf system check`: what it says, and what it leaves.

use std::path::PathBuf;

use test_support::{Auth, Registry, TestEnv, images};

/// An environment with a pulled image `base` and one that was built on it, `app`.
fn env() -> TestEnv {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let base = format!("{}/demo/base:1", registry.address());
    env.wharf(&["pull", "-q", &base]).success();
    env.wharf(&["tag", &base, "base"]).success();
    env.file("ctx/Dockerfile", "FROM base\nCOPY a /\nRUN --network=none echo 1 >/b\n");
    env.file("ctx/a", "first");
    env.wharf(&["build", "-q", "-t", "app", "ctx"]).success();
    env
}

/// The directory of the image's layer with this number.
fn layer(env: &TestEnv, image: &str, number: usize) -> PathBuf {
    let template = format!("{{{{index .RootFS.Layers {number}}}}}");
    let diff_id = env.wharf(&["inspect", "-f", &template, image]).success().stdout;
    env.store().join("layers").join(diff_id.trim().strip_prefix("sha256:").expect("it is a diff ID"))
}

#[test]
fn a_store_that_is_whole_is_said_to_be_and_left_as_it_is() {
    let env = env();
    for arguments in [&["system", "check"][..], &["system", "check", "--quick"], &["system", "check", "--repair"]] {
        let output = env.wharf(arguments).success().stdout;
        assert!(output.starts_with("checked ") && output.contains("2 images, 3 names"), "{output}");
        assert!(output.ends_with(": the store is whole\n") && output.lines().count() == 1, "{output}");
    }
    let json = env.wharf(&["system", "check", "--format", "json"]).success().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["Left"], &json["Examined"]["image"]), (&0.into(), &2.into()));
    env.nothing_is_left(&[]);
}

#[test]
fn what_is_broken_is_told_and_mended_and_works_again() {
    let env = env();
    let base = layer(&env, "base", 0);
    let tar = base.join("layer.tar");
    let mut bytes = std::fs::read(&tar).expect("the store is ours");
    let root = bytes.windows(5).position(|bytes| bytes == b"root:").expect("there is a user root");
    bytes[root..root + 4].copy_from_slice(b"evil");
    std::fs::write(&tar, bytes).expect("the store is ours");
    assert!(env.wharf(&["system", "check", "--quick"]).success().stdout.ends_with("whole\n"));
    let found = env.wharf(&["system", "check"]).exits_with(1).stdout;
    assert!(found.starts_with("layer sha256:") && found.ends_with(": 1 problem\n"), "{found}");
    let why = "; `--repair` makes it again from blob sha256:";
    assert!(found.contains(": its tar has diff ID sha256:") && found.contains(why), "{found}");
    let mended = env.wharf(&["system", "check", "--repair"]).success().stdout;
    assert!(mended.contains("; mended: makes it again from blob sha256:"), "{mended}");
    assert!(mended.ends_with(": the store is whole again, 1 mended\n"), "{mended}");
    env.wharf(&["system", "check"]).success();
    let passwd = env.wharf(&["run", "--rm", "--network=none", "app", "cat", "/etc/passwd"]).success().stdout;
    assert!(passwd.starts_with("root:"), "{passwd}");
}

#[test]
fn an_image_that_cannot_be_used_goes_and_can_be_built_again() {
    let env = env();
    let last = layer(&env, "app", 2);
    std::fs::write(last.join("tree/b"), "2\n").expect("the store is ours");
    let mended = env.wharf(&["system", "check", "--repair"]).success().stdout;
    assert!(mended.contains("; mended: removes it, and what cannot be used without it: image "), "{mended}");
    assert_eq!(env.wharf(&["images", "-q", "app"]).success().stdout, "");
    env.wharf(&["system", "check"]).success();
    env.wharf(&["build", "-q", "-t", "app", "ctx"]).success();
    assert_eq!(env.wharf(&["run", "--rm", "--network=none", "app", "cat", "/b"]).success().stdout, "1\n");
    std::fs::write(env.store().join("layers/mine.txt"), "").expect("the store is ours");
    let left = env.wharf(&["system", "check", "--repair"]).exits_with(1).stdout;
    assert!(left.contains("layers/mine.txt: no version of the store gives this name; not mended: "), "{left}");
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    std::fs::write(env.store().join("version.json"), "{\"version\":3}").expect("the store is ours");
    let refused = env.wharf(&["images"]).exits_with(1).stderr;
    assert!(refused.contains("is a store of version 3, and this program reads stores up to version 2"), "{refused}");
    assert!(refused.contains("hint: use the newer wharf"), "{refused}");
}
