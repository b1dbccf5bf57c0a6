//! Runs one process in an isolated container on a given root filesystem.
//!
//! ```text
//! enter() ─▶ Runtime ─start(Container, Stdio)─▶ Running ─wait()─▶ ExitStatus
//!   │           │ plan.rs      everything the child needs is allocated and opened here
//!   │           │ spawner.rs   clones it from one long-lived thread, inside the keeper's pid namespace
//!   │           │ child.rs     raw system calls from clone to execve, in the order of [`Step`]
//!   └ one mount namespace (and, rootless, one user namespace) for the whole command
//! ```
//!
//! - A container dies with the process that started it, also on `kill -9`: its pid namespace is nested in one whose init (the
//!   keeper, `spawner.rs`) is killed by the kernel when the process ends. In the host's pid namespace a guard (`guard.rs`) kills
//!   its processes then. Its mounts die with it.
//! - Nothing of the host reaches it but what [`Container`] names: no environment, no open file, no path.
//! - It takes no more than its [`Limits`] say; where a limit cannot be kept, it does not start.
//! - Mount targets are resolved inside the root filesystem; what had to be made for them is removed when the container has ended.
//!
//! Needs Linux 5.12 (`mount_setattr`). Knows nothing of images; prints nothing, reads no environment.

mod capabilities;
mod cgroup;
mod child;
mod confinement;
mod container;
mod detached;
mod enter;
mod guard;
mod id_map;
mod init;
mod kernel_paths;
mod limits;
pub mod network;
mod output;
mod plan;
mod running;
mod runtime;
mod seccomp;
mod spawner;
mod step;
mod subordinate_ids;
mod sys;
mod targets;
pub mod terminal;
mod users;

pub use capabilities::Capabilities;
pub use cgroup::{CgroupError, Limit};
pub use confinement::{
    Confinement, Device, DeviceNodes, KernelFiles, Namespace, Namespaces, NewPrivileges, SystemCalls,
};
pub use container::{
    Access, Container, GeneratedFile, GeneratedKind, Mount, MountSource, NetworkNamespace, Programs, Stdio, Tmpfs,
};
pub use enter::{EnterError, Missing, Obstacle, Privilege, enter};
pub use init::init_program;
pub use limits::{
    Bound, CpuQuota, DEFAULT_SHM_SIZE, IoKind, IoRate, LimitHit, Limits, NumberList, NumberListError, PidsLimit,
    Ulimit, UlimitError,
};
pub use output::ContainerOutput;
pub use running::{ExitStatus, Killer, Running, SignalError, WaitError};
pub use runtime::{CommandProblem, RunError, Runtime};
pub use step::Step;
pub use users::{LARGEST_ACCOUNT_FILE, ReadAccounts, User, UserError, find_owner};
