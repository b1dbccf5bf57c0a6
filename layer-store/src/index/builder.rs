//! Turns the entries of one layer into nodes, with the meaning that `apply::tree` gives each.
//!
//! What only trees can show is [`Unsuitable`]; what no form of the layer may have is refused with the words of the tree.

use std::collections::BTreeMap;

use oci::{DiffId, Digest};
use rustix::io::Errno;

use super::format::BLOCK;
use super::nodes::{Directory, Node, NodeId, NodeKind, Nodes};
use super::parents::Parents;
use super::sparse::Chunks;
use super::{IndexFault, IndexImage, Unsuitable, xattrs};
use crate::apply::entries::{Entry, Kind};
use crate::apply::meaning::{MAX_HOLES, MISSING_TARGET, Meaning, clean_path, meaning, refused, write};
use crate::implied;
use crate::layers::{Form, LayerRecord, Origin, Skipped};

/// Entries of a layer, at most.
const MAX_ENTRIES: u64 = 400_000;
/// Bytes of a tar, at most: beyond, the block numbers of EROFS wrap on some kernels.
const MAX_TAR: u64 = 1 << 40;

/// Bytes that an attribute takes in memory beside its name and its value.
const XATTR: usize = 112;

/// An index that a layer's entries are added to.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    nodes: Nodes,
    parents: Parents,
    holes: u64,
    content_size: u64,
    entries: u64,
    skipped: Skipped,
    has_root: bool,
}

/// A place for an entry: a directory and the name in it.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: NodeId,
    name: &'a [u8],
    /// The path inside the layer, for messages.
    path: &'a [u8],
}

impl IndexBuilder {
    pub(crate) fn new() -> Self {
        let (nodes, parents, skipped) = (Nodes::new(), Parents::default(), Skipped::default());
        Self { nodes, parents, holes: 0, content_size: 0, entries: 0, skipped, has_root: false }
    }

    /// Adds one entry; `content` is the byte of the tar at which its content begins (of a sparse one: its first stored region).
    pub(crate) fn add(&mut self, entry: &Entry, content: u64) -> Result<(), IndexFault> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(Unsuitable::TooManyEntries.into());
        }
        let path = clean_path(entry)?;
        match meaning(entry, &path)? {
            Meaning::Root => {
                self.has_root = true;
                self.set(NodeId::ROOT, b"/", entry)
            }
            Meaning::Opaque { parent } => {
                let directory = self.parents.enter(&mut self.nodes, parent)?;
                self.set_opaque(directory);
                Ok(())
            }
            Meaning::Note => Ok(()),
            Meaning::Whiteout { parent, hidden } => self.add_whiteout(parent, hidden),
            Meaning::NullDevice => {
                self.skipped.devices += 1;
                Ok(())
            }
            Meaning::Directory { parent, name } => {
                let directory = self.parents.enter(&mut self.nodes, parent)?;
                self.add_directory(Place { directory, name, path: &path }, entry)
            }
            Meaning::HardLink { parent, name, target_parent, target_name } => {
                let from = self.parents.open(&self.nodes, &target_parent);
                let from = from.ok_or_else(|| refused(&path, MISSING_TARGET))?;
                self.add_hard_link(Place { directory: from, name: &target_name, path: &path }, parent, name)
            }
            Meaning::Other { parent, name } => {
                let directory = self.parents.enter(&mut self.nodes, parent)?;
                self.add_other(Place { directory, name, path: &path }, entry, content)
            }
        }
    }

    /// Ends the index and returns what is known of the layer, and the image; diff ID and form are the caller's to fill in.
    pub(crate) fn finish(self, tar_size: u64) -> Result<(LayerRecord, IndexImage), IndexFault> {
        if tar_size > MAX_TAR {
            return Err(Unsuitable::TarTooLarge.into());
        }
        let record = LayerRecord {
            diff_id: DiffId(Digest::of(b"")),
            form: Form::Tar,
            content_size: self.content_size,
            tar_size,
            entries: self.entries,
            blobs: Vec::new(),
            encoded: BTreeMap::new(),
            skipped: self.skipped,
            origin: Origin::Received,
            implied: self.nodes.implied().iter().map(|path| implied::write_path(path)).collect(),
            has_root: self.has_root,
            is_opaque: self.nodes[NodeId::ROOT].directory().is_some_and(|root| root.is_opaque),
        };
        Ok((record, IndexImage::new(self.nodes, tar_size)?))
    }

    fn set_opaque(&mut self, directory: NodeId) {
        if let NodeKind::Directory(directory) = &mut self.nodes[directory].kind {
            directory.is_opaque = true;
        }
    }

    fn add_directory(&mut self, place: Place<'_>, entry: &Entry) -> Result<(), IndexFault> {
        let Place { directory, name, path } = place;
        let there = self.nodes.child(directory, name);
        let is_replaced = there.is_some_and(|there| self.nodes[there].directory().is_none());
        let child = match there {
            Some(there) if !is_replaced => there,
            _ => {
                self.nodes.remove(directory, name);
                self.nodes.insert(directory, name, Node::new(NodeKind::Directory(Directory::new(directory, name))))?
            }
        };
        if is_replaced {
            // what was there hid the lower layers' too
            self.set_opaque(child);
            self.parents.changed();
        }
        if let NodeKind::Directory(directory) = &mut self.nodes[child].kind {
            self.parents.is_explicit(directory);
        }
        self.set(child, path, entry)
    }

    fn add_whiteout(&mut self, parent: &[u8], hidden: &[u8]) -> Result<(), IndexFault> {
        let directory = self.parents.enter(&mut self.nodes, parent)?;
        match self.nodes.child(directory, hidden) {
            None => drop(self.nodes.insert(directory, hidden, Node::new(NodeKind::Whiteout))?),
            Some(there) => self.set_opaque(there),
        }
        Ok(())
    }

    /// Gives `target` the further name `name` in `parent`.
    fn add_hard_link(&mut self, target: Place<'_>, parent: &[u8], name: &[u8]) -> Result<(), IndexFault> {
        let path = target.path;
        let found = self.nodes.child(target.directory, target.name);
        let found = found.filter(|found| !matches!(self.nodes[*found].kind, NodeKind::Whiteout));
        let found = found.ok_or_else(|| refused(path, MISSING_TARGET))?;
        if self.nodes[found].directory().is_some() {
            return Err(refused(path, "is a hard link to a directory").into());
        }
        let directory = self.parents.enter(&mut self.nodes, parent)?;
        if let Some(there) = self.nodes.child(directory, name) {
            if there == found {
                return Ok(());
            }
            self.nodes.remove(directory, name);
            self.parents.changed();
            // the target may have been in what went
            if self.nodes.child(target.directory, target.name).is_none() {
                return Err(write("link", path)(Errno::NOENT).into());
            }
        }
        Ok(self.nodes.link(directory, name, found)?)
    }

    /// Makes anything but directories and hard links, in place of what was there.
    fn add_other(&mut self, place: Place<'_>, entry: &Entry, content: u64) -> Result<(), IndexFault> {
        let Place { directory, name, path } = place;
        let kind = match &entry.kind {
            Kind::File { size, regions } => {
                self.content_size = self.content_size.saturating_add(*size);
                let stored = regions.as_ref().map_or(*size, |regions| regions.iter().map(|region| region.length).sum());
                self.holes = self.holes.saturating_add(*size - stored);
                if self.holes > MAX_HOLES {
                    return Err(refused(path, "brings the holes of this layer to more than 1 TiB").into());
                }
                check_place(content, stored)?;
                match regions {
                    Some(regions) => {
                        NodeKind::Sparse { size: *size, chunks: Box::new(Chunks::new(regions, *size, content)?) }
                    }
                    None => NodeKind::File { size: *size, content },
                }
            }
            Kind::Symlink(target) => NodeKind::Symlink(target.clone().into_boxed_slice()),
            Kind::Fifo => NodeKind::Fifo,
            Kind::Device { is_block, major, minor } => {
                NodeKind::Device { is_block: *is_block, major: *major, minor: *minor }
            }
            Kind::Directory | Kind::HardLink(_) => return Ok(()),
        };
        if self.nodes.child(directory, name).is_some() {
            self.nodes.remove(directory, name);
            self.parents.changed();
        }
        let made = self.nodes.insert(directory, name, Node::new(kind))?;
        self.set(made, path, entry)
    }

    /// Gives a node what its entry says of it; a directory keeps the attributes that an entry before it gave.
    fn set(&mut self, id: NodeId, path: &[u8], entry: &Entry) -> Result<(), IndexFault> {
        let node = &mut self.nodes[id];
        let is_symlink = matches!(node.kind, NodeKind::Symlink(_));
        let is_plain = matches!(node.kind, NodeKind::Directory(_) | NodeKind::File { .. } | NodeKind::Sparse { .. });
        node.mode = if is_symlink { 0o777 } else { entry.mode };
        (node.uid, node.gid, node.modified) = (entry.uid, entry.gid, entry.modified);
        for (name, value) in &entry.xattrs {
            if !xattrs::is_set(name, value, is_plain, path)? {
                self.skipped.xattrs += 1;
                continue;
            }
            self.nodes.charge(name.len() + value.len() + XATTR)?;
            let all = &mut self.nodes[id].xattrs;
            match all.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => all[at].1.clone_from(value),
                Err(at) => all.insert(at, (name.clone(), value.clone())),
            }
        }
        Ok(())
    }
}

fn check_place(content: u64, stored: u64) -> Result<(), Unsuitable> {
    if stored > 0 && !content.is_multiple_of(BLOCK) {
        return Err(Unsuitable::Unaligned);
    }
    match content.checked_add(stored) {
        Some(end) if end <= MAX_TAR => Ok(()),
        _ => Err(Unsuitable::TarTooLarge),
    }
}
