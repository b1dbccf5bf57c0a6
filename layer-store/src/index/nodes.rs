//! The files of a layer while its entries are read, and their names.
//!
//! ```text
//! names: (directory, name) → node        sorted by directory, then by the bytes of the name: the order of an EROFS directory
//! nodes: in the order in which they came; what is replaced stays as `Gone`, so that ids mean the same to the end
//! ```

use std::collections::BTreeMap;
use std::ops::{Bound, Index, IndexMut};

use super::Unsuitable;
use super::sparse::Chunks;
use crate::sys::{Time, Xattrs};

/// Bytes of names, targets of links and extended attributes, at most.
const MAX_BYTES: usize = 64 << 20;

/// A node's place in the list of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    pub(super) const ROOT: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A file, whatever its kind, under all of its names.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Time,
    /// Sorted by name.
    pub(super) xattrs: Xattrs,
    /// Names that lead here; of a directory, two and one for each directory in it.
    pub(super) links: u32,
}

impl Node {
    /// Makes a node as a directory is that no entry describes.
    pub(super) fn new(kind: NodeKind) -> Self {
        let links = if matches!(kind, NodeKind::Directory(_)) { 2 } else { 0 };
        Self { kind, mode: 0o755, uid: 0, gid: 0, modified: Time::default(), xattrs: Vec::new(), links }
    }

    pub(super) fn directory(&self) -> Option<&Directory> {
        match &self.kind {
            NodeKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(super) enum NodeKind {
    Directory(Directory),
    /// Its content begins at this byte of the tar.
    File {
        size: u64,
        content: u64,
    },
    Sparse {
        size: u64,
        chunks: Box<Chunks>,
    },
    Symlink(Box<[u8]>),
    Fifo,
    Device {
        is_block: bool,
        major: u32,
        minor: u32,
    },
    Whiteout,
    /// It was replaced, or its last name was.
    Gone,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) parent: NodeId,
    pub(super) name: Box<[u8]>,
    /// It hides what lower layers have in it.
    pub(super) is_opaque: bool,
    /// It has no entry of its own.
    pub(super) is_implied: bool,
}

impl Directory {
    /// One that has an entry, and hides nothing.
    pub(super) fn new(parent: NodeId, name: &[u8]) -> Self {
        Self { parent, name: name.into(), is_opaque: false, is_implied: false }
    }
}

#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// The key is a directory's id, most significant byte first, and a name.
    names: BTreeMap<Box<[u8]>, NodeId>,
    bytes: usize,
}

impl Index<NodeId> for Nodes {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }
}

impl IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }
}

impl Nodes {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::new(NodeKind::Directory(Directory::new(NodeId::ROOT, b"")))],
            names: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// All nodes with their ids, those that are gone too.
    pub(super) fn all(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).map(NodeId).zip(&self.nodes)
    }

    pub(super) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.names.get(&key(directory, name)[..]).copied()
    }

    /// The entries of a directory, sorted by the bytes of their names.
    pub(super) fn children(&self, directory: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let (from, to) = (key(directory, b""), key(NodeId(directory.0 + 1), b""));
        self.names
            .range::<[u8], _>((Bound::Included(&from[..]), Bound::Excluded(&to[..])))
            .map(|(key, node)| (&key[4..], *node))
    }

    /// All names, each with the directory that it is in and what it leads to.
    pub(super) fn names(&self) -> impl Iterator<Item = (NodeId, &[u8], NodeId)> {
        self.names.iter().map(|(key, node)| (directory_of(key), &key[4..], *node))
    }

    /// Puts something new into a directory, under a name that is free there.
    pub(super) fn insert(&mut self, directory: NodeId, name: &[u8], node: Node) -> Result<NodeId, Unsuitable> {
        let own = match &node.kind {
            NodeKind::Directory(directory) => directory.name.len(),
            NodeKind::Symlink(target) => target.len(),
            NodeKind::Sparse { chunks, .. } => chunks.bytes(),
            _ => 0,
        };
        self.charge(own)?;
        let id = NodeId(u32::try_from(self.nodes.len()).map_err(|_| Unsuitable::TooManyEntries)?);
        if node.directory().is_some() {
            self[directory].links += 1;
        }
        self.nodes.push(node);
        self.link(directory, name, id)?;
        Ok(id)
    }

    /// Gives a node one more name, which is free.
    pub(super) fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId) -> Result<(), Unsuitable> {
        self.charge(name.len())?;
        if self[node].directory().is_none() {
            self[node].links += 1;
        }
        self.names.insert(key(directory, name), node);
        Ok(())
    }

    /// Takes a name away, and with a directory's name everything that is in it.
    pub(super) fn remove(&mut self, directory: NodeId, name: &[u8]) {
        let mut keys = vec![key(directory, name)];
        while let Some(key) = keys.pop() {
            let Some(id) = self.names.remove(&key) else { continue };
            if self[id].directory().is_some() {
                // the directory that it is in may be gone already
                let parent = &mut self[directory_of(&key)];
                parent.links = parent.links.saturating_sub(1);
                self[id].links = 0;
                keys.extend(self.children(id).map(|(name, _)| self::key(id, name)));
            } else {
                self[id].links -= 1;
            }
            if self[id].links == 0 {
                self[id] = Node { links: 0, ..Node::new(NodeKind::Gone) };
            }
        }
    }

    /// Counts bytes that are kept for as long as the layer is read.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Unsuitable> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES { Err(Unsuitable::TooMuchMetadata) } else { Ok(()) }
    }

    /// The paths of the directories that have no entry of their own, sorted.
    pub(super) fn implied(&self) -> Vec<Vec<u8>> {
        let is_implied = |node: &Node| node.directory().is_some_and(|directory| directory.is_implied);
        let mut paths: Vec<Vec<u8>> =
            self.all().filter(|(_, node)| is_implied(node)).map(|(id, _)| self.path(id)).collect();
        paths.sort_unstable();
        paths
    }

    /// The path of a directory.
    pub(super) fn path(&self, mut id: NodeId) -> Vec<u8> {
        let mut components: Vec<&[u8]> = Vec::new();
        while let Some(directory) = self[id].directory().filter(|_| id != NodeId::ROOT) {
            components.push(&directory.name);
            id = directory.parent;
        }
        components.reverse();
        components.join(&b'/')
    }
}

fn key(directory: NodeId, name: &[u8]) -> Box<[u8]> {
    [&directory.0.to_be_bytes()[..], name].concat().into_boxed_slice()
}

fn directory_of(key: &[u8]) -> NodeId {
    NodeId(key.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)))
}
