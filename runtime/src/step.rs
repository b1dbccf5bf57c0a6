//! The child's way from `clone3` to `execve`: every step, in order. `child.rs` takes them; an error names the one that failed.

use std::fmt;

/// A step of the child, in the order in which the steps are taken.
///
/// | why here | |
/// |---|---|
/// | cgroup first | what the container takes is counted from its first moment, and the cgroup namespace begins there |
/// | network before mounts | `/sys` shows the network namespace of whoever mounts it |
/// | mounts before the pivot | their targets are handles; no path is looked up but inside the root filesystem |
/// | close before the working directory and the command | neither can name a file of the host through `/proc/self/fd` |
/// | filter last | only dropping the capability that it needed (where `no_new_privs` is off) and `execve` come after it |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Step {
    /// In the host's pid namespace, make the guard its parent (`guard.rs`).
    Watch = 1,
    /// Close every descriptor but the plan's: no file that the caller writes, no lock stays held by this copy.
    CloseForeign,
    /// Become a member of the cgroups that keep the limits.
    JoinCgroup,
    /// Make that the root of a new cgroup namespace.
    NewCgroupNamespace,
    /// `setns` into the given network namespace.
    JoinNetwork,
    /// Bring up `lo` of a new one.
    RaiseLoopback,
    /// `setsid`: no terminal of the caller stays reachable.
    NewSession,
    /// Make every mount private.
    PrivateMounts,
    /// Attach the tmpfs that holds generated files and the empty directory of the masks, under the root filesystem.
    AttachScratch,
    /// Attach the root filesystem onto its own path (`nodev`).
    AttachRoot,
    /// `/dev`, a tmpfs.
    AttachDev,
    /// The device nodes in it, which every container has; or all of the host.
    AttachDevice,
    /// `/dev/pts`, and the terminal in it as `/dev/console`.
    AttachPts,
    /// `/dev/shm`.
    AttachShm,
    /// `/dev/mqueue`.
    MountMqueue,
    /// `/proc`, of its pid namespace.
    MountProc,
    /// The OOM score, through that `/proc`.
    OomScore,
    /// `/sys`, read-only unless the container may write to it.
    MountSys,
    /// `/sys/fs/cgroup`, as `/sys`, of the new cgroup namespace.
    MountCgroup,
    /// Hide kernel files.
    Mask,
    /// Make kernel files read-only.
    ProtectKernelFile,
    /// The devices that the caller names.
    AttachNamedDevice,
    /// The caller's mounts.
    AttachMount,
    /// The generated files.
    AttachFile,
    /// `pivot_root` and detach the old root.
    Pivot,
    /// `dup2` to 0, 1, 2, controlling terminal.
    Stdio,
    /// Close every descriptor but the standard streams and the status pipe.
    CloseFiles,
    /// `sethostname`, in a uts namespace of its own.
    Hostname,
    /// Enter the working directory and check that it is inside.
    WorkingDirectory,
    /// The limits of each process, umask.
    Limits,
    /// Signal dispositions and mask back to their defaults.
    Signals,
    /// Bounding set.
    BoundCapabilities,
    /// Groups, gid, uid.
    Identity,
    /// Permitted and effective sets, ambient and inheritable emptied; `no_new_privs` for root, or as the caller says.
    Capabilities,
    /// The seccomp filter.
    Seccomp,
    /// `execve` of the candidates of the command.
    Execute,
    /// A candidate exists, but the interpreter that it names does not.
    Interpreter,
    /// The command is this very program, reached through `/proc/self/exe`.
    OwnBinary,
}

/// Every step, to turn the number that the child reports back into one.
const ALL: [Step; 38] = [
    Step::Watch,
    Step::CloseForeign,
    Step::JoinCgroup,
    Step::NewCgroupNamespace,
    Step::JoinNetwork,
    Step::RaiseLoopback,
    Step::NewSession,
    Step::PrivateMounts,
    Step::AttachScratch,
    Step::AttachRoot,
    Step::AttachDev,
    Step::AttachDevice,
    Step::AttachPts,
    Step::AttachShm,
    Step::MountMqueue,
    Step::MountProc,
    Step::OomScore,
    Step::MountSys,
    Step::MountCgroup,
    Step::Mask,
    Step::ProtectKernelFile,
    Step::AttachNamedDevice,
    Step::AttachMount,
    Step::AttachFile,
    Step::Pivot,
    Step::Stdio,
    Step::CloseFiles,
    Step::Hostname,
    Step::WorkingDirectory,
    Step::Limits,
    Step::Signals,
    Step::BoundCapabilities,
    Step::Identity,
    Step::Capabilities,
    Step::Seccomp,
    Step::Execute,
    Step::Interpreter,
    Step::OwnBinary,
];

impl Step {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        ALL.into_iter().find(|step| *step as u32 == number)
    }

    fn description(self) -> &'static str {
        match self {
            Self::Watch => "watch over its processes",
            Self::CloseForeign => "close the files of the caller",
            Self::JoinCgroup => "join the cgroup",
            Self::NewCgroupNamespace => "make a cgroup namespace",
            Self::JoinNetwork => "join the network namespace",
            Self::RaiseLoopback => "bring up the loopback interface",
            Self::NewSession => "start a session",
            Self::PrivateMounts => "make the mounts private",
            Self::AttachScratch => "mount the directory of generated files",
            Self::AttachRoot => "mount the root filesystem",
            Self::MountProc => "mount /proc",
            Self::OomScore => "set the OOM score",
            Self::MountSys => "mount /sys",
            Self::MountCgroup => "mount /sys/fs/cgroup",
            Self::AttachDev => "mount /dev",
            Self::AttachDevice | Self::AttachNamedDevice => "mount a device",
            Self::AttachPts => "mount /dev/pts",
            Self::AttachShm => "mount /dev/shm",
            Self::MountMqueue => "mount /dev/mqueue",
            Self::AttachMount => "attach a mount",
            Self::AttachFile => "mount a generated file",
            Self::Mask => "hide a kernel file",
            Self::ProtectKernelFile => "make a kernel file read-only",
            Self::Pivot => "enter the root filesystem",
            Self::Stdio => "set up standard input and output",
            Self::CloseFiles => "close the files of the host",
            Self::Hostname => "set the hostname",
            Self::WorkingDirectory => "enter the working directory",
            Self::Limits => "set the resource limits",
            Self::Signals => "reset the signals",
            Self::BoundCapabilities => "bound the capabilities",
            Self::Identity => "become the user",
            Self::Capabilities => "set the capabilities",
            Self::Seccomp => "install the system call filter",
            Self::Execute => "run the command",
            Self::Interpreter => "find the interpreter of the command",
            Self::OwnBinary => "refuse to run this program itself",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.description())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_up_to_the_last_step_is_a_step_and_no_other_is() {
        for (index, step) in ALL.iter().enumerate() {
            let number = u32::try_from(index).unwrap() + 1;
            assert_eq!(Step::from_number(number), Some(*step));
        }
        assert_eq!(Step::from_number(0), None);
        assert_eq!(Step::from_number(39), None);
    }
}
