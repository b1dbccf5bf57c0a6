//! What a node does: one file per kind of op. Everything here blocks.

mod copy;
mod exec;
mod file;
mod mounts;
mod sources;

use std::sync::Arc;

use layer_store::{CopyUpError, FileError, FrozenLayer, LayerFilesError, Lower, SealError, SnapshotError};
use oci::DiffId;
use runtime::{ExitStatus, LimitHit, UserError};

use crate::content_digest::{ContentDigest, ReadError};
use crate::copy::CopyError;
use crate::file_tree::FileTree;
use crate::graph::{NodeId, Op, TreeName};
use crate::images::ImageError;
use crate::remote::RemoteError;
use crate::sandbox::SandboxError;
use crate::select::SelectError;
use crate::solve::Solver;

pub(crate) use copy::linked_key;
pub(crate) use sources::{Digested, content_keys, context_digest, keep_indexes};

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum StepError {
    #[error("`{command}` ended with {}", describe(*.status))]
    Exit {
        command: String,
        status: ExitStatus,
        output: Vec<u8>,
        #[source]
        limit_hit: Option<LimitHit>,
    },
    #[error("cannot run `{command}`")]
    Sandbox { command: String, source: SandboxError },
    #[error("cannot copy from {}", context(.name))]
    SelectContext { name: TreeName, source: SelectError },
    #[error("cannot copy from the stage or image")]
    SelectStage { source: SelectError },
    #[error("cannot copy to `{destination}`")]
    Copy { destination: String, source: CopyError },
    #[error("cannot use what was fetched")]
    SelectFetched { source: SelectError },
    #[error(transparent)]
    Fetch(Arc<RemoteError>),
    #[error("cannot open the files to copy from")]
    OpenTree { source: std::io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("cannot tell who `{owner}` is")]
    Owner { owner: String, source: UserError },
    #[error("cannot make the directory")]
    MakeDirectory { source: CopyError },
    #[error("cannot mount `{path}`")]
    MountSource { path: String, source: std::io::Error },
    #[error("cannot use the cache `{id}`")]
    CacheMount { id: String, source: CopyUpError },
    #[error("the secret `{id}` is not given")]
    NoSecret { id: String },
    #[error("the secret `{id}` is no text, and so cannot be the variable `{variable}`")]
    SecretIsNoText { id: String, variable: String },
    #[error("cannot lend the SSH agent `{id}`")]
    Agent { id: String, source: std::io::Error },
    #[error("cannot make a directory for the socket of the SSH agent")]
    AgentDirectory { source: FileError },
    #[error("the SSH agent `{id}` is not given")]
    NoAgent { id: String },
    #[error("cannot look at the files below")]
    Files { source: LayerFilesError },
    #[error("this build has no context to copy from")]
    NoContext,
    #[error("cannot get the base image {name}")]
    Base { name: String, source: ImageError },
    #[error("cannot mount the files below")]
    Snapshot { source: SnapshotError },
    #[error("cannot keep the layer")]
    Seal { source: SealError },
    #[error("stopped")]
    Cancelled,
}

fn describe(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
    }
}

fn context(name: &TreeName) -> String {
    match name {
        TreeName::Main => "the build context".to_owned(),
        TreeName::Named(name) => format!("the named context `{name}`"),
    }
}

/// What a step takes that was looked at before it runs.
#[derive(Default)]
pub(crate) struct Taken {
    /// What a copy selects, where that is known.
    pub(crate) selected: Option<Digested>,
    /// What was fetched, in the order of the remote sources.
    pub(crate) fetched: Vec<Arc<FileTree>>,
}

/// What a step left behind.
pub(crate) struct Executed {
    pub(crate) change: Change,
    /// The digest of the files that were copied.
    pub(crate) content: Option<ContentDigest>,
}

/// How a step changed the files below.
pub(crate) enum Change {
    /// Nothing had to be changed: no layer.
    None,
    /// A layer whose digest is still to be found.
    Frozen(FrozenLayer),
    /// A finished layer of the store.
    Layer(DiffId),
}

/// Does what node `id` says on the layers of its inputs.
pub(crate) fn execute(solver: &Solver, id: NodeId, inputs: &[Vec<Lower>], taken: Taken) -> Result<Executed, StepError> {
    match &solver.graph.node(id).op {
        Op::Exec(exec) => exec::exec(solver, id, exec, inputs),
        Op::File(action) => file::file(solver, action, inputs, taken),
        Op::Source(_) => unreachable!("sources are fetched, not executed"),
    }
}
