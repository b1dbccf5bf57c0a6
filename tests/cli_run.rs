//! `run --rm`: exit codes, what the command sees, and what is left of it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};
use test_support::{Auth, Registry, TestEnv, images};

/// An environment whose store has the image `box`: busybox, with a user, an entrypoint's worth of config and a directory.
fn with_box() -> TestEnv {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", format!("FROM {}/demo/base:1\nENV A=image B=image\nWORKDIR /srv\n", registry.address()));
    env.wharf(&["build", "-q", "-t", "box", "."]).success();
    env
}

/// Checks exit code and standard output of `run --rm box` with these words.
#[track_caller]
fn check(env: &TestEnv, words: &[&str], code: i32, stdout: &str) {
    let arguments: Vec<&str> = ["run", "--rm"].iter().chain(words).copied().collect();
    assert_eq!(env.wharf(&arguments).exits_with(code).stdout, stdout, "{words:?}");
}

#[test]
fn exit_codes_are_the_commands_own_or_say_why_it_did_not_run() {
    let env = with_box();
    check(&env, &["box", "true"], 0, "");
    check(&env, &["box", "sh", "-c", "echo out; exit 7"], 7, "out\n");
    check(&env, &["box", "nosuch"], 127, "");
    check(&env, &["box", "/etc/passwd"], 126, "");
    check(&env, &["--user", "nobody-here", "box", "true"], 125, "");
    check(&env, &["--workdir", "relative", "box", "true"], 125, "");
    check(&env, &["--pull", "never", "nosuch", "true"], 125, "");
    let refused = env.wharf(&["run", "box", "true"]).exits_with(125).stderr;
    assert!(refused.contains("--rm"), "{refused}");
}

#[test]
fn the_command_sees_the_image_and_what_the_flags_change() {
    let mut env = with_box();
    env.set("CALLER", "from-caller");
    check(&env, &["box", "sh", "-c", "echo $A $B $HOME; pwd; id -u"], 0, "image image /root\n/srv\n0\n");
    let flags = ["-e", "B=flag", "-e", "CALLER", "-e", "UNSET", "-w", "/a/b", "-h", "boxy", "-u", "65534"];
    let script = ["box", "sh", "-c", "echo $A $B $CALLER ${UNSET-unset}; pwd; hostname; id -u"];
    let words: Vec<&str> = flags.iter().chain(&script).copied().collect();
    check(&env, &words, 0, "image flag from-caller unset\n/a/b\nboxy\n65534\n");
    check(&env, &["--entrypoint", "echo", "box", "-n", "x"], 0, "x");
    check(&env, &["--network", "none", "box", "ls", "/sys/class/net"], 0, "lo\n");
    check(&env, &["box", "sh", "-c", "cat /etc/hostname | wc -c; hostname | grep -Ec '^[0-9a-f]{12}$'"], 0, "13\n1\n");
}

#[test]
fn confinement_is_what_the_flags_say_or_they_are_refused() {
    let env = with_box();
    let sets = ["box", "sh", "-c", "grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'"];
    let check = |flags: &[&str], command: &[&str], stdout: &str| {
        let words: Vec<&str> = flags.iter().chain(command).copied().collect();
        check(&env, &words, 0, stdout);
    };
    let added = "CapBnd:00000000800414fa\nNoNewPrivs:1\nSeccomp:2\n";
    check(&["--cap-add", "net_admin", "--cap-drop=CAP_CHOWN"], &sets, added);
    let options = ["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges=false"];
    check(&options, &sets, "CapBnd:00000000800404fb\nNoNewPrivs:0\nSeccomp:0\n");
    check(&["--privileged"], &["box", "sh", "-c", "mount -t tmpfs x /srv && echo mounted"], "mounted\n");
    check(
        &["--read-only"],
        &["box", "sh", "-c", "touch /x 2>&1 | grep -c Read-only; ls /.dockerenv"],
        "1\n/.dockerenv\n",
    );
    check(&["--device", "/dev/zero:/dev/nothing"], &["box", "head", "-c", "1", "/dev/nothing"], "\0");
    check(&["--init"], &["box", "sh", "-c", "cat /proc/1/comm"], "docker-init\n");
    check(&["--group-add", "4242", "--user", "5:6"], &["box", "id", "-G"], "6 4242\n");
    let file = env.file("variables", "# of a file\nA=file\nB=two words\n");
    let files = ["--env-file", file.to_str().expect("it is UTF-8"), "-e", "A=flag"];
    check(&files, &["box", "sh", "-c", "echo $A $B"], "flag two words\n");
    for (flags, expected) in [
        (&["--cap-add", "NET_ADMN"][..], "did you mean `NET_ADMIN`?"),
        (&["--security-opt", "seccomp=/x.json"], "profiles from files are not built yet"),
        (&["--device", "/etc/passwd"], "`/etc/passwd` is not a device"),
        (&["--env-file", "/no/such/file"], "cannot read the environment file `/no/such/file`"),
    ] {
        let words: Vec<&str> = ["run", "--rm"].iter().chain(flags).chain(&["box", "true"]).copied().collect();
        let stderr = env.wharf(&words).exits_with(125).stderr;
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn input_is_passed_only_on_request_and_output_keeps_its_ways() {
    let env = with_box();
    let passed = env.wharf_with_input(&["run", "--rm", "-i", "box", "cat"], "typed\n").success();
    assert_eq!(passed.stdout, "typed\n");
    let closed = env.wharf_with_input(&["run", "--rm", "box", "cat"], "typed\n").success();
    assert_eq!(closed.stdout, "");
    let both = env.wharf(&["run", "--rm", "box", "sh", "-c", "echo out; echo err >&2"]).success();
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_container_whose_output_nobody_reads_ends_as_a_program_in_a_shell() {
    let env = with_box();
    let mut command = env.command();
    command.args(["run", "--rm", "box", "sh", "-c", "trap '' PIPE; while true; do echo x 2> /dev/null; done"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    let mut line = [0; 2];
    child.stdout.take().expect("it is piped").read_exact(&mut line).expect("the command writes");
    assert_eq!((&line, child.wait().expect("a child can be waited for").code()), (b"x\n", Some(141)));
}

#[test]
fn namespaces_of_the_host_are_shared_and_what_needs_kept_containers_is_refused() {
    let env = with_box();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    check(&env, &["--uts=host", "box", "sh", "-c", "hostname; cat /etc/hostname"], 0, &format!("{host}\n{host}\n"));
    let pid = std::process::id().to_string();
    let script = format!("test -d /proc/{pid} && echo seen; readlink /proc/self/ns/ipc; exit 3");
    let ipc = std::fs::read_link("/proc/self/ns/ipc").expect("/proc is there");
    let expected = format!("seen\n{}\n", ipc.display());
    check(&env, &["--pid=host", "--ipc", "host", "box", "sh", "-c", &script], 3, &expected);
    let platform = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    for (flags, expected) in [
        (&["--pid=container:x"][..], "none can be joined"),
        (&["--uts=host", "--hostname=x"], "`--hostname` cannot be set with `--uts=host`"),
        (&["--ipc=host", "--shm-size=1m"], "the size of `/dev/shm` cannot be set"),
        (&["--name", "x"], "`--name`: containers are not kept yet"),
        (&["-d"], "`--detach` is not built yet"),
        (&["--platform", platform], "only for this machine's"),
    ] {
        let words: Vec<&str> = ["run", "--rm"].iter().chain(flags).chain(&["box", "true"]).copied().collect();
        let stderr = env.wharf(&words).exits_with(125).stderr;
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn signals_that_are_not_passed_on_end_the_container() {
    let env = with_box();
    let mut command = env.command();
    command.args([
        "run",
        "--rm",
        "--sig-proxy=false",
        "box",
        "sh",
        "-c",
        "trap 'exit 3' TERM; echo ready; cat /dev/zero > /dev/null & wait",
    ]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    child.stdout.take().expect("it is piped").read_exact(&mut [0; 6]).expect("the command starts");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(143));
}

#[test]
fn nothing_of_a_container_stays() {
    let env = with_box();
    check(&env, &["box", "sh", "-c", "echo x > /left; ls /left"], 0, "/left\n");
    check(&env, &["box", "ls", "/left"], 1, "");
    for directory in ["tmp", "leases"] {
        let left = std::fs::read_dir(env.store().join(directory)).expect("the store has it");
        let left: Vec<_> = left.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        assert!(left.iter().all(|name| name == "lock"), "{directory}: {left:?}");
    }
}

#[test]
fn signals_reach_the_command() {
    let env = with_box();
    let mut command = env.command();
    let script = "trap 'echo caught; exit 3' TERM; echo ready; cat /dev/zero > /dev/null & wait";
    command.args(["run", "--rm", "box", "sh", "-c", script]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).expect("the command starts");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("stdout can be read");
    assert_eq!((rest.as_str(), child.wait().expect("a child can be waited for").code()), ("caught\n", Some(3)));
}

#[test]
fn a_terminal_is_the_commands_own() {
    let env = with_box();
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("there are terminals");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("it is ours");
    let name = rustix::pty::ptsname(&master, Vec::new()).expect("it has a name");
    let slave: OwnedFd =
        File::options().read(true).write(true).open(name.to_str().expect("it is ASCII")).expect("it opens").into();
    let mut command = env.command();
    command.args(["run", "--rm", "-it", "box", "sh", "-c", "tty; read line; echo got $line; exit 5"]);
    let clone = || slave.try_clone().expect("descriptors are left");
    let mut child = command.stdin(clone()).stdout(clone()).stderr(clone()).spawn().expect("the program starts");
    drop((command, slave));
    let mut master = File::from(master);
    let mut output = Vec::new();
    // what is typed before the terminal is raw is thrown away, as by any program that asks for a password
    while !output.ends_with(b"/dev/pts/0\r\n") {
        let mut byte = [0];
        master.read_exact(&mut byte).expect("the command starts");
        output.push(byte[0]);
    }
    master.write_all(b"word\r").expect("it takes input");
    let _eio_at_the_end = master.read_to_end(&mut output);
    let output = String::from_utf8_lossy(&output);
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(5), "{output}");
    assert!(output.contains("/dev/pts/0\r\n") && output.contains("got word\r\n"), "{output}");
    let refused = env.wharf(&["run", "--rm", "-it", "box", "true"]).exits_with(125).stderr;
    assert!(refused.contains("TTY"), "{refused}");
}

#[test]
fn a_missing_image_is_pulled_first() {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    let name = format!("{}/demo/base:1", registry.address());
    let output = env.wharf(&["run", "--rm", &name, "echo", "hi"]).success();
    assert_eq!(output.stdout, "hi\n");
    assert!(output.stderr.starts_with(&format!("Unable to find image '{name}' locally\n")), "{}", output.stderr);
    assert!(output.stderr.contains(": Pull complete\n"), "{}", output.stderr);
    assert_eq!(env.wharf(&["run", "--rm", &name, "echo", "hi"]).success().stderr, "");
}
