//! Lays out nodes as an EROFS image, and writes it from its beginning to its end.
//!
//! | node | data |
//! |---|---|
//! | directory | its entries and `.` and `..`, sorted by bytes, in blocks that no entry crosses |
//! | symbolic link | its target |
//! | file | one chunk that holds all of it; of a sparse one as many as it takes; none of an empty one |
//! | whiteout | none: a character device 0:0. Not written into opaque directories but the root: they hide everything anyway |
//!
//! - The last block of directories and links lies behind the inode where it fits into one block with it, the others behind all
//!   inodes.
//! - A directory with whiteouts gets overlay's empty `origin`: without it overlay lists the names of whiteouts in directories that
//!   are in no other layer.
//! - Nodes are written in the order in which they came, each once.

use std::io::{self, Write};

use super::Unsuitable;
use super::format::{
    BLOCK, BLOCK_SIZE, CHECKSUM, DIRENT, HEAD, INODE, INODES, Inode, Layout, MAX_XATTRS, NO_BLOCK, SLOT, SUPERBLOCK,
    Superblock, XATTR_HEADER, checksum, chunk, chunk_format, kind, put,
};
use super::nodes::{Node, NodeId, NodeKind, Nodes};
use super::xattrs::PREFIXES;

const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const ORIGIN: &[u8] = b"trusted.overlay.origin";

/// An index that is ready to be written.
#[derive(Debug)]
pub(crate) struct IndexImage {
    nodes: Nodes,
    /// By node.
    places: Vec<Place>,
    superblock: Superblock,
    /// Where the blocks behind the inodes begin.
    data: u32,
}

/// Where a node is in the image.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// Its number: its offset in units of [`SLOT`]; zero of what is not written.
    nid: u32,
    /// Its first block, counted from where they begin.
    block: u32,
    is_holding_whiteouts: bool,
}

/// What a node takes beside its inode and its attributes.
struct Shape {
    layout: Layout,
    /// Blocks behind all inodes.
    blocks: usize,
    /// Bytes behind its own.
    behind: usize,
}

impl IndexImage {
    pub(super) fn new(nodes: Nodes, tar_size: u64) -> Result<Self, Unsuitable> {
        let tar_blocks = u32::try_from(tar_size / BLOCK).map_err(|_| Unsuitable::TarTooLarge)?;
        let places = vec![Place::default(); nodes.all().count()];
        let mut image =
            Self { nodes, places, superblock: Superblock { root: 0, inodes: 0, blocks: 0, tar_blocks }, data: 0 };
        image.note_whiteouts();
        image.lay_out()?;
        Ok(image)
    }

    /// Writes the image.
    pub(crate) fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let mut output = Output { inner: output, head: Vec::with_capacity(HEAD), position: 0 };
        output.pad_to(SUPERBLOCK as u64)?;
        output.write(&self.superblock.encode())?;
        for (serial, (id, node)) in (1..).zip(self.written()) {
            output.pad_to(u64::from(self.places[id.index()].nid) * SLOT)?;
            let xattrs = self.xattrs(id, node).map_err(io::Error::other)?;
            let inode = self.inode(id, node, serial, xattrs.len());
            output.write(&inode.encode())?;
            output.write(&xattrs)?;
            self.write_rest(id, node, inode.layout, &mut output)?;
        }
        output.pad_to(u64::from(self.data) * BLOCK)?;
        for (id, node) in self.written() {
            self.write_blocks(id, node, &mut output)?;
        }
        output.pad_to(u64::from(self.superblock.blocks) * BLOCK)
    }

    /// The nodes that are in the image.
    fn written(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.all().filter(|(id, _)| self.places[id.index()].nid != 0)
    }

    fn is_opaque(&self, id: NodeId) -> bool {
        self.nodes[id].directory().is_some_and(|directory| directory.is_opaque)
    }

    fn is_shown(&self, parent: NodeId, id: NodeId) -> bool {
        let is_whiteout = matches!(self.nodes[id].kind, NodeKind::Whiteout);
        // overlay does not ask the root whether it is opaque
        !is_whiteout || parent == NodeId::ROOT || !self.is_opaque(parent)
    }

    /// Finds the directories that hold whiteouts, and marks what is shown.
    fn note_whiteouts(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        places[NodeId::ROOT.index()].nid = 1;
        for (parent, _, id) in self.nodes.names().filter(|(parent, _, id)| self.is_shown(*parent, *id)) {
            places[id.index()].nid = 1;
            places[parent.index()].is_holding_whiteouts |= matches!(self.nodes[id].kind, NodeKind::Whiteout);
        }
        self.places = places;
    }

    /// Gives each node its place.
    fn lay_out(&mut self) -> Result<(), Unsuitable> {
        let mut places = self.places.clone();
        let (mut end, mut blocks, mut inodes) = (INODES, 0, 0);
        for (id, node) in self.written() {
            let core = INODE + self.xattrs(id, node)?.len();
            let shape = self.shape(id, node, core);
            let mut at = end.next_multiple_of(SLOT);
            let behind = at + core as u64;
            if shape.layout == Layout::Inline && behind / BLOCK != (behind + shape.behind as u64 - 1) / BLOCK {
                at = at.next_multiple_of(BLOCK);
            }
            let place = &mut places[id.index()];
            (place.nid, place.block) = (narrow(at / SLOT)?, narrow(blocks)?);
            end = at + (core + shape.behind) as u64;
            blocks += shape.blocks as u64;
            inodes += 1;
        }
        let data = end.max(HEAD as u64).div_ceil(BLOCK);
        // the root is the first, in one of the first blocks
        let root = u16::try_from(places[NodeId::ROOT.index()].nid).map_err(|_| Unsuitable::TooMuchMetadata)?;
        (self.places, self.data) = (places, narrow(data)?);
        self.superblock = Superblock { root, inodes, blocks: narrow(data + blocks)?, ..self.superblock };
        Ok(())
    }

    fn shape(&self, id: NodeId, node: &Node, core: usize) -> Shape {
        let size = match &node.kind {
            NodeKind::Directory(_) => self.directory_size(id),
            NodeKind::Symlink(target) => target.len(),
            kind => match chunks(kind) {
                (_, 0) => return Shape { layout: Layout::Plain, blocks: 0, behind: 0 },
                (_, count) => {
                    let behind = core.next_multiple_of(8) - core + 8 * count;
                    return Shape { layout: Layout::Chunks, blocks: 0, behind };
                }
            },
        };
        let blocks = size.div_ceil(BLOCK_SIZE);
        let tail = size - BLOCK_SIZE * (blocks - 1);
        match core + tail <= BLOCK_SIZE {
            true => Shape { layout: Layout::Inline, blocks: blocks - 1, behind: tail },
            false => Shape { layout: Layout::Plain, blocks, behind: 0 },
        }
    }

    fn inode(&self, id: NodeId, node: &Node, serial: u32, xattrs: usize) -> Inode {
        let shape = self.shape(id, node, INODE + xattrs);
        let (start, size) = match &node.kind {
            NodeKind::Directory(_) | NodeKind::Symlink(_) => {
                let first = if shape.blocks == 0 { NO_BLOCK } else { self.data + self.places[id.index()].block };
                let size =
                    if let NodeKind::Symlink(target) = &node.kind { target.len() } else { self.directory_size(id) };
                (first, size as u64)
            }
            NodeKind::File { size, .. } | NodeKind::Sparse { size, .. } => match chunks(&node.kind) {
                (_, 0) => (NO_BLOCK, *size),
                (bits, _) => (chunk_format(bits), *size),
            },
            NodeKind::Device { major, minor, .. } => ((minor & 0xff) + (major << 8) + ((minor & !0xff) << 12), 0),
            NodeKind::Fifo | NodeKind::Whiteout | NodeKind::Gone => (0, 0),
        };
        let mode = mode(node);
        let Node { uid, gid, modified, links, .. } = *node;
        Inode { layout: shape.layout, xattrs, mode, size, start, serial, uid, gid, modified, links }
    }

    /// Writes what lies behind a node's inode and its attributes.
    fn write_rest(
        &self,
        id: NodeId,
        node: &Node,
        layout: Layout,
        output: &mut Output<'_, impl Write>,
    ) -> io::Result<()> {
        match (&node.kind, layout) {
            (NodeKind::Directory(_), Layout::Inline) => {
                output.write(&self.directory_blocks(id).last().unwrap_or_default())
            }
            (NodeKind::Symlink(target), Layout::Inline) => {
                output.write(target.chunks(BLOCK_SIZE).last().unwrap_or_default())
            }
            (NodeKind::File { content, .. }, Layout::Chunks) => {
                output.pad_to(output.position.next_multiple_of(8))?;
                // no tar has more blocks than this counts
                output.write(&chunk(u32::try_from(*content / BLOCK).map_err(io::Error::other)?))
            }
            (NodeKind::Sparse { chunks, .. }, Layout::Chunks) => {
                output.pad_to(output.position.next_multiple_of(8))?;
                chunks.starts.iter().try_for_each(|start| output.write(&chunk(*start)))
            }
            _ => Ok(()),
        }
    }

    /// Writes those blocks of a node that lie behind all inodes.
    fn write_blocks(&self, id: NodeId, node: &Node, output: &mut Output<'_, impl Write>) -> io::Result<()> {
        let count = self.shape(id, node, INODE + self.xattrs(id, node).map_err(io::Error::other)?.len()).blocks;
        let mut write = |block: &[u8]| {
            output.write(block)?;
            output.pad_to(output.position.next_multiple_of(BLOCK))
        };
        match &node.kind {
            _ if count == 0 => Ok(()),
            NodeKind::Directory(_) => self.directory_blocks(id).take(count).try_for_each(|block| write(&block)),
            NodeKind::Symlink(target) => target.chunks(BLOCK_SIZE).take(count).try_for_each(write),
            _ => Ok(()),
        }
    }

    /// Returns the extended attributes of a node as they are written.
    fn xattrs(&self, id: NodeId, node: &Node) -> Result<Vec<u8>, Unsuitable> {
        let opaque: Option<(&[u8], &[u8])> = self.is_opaque(id).then_some((OPAQUE, b"y"));
        let origin: Option<(&[u8], &[u8])> = self.places[id.index()].is_holding_whiteouts.then_some((ORIGIN, b""));
        let own = node.xattrs.iter().map(|(name, value)| (&name[..], &value[..]));
        let mut bytes = Vec::new();
        for (name, value) in own.chain(opaque).chain(origin) {
            bytes.resize(bytes.len().max(XATTR_HEADER), 0);
            let prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
            let (prefix, index) = prefix.ok_or(Unsuitable::Xattrs)?;
            let name = &name[prefix.len()..];
            bytes.extend([u8::try_from(name.len()).map_err(|_| Unsuitable::Xattrs)?, *index]);
            bytes.extend(u16::try_from(value.len()).map_err(|_| Unsuitable::Xattrs)?.to_le_bytes());
            bytes.extend(name);
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        if bytes.len() > MAX_XATTRS { Err(Unsuitable::Xattrs) } else { Ok(bytes) }
    }

    /// The entries of a directory as they are written, sorted by bytes.
    fn entries(&self, id: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
        let parent = self.nodes[id].directory().map_or(NodeId::ROOT, |directory| directory.parent);
        let mut own = [(&b"."[..], id), (&b".."[..], parent)].into_iter().peekable();
        let mut children = self.nodes.children(id).filter(move |(_, child)| self.is_shown(id, *child)).peekable();
        std::iter::from_fn(move || match (own.peek(), children.peek()) {
            (Some((own_name, _)), Some((name, _))) if name < own_name => children.next(),
            (Some(_), _) => own.next(),
            (None, _) => children.next(),
        })
    }

    /// The blocks of a directory, without zeros at their ends.
    fn directory_blocks(&self, id: NodeId) -> impl Iterator<Item = Vec<u8>> {
        let mut entries = self.entries(id).peekable();
        std::iter::from_fn(move || {
            let mut block = Vec::new();
            let mut used = 0;
            while let Some((name, id)) = entries.next_if(|(name, _)| used + DIRENT + name.len() <= BLOCK_SIZE) {
                used += DIRENT + name.len();
                block.push((name, id));
            }
            (!block.is_empty()).then(|| self.directory_block(&block))
        })
    }

    fn directory_block(&self, entries: &[(&[u8], NodeId)]) -> Vec<u8> {
        let mut block = vec![0; DIRENT * entries.len()];
        for (index, (name, id)) in entries.iter().enumerate() {
            let at = index * DIRENT;
            put(&mut block, at, &u64::from(self.places[id.index()].nid).to_le_bytes());
            let offset = u16::try_from(block.len()).unwrap_or(u16::MAX);
            put(&mut block, at + 8, &offset.to_le_bytes());
            block[at + 10] = file_type(&self.nodes[*id]);
            block.extend(*name);
        }
        block
    }

    fn directory_size(&self, id: NodeId) -> usize {
        let (full, last) = self.entries(id).fold((0, 0), |(full, used), (name, _)| {
            let size = DIRENT + name.len();
            if used + size <= BLOCK_SIZE { (full, used + size) } else { (full + BLOCK_SIZE, size) }
        });
        full + last
    }
}

/// Returns the bits of a file's chunks and their number.
fn chunks(kind: &NodeKind) -> (u32, usize) {
    match kind {
        NodeKind::File { size: 0, .. } => (0, 0),
        // the smallest chunk that holds all of it: with a larger one block numbers would wrap on some kernels
        NodeKind::File { size, .. } => (size.div_ceil(BLOCK).next_power_of_two().trailing_zeros(), 1),
        NodeKind::Sparse { chunks, .. } => (chunks.bits, chunks.starts.len()),
        _ => (0, 0),
    }
}

fn mode(node: &Node) -> u16 {
    let kind = match &node.kind {
        NodeKind::Directory(_) => kind::DIRECTORY,
        NodeKind::File { .. } | NodeKind::Sparse { .. } => kind::FILE,
        NodeKind::Symlink(_) => kind::SYMLINK,
        NodeKind::Fifo => kind::FIFO,
        NodeKind::Device { is_block: true, .. } => kind::BLOCK,
        NodeKind::Device { .. } | NodeKind::Whiteout | NodeKind::Gone => kind::CHARACTER,
    };
    let permissions = if let NodeKind::Whiteout = node.kind { 0 } else { node.mode & 0o7777 };
    kind | u16::try_from(permissions).unwrap_or(0)
}

/// Returns what a directory says of an entry's kind.
fn file_type(node: &Node) -> u8 {
    match mode(node) & kind::MASK {
        kind::FILE => 1,
        kind::DIRECTORY => 2,
        kind::CHARACTER => 3,
        kind::BLOCK => 4,
        kind::FIFO => 5,
        _ => 7,
    }
}

fn narrow(number: u64) -> Result<u32, Unsuitable> {
    u32::try_from(number).map_err(|_| Unsuitable::TooMuchMetadata)
}

/// Writes what comes, and puts the checksum into the head once that is whole.
struct Output<'a, W> {
    inner: &'a mut W,
    head: Vec<u8>,
    position: u64,
}

impl<W: Write> Output<'_, W> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.position += bytes.len() as u64;
        if self.head.len() < HEAD {
            let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
            self.head.extend(head);
            bytes = rest;
            if let Ok(head) = <&mut [u8; HEAD]>::try_from(&mut self.head[..]) {
                let checksum = checksum(head);
                put(head, SUPERBLOCK + CHECKSUM, &checksum.to_le_bytes());
                self.inner.write_all(head)?;
            }
        }
        self.inner.write_all(bytes)
    }

    fn pad_to(&mut self, position: u64) -> io::Result<()> {
        while self.position < position {
            let count = usize::try_from(position - self.position).unwrap_or(usize::MAX).min(BLOCK_SIZE);
            self.write(&[0; BLOCK_SIZE][..count])?;
        }
        Ok(())
    }
}
