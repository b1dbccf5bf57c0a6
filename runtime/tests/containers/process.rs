//! How commands are found, end, and are ended.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitCode, Stdio as ProcessStdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use runtime::{CommandProblem, ExitStatus, Namespace, RunError, Runtime, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::image::{Image, container, output, run, start, user};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    exit_codes_and_signals_are_told_apart,
    a_command_is_found_as_execvp_finds_it,
    a_command_that_cannot_be_run_says_why,
    the_working_directory_is_entered_or_refused,
    what_is_wrong_is_said_before_anything_starts,
    a_container_is_killed_and_waited_for_from_different_threads,
    a_signal_reaches_the_command,
    a_dropped_container_is_gone,
    a_container_survives_the_thread_that_started_it,
    a_container_dies_with_a_killed_process,
    a_setuid_command_dies_with_a_killed_process_too,
    two_hundred_starts_beside_threads_that_allocate,
    containers_start_at_the_same_time,
    output_ends_when_the_container_does,
    output_ends_with_the_container_also_where_others_have_its_pipe,
];

fn exit_codes_and_signals_are_told_apart(runtime: &Runtime) {
    let image = Image::new();
    for (script, expected) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 42", ExitStatus::Code(42)),
        ("exit 255", ExitStatus::Code(255)),
        // As process 1 it is not reached by its own signals; as the child of one, it is.
        ("sh -c 'kill -TERM $$'; exit $?", ExitStatus::Code(143)),
    ] {
        assert_eq!(run(runtime, &image.shell(script)).unwrap().status, expected, "{script}");
    }
}

fn a_command_is_found_as_execvp_finds_it(runtime: &Runtime) {
    let image = Image::new();
    fs::create_dir_all(image.path("first/hostname")).unwrap();
    fs::create_dir_all(image.path("second")).unwrap();
    fs::write(image.path("second/hostname"), "#!/bin/sh\necho not executable\n").unwrap();
    fs::write(image.path("file"), "").unwrap();
    for (path, cwd, command, expected) in [
        ("PATH=/nowhere:/file:/bin", "/", "hostname", "buildbox"),
        ("PATH=/first:/second:/bin", "/", "hostname", "buildbox"),
        ("PATH=", "/bin", "hostname", "buildbox"),
        ("NOPATH=1", "/", "hostname", "buildbox"),
        ("PATH=/nowhere", "/bin", "./hostname", "buildbox"),
        ("PATH=/nowhere", "/", "/bin/hostname", "buildbox"),
    ] {
        let mut container = image.container(&[command]);
        container.env = vec![path.to_owned()];
        container.cwd = cwd.to_owned();
        assert_eq!(output(runtime, &container), expected, "{path}");
    }
}

fn a_command_that_cannot_be_run_says_why(runtime: &Runtime) {
    let image = Image::new();
    let write = |name: &str, text: &str, mode| {
        fs::write(image.path(name), text).unwrap();
        fs::set_permissions(image.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    write("bin/plain", "#!/bin/sh\n", 0o644);
    write("bin/lost", "#!/bin/gone\n", 0o755);
    write("bin/text", "hello\n", 0o755);
    symlink("loop", image.path("bin/loop")).unwrap();
    for (command, problem, code, message) in [
        ("figlet", CommandProblem::NotFound, 127, "cannot run `figlet`: no such file"),
        ("/bin/figlet", CommandProblem::NotFound, 127, "cannot run `/bin/figlet`: no such file"),
        ("/etc/passwd/x", CommandProblem::NotFound, 127, "cannot run `/etc/passwd/x`: no such file"),
        ("plain", CommandProblem::NotPermitted, 126, "cannot run `plain`: permission denied"),
        ("/bin", CommandProblem::NotPermitted, 126, "cannot run `/bin`: permission denied"),
        ("text", CommandProblem::NotExecutable, 126, "cannot run `text`: not a program for this machine"),
        ("loop", CommandProblem::Failed, 126, "cannot run `loop`: it could not be executed"),
        (
            "lost",
            CommandProblem::InterpreterNotFound,
            127,
            "cannot run `lost`: the interpreter or dynamic loader that it names is missing",
        ),
    ] {
        let error = run(runtime, &image.container(&[command])).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.command_problem(), Some(problem), "{command}");
        assert_eq!(problem.exit_code(), code, "{command}");
    }
    assert!(!image.path("proc").exists(), "nothing is left of a start that failed");
}

fn the_working_directory_is_entered_or_refused(runtime: &Runtime) {
    let image = Image::new();
    let outside = image.outside("elsewhere");
    fs::create_dir_all(image.path("srv/app")).unwrap();
    symlink("/srv/app", image.path("link")).unwrap();
    symlink(&outside, image.path("escape")).unwrap();
    let directory = fs::File::open(&outside).unwrap();
    let inheritable = rustix::io::dup(&directory).unwrap();
    let handle = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inheritable));
    for (cwd, expected) in [
        ("/srv/app", Some("/srv/app")),
        ("/link", Some("/srv/app")),
        ("/missing", None),
        ("/etc/passwd", None),
        ("/escape", None),
        ("relative", None),
        ("/proc/self/fd/3", None),
        (&handle, None),
        ("/proc/1/cwd", None),
        ("/proc/1/root", None),
    ] {
        let mut container = image.container(&["/bin/readlink", "/proc/self/cwd"]);
        container.cwd = cwd.to_owned();
        match (run(runtime, &container), expected) {
            (Ok(outcome), Some(expected)) => assert_eq!(outcome.stdout.trim(), expected),
            (Err(RunError::WorkingDirectory { path, .. }), None) => assert_eq!(path, cwd),
            (other, _) => panic!("{cwd}: {other:?}"),
        }
    }
}

fn what_is_wrong_is_said_before_anything_starts(runtime: &Runtime) {
    let image = Image::new();
    let ok = image.container(&["true"]);
    let mut none = ok.clone();
    none.args.clear();
    let mut nul = ok.clone();
    nul.args.push("a\0b".to_owned());
    let mut env = ok.clone();
    env.env.push("NAME".to_owned());
    let mut hostname = ok.clone();
    hostname.hostname = "h".repeat(65);
    let mut rootfs = ok.clone();
    rootfs.rootfs = image.path("nowhere");
    for (container, expected) in [
        (none, "there is no command to run".to_owned()),
        (nul, "the command holds a NUL byte".to_owned()),
        (env, "environment entry `NAME` is not `NAME=value`".to_owned()),
        (hostname, format!("hostname `{}` is empty or longer than 64 bytes", "h".repeat(65))),
        (rootfs, format!("cannot use the root filesystem `{}`", image.path("nowhere").display())),
    ] {
        assert_eq!(run(runtime, &container).unwrap_err().to_string(), expected);
    }
    assert!(!image.path("proc").exists(), "nothing is left of a start that was refused");
}

fn a_container_is_killed_and_waited_for_from_different_threads(runtime: &Runtime) {
    let image = Image::new();
    let mut started = start(runtime, &image.shell("echo up; sleep 1000 & sleep 1000")).unwrap();
    let mut line = [0; 3];
    started.stdout.read_exact(&mut line).unwrap();
    let killer = started.running.killer();
    let clone = killer.clone();
    let status = thread::scope(|scope| {
        let waiting = scope.spawn(|| started.running.wait().unwrap());
        scope.spawn(move || clone.kill().unwrap());
        waiting.join().unwrap()
    });
    assert_eq!(status, ExitStatus::Signal(9));
    assert_eq!(started.running.wait().unwrap(), ExitStatus::Signal(9), "asked again");
    killer.kill().expect("a container that has ended is left alone");
    let mut rest = String::new();
    started.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "the second sleep is gone too, or the pipe would not end");
}

fn a_signal_reaches_the_command(runtime: &Runtime) {
    let image = Image::new();
    let script = "trap 'echo caught; exit 5' USR1; echo up; while true; do read -r line || exit 9; done";
    let mut started = start(runtime, &image.shell(script)).unwrap();
    let mut line = [0; 3];
    started.stdout.read_exact(&mut line).unwrap();
    started.running.signal(10).unwrap();
    assert_eq!(started.running.wait().unwrap(), ExitStatus::Code(5));
    assert!(started.running.signal(10).is_ok(), "it has ended");
    let mut sleeping = start(runtime, &image.container(&["sleep", "1000"])).unwrap();
    assert!(sleeping.running.signal(4711).is_err(), "no such signal");
    sleeping.running.signal(15).expect("process 1 does not handle it, so nothing happens");
    sleeping.running.killer().kill().unwrap();
    assert_eq!(sleeping.running.wait().unwrap(), ExitStatus::Signal(9));
}

fn a_dropped_container_is_gone(runtime: &Runtime) {
    let image = Image::new();
    let mut started = start(runtime, &image.shell("echo up; sleep 1000")).unwrap();
    let mut line = [0; 3];
    started.stdout.read_exact(&mut line).unwrap();
    assert!(image.path("proc").exists());
    drop(started.running);
    let mut rest = String::new();
    started.stdout.read_to_string(&mut rest).unwrap();
    assert!(!image.path("proc").exists());
}

fn a_container_survives_the_thread_that_started_it(runtime: &Runtime) {
    let image = Image::new();
    let mut started =
        thread::scope(|scope| scope.spawn(|| start(runtime, &image.container(&["cat"])).unwrap()).join().unwrap());
    started.stdin.write_all(b"still here\n").unwrap();
    let mut line = String::new();
    BufReader::new(&started.stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "still here\n");
    drop(started.stdin);
    assert_eq!(started.running.wait().unwrap(), ExitStatus::Code(0));
}

/// `--hold`: starts a container that writes to our standard output, and waits for ever; `--hold-among-the-hosts`: in the host's pid
/// namespace.
pub(crate) fn hold(rootfs: &str, command: &[&str], pid: Namespace) -> ExitCode {
    let runtime = runtime::enter().unwrap();
    let mut container = container(rootfs.as_ref(), command);
    container.user = user(1000, 1000, &[]);
    container.confinement.namespaces.pid = pid;
    let mut running = runtime.start(&container, Stdio::Inherit).unwrap();
    running.wait().unwrap();
    ExitCode::FAILURE
}

/// Kills a process that holds a container, and sees the pipe that the container writes to end.
pub(crate) fn check_dies_with_process(image: &Image, role: &str, command: &[&str]) {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .arg(role)
        .arg(image.root())
        .args(command)
        .stdin(ProcessStdio::null())
        .stdout(ProcessStdio::piped())
        .spawn()
        .unwrap();
    let mut output = holder.stdout.take().unwrap();
    let mut line = [0; 3];
    output.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"up\n");
    holder.kill().unwrap();
    let mut polled = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1, "somebody still holds the pipe");
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    holder.wait().unwrap();
}

fn a_container_dies_with_a_killed_process(_: &Runtime) {
    check_dies_with_process(&Image::new(), "--hold", &["sh", "-c", "echo up; sleep 1000"]);
}

/// An image with a set-uid `/suid/sh`.
pub(crate) fn image_with_setuid_shell() -> Image {
    let image = Image::new();
    fs::create_dir(image.path("suid")).unwrap();
    fs::copy(image.path("bin/busybox"), image.path("suid/sh")).unwrap();
    fs::set_permissions(image.path("suid/sh"), fs::Permissions::from_mode(0o4755)).unwrap();
    image
}

fn a_setuid_command_dies_with_a_killed_process_too(_: &Runtime) {
    let image = image_with_setuid_shell();
    check_dies_with_process(&image, "--hold", &["/suid/sh", "-c", "echo up; sleep 1000"]);
}

fn two_hundred_starts_beside_threads_that_allocate(runtime: &Runtime) {
    let image = Image::new();
    let container = image.container(&["true"]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..3_usize {
            let stop = &stop;
            scope.spawn(move || {
                let mut held: HashMap<usize, Vec<u8>> = HashMap::new();
                let mut size = seed;
                while !stop.load(Ordering::Relaxed) {
                    size = (size * 31 + 7) % 100_003;
                    held.insert(size % 64, vec![1; size]);
                }
            });
        }
        for _ in 0..200 {
            let started = runtime.start(&container, Stdio::Inherit);
            assert_eq!(started.unwrap().wait().unwrap(), ExitStatus::Code(0));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn containers_start_at_the_same_time(runtime: &Runtime) {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number: i32| {
                scope.spawn(move || {
                    let image = Image::new();
                    for round in 0..5 {
                        let text = format!("{number} {round}");
                        assert_eq!(output(runtime, &image.container(&["echo", &text])), text);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn output_ends_when_the_container_does(runtime: &Runtime) {
    let image = Image::new();
    let outcome = run(runtime, &image.shell("(sleep 1000; echo late) & echo early; echo wrong >&2; exit 3")).unwrap();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (ExitStatus::Code(3), "early\n"));
    assert_eq!(outcome.stderr, "wrong\n");
}

/// A container can hand its pipe to whoever listens in a directory that both see; here its writing side stays with us.
fn output_ends_with_the_container_also_where_others_have_its_pipe(runtime: &Runtime) {
    let image = Image::new();
    let (reader, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (stderr, other) = (stdout.try_clone().unwrap(), fs::File::from(stdout.try_clone().unwrap()));
    let container = image.shell("head -c 60000 /dev/zero; echo end");
    let mut running = runtime.start(&container, Stdio::Piped { stdin: None, stdout, stderr }).unwrap();
    let mut output = running.output(reader);
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), bytes.ends_with(b"end\n")), (60_004, true));
    assert_eq!(running.wait().unwrap(), ExitStatus::Code(0));
    (&other).write_all(b"late").unwrap();
}
