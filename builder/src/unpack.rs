//! ADD of local archives: which files are tar archives, by content, and the files that stand for them.
//!
//! - gzip, bzip2, xz and zstd are decompressed here, never by a program of the image or the host.
//! - An archive becomes a directory of the store's first, with the store's reader and limits, and is then copied like any other.
//!
//! Spec: Dockerfile reference, "ADD", "Adding local tar archives".

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::path::Path;

use layer_store::{Store, Unpacked};
use rustix::fs::FileType;

use crate::content_digest::ReadError;
use crate::copy::CopyError;
use crate::dockerignore::Dockerignore;
use crate::file_tree::{FileEntry, FileTree, Owners};
use crate::select::{SelectOptions, Selected, Selection, select};

const BLOCK: usize = 512;

/// The files of an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) tree: FileTree,
    pub(crate) selection: Selection,
    unpacked: Unpacked,
}

impl Archive {
    /// Tells whether a directory has no entry of its own in the archive.
    pub(crate) fn implies(&self, directory: &Path) -> bool {
        self.unpacked.implies(directory)
    }
}

/// Unpacks the archives among the selected files; `None` stands for a source that is none.
pub(crate) fn unpack_archives(
    store: &Store,
    tree: &FileTree,
    selection: &Selection,
) -> Result<Vec<Option<Archive>>, CopyError> {
    let unpack = |source: &Selected| {
        let archive = open_archive(tree, &source.entry)?;
        archive.map(|archive| unpack(store, archive, &source.entry)).transpose()
    };
    selection.sources.iter().map(unpack).collect()
}

fn unpack(store: &Store, archive: Box<dyn Read + Send>, entry: &FileEntry) -> Result<Archive, CopyError> {
    let path = || entry.path.clone();
    let unpacked = store.unpack(archive).map_err(|source| CopyError::Unpack { path: path(), source })?;
    let read = |source| CopyError::Read(ReadError { path: path(), source });
    let tree = FileTree::open(&unpacked.path(), Dockerignore::default(), Owners::Kept).map_err(read)?;
    let selection =
        select(&tree, &["/".to_owned()], &SelectOptions::default()).map_err(|source| read(io::Error::other(source)))?;
    Ok(Archive { tree, selection, unpacked })
}

/// Opens a file as an archive; `None` when it is none.
fn open_archive(tree: &FileTree, entry: &FileEntry) -> Result<Option<Box<dyn Read + Send>>, ReadError> {
    if entry.kind() != FileType::RegularFile {
        return Ok(None);
    }
    let read = |source| ReadError { path: entry.path.clone(), source };
    let file = tree.open_file(&entry.path).map_err(read)?;
    let mut archive = match decompressed(file).map_err(read)? {
        Some(archive) => archive,
        None => return Ok(None),
    };
    let mut header = Vec::with_capacity(BLOCK);
    // A file that only looks compressed is no archive: it is copied as it is.
    let is_read = archive.by_ref().take(BLOCK as u64).read_to_end(&mut header).is_ok();
    if !is_read || !is_tar_header(&header) {
        return Ok(None);
    }
    Ok(Some(Box::new(Cursor::new(header).chain(archive))))
}

/// Chooses a decoder by the first bytes; `None` for a file too short to be any archive.
fn decompressed(mut file: File) -> io::Result<Option<Box<dyn Read + Send>>> {
    let mut magic = [0; 6];
    let length = file.by_ref().take(6).read(&mut magic)?;
    if length < 6 {
        return Ok(None);
    }
    file.rewind()?;
    let file = BufReader::with_capacity(256 << 10, file);
    Ok(Some(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(file)?),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(xz(file)?),
        _ => Box::new(file),
    }))
}

/// Decodes xz on a thread of its own, because the decoder writes rather than reads.
///
/// A broken stream ends the pipe early, which the tar reader reports as a truncated archive.
fn xz(mut file: BufReader<File>) -> io::Result<impl Read + Send> {
    let (reader, mut writer) = io::pipe()?;
    std::thread::Builder::new().name("xz".to_owned()).spawn(move || {
        let _ends_early = lzma_rs::xz_decompress(&mut file, &mut writer);
    })?;
    Ok(reader)
}

/// Checks the sum that every tar header has.
///
/// Spec: POSIX pax, "ustar Interchange Format": the sum counts its own field as blanks.
fn is_tar_header(header: &[u8]) -> bool {
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
    use super::*;

    #[test]
    fn a_tar_is_told_from_other_files_by_its_sum() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        assert!(is_tar_header(header.as_bytes()));
        let mut broken = *header.as_bytes();
        broken[0] ^= 1;
        assert!(!is_tar_header(&broken));
        assert!(!is_tar_header(&[0; 512]));
        assert!(!is_tar_header(b"short"));
    }
}
