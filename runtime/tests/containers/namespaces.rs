//! Containers that share namespaces of the host, and how those in its pid namespace end.

use std::fs;
use std::io::Read;
use std::path::Path;

use runtime::{Container, ExitStatus, Namespace, Namespaces, RunError, Runtime};
use rustix::process::{Pid, Signal, kill_process};

use crate::image::{Image, Started, output, run, start};
use crate::limits::may_limit;
use crate::process::{check_dies_with_process, image_with_setuid_shell};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    each_namespace_of_the_host_is_shared_alone,
    among_the_hosts_processes_they_are_seen_and_kernel_files_stay_hidden,
    the_hostname_of_the_host_is_kept,
    shared_memory_of_the_host_is_there_and_has_its_size,
    among_the_hosts_processes_codes_and_signals_are_the_commands,
    among_the_hosts_processes_nothing_outlives_the_command,
    among_the_hosts_processes_a_chain_of_forks_is_ended,
    among_the_hosts_processes_a_killed_or_dropped_container_is_gone,
    among_the_hosts_processes_a_container_dies_with_a_killed_process,
    among_the_hosts_processes_a_command_that_is_not_there_leaves_nothing,
    who_kills_the_guard_ends_the_container,
];

const HOST: Namespace = Namespace::Host;

/// A container that shares the processes of the host and runs a shell script.
fn among_processes(image: &Image, script: &str) -> Container {
    sharing(image, script, Namespaces { pid: HOST, ..Namespaces::default() })
}

fn sharing(image: &Image, script: &str, namespaces: Namespaces) -> Container {
    let mut container = image.shell(script);
    container.confinement.namespaces = namespaces;
    container
}

fn read_line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Whether a process of the host runs; one that nobody has reaped yet does not.
fn runs(pid: &str) -> bool {
    assert!(pid.parse::<u32>().is_ok(), "{pid}");
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

fn each_namespace_of_the_host_is_shared_alone(runtime: &Runtime) {
    let image = Image::new();
    let own = Namespaces::default();
    for (shared, namespaces) in [
        ("pid", Namespaces { pid: HOST, ..own }),
        ("ipc", Namespaces { ipc: HOST, ..own }),
        ("uts", Namespaces { uts: HOST, ..own }),
    ] {
        let container = sharing(
            &image,
            "for name in mnt pid ipc uts net cgroup; do readlink /proc/self/ns/$name; done",
            namespaces,
        );
        let inside = output(runtime, &container);
        let is_shared = |name: &str| {
            let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
            inside.lines().any(|link| outside.to_string_lossy() == link)
        };
        assert_eq!(inside.lines().count(), 6, "{inside}");
        for name in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
            assert_eq!(is_shared(name), name == shared, "{name} with {shared} of the host");
        }
    }
}

fn among_the_hosts_processes_they_are_seen_and_kernel_files_stay_hidden(runtime: &Runtime) {
    let image = Image::new();
    let pid = std::process::id();
    let script = format!(
        "cat /proc/{pid}/comm; cat /proc/keys /proc/timer_list; \
         echo x 2>/dev/null > /proc/sys/kernel/printk || echo denied; test $$ != 1 && echo other"
    );
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(output(runtime, &among_processes(&image, &script)), format!("{comm}denied\nother"));
}

fn the_hostname_of_the_host_is_kept(runtime: &Runtime) {
    let image = Image::new();
    let uname = rustix::system::uname();
    let container = sharing(&image, "hostname", Namespaces { uts: HOST, ..Namespaces::default() });
    assert_eq!(output(runtime, &container), uname.nodename().to_string_lossy());
    assert_ne!(container.hostname, uname.nodename().to_string_lossy());
}

fn shared_memory_of_the_host_is_there_and_has_its_size(runtime: &Runtime) {
    let image = Image::new();
    let shared = tempfile::Builder::new().prefix("wharf-test-").tempfile_in("/dev/shm").unwrap();
    fs::write(shared.path(), "of the host").unwrap();
    let script = format!("cat {}; test -d /dev/mqueue && echo ' and queues'", shared.path().display());
    let mut container = sharing(&image, &script, Namespaces { ipc: HOST, ..Namespaces::default() });
    assert_eq!(output(runtime, &container), "of the host and queues");
    container.limits.shm_size = Some(1 << 20);
    assert!(matches!(run(runtime, &container), Err(RunError::HostShm)));
}

fn among_the_hosts_processes_codes_and_signals_are_the_commands(runtime: &Runtime) {
    let image = Image::new();
    for (script, expected) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 255", ExitStatus::Code(255)),
        ("kill -TERM $$", ExitStatus::Signal(15)),
        ("kill -SEGV $$", ExitStatus::Signal(11)),
        ("kill -34 $$", ExitStatus::Signal(34)),
    ] {
        assert_eq!(run(runtime, &among_processes(&image, script)).unwrap().status, expected, "{script}");
    }
    let script = "trap 'echo caught; exit 5' USR1; echo up; while true; do read -r line || exit 9; done";
    let mut started = start(runtime, &among_processes(&image, script)).unwrap();
    assert_eq!(read_line(&mut started.stdout), "up");
    assert!(started.running.signal(4711).is_err(), "no such signal");
    started.running.signal(10).unwrap();
    assert_eq!(started.running.wait().unwrap(), ExitStatus::Code(5));
    assert!(started.running.signal(10).is_ok(), "it has ended");
}

fn among_the_hosts_processes_nothing_outlives_the_command(runtime: &Runtime) {
    let image = Image::new();
    // in a session of its own, without its parent and without our pipes
    let script = "busybox setsid sh -c 'sh -c \"echo \\$\\$ > /tmp/pid; exec sleep 1000\" &' > /dev/null 2>&1; \
                  until test -s /tmp/pid; do :; done; cat /tmp/pid; exit 3";
    let outcome = run(runtime, &among_processes(&image, script)).unwrap();
    assert_eq!(outcome.status, ExitStatus::Code(3));
    assert!(!runs(outcome.stdout.trim()), "{outcome:?}");
}

fn among_the_hosts_processes_a_chain_of_forks_is_ended(runtime: &Runtime) {
    let image = Image::new();
    // each process starts the next one and ends
    let outcome = run(runtime, &among_processes(&image, "next() { next & }; next; next; echo on")).unwrap();
    assert_eq!((outcome.status, outcome.stdout.as_str()), (ExitStatus::Code(0), "on\n"));
}

fn among_the_hosts_processes_a_killed_or_dropped_container_is_gone(runtime: &Runtime) {
    let image = Image::new();
    let container = among_processes(&image, "sleep 1000 & echo $!; wait");
    let mut killed = start(runtime, &container).unwrap();
    let pid = read_line(&mut killed.stdout);
    assert!(runs(&pid));
    killed.running.killer().kill().unwrap();
    assert_eq!(killed.running.wait().unwrap(), ExitStatus::Signal(9));
    assert!(!runs(&pid));
    let mut dropped = start(runtime, &container).unwrap();
    let pid = read_line(&mut dropped.stdout);
    drop(dropped);
    assert!(!runs(&pid));
}

fn among_the_hosts_processes_a_container_dies_with_a_killed_process(_: &Runtime) {
    let role = "--hold-among-the-hosts";
    check_dies_with_process(&Image::new(), role, &["sh", "-c", "sleep 1000 & echo up; sleep 1000"]);
    check_dies_with_process(&image_with_setuid_shell(), role, &["/suid/sh", "-c", "echo up; sleep 1000"]);
}

fn among_the_hosts_processes_a_command_that_is_not_there_leaves_nothing(runtime: &Runtime) {
    let mut container = Image::new().container(&["nosuch"]);
    container.confinement.namespaces.pid = HOST;
    let image = Image::new();
    container.rootfs = image.root();
    assert!(matches!(run(runtime, &container), Err(RunError::Command { .. })));
    assert!(!image.path("proc").exists());
}

fn who_kills_the_guard_ends_the_container(runtime: &Runtime) {
    let image = Image::new();
    let script = "sleep 1000 & echo $PPID; echo $!; wait";
    let Started { mut running, mut stdout, .. } = start(runtime, &among_processes(&image, script)).unwrap();
    let (guard, child) = (read_line(&mut stdout), read_line(&mut stdout));
    kill_process(Pid::from_raw(guard.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(running.wait().unwrap(), ExitStatus::Signal(9));
    if may_limit(runtime) {
        assert!(!runs(&child), "it was in the container's cgroup");
    } else {
        // the command is killed by the kernel; what it has started is then nobody's
        kill_process(Pid::from_raw(child.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0, "both are gone");
    }
}
