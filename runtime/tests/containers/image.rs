//! A root filesystem made of busybox, and one-line ways to run something in it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use runtime::{Confinement, Container, ExitStatus, Limits, NetworkNamespace, RunError, Running, Runtime, Stdio, User};
use rustix::pipe::{PipeFlags, pipe_with};
use tempfile::TempDir;

const APPLETS: &[&str] = &[
    "cat", "chmod", "chown", "echo", "env", "false", "find", "grep", "head", "hostname", "id", "ifconfig", "kill",
    "ln", "ls", "mkdir", "mknod", "mount", "ps", "pwd", "readlink", "rm", "sed", "sh", "sleep", "sort", "stat", "stty",
    "su", "touch", "tr", "true", "tty", "umount", "unshare", "wc",
];

/// A busybox image in a temporary directory.
pub(crate) struct Image {
    directory: TempDir,
}

impl Image {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let root = directory.path().join("rootfs");
        for name in ["bin", "etc", "root", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("these tests need /bin/busybox: install the package busybox-static");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nana:x:1000:1000::/home/ana:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nana:x:1000:\nmore:x:2000:ana\n").unwrap();
        Self { directory }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("rootfs")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name.trim_start_matches('/'))
    }

    /// A directory beside the root filesystem, which no container may touch.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn container(&self, args: &[&str]) -> Container {
        container(&self.root(), args)
    }

    /// A container that runs a shell script.
    pub(crate) fn shell(&self, script: &str) -> Container {
        self.container(&["/bin/sh", "-c", script])
    }
}

pub(crate) fn container(rootfs: &Path, args: &[&str]) -> Container {
    Container {
        rootfs: rootfs.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec!["PATH=/usr/bin:/bin".to_owned()],
        cwd: "/".to_owned(),
        user: user(0, 0, &[]),
        hostname: "buildbox".to_owned(),
        mounts: Vec::new(),
        files: Vec::new(),
        network: NetworkNamespace::None,
        limits: Limits::default(),
        confinement: Confinement::default(),
    }
}

pub(crate) fn user(uid: u32, gid: u32, additional_gids: &[u32]) -> User {
    User { uid, gid, additional_gids: additional_gids.to_vec(), home: "/".to_owned() }
}

/// How a container ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A container with pipes for its output.
pub(crate) struct Started {
    pub(crate) running: Running,
    pub(crate) stdin: File,
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

pub(crate) fn start(runtime: &Runtime, container: &Container) -> Result<Started, RunError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
    let ((stdin, in_writer), (out_reader, stdout), (err_reader, stderr)) = (pipe(), pipe(), pipe());
    let running = runtime.start(container, Stdio::Piped { stdin: Some(stdin), stdout, stderr })?;
    Ok(Started { running, stdin: in_writer.into(), stdout: out_reader.into(), stderr: err_reader.into() })
}

pub(crate) fn run(runtime: &Runtime, container: &Container) -> Result<Outcome, RunError> {
    let Started { mut running, stdin, mut stdout, mut stderr } = start(runtime, container)?;
    drop(stdin);
    let errors = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let status = running.wait().unwrap();
    Ok(Outcome { status, stdout: text, stderr: errors.join().unwrap() })
}

/// Runs a container that must succeed, and returns what it wrote to standard output, without the last newline.
#[track_caller]
pub(crate) fn output(runtime: &Runtime, container: &Container) -> String {
    let outcome = run(runtime, container).unwrap_or_else(|error| panic!("{error}: {error:?}"));
    assert_eq!(outcome.status, ExitStatus::Code(0), "{outcome:?}");
    outcome.stdout.trim_end().to_owned()
}

/// Runs a shell script in a fresh image and compares what it wrote.
#[track_caller]
pub(crate) fn check(runtime: &Runtime, script: &str, expected: &str) {
    let image = Image::new();
    assert_eq!(output(runtime, &image.shell(script)), expected, "{script}");
}
