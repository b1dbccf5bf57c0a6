//! Reads a layer's tar out of its blob: gzip of any number of members, zstd of any number of frames, or plain.
//!
//! Which it is, its first bytes say, as for docker: registries have images whose media types are wrong. That lets nobody put
//! other files into a layer, as the diff ID is that of the tar.
//!
//! Bytes after the last member that are no member are an error: they would be part of the blob, but not of the layer.
//! When the tar ends, the blob has been read to its end and is therefore verified.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use oci::LayerCompression;

const BUFFER: usize = 128 << 10;
/// Bytes that tell the formats apart.
const START: u64 = 4;

/// Returns the tar that `blob` holds.
pub(crate) fn decompress<'a>(mut blob: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::new();
    blob.by_ref().take(START).read_to_end(&mut start)?;
    let compression = compression_of(&start);
    let blob = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(blob));
    Ok(match compression {
        LayerCompression::None => Box::new(blob),
        LayerCompression::Gzip => {
            Box::new(ToItsEnd { inner: MultiGzDecoder::new(blob), rest: MultiGzDecoder::get_mut })
        }
        LayerCompression::Zstd => {
            let inner = zstd::stream::read::Decoder::with_buffer(blob)?;
            Box::new(ToItsEnd { inner, rest: zstd::stream::read::Decoder::get_mut })
        }
    })
}

/// Tells how a blob is compressed that begins with `start`. No tar begins so, unless for its first file to have that name.
fn compression_of(start: &[u8]) -> LayerCompression {
    match start {
        [0x1f, 0x8b, ..] => LayerCompression::Gzip,
        // a frame, or one to be skipped
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => LayerCompression::Zstd,
        _ => LayerCompression::None,
    }
}

/// Fails when the decompressor ends before its input does.
struct ToItsEnd<D, R> {
    inner: D,
    rest: fn(&mut D) -> &mut R,
}

impl<D: Read, R: BufRead> Read for ToItsEnd<D, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() && !(self.rest)(&mut self.inner).fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes follow the compressed data"));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn check(blob: &[u8], expected: Option<&[u8]>) {
        let mut content = Vec::new();
        let result = decompress(blob).and_then(|mut reader| reader.read_to_end(&mut content));
        match expected {
            Some(expected) => assert_eq!((result.unwrap(), &content[..]), (expected.len(), expected)),
            None => assert!(result.is_err(), "{} bytes were accepted", content.len()),
        }
    }

    #[test]
    fn every_member_is_read_and_nothing_else_may_follow() {
        let (a, b) = (gzip(b"hello "), gzip(b"world"));
        let both = [a.clone(), b.clone()].concat();
        check(&both, Some(b"hello world"));
        check(&[both.clone(), b"garbage".to_vec()].concat(), None);
        check(&[both.clone(), vec![0; 512]].concat(), None);
        check(&[both.clone(), vec![0x1f]].concat(), None);
        check(&both[..both.len() - 1], None);
        check(&a[..a.len() - 6], None);
        let mut flipped = both.clone();
        flipped[a.len() - 8] ^= 1;
        check(&flipped, None);
        check(&a[..3], None);
    }

    #[test]
    fn zstd_frames_are_read_to_their_end() {
        let zstd = |content: &[u8]| zstd::stream::encode_all(content, 1).unwrap();
        let both = [zstd(b"hello "), zstd(b"world")].concat();
        check(&both, Some(b"hello world"));
        check(&[both.clone(), b"garbage".to_vec()].concat(), None);
        check(&both[..both.len() - 1], None);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &both].concat();
        check(&skipped, Some(b"hello world"));
    }

    #[test]
    fn a_plain_tar_is_passed_on() {
        for plain in [&b"anything"[..], b"", b"abc", b"\x1f", b"BZh9"] {
            check(plain, Some(plain));
        }
    }
}
