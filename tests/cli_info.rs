//! `wharf info`, and which storage driver is used.

use test_support::{Auth, Registry, TestEnv, images};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wharf");

#[test]
fn the_driver_is_told_and_can_be_chosen() {
    let env = TestEnv::new(PROGRAM);
    let driver = |arguments: &[&str]| {
        env.wharf(&[arguments, &["info", "--format", "{{.Driver}} {{.Images}}"]].concat()).success().stdout
    };
    assert_eq!(driver(&[]), "erofs 0\n");
    assert_eq!(driver(&["--storage-driver", "tree"]), "tree 0\n");
    let shown = env.wharf(&["system", "info"]).success().stdout;
    assert!(shown.contains("\nStorage Driver: erofs\nBacking Filesystem: extfs\n"), "{shown}");
    let refused = env.wharf(&["--storage-driver", "overlay2", "images"]).exits_with(125).stderr;
    assert!(refused.contains("is no storage driver: there are `auto`, `erofs` and `tree`"), "{refused}");
    let user = TestEnv::as_user(PROGRAM, "nobody").expect("the tests run as root, and there is a user `nobody`");
    let shown = user.wharf(&["info"]).success().stdout;
    assert!(shown.contains("\nStorage Driver: tree\nDriver Status: no erofs: only root of the machine may"), "{shown}");
}

#[test]
fn both_drivers_run_the_same_container_from_one_store() {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(PROGRAM);
    let base = format!("{}/demo/base:1", registry.address());
    env.wharf(&["pull", "-q", &base]).success();
    let layer = |name: &str| {
        let layers = std::fs::read_dir(env.store().join("layers")).expect("the store is ours");
        layers.map(|layer| layer.expect("it is listed").path()).all(|layer| layer.join(name).exists())
    };
    assert!(layer("layer.erofs") && layer("layer.tar") && !layer("tree"));
    let run = |driver: &str| {
        let arguments = [
            "--storage-driver",
            driver,
            "run",
            "--rm",
            "--network=none",
            &base,
            "sh",
            "-c",
            "ls -lnR /bin | grep -v ^total | md5sum",
        ];
        env.wharf(&arguments).success().stdout
    };
    let listed = run("erofs");
    assert_eq!(run("tree"), listed);
    assert!(layer("tree") && !layer("layer.tar"), "its bytes are in the blob it came in");
    assert_eq!(run("erofs"), listed);
}
