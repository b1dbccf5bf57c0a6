//! Tells tar archives from other bytes, and decompresses them.
//!
//! | the bytes | are |
//! |---|---|
//! | begin with the header of a tar entry | a tar |
//! | gzip, bzip2, xz or zstd, and what comes out begins so | a tar |
//! | of one of these, and nothing that looks like a tar comes out | compressed, but no tar |
//! | anything else | no tar |
//!
//! Only content counts, never a name. Everything is decompressed here, never by a program of the image or the host.

use std::io::{self, BufReader, Cursor, Read};

/// Bytes by which a compression is told.
const MAGIC: usize = 6;
const BLOCK: usize = 512;
const BUFFER: usize = 256 << 10;
/// KiB that decoding xz may take: `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 160 << 10;

/// A stream of bytes.
pub type Bytes = Box<dyn Read + Send>;

/// What a stream of bytes turned out to be.
pub enum Content {
    /// A tar archive: its bytes, decompressed.
    Tar(Bytes),
    /// Compressed by the method of this name, but no tar comes out.
    Compressed(&'static str),
    /// Anything else: all of its bytes.
    Other(Bytes),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tar(_) => "Tar",
            Self::Compressed(method) => method,
            Self::Other(_) => "Other",
        })
    }
}

/// Reads the beginning of `bytes` and tells what they are.
///
/// # Errors
///
/// Any error of reading `bytes`.
pub fn content(mut bytes: impl Read + Send + 'static) -> io::Result<Content> {
    let magic = beginning(&mut bytes, MAGIC)?;
    let (method, mut plain) = decompressed(magic, bytes)?;
    let header = match (beginning(&mut plain, BLOCK), method) {
        (Ok(header), _) => header,
        // what only looks compressed cannot be decompressed
        (Err(_), Some(method)) => return Ok(Content::Compressed(method)),
        (Err(error), None) => return Err(error),
    };
    let is_tar = is_tar_header(&header);
    let plain = Box::new(Cursor::new(header).chain(plain));
    Ok(match method {
        _ if is_tar => Content::Tar(plain),
        Some(method) => Content::Compressed(method),
        None => Content::Other(plain),
    })
}

/// Reads the first `count` bytes, or as many as there are.
fn beginning(bytes: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut read = Vec::with_capacity(count);
    bytes.take(count as u64).read_to_end(&mut read)?;
    Ok(read)
}

/// Chooses a decoder by the first bytes, which were read already, and names its method; `None` for bytes as they are.
fn decompressed(magic: Vec<u8>, rest: impl Read + Send + 'static) -> io::Result<(Option<&'static str>, Bytes)> {
    let method: Option<&str> = match magic[..] {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        _ => None,
    };
    let bytes = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(rest));
    let bytes: Bytes = match method {
        Some("gzip") => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
        Some("bzip2") => Box::new(bzip2::bufread::MultiBzDecoder::new(bytes)),
        Some("zstd") => Box::new(zstd::stream::read::Decoder::with_buffer(bytes)?),
        Some(_) => Box::new(lzma_rust2::XzReader::new_mem_limit(bytes, true, XZ_MEMORY)),
        None => Box::new(bytes),
    };
    Ok((method, bytes))
}

/// Checks the sum that every tar header has.
///
/// Spec: POSIX pax, "ustar Interchange Format": the sum counts its own field as blanks.
pub(crate) fn is_tar_header(header: &[u8]) -> bool {
    if header.len() < BLOCK {
        return false;
    }
    let digits = header[148..156].iter().skip_while(|byte| **byte == b' ').take_while(|byte| byte.is_ascii_digit());
    let stored: String = digits.map(|byte| char::from(*byte)).collect();
    let Ok(stored) = u32::from_str_radix(&stored, 8) else { return false };
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) })
        .sum();
    stored == sum
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn header() -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        header
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &str, rest: &[u8]) {
        let content = content(Cursor::new(bytes.to_vec())).unwrap();
        assert_eq!(format!("{content:?}"), expected);
        if let Content::Tar(mut bytes) | Content::Other(mut bytes) = content {
            let mut read = Vec::new();
            bytes.read_to_end(&mut read).unwrap();
            assert_eq!(read, rest);
        }
    }

    #[test]
    fn a_tar_is_told_from_other_files_by_its_sum() {
        assert!(is_tar_header(header().as_bytes()));
        let mut broken = *header().as_bytes();
        broken[0] ^= 1;
        assert!(!is_tar_header(&broken));
        assert!(!is_tar_header(&[0; 512]));
        assert!(!is_tar_header(b"short"));
    }

    #[test]
    fn content_is_told_by_its_beginning_and_nothing_of_it_is_lost() {
        let header = header();
        let tar = [&header.as_bytes()[..], &[0; 1024]].concat();
        check(&tar, "Tar", &tar);
        check(&gzip(&tar), "Tar", &tar);
        check(&[gzip(&tar[..700]), gzip(&tar[700..])].concat(), "Tar", &tar);
        check(&xz(&tar), "Tar", &tar);
        check(&[xz(&tar[..700]), xz(&tar[700..])].concat(), "Tar", &tar);
        let mut bzip2 = Vec::new();
        bzip2::read::BzEncoder::new(&tar[..], bzip2::Compression::fast()).read_to_end(&mut bzip2).unwrap();
        check(&bzip2, "Tar", &tar);
        check(&zstd::stream::encode_all(&tar[..], 1).unwrap(), "Tar", &tar);
        check(b"FROM scratch\n", "Other", b"FROM scratch\n");
        check(b"", "Other", b"");
        check(b"PK", "Other", b"PK");
        check(&gzip(b"FROM scratch\n"), "gzip", b"");
        check(&gzip(b"")[..8], "gzip", b"");
        check(&[0xfd, b'7', b'z', b'X', b'Z', 0, 1], "xz", b"");
        check(b"BZhurrah", "bzip2", b"");
    }

    #[test]
    fn a_fault_behind_the_beginning_is_an_error_of_reading() {
        let tar = [&header().as_bytes()[..], &[0; 1024]].concat();
        for compressed in [gzip(&tar), xz(&tar), zstd::stream::encode_all(&tar[..], 1).unwrap()] {
            let cut = compressed[..compressed.len() - 3].to_vec();
            match content(Cursor::new(cut)).unwrap() {
                Content::Tar(mut bytes) => assert!(bytes.read_to_end(&mut Vec::new()).is_err()),
                other => assert!(matches!(other, Content::Compressed(_)), "{other:?}"),
            }
        }
    }
}
