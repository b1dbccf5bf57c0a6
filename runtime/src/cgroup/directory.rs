//! Makes, fills and removes the directory of a cgroup.
//!
//! Where a cgroup is made:
//!
//! | hierarchy | who | below |
//! |---|---|---|
//! | version 1 | root | the cgroup that we are in: what limits us limits our containers |
//! | version 2 | who may write to its root: root of the machine | `wharf` at its root; a cgroup with members, as ours is, can have no part that limits |
//! | version 2 | anybody else | our own cgroup if it is ours alone; we move to a part of it named `supervisor` first |
//!
//! A member of the container may have made parts of its own (with privileges): they are removed with it, and members are killed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::settings::{Controller, Need, Setting};
use super::{CgroupError, Hierarchy, Version};

const MEMBERS: &str = "cgroup.procs";
/// In version 1, its threads.
const THREADS: &str = "tasks";
const AVAILABLE: &str = "cgroup.controllers";
const ENABLED: &str = "cgroup.subtree_control";
const PREFIX: &str = "wharf-";
/// At the root of version 2: the parent of all our cgroups, there while there is one.
const COMMON_PARENT: &str = "wharf";
const SUPERVISOR: &str = "supervisor";
/// How often it is tried to remove a cgroup whose last members are still dying, some milliseconds apart.
const PATIENCE: u32 = 500;
/// The same for a cgroup of a dead process.
const SWEEP_PATIENCE: u32 = 50;
/// In version 2, from Linux 5.14 on: ends all members at once.
const KILL: &str = "cgroup.kill";

/// Completes what is known of a hierarchy: in version 2 each cgroup says which controllers it can have.
pub(super) fn survey(hierarchy: &mut Hierarchy) {
    if hierarchy.version == Version::Two {
        let known = if rules_root(hierarchy) { &hierarchy.mount } else { &hierarchy.own };
        let names = fs::read_to_string(known.join(AVAILABLE)).unwrap_or_default();
        hierarchy.controllers = names.split_whitespace().map(str::to_owned).collect();
    }
}

/// Removes the cgroups of a hierarchy whose makers are dead.
pub(super) fn sweep(hierarchy: &Hierarchy) {
    match hierarchy.version {
        Version::Two if rules_root(hierarchy) => sweep_below(&hierarchy.mount.join(COMMON_PARENT)),
        _ => sweep_below(&hierarchy.own),
    }
}

/// Whether the root of a version 2 hierarchy is seen here and may be changed. It has no `cgroup.type`, as all others do.
fn rules_root(hierarchy: &Hierarchy) -> bool {
    let control = hierarchy.mount.join(ENABLED);
    !hierarchy.mount.join("cgroup.type").exists() && access(control, Access::WRITE_OK).is_ok()
}

/// What cannot be removed is left to the next command.
fn sweep_below(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(Owner::of_directory);
        match owner.map(Owner::life) {
            Some(Life::Ended) => {
                let _in_use_or_gone = remove_tree(&entry.path(), SWEEP_PATIENCE);
            }
            // without members nobody misses it
            Some(Life::Unknown) => {
                let _in_use_or_gone = fs::remove_dir(entry.path());
            }
            Some(Life::Runs) | None => (),
        }
    }
}

/// A process, told from others that had the same number, and from those of other pid namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    namespace: u64,
    pid: u32,
    start: u64,
}

impl Owner {
    /// Returns this process.
    pub(super) fn this() -> Result<Self, CgroupError> {
        let path = PathBuf::from("/proc/self/stat");
        let text = fs::read_to_string(&path).map_err(|source| CgroupError::Read { path: path.clone(), source })?;
        let namespace = own_namespace()?;
        let this = start_time(&text).map(|start| Self { namespace, pid: std::process::id(), start });
        this.ok_or_else(|| CgroupError::Read { path, source: io::ErrorKind::InvalidData.into() })
    }

    /// Names the `number`th cgroup of this process.
    pub(super) fn directory_name(self, number: u64) -> String {
        format!("{PREFIX}{}-{}-{}-{number}", self.pid, self.start, self.namespace)
    }

    fn of_directory(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix(PREFIX)?.split('-');
        let (pid, start) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        let (namespace, number) = (numbers.next()?.parse().ok()?, numbers.next()?);
        number.parse::<u64>().ok().filter(|_| numbers.next().is_none())?;
        Some(Self { namespace, pid, start })
    }

    /// Looks whether it runs; one that has ended may still have its number.
    fn life(self) -> Life {
        if own_namespace().ok() != Some(self.namespace) {
            return Life::Unknown;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        let runs = stat.is_ok_and(|stat| start_time(&stat) == Some(self.start));
        if runs { Life::Runs } else { Life::Ended }
    }
}

/// What can be said of an [`Owner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    Ended,
    /// It is of another pid namespace, where its number means another process.
    Unknown,
}

fn own_namespace() -> Result<u64, CgroupError> {
    let path = PathBuf::from("/proc/self/ns/pid");
    let metadata = fs::metadata(&path);
    metadata.map(|metadata| metadata.ino()).map_err(|source| CgroupError::Read { path, source })
}

/// The field `starttime`, number 22, of a process that has not ended; the second is a name in parentheses, which may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    fields.nth(18)?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

/// How a process becomes a member.
///
/// Moving a whole process makes the kernel wait until no processor forks or ends one: 14 ms here. Neither of these does.
#[derive(Debug)]
pub(super) enum Entrance {
    /// A thread that writes 0 here moves itself alone; one that has just been cloned is a whole process.
    Written(OwnedFd),
    /// The kernel makes the process as a member of this directory (`CLONE_INTO_CGROUP`).
    Cloned(OwnedFd),
}

/// The directory of a cgroup; dropped, it is removed.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    version: Version,
    pub(super) controllers: Vec<Controller>,
}

impl Directory {
    /// Makes the directory `name` for cgroups with these controllers.
    pub(super) fn make(hierarchy: &Hierarchy, controllers: Vec<Controller>, name: &str) -> Result<Self, CgroupError> {
        let version = hierarchy.version;
        let names: Vec<&str> = controllers.iter().map(|controller| controller.name(version)).collect();
        let path = match version {
            Version::One => make_below(&hierarchy.own, name)?,
            Version::Two if rules_root(hierarchy) => make_below_root(&hierarchy.mount, &names, name)?,
            Version::Two => {
                leave(&hierarchy.own)?;
                enable(&hierarchy.own, &names)?;
                make_below(&hierarchy.own, name)?
            }
        };
        let made = Self { path, version, controllers };
        if version == Version::One && made.controllers.contains(&Controller::Cpuset) {
            made.inherit_cpuset(&hierarchy.own)?;
        }
        Ok(made)
    }

    /// In version 1 a cpuset begins empty, and cannot be joined until it has processors and memory nodes.
    fn inherit_cpuset(&self, parent: &Path) -> Result<(), CgroupError> {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let path = parent.join(file);
            let value = fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })?;
            write(&self.path.join(file), value.trim())?;
        }
        Ok(())
    }

    /// Writes a value to the file for it.
    pub(super) fn write(&self, setting: &Setting) -> Result<(), CgroupError> {
        for (number, (file, value)) in setting.choices.iter().enumerate() {
            let is_last = number + 1 == setting.choices.len();
            match write(&self.path.join(file), value) {
                Err(CgroupError::Write { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && (!is_last || setting.need == Need::IfThere) => {}
                other => return other,
            }
        }
        Ok(())
    }

    /// Opens the way in.
    pub(super) fn open_entrance(&self) -> Result<Entrance, CgroupError> {
        let open = |path: PathBuf, options: &mut fs::OpenOptions| {
            let opened = options.open(&path);
            opened.map(OwnedFd::from).map_err(|source| CgroupError::Open { path, source })
        };
        match self.version {
            Version::One => open(self.path.join(THREADS), File::options().write(true)).map(Entrance::Written),
            Version::Two => open(self.path.clone(), File::options().read(true)).map(Entrance::Cloned),
        }
    }

    /// Whether the kernel killed a process because this cgroup had reached its limit, and not the machine its end.
    pub(super) fn has_killed_for_memory(&self) -> bool {
        match self.version {
            Version::One => {
                let refused = |file| self.read(file).trim().parse::<u64>().is_ok_and(|count| count > 0);
                self.count("memory.oom_control", "oom_kill") > 0
                    && (refused("memory.failcnt") || refused("memory.memsw.failcnt"))
            }
            Version::Two => self.count("memory.events", "oom_kill") > 0 && self.count("memory.events", "max") > 0,
        }
    }

    /// Whether a process could not be started because there were too many.
    pub(super) fn has_refused_processes(&self) -> bool {
        self.count("pids.events", "max") > 0
    }

    fn count(&self, file: &str, key: &str) -> u64 {
        let text = self.read(file);
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path.join(file)).unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _left_to_the_next_command = remove_tree(&self.path, PATIENCE);
        let parent = self.path.parent().filter(|parent| parent.ends_with(COMMON_PARENT));
        if let (Version::Two, Some(parent)) = (self.version, parent) {
            let _others_use_it = fs::remove_dir(parent);
        }
    }
}

fn make_below(parent: &Path, name: &str) -> Result<PathBuf, CgroupError> {
    let path = parent.join(name);
    fs::create_dir(&path).map_err(|source| CgroupError::Make { parent: parent.to_owned(), source })?;
    Ok(path)
}

/// Makes a cgroup in the common parent, which another command may just be removing.
fn make_below_root(root: &Path, controllers: &[&str], name: &str) -> Result<PathBuf, CgroupError> {
    let parent = root.join(COMMON_PARENT);
    enable(root, controllers)?;
    let attempt = || {
        make_if_missing(&parent)?;
        enable(&parent, controllers)?;
        make_below(&parent, name)
    };
    let is_gone = |error: &CgroupError| match error {
        CgroupError::Make { source, .. } | CgroupError::Read { source, .. } | CgroupError::Write { source, .. } => {
            matches!(Errno::from_io_error(source), Some(Errno::NOENT | Errno::NODEV))
        }
        _ => false,
    };
    const ATTEMPTS: usize = 10;
    let mut made = attempt();
    for _ in 1..ATTEMPTS {
        if !made.as_ref().is_err_and(is_gone) {
            break;
        }
        made = attempt();
    }
    made
}

fn make_if_missing(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Make { parent: path.parent().unwrap_or(path).to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Moves this process out of its own cgroup into a part of it, so that other parts can have limits.
///
/// Done only if no other process is there: theirs would have to be moved too, or the kernel refuses.
fn leave(own: &Path) -> Result<(), CgroupError> {
    let path = own.join(MEMBERS);
    let members = fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })?;
    let this = std::process::id().to_string();
    if members.lines().any(|member| member != this) {
        return Err(CgroupError::Shared { path: own.to_owned() });
    }
    if members.is_empty() {
        return Ok(());
    }
    let supervisor = own.join(SUPERVISOR);
    make_if_missing(&supervisor)?;
    write(&supervisor.join(MEMBERS), &this)
}

/// Lets the parts of a version 2 cgroup use these controllers.
fn enable(path: &Path, controllers: &[&str]) -> Result<(), CgroupError> {
    let control = path.join(ENABLED);
    let enabled = fs::read_to_string(&control).map_err(|source| CgroupError::Read { path: control.clone(), source })?;
    let missing = controllers.iter().filter(|name| !enabled.split_whitespace().any(|known| known == **name));
    let words: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if words.is_empty() { Ok(()) } else { write(&control, &words.join(" ")) }
}

/// Writes to a file of the kernel, in one call.
fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let written = File::options().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Write { path: path.to_owned(), value: value.to_owned(), source })
}

/// Kills the members of a cgroup, not those of its parts, unless the kernel does both at once.
fn kill_members(path: &Path) {
    if fs::write(path.join(KILL), "1").is_ok() {
        return;
    }
    let members = || fs::read_to_string(path.join(MEMBERS)).unwrap_or_default();
    let numbers = members();
    let numbers = numbers.lines().filter_map(|number| Pid::from_raw(number.parse().ok()?));
    let opened: Vec<_> = numbers.filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))).collect();
    // who is still a member is who was opened, and no later process of that number
    let still = members();
    for (pid, handle) in opened {
        if still.lines().any(|number| number.parse() == Ok(pid.as_raw_nonzero().get())) {
            let _it_has_ended = pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// Removes a cgroup and its parts, and kills their members; tries again while it is busy, as they leave it a moment later.
fn remove_tree(path: &Path, attempts: u32) -> io::Result<()> {
    for attempt in 1.. {
        match fs::remove_dir(path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) && attempt < attempts => {
                kill_members(path);
                for entry in fs::read_dir(path)?.flatten() {
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        let _the_outer_one_says_it = remove_tree(&entry.path(), 2);
                    }
                }
                thread::sleep(Duration::from_millis(u64::from(attempt.min(10))));
            }
            other => return other,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use rustix::process::{WaitId, geteuid, waitid};

    use super::*;
    use rustix::event::pause;

    use crate::sys::{Stack, WAIT, clone_in_nested_namespace};

    #[test]
    fn names_say_whose_a_cgroup_is() {
        let this = Owner::this().unwrap();
        assert_eq!(this.life(), Life::Runs);
        assert_eq!(Owner::of_directory(&this.directory_name(7)), Some(this));
        assert_eq!(Owner { start: this.start + 1, ..this }.life(), Life::Ended, "the number is another's now");
        assert_eq!(Owner { namespace: 0, ..this }.life(), Life::Unknown);
        for name in ["wharf", "wharf-1-2-3", "wharf-1-2-3-4-5", "wharf-1-2-3-x", "docker-1-2-3-4", "wharf-1-a-2-3"] {
            assert_eq!(Owner::of_directory(name), None, "{name}");
        }
        assert_eq!(start_time("1 (a) b) c) S 1 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 4321 9 9"), Some(4321));
        assert_eq!(start_time("1 (a) Z 1 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 4321 9 9"), None);
    }

    /// A directory that looks like a cgroup of version 2.
    fn imitation(members: &str, enabled: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MEMBERS), members).unwrap();
        fs::write(directory.path().join(ENABLED), enabled).unwrap();
        directory
    }

    #[test]
    fn only_controllers_that_are_missing_are_enabled_and_in_one_write() {
        for (enabled, written) in
            [("cpu\n", "+memory +pids"), ("memory pids cpu\n", "memory pids cpu\n"), ("", "+memory +pids")]
        {
            let cgroup = imitation("", enabled);
            fs::write(cgroup.path().join(ENABLED), enabled).unwrap();
            enable(cgroup.path(), &["memory", "pids"]).unwrap();
            let content = fs::read_to_string(cgroup.path().join(ENABLED)).unwrap();
            // the imitation is a plain file, of which a write changes the beginning
            assert!(content.starts_with(written), "{enabled:?}: {content:?}");
        }
    }

    #[test]
    fn a_cgroup_with_other_members_is_left_as_it_is() {
        let this = std::process::id();
        let cgroup = imitation(&format!("{this}\n4194305\n"), "");
        let error = leave(cgroup.path()).unwrap_err();
        assert!(matches!(error, CgroupError::Shared { .. }), "{error:?}");
        assert!(!cgroup.path().join(SUPERVISOR).exists());
        // whoever has left before need not again
        leave(imitation("", "").path()).unwrap();
        // an imitation has no file for members in what is made below
        let cgroup = imitation(&format!("{this}\n"), "");
        let error = leave(cgroup.path()).unwrap_err();
        let expected = cgroup.path().join("supervisor/cgroup.procs");
        assert!(
            matches!(&error, CgroupError::Write { path, value, .. } if *path == expected && *value == this.to_string()),
            "{error:?}"
        );
    }

    /// The hierarchy of version 2, which a machine with controllers of version 1 may have beside them, if we may change it.
    fn unified() -> Option<Hierarchy> {
        let read = |path| fs::read_to_string(path).unwrap();
        let found = super::super::hierarchy::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let found = found.into_iter().find(|hierarchy| hierarchy.version == Version::Two)?;
        (geteuid().is_root() && rules_root(&found)).then_some(found)
    }

    #[test]
    fn a_cgroup_of_version_2_has_members_and_goes_with_all_its_parts() {
        let Some(mut hierarchy) = unified() else {
            println!("  (there is no hierarchy of version 2 that this user may change)");
            return;
        };
        survey(&mut hierarchy);
        // a number that no container of this process gets, as this test makes none
        let name = Owner::this().unwrap().directory_name(u64::MAX);
        let made = Directory::make(&hierarchy, Vec::new(), &name).unwrap();
        let path = hierarchy.mount.join("wharf").join(&name);
        assert_eq!(made.path, path);
        let Ok(Entrance::Cloned(entrance)) = made.open_entrance() else { panic!("{made:?} is of version 2") };
        let mut stack = Stack::new();
        let member = clone_in_nested_namespace(&mut stack, 0, Some(entrance.as_fd()), &mut || pause()).unwrap();
        let handle = fs::read_to_string(format!("/proc/self/fdinfo/{}", member.as_raw_fd())).unwrap();
        let pid = handle.lines().find_map(|line| line.strip_prefix("Pid:\t")).unwrap();
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(membership.lines().any(|line| line == format!("0::/wharf/{name}")), "{membership}");
        fs::create_dir_all(path.join("part/of-part")).unwrap();
        pidfd_send_signal(&member, Signal::KILL).unwrap();
        waitid(WaitId::PidFd(member.as_fd()), WAIT).unwrap();
        drop(made);
        assert!(!path.exists());
    }

    #[test]
    fn who_is_left_in_a_swept_cgroup_is_killed() {
        let Some(hierarchy) = unified() else {
            println!("  (there is no hierarchy of version 2 that this user may change)");
            return;
        };
        let this = Owner::this().unwrap();
        let dead = Owner { start: this.start + 1, ..this };
        let elsewhere = Owner { namespace: 0, ..this };
        // a parent of our own, as other tests sweep the usual one
        let parent = make_below(&hierarchy.mount, &format!("sweep-test-{}", this.pid)).unwrap();
        let made = [dead, elsewhere].map(|owner| {
            let path = make_below(&parent, &owner.directory_name(0)).unwrap();
            Directory { path, version: Version::Two, controllers: Vec::new() }
        });
        let mut stack = Stack::new();
        let members = made.each_ref().map(|made| {
            let Ok(Entrance::Cloned(entrance)) = made.open_entrance() else { panic!("{made:?} is of version 2") };
            clone_in_nested_namespace(&mut stack, 0, Some(entrance.as_fd()), &mut || pause()).unwrap()
        });
        sweep_below(&parent);
        let ended = waitid(WaitId::PidFd(members[0].as_fd()), WAIT).unwrap().unwrap();
        assert_eq!(ended.terminating_signal(), Some(libc::SIGKILL));
        assert_eq!(made.each_ref().map(|made| made.path.exists()), [false, true]);
        drop(made);
        waitid(WaitId::PidFd(members[1].as_fd()), WAIT).unwrap().unwrap();
        fs::remove_dir(parent).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_a_living_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let this = Owner::this().unwrap();
        let dead = Owner { start: this.start + 1, ..this };
        let names = [this.directory_name(0), dead.directory_name(0), "wharf-other".to_owned()];
        names.iter().for_each(|name| fs::create_dir(parent.path().join(name)).unwrap());
        sweep_below(parent.path());
        assert_eq!(names.map(|name| parent.path().join(name).exists()), [true, false, true]);
        sweep_below(&parent.path().join("nowhere"));
    }
}
