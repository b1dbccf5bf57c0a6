//! The numbers of an EROFS image as it is written and read here.
//!
//! ```text
//! 0     1024        1152         1280
//! zeros superblock  device slot  root inode, inodes …  ┆ blocks of directories and long links …
//!                                each: 64 bytes, extended attributes, the last bytes of its data or its chunks
//! ```
//!
//! Blocks have 512 bytes, as in a tar, so a file's content begins with a block of the tar. Inodes are the extended ones and lie at
//! multiples of 32, which are their numbers. Integers are little-endian.

use crate::sys::Time;

/// Bytes of a block.
pub(super) const BLOCK_SIZE: usize = 512;
/// Bytes of a block, where places in files are counted.
pub(super) const BLOCK: u64 = BLOCK_SIZE as u64;
/// Where the superblock is, and its checksum in it.
pub(super) const SUPERBLOCK: usize = 1024;
pub(super) const CHECKSUM: usize = 4;
/// The part that the superblock's checksum covers ends here: with the block that the superblock begins.
pub(super) const HEAD: usize = 1536;
/// Where inodes begin. The root is the first; it lies here unless what follows it would cross into the next block.
pub(super) const INODES: u64 = 1280;
/// Inodes lie at multiples of this.
pub(super) const SLOT: u64 = 32;
/// Bytes of an inode.
pub(super) const INODE: usize = 64;
/// Bytes of what a directory holds for each entry beside its name.
pub(super) const DIRENT: usize = 12;
/// Bytes before the first extended attribute.
pub(super) const XATTR_HEADER: usize = 12;
/// Stands for no block.
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// Bits of a mode that tell what a file is.
pub(super) mod kind {
    pub(crate) const MASK: u16 = 0o170_000;
    pub(crate) const FIFO: u16 = 0o010_000;
    pub(crate) const CHARACTER: u16 = 0o020_000;
    pub(crate) const DIRECTORY: u16 = 0o040_000;
    pub(crate) const BLOCK: u16 = 0o060_000;
    pub(crate) const FILE: u16 = 0o100_000;
    pub(crate) const SYMLINK: u16 = 0o120_000;
}

const MAGIC: u32 = 0xE0F5_E1E2;
const HAS_CHECKSUM: u32 = 1;
const CHUNKED_AND_DEVICES: u32 = 0xC;
const BLOCK_BITS: u8 = 9;
/// Marks an extended inode in the format of an inode.
const EXTENDED: u16 = 1;
/// Marks a chunk index of 8-byte entries in the format of chunks.
const CHUNK_ENTRIES: u32 = 0x20;

/// How an inode's data is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks of the image.
    Plain,
    /// In blocks of the image, and what is left of the last one right behind the inode.
    Inline,
    /// In the tar.
    Chunks,
}

/// What an image says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    /// The number of the root inode.
    pub(super) root: u16,
    pub(super) inodes: u64,
    /// Blocks of the image.
    pub(super) blocks: u32,
    /// Blocks of the tar.
    pub(super) tar_blocks: u32,
}

impl Superblock {
    /// Writes the superblock and the device slot behind it, with a checksum of zero.
    pub(super) fn encode(self) -> [u8; 256] {
        let mut bytes = [0; 256];
        put(&mut bytes, 0, &MAGIC.to_le_bytes());
        put(&mut bytes, 8, &HAS_CHECKSUM.to_le_bytes());
        bytes[12] = BLOCK_BITS;
        put(&mut bytes, 14, &self.root.to_le_bytes());
        put(&mut bytes, 16, &self.inodes.to_le_bytes());
        put(&mut bytes, 36, &self.blocks.to_le_bytes());
        put(&mut bytes, 80, &CHUNKED_AND_DEVICES.to_le_bytes());
        put(&mut bytes, 86, &1_u16.to_le_bytes());
        put(&mut bytes, 88, &9_u16.to_le_bytes());
        put(&mut bytes, 128 + 64, &self.tar_blocks.to_le_bytes());
        bytes
    }

    /// Reads the first [`HEAD`] bytes of an image; `None` when they are not what is written here.
    pub(super) fn decode(head: &[u8; HEAD]) -> Option<Self> {
        let bytes = &head[SUPERBLOCK..];
        let (root, inodes) = (u16_at(bytes, 14), u64_at(bytes, 16));
        let found = Self { root, inodes, blocks: u32_at(bytes, 36), tar_blocks: u32_at(bytes, 128 + 64) };
        let mut expected = found.encode();
        put(&mut expected, CHECKSUM, &checksum(head).to_le_bytes());
        (bytes[..256] == expected).then_some(found)
    }
}

/// Returns the checksum of an image's head, whatever stands where it is written: CRC-32C without the final inversion.
pub(super) fn checksum(head: &[u8; HEAD]) -> u32 {
    let at = SUPERBLOCK + CHECKSUM;
    let covered = head[SUPERBLOCK..at].iter().chain(&[0; 4]).chain(&head[at + 4..]);
    covered.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

/// An inode without what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) layout: Layout,
    /// Bytes of extended attributes that follow, with their header: zero, or 16 or more.
    pub(super) xattrs: usize,
    pub(super) mode: u16,
    pub(super) size: u64,
    /// The first block, the format of the chunks, or the number of a device.
    pub(super) start: u32,
    pub(super) serial: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: Time,
    pub(super) links: u32,
}

impl Inode {
    pub(super) fn encode(&self) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        let layout = match self.layout {
            Layout::Plain => 0,
            Layout::Inline => 2,
            Layout::Chunks => 4,
        };
        put(&mut bytes, 0, &(EXTENDED + 2 * layout).to_le_bytes());
        put(&mut bytes, 2, &xattr_count(self.xattrs).to_le_bytes());
        put(&mut bytes, 4, &self.mode.to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &self.start.to_le_bytes());
        put(&mut bytes, 20, &self.serial.to_le_bytes());
        put(&mut bytes, 24, &self.uid.to_le_bytes());
        put(&mut bytes, 28, &self.gid.to_le_bytes());
        put(&mut bytes, 32, &self.modified.seconds.to_le_bytes());
        put(&mut bytes, 40, &self.modified.nanoseconds.to_le_bytes());
        put(&mut bytes, 44, &self.links.to_le_bytes());
        bytes
    }

    /// Reads an inode; `None` when it has a form that is not written here.
    pub(super) fn decode(bytes: &[u8; INODE]) -> Option<Self> {
        let layout = match u16_at(bytes, 0).checked_sub(EXTENDED)? {
            0 => Layout::Plain,
            4 => Layout::Inline,
            8 => Layout::Chunks,
            _ => return None,
        };
        let xattrs = match u16_at(bytes, 2) {
            0 => 0,
            1 => return None,
            count => XATTR_HEADER + 4 * (usize::from(count) - 1),
        };
        let seconds = i64::from_le_bytes(*bytes[32..].first_chunk()?);
        Some(Self {
            layout,
            xattrs,
            mode: u16_at(bytes, 4),
            size: u64_at(bytes, 8),
            start: u32_at(bytes, 16),
            serial: u32_at(bytes, 20),
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            modified: Time { seconds, nanoseconds: u32_at(bytes, 40) },
            links: u32_at(bytes, 44),
        })
    }
}

/// Returns how an inode counts its extended attributes, or the largest number when there are too many.
fn xattr_count(bytes: usize) -> u16 {
    match bytes.checked_sub(XATTR_HEADER) {
        None => 0,
        Some(entries) => u16::try_from(1 + entries / 4).unwrap_or(u16::MAX),
    }
}

/// Bytes of a file's extended attributes, with their header, at most.
pub(super) const MAX_XATTRS: usize = XATTR_HEADER + 4 * (u16::MAX as usize - 1);

/// Returns the format of chunks of 512 << `bits` bytes, which stands where an inode's first block would.
pub(super) fn chunk_format(bits: u32) -> u32 {
    CHUNK_ENTRIES + bits
}

/// Returns the bits that [`chunk_format`] was made of.
pub(super) fn chunk_bits(format: u32) -> Option<u32> {
    format.checked_sub(CHUNK_ENTRIES).filter(|bits| *bits < 32)
}

/// Writes one entry of a chunk index.
pub(super) fn chunk(start: u32) -> [u8; 8] {
    let device: u8 = if start == NO_BLOCK { 0 } else { 1 };
    let [a, b, c, d] = start.to_le_bytes();
    [0, 0, device, 0, a, b, c, d]
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Reads a number; zero beyond the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// Reads a number; zero beyond the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Reads a number; zero beyond the end.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
