//! Reads a layer's tar out of its blob: gzip of any number of members, zstd of any number of frames, or plain.
//!
//! Bytes after the last member that are no member are an error: they would be part of the blob, but not of the layer.
//! When the tar ends, the blob has been read to its end and is therefore verified.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use oci::LayerCompression;

const BUFFER: usize = 128 << 10;

/// Returns the tar that `blob` holds.
pub(super) fn decompress<'a>(
    blob: impl Read + Send + 'a,
    compression: LayerCompression,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let blob = BufReader::with_capacity(BUFFER, blob);
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

    fn check(blob: &[u8], compression: LayerCompression, expected: Option<&[u8]>) {
        let mut content = Vec::new();
        let result = decompress(blob, compression).and_then(|mut reader| reader.read_to_end(&mut content));
        match expected {
            Some(expected) => assert_eq!((result.unwrap(), &content[..]), (expected.len(), expected)),
            None => assert!(result.is_err(), "{} bytes were accepted", content.len()),
        }
    }

    #[test]
    fn every_member_is_read_and_nothing_else_may_follow() {
        let (a, b) = (gzip(b"hello "), gzip(b"world"));
        let both = [a.clone(), b.clone()].concat();
        check(&both, LayerCompression::Gzip, Some(b"hello world"));
        check(&[both.clone(), b"garbage".to_vec()].concat(), LayerCompression::Gzip, None);
        check(&[both.clone(), vec![0; 512]].concat(), LayerCompression::Gzip, None);
        check(&[both.clone(), vec![0x1f]].concat(), LayerCompression::Gzip, None);
        check(&both[..both.len() - 1], LayerCompression::Gzip, None);
        check(&a[..a.len() - 6], LayerCompression::Gzip, None);
        let mut flipped = both.clone();
        flipped[a.len() - 8] ^= 1;
        check(&flipped, LayerCompression::Gzip, None);
        check(b"", LayerCompression::Gzip, None);
    }

    #[test]
    fn zstd_frames_are_read_to_their_end() {
        let zstd = |content: &[u8]| zstd::stream::encode_all(content, 1).unwrap();
        let both = [zstd(b"hello "), zstd(b"world")].concat();
        check(&both, LayerCompression::Zstd, Some(b"hello world"));
        check(&[both.clone(), b"garbage".to_vec()].concat(), LayerCompression::Zstd, None);
        check(&both[..both.len() - 1], LayerCompression::Zstd, None);
    }

    #[test]
    fn a_plain_tar_is_passed_on() {
        check(b"anything", LayerCompression::None, Some(b"anything"));
    }
}
