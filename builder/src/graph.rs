//! The build graph: ops, and what each takes from others.
//!
//! - Nodes stand in topological order: an input must exist before the node that takes it, so there are no cycles.
//! - Equal ops on equal inputs are one node.
//! - Labels and lines are for people; they are not part of an op and never enter a cache key.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use dockerfile::Mode;
use oci::{DiffId, Digest};
use serde::{Serialize, Serializer};

use crate::exec_mount::ExecMount;
use crate::remote::Remote;

/// The place of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(usize);

/// A graph of ops.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    ids: HashMap<(Op, Vec<NodeId>), NodeId>,
}

/// One op with its inputs.
#[derive(Debug)]
pub struct Node {
    /// What is done.
    pub op: Op,
    /// What it is done to: for exec and file ops, first the files below, then those that are copied from or mounted.
    pub inputs: Vec<NodeId>,
    /// What people read: `[build 2/4] RUN make`.
    pub label: String,
    /// The line of the Dockerfile, from 1; `None` for what no line asks for.
    pub line: Option<usize>,
}

/// A unit of work with one output: a stack of layers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Layers that exist already.
    Source(Source),
    /// A process in a container: adds a layer.
    Exec(Exec),
    /// A change to files without a process: adds a layer.
    File(FileAction),
}

impl Op {
    /// Returns what COPY or ADD do, if it is theirs.
    pub(crate) fn copy(&self) -> Option<&Copy> {
        match self {
            Self::File(FileAction::Copy(copy)) => Some(copy),
            _ => None,
        }
    }
}

/// Where layers come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// No layers.
    Scratch,
    /// An image, pinned.
    Image {
        /// As the user named it.
        name: String,
        /// The image ID.
        id: Digest,
        /// Lowest first.
        layers: Vec<DiffId>,
    },
}

/// A process to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the fields are an image config's own")]
pub struct Exec {
    pub args: Vec<String>,
    /// A program that the Dockerfile itself holds, at `/dev/pipes/NAME` while the process runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<InlineFile>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Names in `env` whose values are not part of the cache key (the predefined proxy arguments).
    #[serde(skip)]
    pub unkeyed_env: Vec<String>,
    pub cwd: String,
    pub user: String,
    pub network: RunNetwork,
    /// Further lines of `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<HostEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<ExecMount>,
    #[serde(skip_serializing_if = "RunSecurity::is_sandbox")]
    pub security: RunSecurity,
}

/// What a process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunSecurity {
    /// What every step may.
    Sandbox,
    /// All that whoever builds may (`--security=insecure`).
    Insecure,
}

impl RunSecurity {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_sandbox(&self) -> bool {
        *self == Self::Sandbox
    }
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct HostEntry {
    pub name: String,
    pub address: IpAddr,
}

/// What network a process sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunNetwork {
    /// Its own, with a way out.
    Default,
    /// That of the host.
    Host,
    /// Its own, with loopback only.
    None,
}

/// A change to files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAction {
    /// COPY and ADD.
    Copy(Copy),
    /// WORKDIR: makes a directory with its parents; no layer if it is there.
    MakeDirectory {
        /// Absolute.
        path: String,
        /// As USER has it.
        user: String,
        /// The time of what is made, in seconds since 1970; `None` is always the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        time: Option<i64>,
    },
}

/// Files copied into the image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Copy {
    /// From where.
    pub from: CopyFrom,
    /// What is copied, in this order.
    pub sources: Vec<CopySource>,
    /// What becomes of the directories above a source.
    pub parents: Parents,
    /// Patterns of what is left out, by names below each source (`--exclude`).
    pub exclude: Vec<String>,
    /// Files that the Dockerfile itself holds: here-documents.
    pub inline: Vec<InlineFile>,
    /// Absolute; a trailing slash is kept.
    pub destination: String,
    /// `--chown`, after expansion.
    pub owner: Option<String>,
    /// `--chmod`.
    #[serde(serialize_with = "as_text")]
    pub mode: Option<Mode>,
    /// Whether archives are unpacked, as ADD does.
    pub archives: Archives,
    /// What the copy sees of the files below.
    pub ground: Ground,
    /// The time of all that is written, in seconds since 1970; `None` keeps that of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
}

/// A source of COPY or ADD, after expansion.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum CopySource {
    /// A path or pattern.
    Path(String),
    /// A file or tree that is fetched.
    Remote(Remote),
}

impl fmt::Display for CopySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}

impl Copy {
    /// Returns the paths and patterns among the sources.
    pub(crate) fn patterns(&self) -> Vec<String> {
        let path = |source: &CopySource| match source {
            CopySource::Path(path) => Some(path.clone()),
            CopySource::Remote(_) => None,
        };
        self.sources.iter().filter_map(path).collect()
    }

    /// Returns what is fetched.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Remote> {
        self.sources.iter().filter_map(|source| match source {
            CopySource::Remote(remote) => Some(remote),
            CopySource::Path(_) => None,
        })
    }
}

/// What a copy sees of the files below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ground {
    /// All of them: a destination is found through links, and a directory that is there stays as it is.
    Below,
    /// None (`--link`): the layer is the same on all files below, but for the modes and owners of the directories that lead to the
    /// destination, which it must not change.
    Empty,
}

/// A mode as it was written.
fn as_text<S: Serializer>(mode: &Option<Mode>, serializer: S) -> Result<S::Ok, S::Error> {
    mode.as_ref().map(Mode::to_string).serialize(serializer)
}

/// Where COPY and ADD take files from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyFrom {
    /// A build context.
    Context(TreeName),
    /// The node's second input.
    Input,
}

/// A build context, by what names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeName {
    /// The one that the command line names without a name of its own.
    Main,
    /// That of `--build-context NAME=…`.
    Named(String),
}

/// What becomes of the directories above a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Parents {
    /// Only the source itself is copied.
    #[default]
    Dropped,
    /// They are copied too (`--parents`).
    Kept,
}

/// A here-document as a file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the fields say it")]
pub struct InlineFile {
    pub name: String,
    pub content: String,
}

impl InlineFile {
    /// Returns where the file is when it is run as a program; its name may hold anything, also dots only.
    pub(crate) fn program_path(&self) -> String {
        let is_plain = self.name.chars().any(|c| c != '.');
        let name = if is_plain { self.name.replace('/', "_") } else { "script".to_owned() };
        format!("/dev/pipes/{name}")
    }
}

/// What happens to a tar archive among the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Archives {
    /// It is a file like any other.
    Kept,
    /// It is unpacked into the destination, unless it was fetched.
    Local,
    /// It is unpacked, wherever it comes from.
    All,
}

impl Graph {
    /// Adds an op, or returns the node that does the same already.
    pub fn add(&mut self, op: Op, inputs: Vec<NodeId>, label: String, line: Option<usize>) -> NodeId {
        assert!(
            inputs.iter().all(|input| input.0 < self.nodes.len()),
            "inputs are added before the node that takes them"
        );
        let key = (op, inputs);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node { op: key.0.clone(), inputs: key.1.clone(), label, line });
        self.ids.insert(key, id);
        id
    }

    /// Returns the node `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Returns all nodes, inputs before the nodes that take them.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(index, node)| (NodeId(index), node))
    }
}

impl NodeId {
    /// Returns the node's number, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_stays_in_its_directory_whatever_its_name() {
        for (name, path) in [
            ("EOF", "/dev/pipes/EOF"),
            ("../x", "/dev/pipes/.._x"),
            ("..", "/dev/pipes/script"),
            ("", "/dev/pipes/script"),
        ] {
            let file = InlineFile { name: name.to_owned(), content: String::new() };
            assert_eq!(file.program_path(), path);
        }
    }

    #[test]
    fn equal_ops_on_equal_inputs_are_one_node() {
        let mut graph = Graph::default();
        let make =
            |path: &str| Op::File(FileAction::MakeDirectory { path: path.to_owned(), user: String::new(), time: None });
        let scratch = graph.add(Op::Source(Source::Scratch), vec![], "a".to_owned(), None);
        let a = graph.add(make("/a"), vec![scratch], "a".to_owned(), Some(1));
        assert_eq!(graph.add(make("/a"), vec![scratch], "again".to_owned(), Some(9)), a);
        assert_ne!(graph.add(make("/a"), vec![a], "on another".to_owned(), None), a);
        assert_eq!(graph.nodes().count(), 3);
    }
}
