//! The store that every command starts from, and what must hold after it was broken off.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use test_support::images::Tar;
use test_support::{Auth, Output, Registry, TestEnv, images};

use crate::point::{self, Breach, Point};
use crate::scene::Scene;

const DOCKERFILE: &str = "FROM base
COPY a /in/
RUN --network=none --mount=type=cache,target=/cache echo x >/out && mkdir /d && mv /in/a /d && echo 1 >>/cache/c
COPY b /b
";

/// A store that has been used, and registries.
pub(crate) struct World {
    first: TestEnv,
    stocked: Registry,
    names: BTreeSet<String>,
    /// What is left in the store when everything in it has been removed.
    emptied: BTreeSet<PathBuf>,
}

/// One command, in a copy of the world.
pub(crate) struct Copy<'a> {
    world: &'a World,
    scene: &'a Scene,
    env: TestEnv,
    empty: Registry,
}

impl World {
    pub(crate) fn new() -> Self {
        let stocked = Registry::start(Auth::None);
        let busybox = std::fs::read(images::busybox().expect("busybox-static is installed")).expect("it can be read");
        let rootfs = Tar::default().directory("bin", 0o755).file("bin/busybox", 0o755, &busybox);
        let rootfs = ["sh", "true", "mkdir", "mv"]
            .iter()
            .fold(rootfs, |rootfs, name| rootfs.symlink(&format!("bin/{name}"), "busybox"));
        images::push_base(
            &stocked,
            "demo/base:1",
            &[rootfs.directory("etc", 0o755).file("etc/motd", 0o644, b"hello").finish()],
        );
        let layer = |name: &str| {
            Tar::default().directory("srv", 0o755).file(&format!("srv/{name}"), 0o644, &[7; 20_000]).finish()
        };
        images::push_base(&stocked, "demo/other:1", &[layer("one"), layer("two")]);

        let first = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
        first.file("ctx/Dockerfile", DOCKERFILE);
        first.file("ctx/a", "a");
        first.file("ctx/b", vec![1; 50_000]);
        let base = format!("{}/demo/base:1", stocked.address());
        for arguments in [
            &["pull", "-q", &base][..],
            &["tag", &base, "base"],
            &["rmi", &base],
            &["build", "-q", "-t", "app", "ctx"],
            &["volume", "create", "data"],
            &["run", "--rm", "--network=none", "-v", "data:/d", "app", "sh", "-c", "echo 1 >/d/x"],
        ] {
            first.wharf(arguments).success();
        }
        first.file("ctx/b", vec![2; 50_000]);
        let names = names(&first);
        let mut world = Self { first, stocked, names, emptied: BTreeSet::new() };
        let copy = world.copy(&crate::scene::SCENES[0]);
        copy.remove_everything();
        let emptied = paths(&copy.env.store());
        drop(copy);
        world.emptied = emptied;
        world
    }

    /// Returns a directory that goes with the world.
    pub(crate) fn home(&self) -> PathBuf {
        self.first.home()
    }

    /// Copies the world for a command, and does what comes before it.
    pub(crate) fn copy<'a>(&'a self, scene: &'a Scene) -> Copy<'a> {
        self.copy_to(scene, |_| ())
    }

    /// Copies the world to a store that `prepare` has made ready.
    pub(crate) fn copy_to<'a>(&'a self, scene: &'a Scene, prepare: impl FnOnce(&TestEnv)) -> Copy<'a> {
        let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
        prepare(&env);
        for (from, to) in [(self.first.store(), env.store()), (self.first.work(), env.work())] {
            let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().expect("cp starts");
            assert!(copied.success(), "the store cannot be copied");
        }
        let copy = Copy { world: self, scene, env, empty: Registry::start(Auth::None) };
        scene.before.iter().for_each(|command| drop(copy.wharf(command).success()));
        copy
    }

    /// Returns the points at which the scene's command can be broken off.
    pub(crate) fn points(&self, scene: &Scene, breach: Breach) -> Vec<Point> {
        let copy = self.copy(scene);
        let words = copy.words(scene.command);
        point::points(&copy.env, &refs(&words), breach)
    }

    /// Breaks the scene's command off at the point, and tells whether it was.
    pub(crate) fn break_off(&self, scene: &Scene, point: &Point, breach: Breach) -> bool {
        let copy = self.copy(scene);
        let (output, is_on_store) = point::breach(&copy.env, &refs(&copy.words(scene.command)), point, breach);
        if breach == Breach::DiskFull && is_on_store {
            says_why(&output);
        }
        copy.must_be_whole();
        output.code != Some(0)
    }

    /// Returns how long the scene's command takes, undisturbed.
    pub(crate) fn length(&self, scene: &Scene) -> Duration {
        let copy = self.copy(scene);
        let start = Instant::now();
        copy.run().success();
        start.elapsed()
    }

    /// Kills the scene's command when `moment` returns.
    pub(crate) fn kill(&self, scene: &Scene, moment: impl FnOnce()) -> bool {
        let copy = self.copy(scene);
        let mut command = copy.env.command();
        command.args(copy.words(scene.command)).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        moment();
        child.kill().expect("a child can be killed");
        let status = child.wait().expect("a child can be waited for");
        copy.must_be_whole();
        !status.success()
    }
}

impl Copy<'_> {
    pub(crate) fn env(&self) -> &TestEnv {
        &self.env
    }

    /// Runs the scene's command.
    pub(crate) fn run(&self) -> Output {
        self.wharf(self.scene.command)
    }

    /// Runs the scene's command and kills it at the point.
    pub(crate) fn killed_at(&self, point: &Point) -> Output {
        point::breach(&self.env, &refs(&self.words(self.scene.command)), point, Breach::Kill).0
    }

    /// Checks that every name that was there still means an image.
    pub(crate) fn no_name_is_lost(&self) {
        let left = names(&self.env);
        let is_lost = |name: &&String| !left.contains(*name) && !self.scene.loses.contains(&name.as_str());
        let lost: Vec<_> = self.world.names.iter().filter(is_lost).collect();
        assert!(lost.is_empty(), "images are lost: {lost:?}");
    }

    fn words(&self, command: &[&str]) -> Vec<String> {
        let (stocked, empty) = (self.world.stocked.address(), self.empty.address());
        command.iter().map(|word| word.replace("{stocked}", &stocked).replace("{empty}", &empty)).collect()
    }

    fn wharf(&self, command: &[&str]) -> Output {
        self.env.wharf(&refs(&self.words(command)))
    }

    /// Checks what must hold after the command was broken off, wherever that was.
    fn must_be_whole(&self) {
        self.env.no_process_is_left();
        self.env.wharf(&["system", "check"]).success();
        self.env.nothing_is_left(&[]);
        self.no_name_is_lost();
        let again = self.run();
        let was_done = !self.scene.done.is_empty() && again.stderr.contains(self.scene.done);
        if !was_done {
            again.success();
        }
        self.remove_everything();
        let left: Vec<_> = paths(&self.env.store()).difference(&self.world.emptied).cloned().collect();
        assert!(
            left.is_empty() || self.world.emptied.is_empty(),
            "files are left when everything was removed: {left:?}"
        );
    }

    pub(crate) fn remove_everything(&self) {
        for arguments in [&["image", "prune", "-af"][..], &["builder", "prune", "-f"], &["volume", "prune", "-af"]] {
            self.env.wharf(arguments).success();
        }
    }
}

/// Checks that who fails because the disk is full says so, if it is heard.
fn says_why(output: &Output) {
    let is_quiet = output.code == Some(0) || output.stderr.is_empty();
    assert!(is_quiet || output.stderr.contains("No space left on device"), "{output:?}");
    assert!(!output.stderr.contains("panicked"), "{output:?}");
}

fn refs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn names(env: &TestEnv) -> BTreeSet<String> {
    let listed = env.wharf(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).success().stdout;
    listed.lines().map(str::to_owned).collect()
}

/// Lists all files below a directory.
fn paths(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut rest = vec![root.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in std::fs::read_dir(&directory).expect("the store can be read") {
            let entry = entry.expect("the store can be read");
            if entry.file_type().expect("it is there").is_dir() {
                rest.push(entry.path());
            }
            found.insert(entry.path().strip_prefix(root).expect("it is below").to_owned());
        }
    }
    found
}
