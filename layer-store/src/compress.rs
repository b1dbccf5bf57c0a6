//! Compresses a layer: tree → tar, or the tar that is here, → gzip blob, in parallel.
//!
//! ```text
//! tree ─tar─▶ 1 MiB pieces ─┬─▶ thread 0: pieces 0, n, 2n … ─┬─▶ members in order ─hash─▶ blob
//!              (diff ID)    └─▶ thread 1: pieces 1, n+1, …  ─┘
//! ```
//!
//! - Every piece is a gzip member of its own: time 0, no name, OS 255. Samples of it say how it is compressed ([`Effort`]).
//! - Pieces go to the threads in turn through short queues and come back in the same turn: memory is bounded, and the bytes do
//!   not depend on the number of threads.
//! - The encoder and how its level is chosen are part of the format: changing them changes the digests of blobs, not of layers.
//! - The tar's digest is compared with the layer's before the blob is kept.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};
use oci::{Algorithm, BlobError, Descriptor, DiffId, Hasher, MediaType};

use crate::file_error::failed;
use crate::lease::Held;
use crate::overlay::OverlayXattrs;
use crate::tar_form::TAR;
use crate::tree_tar::{self, TreeTarError};
use crate::{FileError, LayerError, Store};

const PIECE: usize = 1 << 20;
/// The levels of the encoder: the quick one takes two thirds of the time, and 3 to 12 % more bytes.
const QUICK: i32 = 1;
const THOROUGH: i32 = 4;
/// Where samples of a piece begin, in quarters of it, and the bytes of each: half of what deflate looks back.
const SAMPLES: usize = 4;
const SAMPLE: usize = 16 << 10;
/// Pieces that wait for a thread, and members that wait behind an earlier one, per thread.
const QUEUE: usize = 2;

/// Why a layer could not be compressed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CompressError {
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("layer {diff_id} cannot be written as a tar")]
    Tree { diff_id: DiffId, source: TreeTarError },
    #[error(
        "layer {diff_id} was not made here, the blob it came from is gone, and its files as a tar have diff ID {actual}"
    )]
    NotOurs { diff_id: DiffId, actual: DiffId },
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Returns a blob that holds the layer: the one it came from if that is still here, else one made now and kept.
    ///
    /// # Errors
    ///
    /// [`CompressError::Layer`] when the layer is not here, [`CompressError::NotOurs`] when its tar was written by others and
    /// their blob is gone.
    pub fn layer_blob(&self, diff_id: &DiffId) -> Result<Descriptor, CompressError> {
        let record = self.layer(diff_id)?;
        if let Some(blob) = self.kept_blob(&record)? {
            return Ok(blob);
        }
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let temporary = self.temporary("blob")?;
        let blob = self.compress(diff_id, &temporary, threads);
        if blob.is_err() {
            // what remains goes with this command's directory in `tmp/`
            let _ = std::fs::remove_file(&temporary);
        }
        let blob = blob?;
        self.note_blob(diff_id, &blob)?;
        Ok(blob)
    }

    fn compress(&self, diff_id: &DiffId, temporary: &Path, threads: usize) -> Result<Descriptor, CompressError> {
        let source = match self.open_layer_tar(diff_id)? {
            Some(tar) => Source::Tar(tar),
            None => Source::Tree(self.open_layer_tree(&self.layer(diff_id)?)?, self.overlay_xattrs()?),
        };
        let file = File::create_new(temporary).map_err(failed("write", temporary))?;
        let output = Counting { inner: BufWriter::new(file), hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let hasher = Hasher::new(diff_id.0.algorithm());
        let (written, output) = gzip(output, threads, |pieces| {
            let mut tar = Hashing { inner: pieces, hasher };
            source.write(&mut tar)?;
            Ok(DiffId(tar.hasher.finish()))
        });
        // a failure to write stops the tar too, so it is looked at first
        let output = output.map_err(failed("write", temporary))?;
        let actual = written.map_err(|source| CompressError::Tree { diff_id: diff_id.clone(), source })?;
        if actual != *diff_id {
            return Err(CompressError::NotOurs { diff_id: diff_id.clone(), actual });
        }
        let blob = Descriptor::new(MediaType::OCI_LAYER_GZIP, output.hasher.finish(), output.size);
        let place = self.blob_path(&blob.digest);
        self.hold(Held::Blob(blob.digest.clone()), &place)?;
        self.place_blob(temporary, &blob.digest).map_err(failed("write", &place))?;
        Ok(blob)
    }
}

/// What a layer's tar comes from.
enum Source {
    Tar(io::Take<File>),
    Tree(OwnedFd, OverlayXattrs),
}

impl Source {
    fn write(mut self, tar: &mut impl Write) -> Result<(), TreeTarError> {
        match &mut self {
            Self::Tar(file) => copy(file, tar),
            Self::Tree(tree, xattrs) => tree_tar::write(tree, *xattrs, tar).map(drop),
        }
    }
}

fn copy(file: &mut impl Read, tar: &mut impl Write) -> Result<(), TreeTarError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => tar.write_all(&buffer[..count]).map_err(TreeTarError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(TreeTarError::Read { path: TAR.into(), source }),
        }
    }
}

/// Compresses what `write` writes into `output`, and returns what both end in.
fn gzip<O, T>(
    mut output: O,
    threads: usize,
    write: impl FnOnce(&mut Pieces) -> Result<T, TreeTarError> + Send,
) -> (Result<T, TreeTarError>, io::Result<O>)
where
    O: Write,
    T: Send,
{
    thread::scope(|scope| {
        let mut pieces = Vec::new();
        let mut members = Vec::new();
        for _ in 0..threads.max(1) {
            let (piece_in, piece_out) = sync_channel::<Vec<u8>>(QUEUE);
            let (member_in, member_out) = sync_channel(QUEUE);
            scope.spawn(move || compress_pieces(&piece_out, &member_in));
            pieces.push(piece_in);
            members.push(member_out);
        }
        let writer = scope.spawn(move || {
            let mut pieces = Pieces { threads: pieces, next: 0, piece: Vec::with_capacity(PIECE) };
            let result = write(&mut pieces)?;
            pieces.send().map_err(TreeTarError::Write)?;
            Ok(result)
        });
        let written = members_in_turn(members, &mut output).and_then(|()| output.flush());
        let result = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (result, written.map(|()| output))
    })
}

/// Writes members in the order of their pieces. Dropping the queues early stops everybody else.
fn members_in_turn(members: Vec<Receiver<Vec<u8>>>, output: &mut impl Write) -> io::Result<()> {
    for at in (0..members.len()).cycle() {
        // pieces are sent in turn: the first thread without one is where they end
        let Ok(member) = members[at].recv() else { return Ok(()) };
        output.write_all(&member)?;
    }
    Ok(())
}

fn compress_pieces(pieces: &Receiver<Vec<u8>>, members: &SyncSender<Vec<u8>>) {
    let mut compressors = Compressors::new();
    for piece in pieces {
        if members.send(compressors.member(&piece)).is_err() {
            return;
        }
    }
}

/// How a piece is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// Not at all: its samples shrink by less than 1 %.
    None,
    /// Quickly: its samples get at most 5 % larger by that.
    Quick,
    /// Thoroughly.
    Thorough,
}

/// The encoders of one thread.
struct Compressors {
    quick: Compressor,
    thorough: Compressor,
    /// Where samples are compressed to.
    buffer: Vec<u8>,
}

impl Compressors {
    fn new() -> Self {
        let at = |level| Compressor::new(CompressionLvl::new(level).expect("the level is one that the encoder has"));
        let (quick, mut thorough) = (at(QUICK), at(THOROUGH));
        let buffer = vec![0; thorough.deflate_compress_bound(SAMPLE)];
        Self { quick, thorough, buffer }
    }

    /// Finds out by samples what a piece is worth.
    fn effort(&mut self, piece: &[u8]) -> Effort {
        if piece.len() < 2 * SAMPLES * SAMPLE {
            return Effort::Thorough;
        }
        let (mut quick, mut thorough) = (0, 0);
        for start in (0..SAMPLES).map(|sample| piece.len() / SAMPLES * sample) {
            let sample = &piece[start..start + SAMPLE];
            quick += self.quick.deflate_compress(sample, &mut self.buffer).unwrap_or(SAMPLE);
            thorough += self.thorough.deflate_compress(sample, &mut self.buffer).unwrap_or(SAMPLE);
        }
        match () {
            () if thorough * 100 >= SAMPLES * SAMPLE * 99 => Effort::None,
            () if quick * 100 <= thorough * 105 => Effort::Quick,
            () => Effort::Thorough,
        }
    }

    /// Makes one gzip member.
    fn member(&mut self, piece: &[u8]) -> Vec<u8> {
        const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let mut member = HEADER.to_vec();
        match self.effort(piece) {
            Effort::None => store(&mut member, piece),
            Effort::Quick => deflate(&mut self.quick, &mut member, piece),
            Effort::Thorough => deflate(&mut self.thorough, &mut member, piece),
        }
        member.extend(libdeflater::crc32(piece).to_le_bytes());
        let size = u32::try_from(piece.len()).expect("a piece is at most 1 MiB");
        member.extend(size.to_le_bytes());
        member
    }
}

/// Adds `piece` compressed, or as it is if that is no larger.
fn deflate(compressor: &mut Compressor, member: &mut Vec<u8>, piece: &[u8]) {
    let start = member.len();
    member.resize(start + compressor.deflate_compress_bound(piece.len()), 0);
    match compressor.deflate_compress(piece, &mut member[start..]) {
        Ok(size) if size < piece.len() => member.truncate(start + size),
        _ => {
            member.truncate(start);
            store(member, piece);
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

/// Cuts what is written into pieces and hands them out in turn.
struct Pieces {
    threads: Vec<SyncSender<Vec<u8>>>,
    next: usize,
    piece: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let thread = &self.threads[self.next % self.threads.len()];
        self.next += 1;
        thread.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Hashing<'a> {
    inner: &'a mut Pieces,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Counting<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(size: usize) -> Vec<u8> {
        // half text that shrinks, half a sequence that does not
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        });
        let text = b"the quick brown fox ".iter().copied().cycle().take(size / 2);
        text.chain(noise.take(size - size / 2)).collect()
    }

    fn compress(content: &[u8], threads: usize) -> Vec<u8> {
        let (written, output) =
            gzip(Vec::new(), threads, |pieces| pieces.write_all(content).map_err(TreeTarError::Write));
        written.unwrap();
        output.unwrap()
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        for size in [1, 1000, PIECE, PIECE + 1, 5 * PIECE + 123] {
            let content = content(size);
            let one = compress(&content, 1);
            for threads in [2, 3, 8] {
                assert!(compress(&content, threads) == one, "{size} bytes with {threads} threads");
            }
            let mut read = Vec::new();
            flate2::read::MultiGzDecoder::new(&one[..]).read_to_end(&mut read).unwrap();
            assert!(read == content);
            assert!(one.len() <= size + (size / PIECE + 1) * (18 + 5 * 17), "{size} grew to {}", one.len());
        }
    }

    #[test]
    fn samples_say_what_a_piece_is_worth() {
        let mut compressors = Compressors::new();
        let effort = |piece: Vec<u8>| Compressors::new().effort(&piece);
        let noise = content(4 * PIECE)[2 * PIECE..3 * PIECE].to_vec();
        assert_eq!(compressors.effort(&noise), Effort::None);
        assert_eq!(compressors.effort(&noise[..SAMPLE]), Effort::Thorough, "it is hardly larger than its samples");
        let words = noise.iter().flat_map(|byte| format!("word{} ", u32::from(*byte) * 7919).into_bytes());
        assert_eq!(effort(words.take(PIECE).collect()), Effort::Quick);
        let letters = noise.iter().map(|byte| b"etaoinshrdlu    "[usize::from(byte >> 4)]);
        assert_eq!(effort(letters.collect()), Effort::Thorough);
    }

    #[test]
    fn the_encoder_is_frozen() {
        // these digests change only together with the format's version
        let digest = oci::Digest::of(&compress(&content(3 * PIECE), 2));
        assert_eq!(digest.to_string(), "sha256:28fceb174a78fc4f11d5478a2cfc45fdcfe9ae5726f4aec1e61da429053d8684");
    }

    #[test]
    fn an_output_that_fails_ends_everything() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let content = content(12 * PIECE);
        let (written, output) = gzip(Full, 2, |pieces| pieces.write_all(&content).map_err(TreeTarError::Write));
        assert!(written.is_err());
        assert_eq!(output.err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    }
}
