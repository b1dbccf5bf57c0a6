//! `push`, `pull`, `login`, `logout`, between two stores and a registry on loopback.

use std::os::unix::fs::PermissionsExt;

use test_support::{Auth, Registry, TestEnv, images};

fn env() -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_wharf"))
}

/// An environment with an image called `name`, and the image's ID.
fn with_image(name: &str) -> (TestEnv, String) {
    let env = env();
    env.file("Dockerfile", "FROM scratch\nCOPY a /\nCOPY b /\n");
    env.file("a", "first layer\n");
    env.file("b", "second layer\n");
    let built = env.wharf(&["build", "-q", "-t", name, "."]).success();
    (env, built.stdout.trim().to_owned())
}

/// Finds the manifest digest in what push or pull printed.
fn digest(output: &str) -> String {
    let after = output.split("igest: ").nth(1).expect("a digest is printed");
    after.split_whitespace().next().expect("a digest is printed").to_owned()
}

#[test]
fn an_image_arrives_in_another_store_with_the_same_digests() {
    let registry = Registry::start(Auth::None);
    let name = format!("{}/demo/app", registry.address());
    let (from, id) = with_image(&name);
    let pushed = from.wharf(&["push", &name]).success().stdout;
    let lines: Vec<&str> = pushed.lines().collect();
    assert_eq!(lines[0], "Using default tag: latest");
    assert_eq!(lines[1], format!("The push refers to repository [{name}]"));
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Pushed")).count(), 2);
    assert!(lines[4].starts_with("latest: digest: sha256:") && lines[4].contains(" size: "), "{pushed}");

    let to = env();
    let pulled = to.wharf(&["pull", &name]).success().stdout;
    assert_eq!(digest(&pulled), digest(&pushed));
    let lines: Vec<&str> = pulled.lines().collect();
    assert_eq!(lines[1], "latest: Pulling from demo/app");
    assert_eq!(lines.iter().filter(|line| line.ends_with(": Pull complete")).count(), 2);
    assert_eq!(lines[5], format!("Status: Downloaded newer image for {name}:latest"));
    assert_eq!(lines[6], format!("{name}:latest"));
    assert_eq!(to.wharf(&["images", "-q", "--no-trunc"]).success().stdout.trim(), id);
    let repo_digest = to.wharf(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]).success().stdout;
    assert_eq!(repo_digest, format!("{name}@{}\n", digest(&pushed)));
    assert_eq!(digest(&to.wharf(&["push", &name]).success().stdout), digest(&pushed));
}

#[test]
fn what_is_there_is_neither_sent_nor_fetched_again() {
    let registry = Registry::start(Auth::None);
    let name = format!("{}/demo/app:1", registry.address());
    let (env, _) = with_image(&name);
    env.wharf(&["push", &name]).success();
    registry.clear_requests();
    let again = env.wharf(&["push", &name]).success().stdout;
    assert_eq!(again.lines().filter(|line| line.ends_with(": Layer already exists")).count(), 2);
    let pulled = env.wharf(&["pull", &name]).success().stdout;
    assert_eq!(pulled.lines().filter(|line| line.ends_with(": Already exists")).count(), 2);
    assert!(pulled.contains(&format!("Status: Image is up to date for {name}\n")), "{pulled}");
    assert_eq!((registry.count("POST", "/blobs/"), registry.count("PATCH", "/blobs/")), (0, 0));
    assert_eq!(env.wharf(&["pull", "-q", &name]).success().stdout, format!("{name}\n"));
}

/// The media types of the layers of what a registry has under a name, lowest first, without what all of them begin with.
fn layer_types(registry: &Registry, repository: &str, tag: &str) -> Vec<String> {
    let (_, manifest) = registry.manifest(repository, tag).expect("it was pushed");
    let manifest: oci::Manifest = serde_json::from_slice(&manifest).expect("a manifest is JSON");
    let types =
        manifest.layers.iter().map(|layer| layer.media_type.as_str().rsplit('.').next().unwrap_or_default().to_owned());
    types.collect()
}

#[test]
fn layers_go_out_as_the_flags_say_and_base_images_as_they_came_unless_forced() {
    let registry = Registry::start(Auth::None);
    let base = format!("{}/demo/base:1", registry.address());
    images::push_base(&registry, "demo/base:1", &[images::Tar::default().file("base", 0o644, b"below").finish()]);
    let name = format!("{}/demo/app:1", registry.address());
    let env = env();
    env.file("Dockerfile", format!("FROM {base}\nCOPY a /\n"));
    env.file("a", "above\n".repeat(1000));
    env.wharf(&["build", "-q", "-t", &name, "."]).success();
    for (flags, expected) in [
        (&["--compression=zstd"][..], ["tar+gzip", "tar+zstd"]),
        (&[], ["tar+gzip", "tar+gzip"]),
        (&["--compression=zstd", "--compression-level=9", "--force-compression"], ["tar+zstd", "tar+zstd"]),
        (&["--compression-format=uncompressed", "--force-compression"], ["tar", "tar"]),
    ] {
        let pushed = env.wharf(&[&["push", &name], flags].concat()).success().stdout;
        assert_eq!(layer_types(&registry, "demo/app", "1"), expected, "{flags:?}");
        // the same again has nothing to send, and another store can use it
        let again = env.wharf(&[&["push", &name], flags].concat()).success().stdout;
        assert_eq!(digest(&again), digest(&pushed), "{flags:?}");
        let other = self::env();
        let pulled = other.wharf(&["pull", &name]).success().stdout;
        assert_eq!(digest(&pulled), digest(&pushed), "{flags:?}");
    }
    let refused = env.wharf(&["push", &name, "--compression=zstd", "--compression-level=20"]).exits_with(125).stderr;
    assert_eq!(refused, "error: `--compression-level`: zstd has the levels 1 to 19, not 20\n");
}

#[test]
fn an_image_for_another_platform_is_refused_when_one_is_asked_for() {
    let registry = Registry::start(Auth::None);
    let name = format!("{}/demo/app:1", registry.address());
    let (env, _) = with_image(&name);
    env.wharf(&["push", &name]).success();
    let refused = env.wharf(&["pull", "--platform", "linux/s390x", &name]).exits_with(1);
    assert!(refused.stderr.contains("not for linux/s390x"), "{}", refused.stderr);
}

/// Logs in to a private registry, uses it, and logs out again.
fn check_login(auth: Auth) {
    let registry = Registry::start(auth);
    let name = format!("{}/demo/app:1", registry.address());
    let (env, _) = with_image(&name);
    let refused = env.wharf(&["push", &name]).exits_with(1).stderr;
    assert!(refused.contains("  tried: no credentials"), "{refused}");
    assert!(refused.contains(&format!("`wharf login {}`", registry.address())), "{refused}");

    let login = ["login", "-u", "ana", "--password-stdin", &registry.address()];
    let refused = env.wharf_with_input(&login, "wrong\n").exits_with(1);
    assert!(!env.docker_config().exists() && !refused.stderr.contains("wrong"), "{}", refused.stderr);
    let accepted = env.wharf_with_input(&login, "secret\n").success();
    assert!(accepted.stdout.ends_with("Login Succeeded\n"), "{}", accepted.stdout);
    let mode = std::fs::metadata(env.docker_config()).expect("the file is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    env.wharf(&["push", &name]).success();
    env.wharf(&["pull", &name]).success();
    let again = env.wharf(&["login", &registry.address()]).success().stdout;
    assert!(again.starts_with("Authenticating with existing credentials"), "{again}");

    let removed = env.wharf(&["logout", &registry.address()]).success().stdout;
    assert_eq!(removed, format!("Removing login credentials for {}\n", registry.address()));
    env.wharf(&["pull", &name]).exits_with(1);
    let nothing = env.wharf(&["logout", &registry.address()]).success().stdout;
    assert_eq!(nothing, format!("Not logged in to {}\n", registry.address()));
}

#[test]
fn a_registry_with_basic_authentication_is_used_after_login() {
    check_login(Auth::basic("ana", "secret"));
}

#[test]
fn a_registry_with_tokens_is_used_after_login() {
    check_login(Auth::bearer("ana", "secret"));
}

#[test]
fn errors_name_the_image_the_cause_and_one_hint() {
    let mut registry = Registry::start(Auth::None);
    let name = format!("{}/demo/nope:1", registry.address());
    let env = env();
    let missing = env.wharf(&["pull", &name]).exits_with(1).stderr;
    assert!(missing.starts_with(&format!("error: cannot pull {name}\n")), "{missing}");
    assert!(missing.contains("404 Not Found"), "{missing}");
    assert_eq!(missing.matches("hint: ").count(), 1, "{missing}");
    registry.stop();
    let down = env.wharf(&["pull", &name]).exits_with(1).stderr;
    assert!(down.contains("Connection refused"), "{down}");
    assert!(
        down.contains(&format!(
            "hint: to see whether the registry answers, run `curl http://{}/v2/`",
            registry.address()
        ))
    );
    let unknown = env.wharf(&["push", "nope"]).exits_with(1).stderr;
    assert!(unknown.contains("no image is called `nope:latest`"), "{unknown}");
}

#[test]
fn an_image_of_several_owners_goes_through_a_store_of_one_id() {
    let registry = Registry::start(Auth::None);
    let owned = {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        header.set_uid(33);
        tar.append_data(&mut header, "f", &b""[..]).expect("a vector takes everything");
        tar.into_inner().expect("a vector takes everything")
    };
    images::push_base(&registry, "demo/owned:1", &[owned]);
    let program = env!("CARGO_BIN_EXE_wharf");
    let env = TestEnv::as_user(program, "nobody").expect("the tests run as root, and there is a user `nobody`");
    let name = format!("{}/demo/owned:1", registry.address());
    let pulled = env.wharf(&["pull", &name]).exits_with(0);
    let note = "files with owners that you cannot give here: 1; they are root's in containers, and a push keeps the true owners\n";
    assert!(pulled.stderr.starts_with("note: ") && pulled.stderr.ends_with(note), "{}", pulled.stderr);
    let again = format!("{}/demo/again:1", registry.address());
    env.wharf(&["tag", &name, &again]).exits_with(0);
    assert_eq!(digest(&env.wharf(&["push", &again]).exits_with(0).stdout), digest(&pulled.stdout));
    env.wharf(&["rmi", "-f", &name, &again]).exits_with(0);
}

#[test]
fn a_blob_that_was_damaged_here_is_refused_there_and_mended() {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = env();
    let name = format!("{}/demo/base:1", registry.address());
    env.wharf(&["pull", &name]).exits_with(0);
    let manifest = env.wharf(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]).success().stdout;
    assert!(manifest.contains("@sha256:"), "{manifest}");
    let blobs = env.store().join("blobs/sha256");
    let largest =
        std::fs::read_dir(&blobs).expect("the store is ours").map(|entry| entry.expect("it is listed").path());
    let largest =
        largest.max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len())).expect("there is one");
    let mut bytes = std::fs::read(&largest).expect("the store is ours");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&largest, bytes).expect("the store is ours");
    let elsewhere = Registry::start(Auth::None);
    let other = format!("{}/demo/base:1", elsewhere.address());
    env.wharf(&["tag", &name, &other]).exits_with(0);
    let refused = env.wharf(&["push", &other]).exits_with(1).stderr;
    assert!(refused.contains("DIGEST_INVALID") && refused.contains("hint: `wharf system check` tells"), "{refused}");
    env.wharf(&["system", "check", "--repair"]).exits_with(0);
    env.wharf(&["push", &other]).exits_with(0);
}
