//! What is mounted while a process runs: the part of an exec op that comes of `RUN --mount`.
//!
//! | of a mount | in the cache key | why |
//! |---|---|---|
//! | type, target, access | yes | the process sees them |
//! | files of a stage, an image or the build context | by content (`cache_key.rs`) | they are input like that of a COPY |
//! | id, sharing, mode and owner of a cache | no | what is in a cache decides about time, not about the result |
//! | id, target, variable, mode and owner of a secret or an agent | yes | the process sees them |
//! | value of a secret, keys of an agent | no | they are nobody's to keep, and differ from machine to machine |
//!
//! Not here: reading the flags (`dockerfile`), planning them (`plan/mount.rs`), making them (`ops/mounts.rs`).

use dockerfile::Sharing;
use serde::Serialize;

/// A mount of an exec op.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecMount {
    /// Files of a stage, an image or a build context; what is written to them is discarded.
    Files(FilesMount),
    /// A directory that stays between builds.
    Cache(CacheMount),
    /// An empty directory in memory.
    Tmpfs(TmpfsMount),
    /// A secret, as a file, as a variable, or both.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
}

/// Files that an input of the node has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MountedFiles {
    /// The place of the input among the node's.
    pub input: usize,
    /// Absolute path in its files.
    pub source: String,
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum MountAccess {
    ReadOnly,
    ReadWrite,
}

/// `--mount=type=bind`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the fields' types say it")]
pub struct FilesMount {
    /// Absolute.
    pub target: String,
    pub files: MountedFiles,
    pub access: MountAccess,
}

/// `--mount=type=cache`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CacheMount {
    /// Absolute.
    pub target: String,
    /// What names it.
    #[serde(skip)]
    pub id: String,
    /// Who may use it at the same time.
    #[serde(skip)]
    pub sharing: Sharing,
    /// Mode of its directory.
    #[serde(skip)]
    pub mode: u32,
    /// Owner and group of its directory.
    #[serde(skip)]
    pub owner: (u32, u32),
    /// What a new one begins with; `None` is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<MountedFiles>,
    /// Whether it can be written to.
    pub access: MountAccess,
}

/// `--mount=type=tmpfs`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TmpfsMount {
    /// Absolute.
    pub target: String,
    /// Its limit in bytes; `None` is the kernel's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// What becomes of a mount whose secret or agent the command line does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// It is left out.
    Optional,
    /// The build fails.
    Required,
}

/// `--mount=type=secret`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SecretMount {
    /// What names it.
    pub id: String,
    /// Absolute path of its file; `None` when it is a variable only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The variable that gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// Whether it has to be there.
    pub need: Need,
    /// Mode of its file.
    pub mode: u32,
    /// Owner and group of its file.
    pub owner: (u32, u32),
}

/// `--mount=type=ssh`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct SshMount {
    /// What names the agent.
    pub id: String,
    /// Absolute path of its socket.
    pub target: String,
    /// Whether it has to be there.
    pub need: Need,
    /// Mode of the socket.
    pub mode: u32,
    /// Owner and group of the socket.
    pub owner: (u32, u32),
}

impl ExecMount {
    /// Returns the files of an input that it shows.
    pub(crate) fn files(&self) -> Option<&MountedFiles> {
        match self {
            Self::Files(mount) => Some(&mount.files),
            Self::Cache(mount) => mount.files.as_ref(),
            Self::Tmpfs(_) | Self::Secret(_) | Self::Ssh(_) => None,
        }
    }
}
