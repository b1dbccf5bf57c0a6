//! What a container is made of, as the caller describes it. Pure data.
//!
//! Not here: checking it (`plan.rs`), running it (`runtime.rs`).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::terminal::Size;
use crate::{Confinement, Limits, User};

/// One process and the world it sees.
#[derive(Clone, Debug)]
pub struct Container {
    /// Directory that becomes `/`. Mounts below it come along.
    pub rootfs: PathBuf,
    /// The command: a path, or a name that is looked up in the `PATH` of `env` inside the container; then its arguments.
    pub args: Vec<String>,
    /// The whole environment, as `NAME=value`, in this order. Nothing is added.
    pub env: Vec<String>,
    /// Absolute path inside the container that must exist; below one of `mounts` that is a writable tmpfs it is made, for root.
    pub cwd: String,
    /// Who the process is.
    pub user: User,
    /// Name of the host as seen inside, at most 64 bytes; not set in the host's uts namespace.
    pub hostname: String,
    /// Further mounts; shallower targets first, equal depth in this order.
    pub mounts: Vec<Mount>,
    /// Files that exist only in this container.
    pub files: Vec<GeneratedFile>,
    /// Which network it sees.
    pub network: NetworkNamespace,
    /// How much of the machine it may take.
    pub limits: Limits,
    /// What it may do.
    pub confinement: Confinement,
}

/// Something mounted into a container.
#[derive(Clone, Debug)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside the container; links in it are followed inside the root filesystem. Made if missing, and then removed
    /// again when the container has ended.
    pub target: String,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug)]
pub enum MountSource {
    /// A file or directory of the caller's mount namespace, with the mounts below it.
    ///
    /// Links in `path` are followed as the caller sees them. Who resolved a path in a root of its own passes
    /// `/proc/self/fd/N` of the handle, which names exactly that file.
    Bind {
        /// The file or directory.
        path: PathBuf,
        /// Whether the container may write to it.
        access: Access,
    },
    /// An empty directory in memory that ends with the container.
    Tmpfs(Tmpfs),
}

/// A file system in memory. Device nodes in it do not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Most bytes it can hold; `None` is the kernel's default, half of the memory.
    pub size: Option<u64>,
    /// Most files it can hold; `None` is the kernel's default.
    pub inodes: Option<u64>,
    /// Permission bits of its root.
    pub mode: u32,
    /// Uid and gid of its root.
    pub owner: (u32, u32),
    /// Whether the container may write to it.
    pub access: Access,
    /// Which programs in it run.
    pub programs: Programs,
}

impl Default for Tmpfs {
    /// Everybody's directory, like `/tmp`.
    fn default() -> Self {
        Self {
            size: None,
            inodes: None,
            mode: 0o1777,
            owner: (0, 0),
            access: Access::ReadWrite,
            programs: Programs::SetUid,
        }
    }
}

/// Which programs of a file system run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// None.
    None,
    /// All, with the rights of who runs them.
    Plain,
    /// All; set-uid and set-gid bits and capabilities count.
    SetUid,
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Writes fail with `EROFS`, also in mounts below.
    ReadOnly,
    /// As the file modes say.
    #[default]
    ReadWrite,
}

/// A file that is mounted into one container and ends with it, such as `/etc/resolv.conf`.
///
/// No layer and no other container sees what is written to it.
#[derive(Clone, Debug)]
pub struct GeneratedFile {
    /// Absolute path inside the container, resolved like a mount's target.
    pub path: String,
    /// The bytes.
    pub contents: Vec<u8>,
    /// What it is for.
    pub kind: GeneratedKind,
}

/// What a [`GeneratedFile`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratedKind {
    /// To be read, and written by root, its owner: mode 0644.
    Data,
    /// To be run by everybody, and written by nobody: mode 0755, mounted read-only.
    Program,
    /// To be read by whom its mode lets, and written by nobody: mounted read-only, and never swapped out where the kernel offers that.
    Secret {
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: (u32, u32),
    },
}

/// The network a container sees.
#[derive(Clone, Debug)]
pub enum NetworkNamespace {
    /// A namespace of its own with nothing but `lo`, which is up.
    None,
    /// The caller's.
    Host,
    /// A namespace made by somebody else.
    Given(Arc<OwnedFd>),
}

/// Where standard input, output and error of the command are.
#[derive(Debug)]
pub enum Stdio {
    /// The caller's own three. The command is in a session of its own: keys of the caller's terminal do not signal it.
    Inherit,
    /// These; the runtime's copies are closed as soon as the command runs, so that a reader sees the end.
    Piped {
        /// `None` is `/dev/null`.
        stdin: Option<OwnedFd>,
        /// Where output goes.
        stdout: OwnedFd,
        /// Where errors go.
        stderr: OwnedFd,
    },
    /// A new terminal of the container's own; [`crate::Running::terminal`] is the other end.
    Terminal {
        /// Its first size.
        size: Size,
    },
}
