//! What commands have left on this machine: processes, mounts, cgroups, files of the store.
//!
//! Tests run at the same time as others' containers, so only what belongs to one [`TestEnv`] counts:
//!
//! | | is of this environment if |
//! |---|---|
//! | process | its environment names the environment's directory: that of a command does by `WHARF_ROOT`, that of a container by [`mark`](TestEnv::mark) |
//! | mount in the namespace of the tests | its line names that directory |
//! | cgroup of any hierarchy | its name has the process id of one of the commands |
//! | file in the store's `tmp/` and `leases/` | always; the lock and partial downloads are meant to stay |

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::TestEnv;

/// Long enough for the kernel to end what it has been told to end.
const PATIENCE: Duration = Duration::from_secs(20);

impl TestEnv {
    /// Returns an `ENV` entry for images, by which the processes of their containers are known.
    pub fn mark(&self) -> String {
        format!("WHARF_TEST={}", self.store().display())
    }

    /// Lists the processes of this environment: those of commands, and of containers whose image has the mark.
    pub fn processes(&self) -> Vec<String> {
        processes(&self.store())
    }

    /// Waits until no process and no mount of this environment is left: all that may be left of a command that was killed is files.
    ///
    /// # Panics
    ///
    /// When something is left for good.
    #[track_caller]
    pub fn no_process_is_left(&self) {
        let start = Instant::now();
        loop {
            let left = [self.processes(), mounts(&self.store())].concat();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "left: {left:#?}");
            thread::yield_now();
        }
    }

    /// Checks that nothing at all is left of the commands with these process ids.
    ///
    /// # Panics
    ///
    /// When something is left.
    #[track_caller]
    pub fn nothing_is_left(&self, commands: &[u32]) {
        self.no_process_is_left();
        let left = [cgroups(commands), unfinished(&self.store())].concat();
        assert!(left.is_empty(), "left: {left:#?}");
    }
}

/// Lists processes whose environment names `directory`.
fn processes(directory: &Path) -> Vec<String> {
    let named = directory.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").expect("/proc can be read").flatten();
    let is_ours = |process: &fs::DirEntry| {
        // one that has ended meanwhile has none
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.windows(named.len()).any(|part| part == named)
    };
    let shown = |process: fs::DirEntry| {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        format!("process {}: {}", process.path().display(), String::from_utf8_lossy(&words).replace('\0', " "))
    };
    processes.filter(is_ours).map(shown).collect()
}

fn mounts(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts can be read");
    let named = directory.to_str().expect("temporary directories have plain names");
    mounts.lines().filter(|line| line.contains(named)).map(|line| format!("mount {line}")).collect()
}

fn cgroups(commands: &[u32]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(directory) = rest.pop() {
        // one that somebody has removed meanwhile is nobody's
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if commands.iter().any(|pid| name.starts_with(&format!("wharf-{pid}-"))) {
                found.push(format!("cgroup {}", entry.path().display()));
            }
            rest.push(entry.path());
        }
    }
    found
}

fn unfinished(store: &Path) -> Vec<String> {
    let entries = |name: &str| fs::read_dir(store.join(name)).into_iter().flatten().flatten();
    let left = entries("tmp").chain(entries("leases")).filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name != "lock" && !name.starts_with("partial-")
    });
    left.map(|entry| format!("file {}", entry.path().display())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_found() {
        let env = TestEnv::new("/bin/sleep");
        let mut child = env.command().arg("1000").spawn().unwrap();
        fs::create_dir_all(env.store().join("tmp/1-ab")).unwrap();
        fs::create_dir_all(env.store().join("leases")).unwrap();
        fs::write(env.store().join("leases/lock"), "").unwrap();
        assert!(env.processes()[0].ends_with(": /bin/sleep 1000 "), "{:?}", env.processes());
        assert_eq!(unfinished(&env.store()), [format!("file {}", env.store().join("tmp/1-ab").display())]);
        child.kill().unwrap();
        child.wait().unwrap();
        env.no_process_is_left();
        assert!(!mounts(Path::new("/proc")).is_empty());
    }
}
