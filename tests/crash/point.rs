//! The points at which a command can be broken off: its system calls that change the store.
//!
//! strace counts each system call by itself, in each thread by itself: a point is the N-th call of one name, in whichever thread
//! gets so far first. An undisturbed run tells which N there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use test_support::{Output, TestEnv};

/// Calls that change files, or wait for others.
const CALLS: &str = "openat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,write,pwrite64,copy_file_range,link,\
                     linkat,symlink,symlinkat,mknodat,flock,fsync,fdatasync,syncfs,ftruncate,mount,umount2,chmod,fchmod,\
                     fchmodat,fchownat,fchown,utimensat,setxattr,lsetxattr";

/// The N-th system call of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) number: u32,
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// The process is killed.
    Kill,
    /// The disk is full, for this call.
    DiskFull,
}

impl Breach {
    /// Tells whether the call, as a line of strace, can end so.
    fn can_strike(self, call: &str, line: &str) -> bool {
        match (self, call) {
            (_, "openat") => line.contains("O_CREAT"),
            (Self::Kill, _) => true,
            (Self::DiskFull, "unlink" | "unlinkat" | "rmdir" | "flock" | "umount2" | "mount") => false,
            (Self::DiskFull, _) => !call.contains("chmod") && !call.contains("chown") && call != "utimensat",
        }
    }
}

/// Runs the command undisturbed, and returns the points at which it touches the store.
pub(crate) fn points(env: &TestEnv, arguments: &[&str], breach: Breach) -> Vec<Point> {
    let log = env.home().join("strace");
    let trace = format!("trace={CALLS}");
    let path = log.to_str().expect("temporary directories have plain names");
    env.wharf_under(&["strace", "-f", "-qq", "-y", "-o", path, "-e", &trace], arguments).success();
    let log = std::fs::read_to_string(&log).expect("strace has written it");
    of_log(&log, &env.store(), breach)
}

fn of_log(log: &str, store: &Path, breach: Breach) -> Vec<Point> {
    let store = store.to_str().expect("temporary directories have plain names");
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let (mut points, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        let number = counts.entry((thread, call)).or_default();
        *number += 1;
        let point = Point { call: call.to_owned(), number: *number };
        if !line.contains(store) {
            elsewhere.insert(point);
        } else if breach.can_strike(call, line) {
            points.insert(point);
        }
    }
    // a pipe or an event of another thread is never full as a disk is
    if breach == Breach::DiskFull {
        points.retain(|point| !elsewhere.contains(point));
    }
    points.into_iter().collect()
}

/// Runs the command and breaks it off at the point; tells too whether the call that failed was one on the store.
///
/// Another thread may get to its N-th call first, on a pipe or an event, which no full disk makes fail.
pub(crate) fn breach(env: &TestEnv, arguments: &[&str], point: &Point, breach: Breach) -> (Output, bool) {
    let Point { call, number } = point;
    let log = env.home().join("strace");
    let path = log.to_str().expect("temporary directories have plain names");
    let trace = format!("trace={call}");
    let inject = match breach {
        Breach::Kill => format!("inject={call}:signal=SIGKILL:when={number}"),
        Breach::DiskFull => format!("inject={call}:error=ENOSPC:when={number}"),
    };
    let output = env.wharf_under(&["strace", "-f", "-qq", "-y", "-o", path, "-e", &trace, "-e", &inject], arguments);
    let log = std::fs::read_to_string(&log).expect("strace has written it");
    let store = env.store().display().to_string();
    let mut struck = log.lines().filter(|line| line.ends_with("(INJECTED)")).peekable();
    let is_on_store = struck.peek().is_some() && struck.all(|line| line.contains(&store));
    (output, is_on_store)
}
