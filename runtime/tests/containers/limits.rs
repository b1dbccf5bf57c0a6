//! What a container may take: limits are kept, told when they are hit, and leave nothing behind.
//!
//! Only root can always make cgroups; what a user without one gets is in `unprivileged.rs`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};

use runtime::{
    Bound, CpuQuota, ExitStatus, IoKind, IoRate, Limit, LimitHit, Limits, PidsLimit, Privilege, RunError, Runtime,
};

use crate::image::{Image, output, run, start};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_fork_bomb_ends_and_the_limit_is_told,
    a_process_that_takes_too_much_memory_is_killed_and_the_limit_told,
    a_process_that_is_killed_otherwise_ran_into_no_limit,
    settings_are_in_the_cgroup_while_the_container_runs,
    a_limit_that_the_kernel_refuses_is_an_error,
    a_container_sees_its_cgroups_as_roots,
    limits_of_each_process_and_of_shm_are_seen_inside,
    a_ulimit_above_ours_is_an_error_that_names_it,
    no_cgroup_is_left_of_a_container,
    the_next_command_removes_what_a_killed_one_left,
];

pub(crate) fn may_limit(runtime: &Runtime) -> bool {
    if runtime.privilege() != Privilege::Root {
        println!("  (only root can always make cgroups)");
    }
    runtime.privilege() == Privilege::Root
}

/// Finds the cgroups that the process with this number has made.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    fn search(directory: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    found.push(entry.path());
                }
                search(&entry.path(), prefix, found);
            }
        }
    }
    let mut found = Vec::new();
    search(Path::new("/sys/fs/cgroup"), &format!("wharf-{pid}-"), &mut found);
    found
}

/// Runs a script under limits; returns how it ended, and the limit that it hit.
fn hit(runtime: &Runtime, script: &str, limits: Limits) -> (ExitStatus, Option<LimitHit>) {
    let image = Image::new();
    let mut container = image.shell(script);
    container.limits = limits;
    let mut started = start(runtime, &container).unwrap();
    drop(started.stdin);
    started.stdout.read_to_end(&mut Vec::new()).unwrap();
    (started.running.wait().unwrap(), started.running.limit_hit())
}

fn pids(pids: PidsLimit) -> Limits {
    Limits { pids, ..Limits::default() }
}

fn memory(memory: u64) -> Limits {
    Limits { memory: Some(memory), ..Limits::default() }
}

fn a_fork_bomb_ends_and_the_limit_is_told(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let bomb = "f() { f | f & }; f; i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done";
    for limit in [PidsLimit::Required(50), PidsLimit::WherePossible(50)] {
        let (status, told) = hit(runtime, bomb, pids(limit));
        assert_ne!(status, ExitStatus::Code(0));
        assert_eq!(told, Some(LimitHit::Pids { limit: 50 }));
    }
    assert_eq!(hit(runtime, "true & wait", pids(PidsLimit::Required(2))), (ExitStatus::Code(0), None));
}

fn a_process_that_takes_too_much_memory_is_killed_and_the_limit_told(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let (hog, told) = ("x=a; while true; do x=$x$x; done", Some(LimitHit::Memory { limit: 16 << 20 }));
    assert_eq!(hit(runtime, hog, memory(16 << 20)), (ExitStatus::Signal(9), told));
    // the command itself goes on
    let survived = format!("sh -c '{hog}'; test $? = 137");
    assert_eq!(hit(runtime, &survived, memory(16 << 20)), (ExitStatus::Code(0), told));
    assert_eq!(hit(runtime, "true", memory(16 << 20)), (ExitStatus::Code(0), None));
}

fn a_process_that_is_killed_otherwise_ran_into_no_limit(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let killed = hit(runtime, "sh -c 'kill -9 $$'; exit $?", memory(16 << 20));
    assert_eq!(killed, (ExitStatus::Code(137), None));
}

fn settings_are_in_the_cgroup_while_the_container_runs(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let image = Image::new();
    let mut container = image.container(&["cat"]);
    container.limits = Limits {
        memory: Some(64 << 20),
        memory_and_swap: Some(Bound::AtMost(80 << 20)),
        memory_reservation: Some(32 << 20),
        cpu: Some(CpuQuota { quota: Bound::AtMost(50_000), period: 100_000 }),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".parse().unwrap()),
        pids: PidsLimit::Required(77),
        ..Limits::default()
    };
    let mut started = start(runtime, &container).unwrap();
    let directories = cgroups_of(std::process::id());
    let read = |file: &str| {
        let found = directories.iter().find_map(|directory| fs::read_to_string(directory.join(file)).ok());
        found.map(|text| text.trim().to_owned())
    };
    for (one, two) in [
        (("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864")),
        (("memory.memsw.limit_in_bytes", "83886080"), ("memory.swap.max", "16777216")),
        (("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")),
        (("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000")),
        (("cpu.shares", "512"), ("cpu.weight", "59")),
        (("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        (("pids.max", "77"), ("pids.max", "77")),
        (("pids.current", "1"), ("pids.current", "1")),
    ] {
        let expected = if read(one.0).is_some() { one } else { two };
        assert_eq!(read(expected.0).as_deref(), Some(expected.1), "{} in {directories:?}", expected.0);
    }
    drop(started.stdin);
    assert_eq!(started.running.wait().unwrap(), ExitStatus::Code(0));
}

fn a_limit_that_the_kernel_refuses_is_an_error(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let image = Image::new();
    let mut container = image.container(&["true"]);
    container.limits.cpuset_cpus = Some("100000".parse().unwrap());
    let error = run(runtime, &container).unwrap_err();
    assert!(matches!(error, RunError::Limit { limit: Limit::CpusetCpus, .. }), "{error:?}");
    assert_eq!(error.to_string(), "cannot limit the CPUs");
    container.limits = Limits::default();
    container.limits.io_rates = vec![IoRate { device: "/dev/null".into(), kind: IoKind::WriteBytes, rate: 1 << 20 }];
    let error = run(runtime, &container).unwrap_err();
    assert!(matches!(error, RunError::Limit { limit: Limit::IoRate, .. }), "{error:?}");
    assert!(cgroups_of(std::process::id()).is_empty());
}

fn a_container_sees_its_cgroups_as_roots(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let image = Image::new();
    let mut container = image.shell("cat /proc/self/cgroup");
    container.limits = memory(64 << 20);
    let seen = output(runtime, &container);
    assert!(seen.lines().count() > 0 && seen.lines().all(|line| line.ends_with(":/")), "{seen}");
}

fn limits_of_each_process_and_of_shm_are_seen_inside(runtime: &Runtime) {
    let image = Image::new();
    let script =
        "ulimit -n; ulimit -Hn; ulimit -c; ulimit -u; stat -f -c '%b*%S' /dev/shm; cat /proc/self/oom_score_adj";
    let mut container = image.shell(script);
    let ours = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let seen = output(runtime, &container);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!((lines[0], lines[2], lines[4], lines[5]), ("1024", "0", "16384*4096", ours.trim()), "{seen}");
    container.limits.ulimits = ["nofile=100:200", "nproc=300"].map(|text| text.parse().unwrap()).to_vec();
    container.limits.shm_size = Some(1 << 20);
    container.limits.oom_score = Some(500);
    assert_eq!(output(runtime, &container), "100\n200\n0\n300\n256*4096\n500");
}

fn a_ulimit_above_ours_is_an_error_that_names_it(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.container(&["true"]);
    // more than any kernel gives to anybody
    let text = format!("nofile={0}:{0}", 1_u64 << 40);
    container.limits.ulimits = vec!["core=0".parse().unwrap(), text.parse().unwrap()];
    let error = run(runtime, &container).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot set the ulimit `{text}`: the hard limit of this process is ")),
        "{error}"
    );
}

fn no_cgroup_is_left_of_a_container(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let image = Image::new();
    let ours = || cgroups_of(std::process::id());
    let mut container = image.shell("sleep 1000 & exit 3");
    container.limits = memory(64 << 20);
    assert_eq!(run(runtime, &container).unwrap().status, ExitStatus::Code(3));
    assert!(ours().is_empty(), "{:?}", ours());
    assert!(run(runtime, &image.container(&["nosuch"])).is_err());
    assert!(ours().is_empty(), "{:?}", ours());
    let started = start(runtime, &image.shell("sleep 1000")).unwrap();
    assert_eq!(ours().len(), 1, "{:?}", ours());
    drop(started);
    assert!(ours().is_empty(), "{:?}", ours());
}

fn the_next_command_removes_what_a_killed_one_left(runtime: &Runtime) {
    if !may_limit(runtime) {
        return;
    }
    let image = Image::new();
    let hold = |command: &[&str]| {
        let mut holder = Command::new(std::env::current_exe().unwrap());
        holder.arg("--hold").arg(image.root()).args(command).stdin(ProcessStdio::null()).stdout(ProcessStdio::piped());
        holder.spawn().unwrap()
    };
    let mut killed = hold(&["sh", "-c", "echo up; sleep 1000"]);
    let mut output = killed.stdout.take().unwrap();
    output.read_exact(&mut [0; 3]).unwrap();
    let made = cgroups_of(killed.id());
    assert_eq!(made.len(), 1, "{made:?}");
    let inode = fs::metadata(&made[0]).unwrap().ino();
    killed.kill().unwrap();
    killed.wait().unwrap();
    output.read_to_end(&mut Vec::new()).unwrap();
    assert!(!hold(&["true"]).wait_with_output().unwrap().status.success(), "the role always ends so");
    assert!(fs::metadata(&made[0]).map_or(true, |metadata| metadata.ino() != inode), "{made:?}");
}
