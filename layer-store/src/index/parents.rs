//! Finds and makes the directories that entries go into, as `apply::tree` does and the kernel for it.
//!
//! Links of this layer are followed as if the layer's root were `/`, 40 on one way at most. What is missing is made; a link to
//! something missing is followed, and that is made. The last directory is kept, since the entries of one usually follow each other.

use rustix::io::Errno;

use super::IndexFault;
use super::nodes::{Directory, Node, NodeId, NodeKind, Nodes};
use crate::apply::meaning::{MAX_IMPLIED, MAX_LINKS, NAME_MAX, PATH_MAX, refused, write};

/// Components of links' targets that are walked for one layer, at most: some thousand for each link would take hours.
const MAX_STEPS: u64 = 1 << 26;

#[derive(Debug, Default)]
pub(super) struct Parents {
    entered: Option<(Vec<u8>, NodeId)>,
    /// Directories that were made and have had no entry since.
    implied: usize,
    steps: u64,
}

/// Why a path leads to no directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Missing,
    NotDirectory,
    NameTooLong,
    TooManyLinks,
}

impl Stop {
    fn errno(self) -> Errno {
        match self {
            Self::Missing => Errno::NOENT,
            Self::NotDirectory => Errno::NOTDIR,
            Self::NameTooLong => Errno::NAMETOOLONG,
            Self::TooManyLinks => Errno::LOOP,
        }
    }
}

impl Parents {
    /// Returns the directory `path`, and makes what is missing on the way.
    pub(super) fn enter(&mut self, nodes: &mut Nodes, path: &[u8]) -> Result<NodeId, IndexFault> {
        if let Some((_, directory)) = self.entered.as_ref().filter(|(entered, _)| entered == path) {
            return Ok(*directory);
        }
        let directory = match self.resolve(nodes, NodeId::ROOT, path, MAX_LINKS) {
            Ok(directory) => directory,
            Err(Stop::TooManyLinks) => return Err(write("open", path)(Errno::LOOP).into()),
            Err(_) => self.make(nodes, path, 0)?,
        };
        self.entered = Some((path.to_vec(), directory));
        Ok(directory)
    }

    /// Returns the directory `path` of this layer, and makes nothing.
    pub(super) fn open(&mut self, nodes: &Nodes, path: &[u8]) -> Option<NodeId> {
        // the kernel does not take a longer one at once, and no link is followed then
        let links = if path.len() <= PATH_MAX { MAX_LINKS } else { 0 };
        self.resolve(nodes, NodeId::ROOT, path, links).ok()
    }

    /// Something was replaced: what the entered path leads to may have changed with it.
    pub(super) fn changed(&mut self) {
        self.entered = None;
    }

    /// Notes that a directory has an entry of its own.
    pub(super) fn is_explicit(&mut self, directory: &mut Directory) {
        self.implied -= usize::from(directory.is_implied);
        directory.is_implied = false;
    }

    /// Walks from `start` to `path` as the kernel does.
    fn resolve(&mut self, nodes: &Nodes, start: NodeId, path: &[u8], max_links: usize) -> Result<NodeId, Stop> {
        let mut current = start;
        let mut links = 0;
        let mut rest: Vec<&[u8]> = vec![path];
        while let Some(path) = rest.pop() {
            let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
            rest.extend(path.get(end + 1..));
            self.steps += u64::from(links > 0);
            let found = match &path[..end] {
                b"" | b"." => continue,
                b".." => parent_of(nodes, current),
                name if name.len() > NAME_MAX => return Err(Stop::NameTooLong),
                name => nodes.child(current, name).ok_or(Stop::Missing)?,
            };
            match &nodes[found].kind {
                NodeKind::Directory(_) => current = found,
                NodeKind::Symlink(_) if links == max_links || self.steps > MAX_STEPS => return Err(Stop::TooManyLinks),
                NodeKind::Symlink(target) => {
                    links += 1;
                    current = if target.starts_with(b"/") { NodeId::ROOT } else { current };
                    rest.push(target);
                }
                _ => return Err(Stop::NotDirectory),
            }
        }
        Ok(current)
    }

    /// Walks to `path` component by component, making what is missing.
    fn make(&mut self, nodes: &mut Nodes, path: &[u8], links: usize) -> Result<NodeId, IndexFault> {
        let mut current = NodeId::ROOT;
        let mut end = 0;
        for component in path.split(|byte| *byte == b'/') {
            end += component.len();
            let prefix = &path[..end];
            end += 1;
            current = match component {
                b"" | b"." => current,
                b".." => parent_of(nodes, current),
                name => match self.resolve(nodes, current, name, MAX_LINKS) {
                    Ok(found) => found,
                    Err(Stop::Missing | Stop::NotDirectory) => self.make_one(nodes, current, name, (prefix, links))?,
                    Err(stop) => return Err(write("open", prefix)(stop.errno()).into()),
                },
            };
        }
        Ok(current)
    }

    fn make_one(
        &mut self,
        nodes: &mut Nodes,
        parent: NodeId,
        name: &[u8],
        (path, links): (&[u8], usize),
    ) -> Result<NodeId, IndexFault> {
        let mut is_opaque = false;
        if let Some(there) = nodes.child(parent, name) {
            match &nodes[there].kind {
                NodeKind::Whiteout => {
                    nodes.remove(parent, name);
                    is_opaque = true;
                }
                NodeKind::Symlink(target) => {
                    let target = target.clone();
                    return self.follow(nodes, parent, &target, (path, links));
                }
                _ => return Err(refused(path, "is no directory, but has entries below it").into()),
            }
        }
        // nothing below an opaque one is seen, so its metadata comes from nowhere else
        let directory = Directory { is_opaque, is_implied: !is_opaque, ..Directory::new(parent, name) };
        self.implied += usize::from(directory.is_implied);
        if self.implied > MAX_IMPLIED {
            return Err(refused(path, "is one of more than 100,000 directories that have no entry").into());
        }
        Ok(nodes.insert(parent, name, Node::new(NodeKind::Directory(directory)))?)
    }

    /// Makes the directory that a link of this layer points to, as if the root were `/`.
    fn follow(
        &mut self,
        nodes: &mut Nodes,
        parent: NodeId,
        target: &[u8],
        (path, links): (&[u8], usize),
    ) -> Result<NodeId, IndexFault> {
        if links == MAX_LINKS || self.steps > MAX_STEPS {
            return Err(refused(path, "leads through too many links").into());
        }
        let target = match target.strip_prefix(b"/") {
            Some(absolute) => absolute.to_vec(),
            None => [&nodes.path(parent), &b"/"[..], target].concat(),
        };
        self.steps += target.len() as u64;
        self.make(nodes, &target, links + 1)
    }
}

fn parent_of(nodes: &Nodes, directory: NodeId) -> NodeId {
    nodes[directory].directory().map_or(NodeId::ROOT, |directory| directory.parent)
}
