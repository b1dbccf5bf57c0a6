//! What a command may do: capabilities, filter, masks, limits, users.

use std::path::Path;

use runtime::Runtime;

use crate::image::{Image, check, output, run, user};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    root_has_ten_capabilities_a_filter_and_no_new_privileges,
    another_user_has_no_capability_but_may_gain_privileges,
    groups_are_exactly_the_given_ones,
    kernel_files_are_hidden,
    kernel_files_are_read_only,
    cgroups_are_visible_and_read_only,
    namespaces_and_mounts_are_refused,
    limits_are_set,
    the_own_binary_cannot_be_run,
];

const STATUS: &str = "grep -E '^(Cap...|NoNewPrivs|Seccomp|Seccomp_filters|Groups):' /proc/self/status | tr '\\t' ' '";

fn root_has_ten_capabilities_a_filter_and_no_new_privileges(runtime: &Runtime) {
    check(
        runtime,
        STATUS,
        "Groups: 0 \nCapInh: 0000000000000000\nCapPrm: 00000000800404fb\nCapEff: 00000000800404fb\n\
         CapBnd: 00000000800404fb\nCapAmb: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\nSeccomp_filters: 1",
    );
}

fn another_user_has_no_capability_but_may_gain_privileges(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.shell(STATUS);
    container.user = user(1000, 1000, &[2000]);
    assert_eq!(
        output(runtime, &container),
        "Groups: 1000 2000 \nCapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n\
         CapBnd: 00000000800404fb\nCapAmb: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 2\nSeccomp_filters: 1"
    );
}

fn groups_are_exactly_the_given_ones(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.shell("id -u; id -g; id -G");
    for (user, expected) in [
        (user(0, 0, &[]), "0\n0\n0"),
        (user(1000, 1000, &[]), "1000\n1000\n1000"),
        (user(7, 8, &[9, 8, 10]), "7\n8\n8 9 10"),
    ] {
        container.user = user;
        assert_eq!(output(runtime, &container), expected);
    }
}

const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

fn kernel_files_are_hidden(runtime: &Runtime) {
    let image = Image::new();
    let here: Vec<&&str> = HIDDEN.iter().filter(|path| Path::new(path).exists()).collect();
    assert!(here.len() > 5, "{here:?}");
    for path in here {
        let shown =
            output(runtime, &image.shell(&format!("if test -d {path}; then ls -A {path}; else cat {path}; fi")));
        assert_eq!(shown, "", "{path}");
    }
}

fn kernel_files_are_read_only(runtime: &Runtime) {
    let image = Image::new();
    let files =
        ["/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger", "/sys/kernel/profiling"];
    for path in files.into_iter().filter(|path| Path::new(path).exists()) {
        let outcome = run(runtime, &image.shell(&format!("echo 1 > {path}"))).unwrap();
        assert!(outcome.stderr.contains("Read-only file system"), "{path}: {outcome:?}");
    }
    for path in ["/sys", "/sys/firmware", "/sys/fs/cgroup"] {
        let outcome = run(runtime, &image.shell(&format!("mkdir {path}/new"))).unwrap();
        assert!(outcome.stderr.contains("Read-only file system"), "{path}: {outcome:?}");
    }
    let mounts = output(runtime, &image.container(&["cat", "/proc/self/mountinfo"]));
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"] {
        let mount = mounts.lines().find(|line| line.contains(&format!(" {path} "))).unwrap();
        assert!(mount.contains(&format!(" {path} ro,")), "{mount}");
    }
}

fn cgroups_are_visible_and_read_only(runtime: &Runtime) {
    check(
        runtime,
        "test -e /sys/fs/cgroup/cgroup.procs && echo there; mkdir /sys/fs/cgroup/x 2>&1 | grep -c 'Read-only'; \
         grep -c ':/$' /proc/self/cgroup | grep -vc '^0$'",
        "there\n1\n1",
    );
}

fn namespaces_and_mounts_are_refused(runtime: &Runtime) {
    check(
        runtime,
        "unshare -U true 2>&1 | grep -c 'not permitted'; mount -t tmpfs x /tmp 2>&1 | grep -c -E 'permi'; \
         umount /proc 2>&1 | grep -c -E 'permi|Permi'; hostname other 2>&1 | grep -c 'permi'",
        "1\n1\n1\n1",
    );
}

fn limits_are_set(runtime: &Runtime) {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX).min(524_288);
    let soft = hard.min(1024);
    check(runtime, "ulimit -Sn; ulimit -Hn; ulimit -Hc; umask", &format!("{soft}\n{hard}\n0\n0022"));
}

fn the_own_binary_cannot_be_run(runtime: &Runtime) {
    let image = Image::new();
    std::os::unix::fs::symlink("/proc/self/exe", image.path("bin/sneaky")).unwrap();
    std::fs::write(image.path("bin/script"), "#!/proc/self/exe\n").unwrap();
    std::fs::write(image.path("bin/nested"), "#! /bin/script x\n").unwrap();
    for name in ["bin/script", "bin/nested"] {
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(image.path(name), executable).unwrap();
    }
    for command in ["/proc/self/exe", "/proc/1/exe", "sneaky", "script", "/bin/nested"] {
        let mut container = image.container(&[command]);
        let error = run(runtime, &container).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot run `{command}`: permission denied"));
        // so few that no script can be looked into
        container.limits.ulimits = vec!["nofile=4".parse().unwrap()];
        let error = run(runtime, &container).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot run `{command}`: permission denied"));
    }
}
