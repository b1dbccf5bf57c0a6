//! The main way as an unprivileged user with subordinate ids.
//!
//! As root, the user is `wharftest`, whom `make test` makes and removes; anybody else is such a user already.

use test_support::{Auth, Registry, TestEnv, images};

fn env() -> TestEnv {
    let program = env!("CARGO_BIN_EXE_wharf");
    let is_root = rustix::process::geteuid().is_root();
    TestEnv::as_user(program, "wharftest").unwrap_or_else(|| {
        assert!(!is_root, "there is no user `wharftest` with subordinate ids: `make test` makes one");
        TestEnv::new(program)
    })
}

#[test]
fn files_of_several_owners_are_built_pushed_pulled_and_removed() {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let (from, to) = (env(), env());
    let name = format!("{}/demo/app:1", registry.address());
    from.file("f", "text\n");
    from.file(
        "Dockerfile",
        format!(
            "FROM {}/demo/base:1\nRUN mkdir -m 700 /d && echo x > /d/f && chown -R 33:44 /d && rm /etc/group\n\
             COPY --chown=601:602 f /f\nUSER 33:44\nRUN id -u > /tmp/id\n",
            registry.address()
        ),
    );
    let built = from.wharf(&["build", "-q", "-t", &name, "."]).success().stdout;
    assert_eq!(from.wharf(&["build", "-q", "-t", &name, "."]).success().stdout, built);
    let look = "stat -c '%u:%g %a' /d /d/f /f && cat /tmp/id && test ! -e /etc/group";
    let expected = "33:44 700\n33:44 644\n601:602 644\n33\n";
    assert_eq!(from.wharf(&["run", "--rm", "-u", "0", &name, "sh", "-c", look]).success().stdout, expected);

    let pushed = from.wharf(&["push", &name]).success().stdout;
    let pulled = to.wharf(&["pull", &name]).success().stdout;
    let digest = |text: &str| text.split("igest: ").nth(1).map(|rest| rest[..71].to_owned());
    assert_eq!((digest(&pulled), digest(&pulled).is_some()), (digest(&pushed), true));
    assert_eq!(to.wharf(&["run", "--rm", "-u", "0", &name, "sh", "-c", look]).success().stdout, expected);
    assert_eq!(to.wharf(&["images", "-q", "--no-trunc"]).success().stdout, built);

    to.wharf(&["rmi", &name]).success();
    from.wharf(&["image", "prune", "-af"]).success();
    from.wharf(&["builder", "prune", "-f"]).success();
    for env in [from, to] {
        let layers = std::fs::read_dir(env.store().join("layers")).unwrap().count();
        assert_eq!(layers, 0, "layers are left in {}", env.store().display());
    }
}

#[test]
fn a_tar_of_any_owners_is_a_build_context() {
    let env = env();
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [("Dockerfile", "FROM scratch\nCOPY f /\n"), ("f", "text")] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_uid(1_999_999);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    env.wharf_with_input(&["build", "-q", "-"], &tar).success();
    assert_eq!(std::fs::read_dir(env.store().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_limit_that_needs_a_cgroup_is_refused_and_others_are_kept() {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = env();
    let name = format!("{}/demo/base:1", registry.address());
    let flags = ["run", "--rm", "--ulimit", "nofile=100", "--shm-size", "1m", &name];
    let script = ["sh", "-c", "ulimit -n; stat -f -c '%b*%S' /dev/shm"];
    assert_eq!(env.wharf(&[&flags[..], &script].concat()).success().stdout, "100\n256*4096\n");
    let refused = env.wharf(&["run", "--rm", "--memory", "64m", &name, "true"]).exits_with(125).stderr;
    let lines: Vec<&str> = refused.lines().collect();
    assert_eq!(
        (lines[0], lines[1]),
        (format!("error: cannot run {name}").as_str(), "  caused by: cannot limit memory")
    );
    assert!(
        lines.last().is_some_and(|hint| hint.contains("systemd-run --user --scope -p Delegate=yes wharf")),
        "{refused}"
    );
}
