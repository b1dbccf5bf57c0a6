//! What a container sees of the host: nothing.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use runtime::{NetworkNamespace, Privilege, Runtime};

use crate::image::{Image, check, output};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    every_namespace_is_another_one,
    the_hostname_is_the_given_one,
    the_command_is_process_1_and_sees_only_its_own,
    no_descriptor_of_the_host_is_open,
    the_environment_is_exactly_the_given_one,
    the_network_is_loopback_only_and_up,
    a_given_network_namespace_is_joined,
    the_network_of_the_host_can_be_shared,
    dev_has_what_programs_need_and_no_more,
    the_root_filesystem_has_no_devices,
    signals_are_at_their_defaults,
];

fn every_namespace_is_another_one(runtime: &Runtime) {
    let image = Image::new();
    for namespace in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let link = format!("/proc/self/ns/{namespace}");
        let inside = output(runtime, &image.container(&["readlink", &link]));
        let outside = fs::read_link(&link).unwrap();
        assert!(inside.starts_with(namespace), "{inside}");
        assert_ne!(inside, outside.to_string_lossy(), "{namespace}");
    }
}

fn the_hostname_is_the_given_one(runtime: &Runtime) {
    check(runtime, "hostname", "buildbox");
    assert_ne!(rustix::system::uname().nodename(), c"buildbox");
}

fn the_command_is_process_1_and_sees_only_its_own(runtime: &Runtime) {
    let image = Image::new();
    let listed = output(runtime, &image.container(&["ls", "/proc"]));
    let processes: Vec<&str> = listed.lines().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect();
    assert_eq!(processes, ["1"]);
    check(runtime, "echo $$", "1");
}

fn no_descriptor_of_the_host_is_open(runtime: &Runtime) {
    let image = Image::new();
    let directory = File::open("/").unwrap();
    let inheritable = rustix::io::dup(&directory).unwrap();
    assert!(inheritable.as_raw_fd() > 2);
    let seen = output(runtime, &image.container(&["ls", "/proc/self/fd"]));
    assert_eq!(seen, "0\n1\n2\n3", "3 is the directory that ls reads");
}

fn the_environment_is_exactly_the_given_one(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.container(&["/bin/cat", "/proc/1/environ"]);
    container.env = ["B=2", "A=1", "EMPTY=", "B=3"].map(str::to_owned).to_vec();
    assert_eq!(output(runtime, &container), "B=2\0A=1\0EMPTY=\0B=3\0");
    container.env.clear();
    assert_eq!(output(runtime, &container), "");
}

fn the_network_is_loopback_only_and_up(runtime: &Runtime) {
    check(runtime, "ls /sys/class/net; cat /proc/net/dev | wc -l; cat /sys/class/net/lo/flags", "lo\n3\n0x9");
}

fn a_given_network_namespace_is_joined(runtime: &Runtime) {
    let image = Image::new();
    let (stdin, _writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let (mut reader, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stderr = stdout.try_clone().unwrap();
    let script = image.shell("readlink /proc/self/ns/net; ls -l /proc/1/ns/net >/dev/null; cat");
    let stdio = runtime::Stdio::Piped { stdin: Some(stdin), stdout, stderr };
    let owner = runtime.start(&script, stdio).unwrap();
    let mut line = [0; 64];
    let length = rustix::io::read(&mut reader, &mut line).unwrap();
    let theirs = String::from_utf8_lossy(&line[..length]).trim().to_owned();
    let namespace = namespace_named(&theirs);
    let mut container = image.container(&["readlink", "/proc/self/ns/net"]);
    container.network = NetworkNamespace::Given(std::sync::Arc::new(namespace.into()));
    assert_eq!(output(runtime, &container), theirs);
    drop(owner);
}

/// Opens the network namespace with this name, through whichever process of the host is in it.
fn namespace_named(name: &str) -> File {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path().join("ns/net");
        if fs::read_link(&path).is_ok_and(|link| link.to_string_lossy() == name) {
            return File::open(path).unwrap();
        }
    }
    panic!("no process is in {name}");
}

fn the_network_of_the_host_can_be_shared(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.shell("readlink /proc/self/ns/net; test -d /sys/class/net/lo && echo sys");
    container.network = NetworkNamespace::Host;
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(output(runtime, &container), format!("{}\nsys", host.display()));
}

fn dev_has_what_programs_need_and_no_more(runtime: &Runtime) {
    check(
        runtime,
        "ls /dev | tr '\\n' ' '",
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero",
    );
    check(runtime, "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c", "4\n4");
    check(runtime, "echo x > /dev/shm/f && cat /dev/shm/f; echo y > /dev/stderr; ls /dev/pts", "x\nptmx");
    check(runtime, "stat -f -c %T /dev/shm /dev/mqueue /dev/pts 2>/dev/null | head -1", "tmpfs");
}

fn the_root_filesystem_has_no_devices(runtime: &Runtime) {
    let image = Image::new();
    let device = image.path("tmp/device");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    // a whiteout is the one device that everybody may make; opening it fails otherwise where devices are let in: there is no 0:0
    let (major, minor) = if runtime.privilege() == Privilege::Root { (1, 5) } else { (0, 0) };
    let number = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::CharacterDevice, mode, number).unwrap();
    let script = "head -c 1 /tmp/device 2>&1; mknod /tmp/mine c 1 5 2>/dev/null && echo made; true";
    assert_eq!(output(runtime, &image.shell(script)), "head: /tmp/device: Permission denied");
}

fn signals_are_at_their_defaults(runtime: &Runtime) {
    check(
        runtime,
        "grep -E '^Sig(Ign|Blk):' /proc/self/status | tr '\\t' ' '",
        "SigBlk: 0000000000000000\nSigIgn: 0000000000000000",
    );
}
