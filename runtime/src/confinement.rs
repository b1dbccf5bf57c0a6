//! How far a container is confined, beyond what its user may do. Pure data; the default is what a RUN step gets.
//!
//! Not here: which calls the filter lets through (`seccomp/`), what is hidden (`kernel_paths.rs`), who applies it (`child.rs`).

use std::path::PathBuf;

use crate::{Access, Capabilities};

/// What a container may do and see of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// The bounding set; user 0 also has them, other users none.
    pub capabilities: Capabilities,
    /// Whether system calls are filtered.
    pub system_calls: SystemCalls,
    /// Who may gain privileges by `execve`.
    pub new_privileges: NewPrivileges,
    /// What `/proc` and `/sys` show, and let change.
    pub kernel_files: KernelFiles,
    /// Which device nodes of the host it has.
    pub device_nodes: DeviceNodes,
    /// Further devices of the host.
    pub devices: Vec<Device>,
    /// Whether the root filesystem and the generated files can be written to.
    pub rootfs: Access,
    /// Which of the host's namespaces it shares.
    pub namespaces: Namespaces,
}

impl Confinement {
    /// Returns the confinement of who may do everything that the caller may, inside namespaces of its own.
    ///
    /// As root of the machine that is root of the machine; without root it is root of the user namespace.
    pub fn privileged() -> Self {
        Self {
            capabilities: Capabilities::ALL,
            system_calls: SystemCalls::Unfiltered,
            new_privileges: NewPrivileges::Allowed,
            kernel_files: KernelFiles::Writable,
            device_nodes: DeviceNodes::Host,
            devices: Vec::new(),
            rootfs: Access::ReadWrite,
            namespaces: Namespaces::default(),
        }
    }
}

/// Namespaces that a container can share with the host; the mount and cgroup namespaces are always its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// Processes. With the host's, `/proc` shows all of them and the command is not process 1. Whatever it starts still ends with it.
    pub pid: Namespace,
    /// Message queues and shared memory, with `/dev/shm` and `/dev/mqueue`.
    pub ipc: Namespace,
    /// The hostname. The host's is not changed: [`crate::Container::hostname`] is not set then.
    pub uts: Namespace,
}

/// Whose a namespace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The container's own.
    #[default]
    Own,
    /// That of the caller.
    Host,
}

/// Whether the system calls of a container are filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SystemCalls {
    /// By docker's list and a little less; a capability brings the calls that are useless without it.
    #[default]
    Filtered,
    /// Not at all: also those of an architecture that is killed otherwise.
    Unfiltered,
}

/// Who may gain privileges by running a set-uid program, or one with capabilities: `no_new_privs` says nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewPrivileges {
    /// User 0 may not, who gains nothing by them; others may, so that `sudo` works.
    #[default]
    DeniedToRoot,
    /// Nobody may.
    Denied,
    /// Whoever the programs say.
    Allowed,
}

/// What of the kernel's files a container sees and may change; the later, the more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelFiles {
    /// What tells or changes too much is hidden or read-only; all of `/sys` is read-only.
    #[default]
    Masked,
    /// Nothing is hidden, and `/proc` can be written to as its modes say; `/sys` is read-only.
    Unmasked,
    /// Nothing is hidden; `/proc`, `/sys` and the control groups can be written to.
    Writable,
}

/// Which device nodes of the host are in `/dev`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceNodes {
    /// null, zero, full, random, urandom and tty. Nodes in the root filesystem do not work.
    #[default]
    Basic,
    /// Every one, but for terminals and the console. Nodes in the root filesystem work, too.
    Host,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its node; links are followed.
    pub host: PathBuf,
    /// Absolute path inside the container, resolved like a mount's target.
    pub target: String,
}
