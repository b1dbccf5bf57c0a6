//! Containers that are confined more or less than usual.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use runtime::{
    Access, Capabilities, Confinement, Container, Device, ExitStatus, GeneratedFile, GeneratedKind, KernelFiles, Mount,
    MountSource, NewPrivileges, Privilege, RunError, Runtime, SystemCalls, Tmpfs, init_program,
};

use crate::image::{Image, output, run, start, user};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    capabilities_are_the_given_ones_and_others_than_root_have_them_in_the_bounding_set,
    a_capability_that_we_lack_is_named,
    an_added_capability_brings_its_calls,
    without_a_filter_there_is_none,
    new_privileges_are_denied_or_allowed_as_said,
    unmasked_kernel_files_are_shown_and_sys_stays_read_only,
    a_named_device_is_there_and_works,
    what_is_no_device_is_refused,
    a_read_only_root_takes_nothing_and_leaves_nothing,
    the_privileged_have_what_we_have,
    init_starts_the_command_and_ends_with_its_code,
    init_passes_signals_on_and_reaps,
];

const SETS: &str =
    "grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status | sed 's/.*\t0*\\(.\\)/\\1/' | tr '\\n' ' '";

fn confined(image: &Image, script: &str, confinement: Confinement) -> Container {
    Container { confinement, ..image.shell(script) }
}

fn named(name: &str) -> Capabilities {
    Capabilities::named(name).unwrap()
}

fn capabilities_are_the_given_ones_and_others_than_root_have_them_in_the_bounding_set(runtime: &Runtime) {
    let image = Image::new();
    let sets = "grep -E '^Cap...:' /proc/self/status | tr -d '\\tCap:' | tr '\\n' ' '";
    let (none, both) = ("0000000000000000", "0000000000001001");
    for (capabilities, uid, expected) in [
        (Capabilities::NONE, 0, [none, none, none, none, none]),
        (named("CHOWN").with(named("NET_ADMIN")), 0, [none, both, both, both, none]),
        (named("CHOWN").with(named("NET_ADMIN")), 1000, [none, none, none, both, none]),
    ] {
        let mut container = confined(&image, sets, Confinement { capabilities, ..Confinement::default() });
        container.user = user(uid, uid, &[]);
        let found = output(runtime, &container);
        let found: Vec<&str> = found.split_whitespace().map(|word| &word[word.len() - 16..]).collect();
        assert_eq!(found, expected, "{capabilities:?} {uid}");
    }
}

fn a_capability_that_we_lack_is_named(runtime: &Runtime) {
    let held = rustix::thread::capabilities(None).unwrap().permitted;
    let image = Image::new();
    for (bit, name) in Capabilities::names().enumerate() {
        let set = rustix::thread::CapabilitySet::from_bits_retain(1 << bit);
        if held.contains(set) {
            continue;
        }
        let confinement = Confinement { capabilities: named(name), ..Confinement::default() };
        let error = run(runtime, &confined(&image, "true", confinement)).unwrap_err();
        assert_eq!(error.to_string(), format!("capability `{name}` cannot be given: this process does not have it"));
    }
    let all = Confinement { capabilities: Capabilities::ALL, ..Confinement::default() };
    let sets = output(runtime, &confined(&image, "grep CapEff /proc/self/status", all));
    assert_eq!(sets, format!("CapEff:\t{:016x}", held.bits()));
}

fn an_added_capability_brings_its_calls(runtime: &Runtime) {
    let image = Image::new();
    let script = "mount -t tmpfs x /tmp && umount /tmp && echo mounted; hostname other && hostname";
    let capabilities = Capabilities::default().with(named("SYS_ADMIN"));
    let admin = Confinement { capabilities, ..Confinement::default() };
    assert_eq!(output(runtime, &confined(&image, script, admin)), "mounted\nother");
    let outcome = run(runtime, &image.shell(script)).unwrap();
    assert_eq!(outcome.stdout, "", "{outcome:?}");
}

fn without_a_filter_there_is_none(runtime: &Runtime) {
    let image = Image::new();
    for uid in [0, 1000] {
        let confinement = Confinement { system_calls: SystemCalls::Unfiltered, ..Confinement::default() };
        let mut container =
            confined(&image, "grep Seccomp: /proc/self/status; unshare -U true && echo made", confinement);
        container.user = user(uid, uid, &[]);
        assert_eq!(output(runtime, &container), "Seccomp:\t0\nmade", "{uid}");
    }
}

fn new_privileges_are_denied_or_allowed_as_said(runtime: &Runtime) {
    let image = Image::new();
    fs::create_dir(image.path("suid")).unwrap();
    // busybox gives such privileges up at once, so another program is looked at
    fs::write(image.path("suid/init"), init_program().0.contents).unwrap();
    fs::set_permissions(image.path("suid/init"), fs::Permissions::from_mode(0o4755)).unwrap();
    for (new_privileges, uid, expected) in [
        (NewPrivileges::DeniedToRoot, 0, "1 0"),
        (NewPrivileges::DeniedToRoot, 1000, "0 0"),
        (NewPrivileges::Denied, 0, "1 0"),
        (NewPrivileges::Denied, 1000, "1 1000"),
        (NewPrivileges::Allowed, 0, "0 0"),
        (NewPrivileges::Allowed, 1000, "0 0"),
    ] {
        let script = "echo $(grep NoNew /proc/self/status | tr -dc 01) $(/suid/init -- sh -c \"sed -n 's/^Uid:.[0-9]*.\\([0-9]*\\).*/\\1/p' /proc/\\$PPID/status\")";
        let confinement = Confinement { new_privileges, ..Confinement::default() };
        let mut container = confined(&image, script, confinement);
        container.user = user(uid, uid, &[]);
        assert_eq!(output(runtime, &container), expected, "{new_privileges:?} {uid}");
    }
}

fn unmasked_kernel_files_are_shown_and_sys_stays_read_only(runtime: &Runtime) {
    let image = Image::new();
    let script = "cat /proc/interrupts | wc -l | grep -vc '^0$'; grep -c ' /proc/' /proc/self/mountinfo; \
                  mkdir /sys/x 2>&1 | grep -c Read-only";
    let confinement = Confinement { kernel_files: KernelFiles::Unmasked, ..Confinement::default() };
    assert_eq!(output(runtime, &confined(&image, &format!("{script}; true"), confinement)), "1\n0\n1");
}

fn a_named_device_is_there_and_works(runtime: &Runtime) {
    let image = Image::new();
    let devices = ["/dev/zero", "/dev/deep/zero", "/mnt/zero"];
    let devices =
        devices.map(|target| Device { host: "/dev/zero".into(), target: target.to_owned() }).into_iter().collect();
    let script = "for f in /dev/zero /dev/deep/zero /mnt/zero; do head -c 3 $f | wc -c; done";
    let confinement = Confinement { devices, ..Confinement::default() };
    assert_eq!(output(runtime, &confined(&image, script, confinement)), "3\n3\n3");
    assert!(!image.path("mnt").exists());
}

fn what_is_no_device_is_refused(runtime: &Runtime) {
    let image = Image::new();
    let refused = |host: &str| {
        let devices = vec![Device { host: host.into(), target: "/dev/x".to_owned() }];
        run(runtime, &confined(&image, "true", Confinement { devices, ..Confinement::default() })).unwrap_err()
    };
    assert_eq!(refused("/etc/passwd").to_string(), "`/etc/passwd` is not a device");
    assert!(matches!(refused("/dev/surely-not-there"), RunError::Device { .. }));
}

fn a_read_only_root_takes_nothing_and_leaves_nothing(runtime: &Runtime) {
    let image = Image::new();
    let script = "for f in /x /etc/passwd /etc/hosts /bin/new; do (echo x >> $f) 2>&1 | grep -o 'Read-only.*'; done; \
                  echo x > /tmp/mine; echo x > /dev/shm/x; cat /tmp/mine /dev/shm/x /etc/hosts";
    let mut container = confined(&image, script, Confinement { rootfs: Access::ReadOnly, ..Confinement::default() });
    let tmpfs = MountSource::Tmpfs(Tmpfs::default());
    container.mounts = vec![Mount { source: tmpfs, target: "/made/../tmp".to_owned() }];
    let hosts =
        GeneratedFile { path: "/etc/hosts".to_owned(), contents: b"hosts\n".to_vec(), kind: GeneratedKind::Data };
    container.files = vec![hosts];
    let refused = "Read-only file system\n".repeat(4);
    assert_eq!(output(runtime, &container), format!("{refused}x\nx\nhosts"));
    for made in ["made", "etc/hosts", "proc", "x"] {
        assert!(!image.path(made).exists(), "{made}");
    }
}

fn the_privileged_have_what_we_have(runtime: &Runtime) {
    let image = Image::new();
    let script = format!(
        "{SETS}; echo; grep -c ' /sys/fs/cgroup rw,' /proc/self/mountinfo; find /dev -type b -o -type c | sort"
    );
    let seen = output(runtime, &confined(&image, &script, Confinement::privileged()));
    let mut lines = seen.lines();
    let held = format!("{:x}", rustix::thread::capabilities(None).unwrap().permitted.bits());
    assert_eq!(lines.next().unwrap().trim(), format!("0 {held} {held} {held} 0 0 0"));
    assert_eq!(lines.next(), Some("1"), "cgroups are writable");
    let inside: Vec<&str> = lines.collect();
    for entry in fs::read_dir("/dev").unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        let path = entry.path();
        if (kind.is_char_device() || kind.is_block_device()) && path != Path::new("/dev/console") {
            assert!(
                path == Path::new("/dev/ptmx") || inside.contains(&&*path.to_string_lossy()),
                "{path:?} {inside:?}"
            );
        }
    }
    if runtime.privilege() == Privilege::Root {
        let script =
            "mknod /tmp/zero c 1 5 && head -c 2 /tmp/zero | wc -c; echo 1 > /proc/sys/net/ipv4/ip_forward && echo set";
        assert_eq!(output(runtime, &confined(&image, script, Confinement::privileged())), "2\nset");
    }
}

fn with_init(image: &Image, args: &[&str]) -> Container {
    let mut container = image.container(args);
    let (program, words) = init_program();
    container.files.push(program);
    container.args.splice(0..0, words);
    container
}

fn init_starts_the_command_and_ends_with_its_code(runtime: &Runtime) {
    let image = Image::new();
    for (args, code, stdout, stderr) in [
        (&["sh", "-c", "echo $$ $PPID; cat /proc/1/comm; exit 7"][..], 7, "2 1\ndocker-init\n", ""),
        (&["sh", "-c", "kill -TERM $$"], 143, "", ""),
        (&["/bin/sh", "-c", "grep SigBlk /proc/self/status | tr -d '\\t'"], 0, "SigBlk:0000000000000000\n", ""),
        (&["figlet"], 127, "", "docker-init: cannot run `figlet`: no such file\n"),
        (&["/etc/passwd"], 126, "", "docker-init: cannot run `/etc/passwd`: permission denied\n"),
        (&[], 127, "", "docker-init: usage: docker-init -- COMMAND [ARGUMENT]...\n"),
    ] {
        let outcome = run(runtime, &with_init(&image, args)).unwrap();
        let found = (outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str());
        assert_eq!(found, (ExitStatus::Code(code), stdout, stderr), "{args:?}");
    }
    assert!(!image.path("sbin").exists());
}

fn init_passes_signals_on_and_reaps(runtime: &Runtime) {
    let image = Image::new();
    // the grandchild is orphaned; the shell waits until process 1 has reaped it, and then for the signal
    let script = "trap 'echo caught; exit 5' USR1; orphan=$(sh -c 'sleep 0 >/dev/null & echo $!'); \
                  while test -e /proc/$orphan; do :; done; echo up; while true; do read -r line || exit 9; done";
    let mut started = start(runtime, &with_init(&image, &["sh", "-c", script])).unwrap();
    let mut up = [0; 3];
    started.stdout.read_exact(&mut up).unwrap();
    started.running.signal(10).unwrap();
    assert_eq!(started.running.wait().unwrap(), ExitStatus::Code(5));
    let mut rest = String::new();
    started.stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "caught\n");
    drop(started.stdin.flush());
    // who ignores nothing dies by the default action, since it is not process 1
    let started = start(runtime, &with_init(&image, &["sh", "-c", "echo up; exec sleep 1000"])).unwrap();
    let (mut running, mut stdout) = (started.running, started.stdout);
    stdout.read_exact(&mut up).unwrap();
    running.signal(15).unwrap();
    assert_eq!(running.wait().unwrap(), ExitStatus::Code(143));
}
