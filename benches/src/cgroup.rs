//! Groups of processes that are accounted together: cgroups of version 1, `cpuacct` and `memory`.
//!
//! ```text
//! wharf-bench-<inode of the work directory>/   in both hierarchies
//!   docker/                                    what a peer used is read here, so nothing that it starts is missed
//!     daemon/  client/  containers/
//!   wharf/
//!     client/
//! ```
//!
//! The CPU time of a group is that of its processes and of those that have ended, in it and below. A process is started in
//! a group by this process going there and back, as only that needs neither a helper program nor unsafe code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A group, which is removed by [`Cgroup::clear`].
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    /// Where the hierarchies are.
    root: PathBuf,
    /// The hierarchies in which processes are put into the group: `cpuacct`, and `memory` where there is one of version 1.
    accounted: Vec<&'static str>,
    /// Its path in every hierarchy.
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group `name` in the hierarchies below `root`, which is `/sys/fs/cgroup`. What a killed run has left in it
    /// ends.
    ///
    /// # Errors
    ///
    /// When there is no `cpuacct` hierarchy, or no right to write there.
    pub(crate) fn create(root: &Path, name: &str) -> anyhow::Result<Self> {
        if !root.join("cpuacct/cpuacct.usage").exists() {
            bail!("`{}` has no cpuacct hierarchy (cgroup version 1), which the CPU time is read from", root.display());
        }
        let has_memory = root.join("memory/memory.stat").exists();
        let accounted = if has_memory { vec!["cpuacct", "memory"] } else { vec!["cpuacct"] };
        let group = Self { root: root.to_owned(), accounted, path: PathBuf::from(name) };
        group.clear()?;
        group.make()?;
        Ok(group)
    }

    /// Makes a group in this one.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn child(&self, name: &str) -> anyhow::Result<Self> {
        let child = Self { path: self.path.join(name), ..self.clone() };
        child.make()?;
        Ok(child)
    }

    /// Its path, as programs take it for `--cgroup-parent`.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.path.display())
    }

    /// Calls `start` while this process is in the group, so that what it starts is in the group.
    ///
    /// # Errors
    ///
    /// When this process may not go there or back, and what `start` returns.
    pub(crate) fn enter<T>(&self, start: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let home = fs::read_to_string("/proc/self/cgroup").context("cannot read `/proc/self/cgroup`")?;
        self.accounted.iter().try_for_each(|controller| go_to(&self.root.join(controller).join(&self.path)))?;
        let started = start();
        for controller in &self.accounted {
            go_to(&self.root.join(controller).join(path_in(&home, controller).trim_start_matches('/')))?;
        }
        started
    }

    /// The CPU time that was spent in the group and below, so far.
    ///
    /// # Errors
    ///
    /// When the group is gone.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let path = self.root.join("cpuacct").join(&self.path).join("cpuacct.usage");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let nanoseconds = text.trim().parse().with_context(|| format!("`{}` is no number", path.display()))?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The bytes of memory that no file backs, of all processes in the group and below, now.
    pub(crate) fn anonymous_memory(&self) -> Option<u64> {
        let statistics = fs::read_to_string(self.root.join("memory").join(&self.path).join("memory.stat")).ok()?;
        let line = statistics.lines().find_map(|line| line.strip_prefix("total_rss "))?;
        line.parse().ok()
    }

    /// Kills every process in the group and below.
    pub(crate) fn kill(&self) {
        for hierarchy in self.accounted.iter().map(|controller| self.root.join(controller)) {
            for directory in directories(&hierarchy.join(&self.path)) {
                let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                let pids = processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
                for pid in pids.filter(|pid| *pid != rustix::process::getpid()) {
                    // One that has ended meanwhile is what is wanted.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
        }
    }

    /// Kills what is in the group, and removes it with those below, also in the hierarchies where only a peer has made it.
    ///
    /// # Errors
    ///
    /// When a process does not end.
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        for _ in 0..200 {
            self.kill();
            if self.everywhere().iter().all(|group| remove(group)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("processes in the cgroup `{}` do not end", self.path())
    }

    fn make(&self) -> anyhow::Result<()> {
        self.accounted.iter().map(|controller| self.root.join(controller).join(&self.path)).try_for_each(|directory| {
            fs::create_dir_all(&directory).with_context(|| format!("cannot make the cgroup `{}`", directory.display()))
        })
    }

    /// Its directory in every hierarchy that there is, whether it is there or not.
    fn everywhere(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir(&self.root).into_iter().flatten().flatten();
        hierarchies.map(|hierarchy| hierarchy.path().join(&self.path)).collect()
    }
}

fn go_to(directory: &Path) -> anyhow::Result<()> {
    let processes = directory.join("cgroup.procs");
    fs::write(&processes, "0").with_context(|| format!("cannot write `{}`", processes.display()))
}

/// The path of a process in the hierarchy of `controller`, of the text of its `/proc/PID/cgroup`.
fn path_in<'a>(text: &'a str, controller: &str) -> &'a str {
    let lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let mut paths = lines.filter(|(controllers, _)| controllers.split(',').any(|one| one == controller));
    paths.next().map_or("/", |(_, path)| path)
}

/// Removes a group with those below it, and says whether it is gone.
fn remove(group: &Path) -> bool {
    directories(group).iter().all(|directory| fs::remove_dir(directory).is_ok())
}

/// A directory and those below, the deepest first; none if it is not there.
fn directories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return vec![] };
    let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.flat_map(|entry| directories(&entry.path())).chain([directory.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchies() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in ["cpuacct/cpuacct.usage", "memory/memory.stat"] {
            fs::create_dir_all(root.path().join(file).parent().unwrap()).unwrap();
            fs::write(root.path().join(file), "0\n").unwrap();
        }
        root
    }

    #[test]
    fn cpu_time_and_memory_are_read_from_the_group() {
        let root = hierarchies();
        let group = Cgroup::create(root.path(), "bench").unwrap().child("docker").unwrap();
        assert_eq!(group.path(), "/bench/docker");
        fs::write(root.path().join("cpuacct/bench/docker/cpuacct.usage"), "2500000000\n").unwrap();
        fs::write(root.path().join("memory/bench/docker/memory.stat"), "rss 1\ntotal_cache 9\ntotal_rss 4096\n")
            .unwrap();
        assert_eq!(group.cpu_time().unwrap(), Duration::from_millis(2500));
        assert_eq!(group.anonymous_memory(), Some(4096));
    }

    #[test]
    fn a_cleared_group_is_gone_from_every_hierarchy() {
        let root = hierarchies();
        let group = Cgroup::create(root.path(), "bench").unwrap();
        group.child("docker").unwrap();
        fs::create_dir_all(root.path().join("pids/bench/docker/containers")).unwrap();
        group.clear().unwrap();
        for hierarchy in ["cpuacct", "memory", "pids"] {
            assert!(root.path().join(hierarchy).exists() && !root.path().join(hierarchy).join("bench").exists());
        }
    }

    #[test]
    fn without_a_memory_controller_there_is_no_figure_of_memory() {
        let root = hierarchies();
        fs::remove_file(root.path().join("memory/memory.stat")).unwrap();
        let group = Cgroup::create(root.path(), "bench").unwrap();
        assert_eq!(group.anonymous_memory(), None);
    }

    #[test]
    fn a_machine_without_cpuacct_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let error = Cgroup::create(root.path(), "bench").unwrap_err().to_string();
        assert!(error.contains("has no cpuacct hierarchy"), "{error}");
    }

    #[test]
    fn the_way_home_is_found_also_where_controllers_share_a_hierarchy() {
        let text = "4:memory:/process/7\n2:cpu,cpuacct:/slice\n0::/\n";
        assert_eq!(
            [path_in(text, "cpuacct"), path_in(text, "memory"), path_in(text, "pids")],
            ["/slice", "/process/7", "/"]
        );
    }
}
