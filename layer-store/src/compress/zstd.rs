//! zstd frames: one for each piece, with its size and without a checksum (the blob has a digest).

use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

/// The encoder of one thread.
pub(super) struct Encoder {
    compressor: Compressor<'static>,
    /// Where frames are compressed to.
    buffer: Vec<u8>,
}

impl Encoder {
    /// Makes one for pieces of at most `piece` bytes.
    pub(super) fn new(level: u8, piece: usize) -> Self {
        let compressor = Compressor::new(level.into()).expect("the level is one that the encoder has");
        Self { compressor, buffer: vec![0; compress_bound(piece)] }
    }

    /// Makes one frame.
    pub(super) fn frame(&mut self, piece: &[u8]) -> Vec<u8> {
        let size = self.compressor.compress_to_buffer(piece, &mut self.buffer[..]);
        self.buffer[..size.expect("the buffer has room for the largest frame")].to_vec()
    }
}
