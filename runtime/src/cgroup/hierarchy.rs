//! Finds the cgroup hierarchies, and where in each this process is, from what the kernel tells of its mounts.
//!
//! | machine | `/proc/self/cgroup` | mounts |
//! |---|---|---|
//! | version 2 (unified) | `0::/path` | one `cgroup2` |
//! | version 1 | one line for each hierarchy, with its controllers | a `cgroup` for each |
//! | hybrid | both; a controller is in one of them | both |
//!
//! A mount may show only a part of a hierarchy (its root), and the process may be deep in it, so both are put together.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::settings::Controller;

/// Which of the kernel's two interfaces a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// A hierarchy that this process can see its place in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: Version,
    /// Of version 1; those of version 2 are in its files.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// The directory of the cgroup that this process is in.
    pub(crate) own: PathBuf,
}

impl Hierarchy {
    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.controllers.iter().any(|known| known == controller.name(self.version))
    }
}

/// Reads `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(crate) fn parse(mountinfo: &str, memberships: &str) -> Vec<Hierarchy> {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    memberships.lines().filter_map(|line| hierarchy(line, &mounts)).collect()
}

/// One line `ID:CONTROLLERS:PATH`, whose mount is the first that shows the path.
fn hierarchy(line: &str, mounts: &[Mount]) -> Option<Hierarchy> {
    let mut fields = line.splitn(3, ':');
    let (id, controllers, path) = (fields.next()?, fields.next()?, Path::new(fields.next()?));
    let version = if id == "0" && controllers.is_empty() { Version::Two } else { Version::One };
    let controllers: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    mounts.iter().filter(|mount| mount.version == version).find_map(|mount| {
        let holds_all = controllers.iter().all(|name| mount.options.contains(name));
        let below = path.strip_prefix(&mount.root).ok().filter(|_| holds_all)?;
        // outside of the cgroup namespace: `/../…`
        if below.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let own = if below.as_os_str().is_empty() { mount.point.clone() } else { mount.point.join(below) };
        Some(Hierarchy { version, controllers: controllers.clone(), mount: mount.point.clone(), own })
    })
}

struct Mount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
    options: Vec<String>,
}

impl Mount {
    /// Spec: proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Self> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let version = match filesystem.next()? {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => return None,
        };
        let options = filesystem.nth(1)?.split(',').map(str::to_owned).collect();
        let mut mount = mount.split(' ').skip(3);
        Some(Self { version, root: unescape(mount.next()?), point: unescape(mount.next()?), options })
    }
}

/// Undoes the kernel's `\040` for blanks and their like.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mountinfo: &str, memberships: &str, expected: &[(Version, &str, &str, &str)]) {
        let found = parse(mountinfo, memberships);
        let found: Vec<_> = found
            .iter()
            .map(|found| {
                let path = |path: &Path| path.to_str().unwrap().to_owned();
                (found.version, found.controllers.join(","), path(&found.mount), path(&found.own))
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(version, names, mount, own)| (version, names.to_owned(), mount.to_owned(), own.to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_unified_machine_has_one_hierarchy() {
        check(
            "24 23 0:5 / /proc rw - proc proc rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/user-1000.slice/session-2.scope\n",
            &[(Version::Two, "", "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/user-1000.slice/session-2.scope")],
        );
    }

    #[test]
    fn a_hybrid_machine_has_a_mount_for_each_and_a_place_in_each() {
        check(
            "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            "9:name=systemd:/\n8:pids:/\n4:memory:/process_api/1\n1:cpu,cpuacct:/\n0::/\n",
            &[
                (Version::One, "name=systemd", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/systemd"),
                (Version::One, "memory", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/process_api/1"),
                (Version::One, "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
                (Version::Two, "", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"),
            ],
        );
    }

    #[test]
    fn a_mount_of_a_part_of_a_hierarchy_begins_at_its_root() {
        let mounts = "1 0 0:1 /docker/ab /other rw - cgroup cgroup rw,pids\n2 0 0:1 /docker/a /with\\040blank rw - cgroup cgroup rw,pids\n";
        check(mounts, "8:pids:/docker/a/job\n", &[(Version::One, "pids", "/with blank", "/with blank/job")]);
        check(mounts, "8:pids:/docker/ab\n", &[(Version::One, "pids", "/other", "/other")]);
        check(mounts, "8:pids:/elsewhere\n", &[]);
        check("1 0 0:1 / /c rw - cgroup2 cgroup2 rw\n", "0::/../outside\n", &[]);
    }
}
