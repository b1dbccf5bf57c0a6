//! Limits of `run` and `build`: what the command sees, and what people are told when a limit is hit.
//!
//! Only root can always make cgroups; `cli_rootless.rs` has what others are told.

use test_support::{Auth, Registry, TestEnv, images};

/// Ends only by the limit of memory.
const HOG: &str = "x=a; while true; do x=$x$x; done";

/// An environment whose store has the image `box`: busybox; nothing for who may make no cgroups.
fn with_box() -> Option<TestEnv> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", format!("FROM {}/demo/base:1\nLABEL a=b\n", registry.address()));
    env.wharf(&["build", "-q", "-t", "box", "."]).success();
    Some(env)
}

#[test]
fn a_container_that_runs_out_of_memory_says_so() {
    let Some(env) = with_box() else { return };
    let killed = env.wharf(&["run", "--rm", "-m", "16m", "box", "sh", "-c", HOG]).exits_with(137);
    let expected = "wharf: the container ran out of memory (limit 16 MiB): the kernel killed a process of it\n";
    assert_eq!((killed.stdout.as_str(), killed.stderr.as_str()), ("", expected));
}

#[test]
fn a_container_that_starts_too_many_processes_says_so() {
    let Some(env) = with_box() else { return };
    let script = "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i+1)); done";
    let failed = env.wharf(&["run", "--rm", "--pids-limit", "10", "box", "sh", "-c", script]).exits_with(2);
    let expected = "wharf: the container reached its limit of 10 processes: starting more failed\n";
    assert!(failed.stderr.ends_with(expected), "{}", failed.stderr);
    env.wharf(&["run", "--rm", "--pids-limit", "-1", "box", "sh", "-c", script]).success();
}

#[test]
fn a_step_that_hits_a_limit_says_so_and_limits_are_no_part_of_the_cache_key() {
    let Some(env) = with_box() else { return };
    env.file("Dockerfile", format!("FROM box\nRUN ulimit -n > /n && ulimit -Hn >> /n\nRUN {HOG}\n"));
    let flags = ["build", "--memory", "16m", "--ulimit", "nofile=100:200", "-t", "app", "."];
    let failed = env.wharf(&flags).exits_with(1).stderr;
    let cause = "\n  caused by: the container ran out of memory (limit 16 MiB): the kernel killed a process of it\n\
                 hint: give the steps more with `--memory SIZE`, or leave it out\n";
    assert!(failed.contains(cause), "{failed}");
    env.file("Dockerfile", "FROM box\nRUN ulimit -n > /n && ulimit -Hn >> /n\n");
    let cached = env.wharf(&["build", "--memory", "64m", "--pids-limit", "9", "-t", "app", "."]).success().stderr;
    assert!(cached.contains(" CACHED\n"), "{cached}");
    assert_eq!(env.wharf(&["run", "--rm", "app", "cat", "/n"]).success().stdout, "100\n200\n");
}

#[test]
fn limits_that_make_no_sense_are_refused_before_anything_is_done() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    let refused = env.wharf(&["run", "--rm", "-m", "1m", "nosuch"]).exits_with(125).stderr;
    assert_eq!(refused, "error: minimum memory limit allowed is 6MB\n");
    let refused = env.wharf(&["build", "--ulimit", "nofile=2:1", "."]).exits_with(125).stderr;
    assert!(refused.contains("the soft limit is above the hard one"), "{refused}");
    assert!(!env.store().join("layers").exists(), "a store was made");
}
