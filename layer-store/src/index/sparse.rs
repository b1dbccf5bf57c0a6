//! Files with holes: which chunks of the tar their regions are.
//!
//! A chunk is a power of two from 4096 bytes up, and is either a piece of the tar or a hole as a whole. So every region must begin
//! at a multiple of it, and end at one or with the file.

use tar_core::SparseEntry;

use super::Unsuitable;
use super::format::{BLOCK, NO_BLOCK};

/// Chunks are no smaller: the size of a page.
const MIN_BITS: u32 = 3;
/// Chunks are no larger (1 GiB), so that none begins in the tar and ends beyond what EROFS counts.
const MAX_BITS: u32 = 21;
/// Chunks of one file, at most.
const MAX_CHUNKS: u64 = 1 << 20;

/// Where a sparse file's chunks are.
#[derive(Debug)]
pub(super) struct Chunks {
    /// A chunk has 512 << `bits` bytes.
    pub(super) bits: u32,
    /// Blocks of the tar, or [`NO_BLOCK`] of a hole.
    pub(super) starts: Box<[u32]>,
}

impl Chunks {
    /// Finds the chunks of a file of `size` bytes, whose regions are stored one after the other from `content` on.
    pub(super) fn new(regions: &[SparseEntry], size: u64, content: u64) -> Result<Self, Unsuitable> {
        let regions = joined(regions);
        let is_aligned = |bits: u32| {
            let is_multiple = |at: u64| at.is_multiple_of(BLOCK << bits);
            regions.iter().all(|(from, to)| is_multiple(*from) && (is_multiple(*to) || *to == size))
        };
        let bits = (MIN_BITS..=MAX_BITS).rev().find(|bits| is_aligned(*bits)).ok_or(Unsuitable::Sparse)?;
        let chunk = BLOCK << bits;
        let count = size.div_ceil(chunk);
        if count > MAX_CHUNKS || !content.is_multiple_of(BLOCK) {
            return Err(Unsuitable::Sparse);
        }
        let count = usize::try_from(count).map_err(|_| Unsuitable::Sparse)?;
        let mut starts = vec![NO_BLOCK; count];
        let mut stored = content;
        for (from, to) in regions {
            for at in (from..to).step_by(usize::try_from(chunk).map_err(|_| Unsuitable::Sparse)?) {
                let start = u32::try_from((stored + (at - from)) / BLOCK).map_err(|_| Unsuitable::TarTooLarge)?;
                let index = usize::try_from(at / chunk).map_err(|_| Unsuitable::Sparse)?;
                starts[index] = start;
            }
            stored += to - from;
        }
        Ok(Self { bits, starts: starts.into_boxed_slice() })
    }

    /// Bytes that this takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.starts.len() * 4
    }
}

/// Returns where regions begin and end; those that touch are one, and empty ones none.
fn joined(regions: &[SparseEntry]) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for region in regions.iter().filter(|region| region.length > 0) {
        let (from, to) = (region.offset, region.offset + region.length);
        match joined.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => joined.push((from, to)),
        }
    }
    joined
}
