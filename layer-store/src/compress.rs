//! Compresses a layer: the tar that is here, or in a blob, or else of the tree, → blob, in parallel.
//!
//! ```text
//! tree ─tar─▶ pieces ─┬─▶ thread 0: pieces 0, n, 2n … ─┬─▶ compressed, in order ─hash─▶ blob
//!           (diff ID) └─▶ thread 1: pieces 1, n+1, …  ─┘
//! ```
//!
//! - Every piece is compressed by itself: a gzip member (`gzip`), a zstd frame (`zstd`), or as it is.
//! - Pieces go to the threads in turn through short queues and come back in the same turn: memory is bounded, and the bytes do
//!   not depend on the number of threads.
//! - The encoders, the sizes of pieces and how levels are chosen are part of the format: changing them changes the digests of
//!   blobs, not of layers.
//! - The tar's digest is compared with the layer's before the blob is kept.

mod gzip;
mod zstd;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use oci::{Algorithm, BlobError, BlobSource, Descriptor, DiffId, Hasher, LayerCompression};

use crate::apply::decompress::decompress;
use crate::file_error::failed;
use crate::lease::Held;
use crate::overlay::OverlayXattrs;
use crate::tar_form::TAR;
use crate::tree_tar::{self, TreeTarError};
use crate::{Compression, Encoding, FileError, LayerError, Store};

/// Pieces that wait for a thread, and compressed ones that wait behind an earlier one, per thread.
const QUEUE: usize = 1;
/// Bytes that are taken for one layer, at most; two are compressed at the same time.
const MEMORY: usize = 64 << 20;

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
    /// Returns a blob that the layer may go out as: one that is here, else one made now and kept.
    ///
    /// # Errors
    ///
    /// [`CompressError::Layer`] when the layer is not here, [`CompressError::NotOurs`] when its tar was written by others and
    /// their blob is gone.
    pub fn layer_blob(&self, diff_id: &DiffId, compression: Compression) -> Result<Descriptor, CompressError> {
        let record = self.layer(diff_id)?;
        if let Some(blob) = self.outgoing(&record, compression)?.into_iter().next() {
            return Ok(blob);
        }
        let temporary = self.temporary("blob")?;
        let blob = self.compress(diff_id, compression.encoding, &temporary);
        if blob.is_err() {
            // what remains goes with this command's directory in `tmp/`
            let _ = std::fs::remove_file(&temporary);
        }
        let blob = blob?;
        self.note_encoded(diff_id, compression.encoding, &blob)?;
        Ok(blob)
    }

    fn compress(&self, diff_id: &DiffId, encoding: Encoding, temporary: &Path) -> Result<Descriptor, CompressError> {
        let source = self.tar_source(diff_id)?;
        let file = File::create_new(temporary).map_err(failed("write", temporary))?;
        let output = Counting { inner: BufWriter::new(file), hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        let hasher = Hasher::new(diff_id.0.algorithm());
        let (written, output) = encode(output, encoding, threads(encoding), |pieces| {
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
        let blob = Descriptor::new(encoding.media_type(), output.hasher.finish(), output.size);
        let place = self.blob_path(&blob.digest);
        self.hold(Held::Blob(blob.digest.clone()), &place)?;
        self.place_blob(temporary, &blob.digest).map_err(failed("write", &place))?;
        Ok(blob)
    }

    /// Finds the layer's tar. A tree gives it only if it was built here: of others' tars we may not write every byte.
    fn tar_source(&self, diff_id: &DiffId) -> Result<Source, CompressError> {
        if let Some(tar) = self.open_layer_tar(diff_id)? {
            return Ok(Source::Tar(Box::new(tar)));
        }
        let record = self.layer(diff_id)?;
        if let Some(blob) = self.kept(record.blobs.iter())?.first() {
            let unreadable = |source| BlobError::Io { action: "read", digest: blob.digest.clone(), source };
            return Ok(Source::Tar(decompress(BlobSource::open(self, blob)?).map_err(unreadable)?));
        }
        Ok(Source::Tree(self.open_layer_tree(&record)?, self.overlay_xattrs()?))
    }
}

/// Returns how many threads compress a layer: as many as there are processors, and memory.
fn threads(encoding: Encoding) -> usize {
    // each has one piece at hand, one that is compressed, and two queues
    let fit = MEMORY / (encoding.piece() * (2 * QUEUE + 2) + encoding.memory());
    thread::available_parallelism().map_or(1, usize::from).min(fit)
}

/// What a layer's tar comes from.
enum Source {
    Tar(Box<dyn Read + Send>),
    Tree(OwnedFd, OverlayXattrs),
}

impl Source {
    fn write(mut self, tar: &mut impl Write) -> Result<(), TreeTarError> {
        match &mut self {
            Self::Tar(from) => copy(from, tar),
            Self::Tree(tree, xattrs) => tree_tar::write(tree, *xattrs, tar).map(drop),
        }
    }
}

fn copy(from: &mut impl Read, tar: &mut impl Write) -> Result<(), TreeTarError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => tar.write_all(&buffer[..count]).map_err(TreeTarError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(TreeTarError::Read { path: TAR.into(), source }),
        }
    }
}

/// Compresses what `write` writes into `output`, and returns what both end in.
fn encode<O, T>(
    mut output: O,
    encoding: Encoding,
    threads: usize,
    write: impl FnOnce(&mut Pieces) -> Result<T, TreeTarError> + Send,
) -> (Result<T, TreeTarError>, io::Result<O>)
where
    O: Write,
    T: Send,
{
    thread::scope(|scope| {
        let mut pieces = Vec::new();
        let mut encoded = Vec::new();
        for _ in 0..threads.max(1) {
            let (piece_in, piece_out) = sync_channel(QUEUE);
            let (encoded_in, encoded_out) = sync_channel(QUEUE);
            scope.spawn(move || encode_pieces(encoding, &piece_out, &encoded_in));
            pieces.push(piece_in);
            encoded.push(encoded_out);
        }
        let writer = scope.spawn(move || {
            let mut pieces = Pieces { threads: pieces, next: 0, size: encoding.piece(), piece: Vec::new() };
            let result = write(&mut pieces)?;
            pieces.send().map_err(TreeTarError::Write)?;
            Ok(result)
        });
        let written = in_turn(encoded, &mut output).and_then(|()| output.flush());
        let result = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (result, written.map(|()| output))
    })
}

/// Writes what is encoded in the order of the pieces. Dropping the queues early stops everybody else.
#[expect(clippy::needless_pass_by_value, reason = "the queues end with this function")]
fn in_turn(encoded: Vec<Receiver<Vec<u8>>>, output: &mut impl Write) -> io::Result<()> {
    for from in encoded.iter().cycle() {
        // pieces are sent in turn: the first thread without one is where they end
        let Ok(piece) = from.recv() else { return Ok(()) };
        output.write_all(&piece)?;
    }
    Ok(())
}

fn encode_pieces(encoding: Encoding, pieces: &Receiver<Vec<u8>>, encoded: &SyncSender<Vec<u8>>) {
    let mut encoder = Encoder::new(encoding);
    for piece in pieces {
        if encoded.send(encoder.encode(piece)).is_err() {
            return;
        }
    }
}

/// What compresses the pieces of one thread.
enum Encoder {
    None,
    Gzip(gzip::Encoder),
    Zstd(zstd::Encoder),
}

impl Encoder {
    fn new(encoding: Encoding) -> Self {
        let (level, piece) = (encoding.level(), encoding.piece());
        match encoding.compression() {
            LayerCompression::None => Self::None,
            LayerCompression::Gzip => Self::Gzip(gzip::Encoder::new(level, piece)),
            LayerCompression::Zstd => Self::Zstd(zstd::Encoder::new(level.expect("zstd has a default level"), piece)),
        }
    }

    fn encode(&mut self, piece: Vec<u8>) -> Vec<u8> {
        match self {
            Self::None => piece,
            Self::Gzip(encoder) => encoder.member(&piece),
            Self::Zstd(encoder) => encoder.frame(&piece),
        }
    }
}

/// Cuts what is written into pieces and hands them out in turn.
struct Pieces {
    threads: Vec<SyncSender<Vec<u8>>>,
    next: usize,
    /// Bytes of a full piece.
    size: usize,
    piece: Vec<u8>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.piece);
        let thread = &self.threads[self.next % self.threads.len()];
        self.next += 1;
        thread.send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece.reserve_exact(self.size);
        }
        let count = bytes.len().min(self.size - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == self.size {
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

    fn encoding(compression: LayerCompression, level: Option<u8>) -> Encoding {
        Encoding::new(compression, level).unwrap()
    }

    fn all() -> [Encoding; 5] {
        let [none, gzip, zstd] = [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd];
        [(none, None), (gzip, None), (gzip, Some(6)), (zstd, None), (zstd, Some(1))]
            .map(|(kind, level)| encoding(kind, level))
    }

    fn compress(content: &[u8], encoding: Encoding, threads: usize) -> Vec<u8> {
        let (written, output) =
            encode(Vec::new(), encoding, threads, |pieces| pieces.write_all(content).map_err(TreeTarError::Write));
        written.unwrap();
        output.unwrap()
    }

    fn decompress(blob: &[u8], encoding: Encoding) -> Vec<u8> {
        let mut read = Vec::new();
        match encoding.compression() {
            LayerCompression::None => read.extend_from_slice(blob),
            LayerCompression::Gzip => drop(flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut read).unwrap()),
            LayerCompression::Zstd => ::zstd::stream::copy_decode(blob, &mut read).unwrap(),
        }
        read
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        for encoding in all() {
            let piece = encoding.piece();
            for size in [1, 1000, piece, piece + 1, 3 * piece + 123] {
                let content = content(size);
                let one = compress(&content, encoding, 1);
                for threads in [2, 3, 8] {
                    assert!(
                        compress(&content, encoding, threads) == one,
                        "{encoding}: {size} bytes, {threads} threads"
                    );
                }
                assert!(decompress(&one, encoding) == content, "{encoding}: {size} bytes");
                let largest = size + (size / piece + 1) * (18 + piece.div_ceil(1 << 16) * 5);
                assert!(one.len() <= largest, "{encoding}: {size} grew to {}", one.len());
            }
        }
    }

    #[test]
    fn the_encoders_are_frozen() {
        // these digests change only together with the format's version
        let expected = [
            "sha256:28fceb174a78fc4f11d5478a2cfc45fdcfe9ae5726f4aec1e61da429053d8684",
            "sha256:d09debc1d5166beeea8ddb35890ed9c97b2e22569b40e64273e17c1ad3f1c89f",
            "sha256:1549af7d85cb03facbeb7449fd2286c9cf18d736ae71941323d7b25ff014e7bc",
            "sha256:ee2cf7c3e219e171e103129bc4d696080dd97dba5aa6f41771cd7af93d29e9c6",
        ];
        for (encoding, expected) in all().into_iter().skip(1).zip(expected) {
            let digest = oci::Digest::of(&compress(&content(3 << 20), encoding, 2));
            assert_eq!(digest.to_string(), expected, "{encoding}");
        }
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
        let content = content(12 << 20);
        let (written, output) =
            encode(Full, Encoding::default(), 2, |pieces| pieces.write_all(&content).map_err(TreeTarError::Write));
        assert!(written.is_err());
        assert_eq!(output.err().map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
    }
}
