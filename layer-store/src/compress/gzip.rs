//! gzip members: one for each piece, time 0, no name, OS 255.
//!
//! Without a level, samples of a piece say how it is compressed ([`Effort`]). What would not shrink is stored.

use libdeflater::{CompressionLvl, Compressor};

/// The levels of the encoder: the quick one takes two thirds of the time, and 3 to 12 % more bytes.
const QUICK: u8 = 1;
const THOROUGH: u8 = 4;
/// Where samples of a piece begin, in quarters of it, and the bytes of each: half of what deflate looks back.
const SAMPLES: usize = 4;
const SAMPLE: usize = 16 << 10;

/// How a piece is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// Not at all: its samples shrink by less than 1 %.
    None,
    /// Quickly: its samples get at most 5 % larger by that.
    Quick,
    /// Thoroughly, or at the level that was asked for.
    Thorough,
}

/// The encoder of one thread.
pub(super) struct Encoder {
    /// `None` when a level was asked for.
    quick: Option<Compressor>,
    thorough: Compressor,
    /// Where things are compressed to.
    buffer: Vec<u8>,
}

impl Encoder {
    /// Makes one for pieces of at most `piece` bytes.
    pub(super) fn new(level: Option<u8>, piece: usize) -> Self {
        let at = |level: u8| {
            Compressor::new(CompressionLvl::new(level.into()).expect("the level is one that the encoder has"))
        };
        let mut thorough = at(level.unwrap_or(THOROUGH));
        let buffer = vec![0; thorough.deflate_compress_bound(piece)];
        Self { quick: level.is_none().then(|| at(QUICK)), thorough, buffer }
    }

    /// Makes one member.
    pub(super) fn member(&mut self, piece: &[u8]) -> Vec<u8> {
        const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let mut member = HEADER.to_vec();
        match self.deflate(piece) {
            Some(size) => member.extend_from_slice(&self.buffer[..size]),
            None => store(&mut member, piece),
        }
        member.extend(libdeflater::crc32(piece).to_le_bytes());
        let size = u32::try_from(piece.len()).expect("a piece is at most 1 MiB");
        member.extend(size.to_le_bytes());
        member
    }

    /// Compresses into the buffer, and returns how many bytes that gave; `None` when it is not worth it.
    fn deflate(&mut self, piece: &[u8]) -> Option<usize> {
        let compressor = match (self.effort(piece), &mut self.quick) {
            (Effort::None, _) => return None,
            (Effort::Quick, Some(quick)) => quick,
            (Effort::Quick | Effort::Thorough, _) => &mut self.thorough,
        };
        compressor.deflate_compress(piece, &mut self.buffer).ok().filter(|size| *size < piece.len())
    }

    /// Finds out by samples what a piece is worth.
    fn effort(&mut self, piece: &[u8]) -> Effort {
        let Some(quickly) = self.quick.as_mut().filter(|_| piece.len() >= 2 * SAMPLES * SAMPLE) else {
            return Effort::Thorough;
        };
        let (mut quick, mut thorough) = (0, 0);
        for start in (0..SAMPLES).map(|sample| piece.len() / SAMPLES * sample) {
            let sample = &piece[start..start + SAMPLE];
            quick += quickly.deflate_compress(sample, &mut self.buffer).unwrap_or(SAMPLE);
            thorough += self.thorough.deflate_compress(sample, &mut self.buffer).unwrap_or(SAMPLE);
        }
        match () {
            () if thorough * 100 >= SAMPLES * SAMPLE * 99 => Effort::None,
            () if quick * 100 <= thorough * 105 => Effort::Quick,
            () => Effort::Thorough,
        }
    }
}

/// Adds deflate blocks that hold `piece` as it is.
fn store(member: &mut Vec<u8>, piece: &[u8]) {
    let mut blocks = piece.chunks(usize::from(u16::MAX)).peekable();
    while let Some(block) = blocks.next() {
        let size = u16::try_from(block.len()).expect("blocks are cut to what 16 bits count");
        member.push(u8::from(blocks.peek().is_none()));
        member.extend(size.to_le_bytes());
        member.extend((!size).to_le_bytes());
        member.extend(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1 << 20;

    /// A sequence that does not shrink.
    fn noise() -> impl Iterator<Item = u8> {
        let mut state = 1_u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
    }

    fn effort(piece: &[u8], level: Option<u8>) -> Effort {
        Encoder::new(level, PIECE).effort(piece)
    }

    #[test]
    fn samples_say_what_a_piece_is_worth() {
        let noise: Vec<u8> = noise().take(PIECE).collect();
        assert_eq!(effort(&noise, None), Effort::None);
        assert_eq!(effort(&noise[..SAMPLE], None), Effort::Thorough, "it is hardly larger than its samples");
        assert_eq!(effort(&noise, Some(1)), Effort::Thorough, "nobody asks for samples");
        let words = noise.iter().flat_map(|byte| format!("word{} ", u32::from(*byte) * 7919).into_bytes());
        assert_eq!(effort(&words.take(PIECE).collect::<Vec<_>>(), None), Effort::Quick);
        let letters = noise.iter().map(|byte| b"etaoinshrdlu    "[usize::from(byte >> 4)]);
        assert_eq!(effort(&letters.collect::<Vec<_>>(), None), Effort::Thorough);
    }
}
