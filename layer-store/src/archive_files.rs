//! The files of an archive that stays packed, such as one of images: found by name, read where they are.
//!
//! | the archive | a file of it |
//! |---|---|
//! | is a regular file, a plain tar | is read in place |
//! | comes through a pipe or a decompressor | is spooled as it passes (`spool`) |
//!
//! - The same reader as for layers (`apply`), with its limits; the number of files and the length of their names are bounded too.
//! - Names are those that a path from the archive's root has. A link leads to another file of the archive, or nowhere.
//! - What no such archive has (a device, a name that leaves it, a name twice) is never found, and told by [`ArchiveFiles::refused`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Algorithm;

use crate::apply::entries::{Entries, Entry, Kind};
use crate::spool::{SpoolError, SpooledFile};
use crate::{FileError, Store, TarError};

/// Entries of one archive, at most.
const MAX_ENTRIES: usize = 100_000;
/// Bytes of a name or of a link's target, at most.
const MAX_NAME: usize = 512;
/// Links that lead to one file, at most.
const MAX_LINKS: usize = 8;
/// Bytes that are read at each header of an archive in place.
const BUFFER: usize = 4 << 10;

/// The files of an archive.
#[derive(Debug, Default)]
pub struct ArchiveFiles {
    members: BTreeMap<String, Member>,
    refused: Option<RefusedEntry>,
}

/// An entry that an archive of this kind does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("archive entry `{}` {reason}", .path.display())]
pub struct RefusedEntry {
    /// Its name, as it stands in the archive.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A file of an archive.
#[derive(Clone, Debug)]
pub struct ArchiveFile {
    place: Place,
    size: u64,
}

#[derive(Clone, Debug)]
enum Place {
    At { archive: Arc<File>, offset: u64 },
    Spooled(Arc<SpooledFile>),
}

#[derive(Debug)]
enum Member {
    File(ArchiveFile),
    /// The name it leads to.
    Link(String),
    Directory,
}

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ArchiveError {
    #[error("it is not a tar archive that can be read")]
    Tar(#[from] TarError),
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    #[error("archive entry `{}` cannot be read", .path.display())]
    Entry { path: PathBuf, source: SpoolError },
    #[error("it cannot be looked at")]
    Look(#[source] io::Error),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Lists the files of a plain tar, which begins where `archive` stands, and leaves them there.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Tar`] when it cannot be read, or ends within an entry.
    pub fn archive_in_place(&self, mut archive: File) -> Result<ArchiveFiles, ArchiveError> {
        let base = archive.stream_position().map_err(ArchiveError::Look)?;
        let length = archive.metadata().map_err(ArchiveError::Look)?.len().saturating_sub(base);
        let archive = Arc::new(archive);
        let section = Section { archive: Arc::clone(&archive), base, at: 0 };
        let mut entries = Entries::with_buffer(section, BUFFER);
        let mut files = ArchiveFiles::default();
        while let Some(entry) = entries.next()? {
            let offset = entries.position();
            entries.pass_content()?;
            let place = Place::At { archive: Arc::clone(&archive), offset: base + offset };
            files.add(&entry, |size| match offset.checked_add(size) {
                Some(end) if end <= length => Ok(place),
                _ => Err(TarError::Truncated.into()),
            })?;
        }
        Ok(files)
    }

    /// Reads a tar to its end and spools its files.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Tar`] when it cannot be read, [`ArchiveError::Entry`] when a file cannot be spooled.
    pub fn spool_archive(&self, tar: impl Read) -> Result<ArchiveFiles, ArchiveError> {
        let mut entries = Entries::new(tar);
        let mut files = ArchiveFiles::default();
        while let Some(entry) = entries.next()? {
            files.add(&entry, |_| {
                let spooled = self.spool(&mut ContentOf(&mut entries), Algorithm::Sha256);
                let spooled = spooled.map_err(|source| ArchiveError::Entry { path: shown(&entry.path), source })?;
                Ok(Place::Spooled(Arc::new(spooled)))
            })?;
        }
        entries.pass_rest()?;
        Ok(files)
    }
}

impl ArchiveFiles {
    /// Finds the file that a name leads to; `None` when there is none.
    pub fn file(&self, name: &str) -> Option<&ArchiveFile> {
        let mut name = clean(name.as_bytes()).ok()?;
        for _ in 0..=MAX_LINKS {
            match self.members.get(&name)? {
                Member::File(file) => return Some(file),
                Member::Link(target) => name.clone_from(target),
                Member::Directory => return None,
            }
        }
        None
    }

    /// Returns the first entry that an archive of files does not have; a root file system has many.
    pub fn refused(&self) -> Option<&RefusedEntry> {
        self.refused.as_ref()
    }

    fn add(
        &mut self,
        entry: &Entry,
        place: impl FnOnce(u64) -> Result<Place, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let member = match &entry.kind {
            Kind::File { size, regions: None } => Ok(Member::File(ArchiveFile { place: place(*size)?, size: *size })),
            Kind::File { .. } => Err("is a sparse file"),
            Kind::Directory => Ok(Member::Directory),
            Kind::Symlink(target) => link_target(&entry.path, target).map(Member::Link),
            Kind::HardLink(target) => clean(target).map(Member::Link).map_err(|_| LEAVES),
            Kind::Fifo => Err("is a named pipe"),
            Kind::Device { .. } => Err("is a device"),
        };
        if self.members.len() >= MAX_ENTRIES {
            return Err(ArchiveError::TooManyEntries);
        }
        let added = clean(&entry.path).and_then(|name| self.insert(name, member?));
        if let Err(reason) = added {
            self.refused.get_or_insert_with(|| RefusedEntry { path: shown(&entry.path), reason });
        }
        Ok(())
    }

    fn insert(&mut self, name: String, member: Member) -> Result<(), &'static str> {
        match (self.members.get(&name), &member) {
            (Some(Member::Directory), Member::Directory) => Ok(()),
            (Some(_), _) => Err("is there twice"),
            (None, _) => {
                self.members.insert(name, member);
                Ok(())
            }
        }
    }
}

const LEAVES: &str = "is a link that leaves the archive";

/// Returns the name without `.` and needless slashes.
fn clean(path: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(path).map_err(|_| "has a name that is not UTF-8")?;
    if text.len() > MAX_NAME {
        return Err("has a name of more than 512 bytes");
    }
    if text.starts_with('/') {
        return Err("has an absolute name");
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") { Err("has a name that leaves the archive") } else { Ok(parts.join("/")) }
}

/// Returns where a symbolic link of this name leads to.
fn link_target(link: &[u8], target: &[u8]) -> Result<String, &'static str> {
    let (link, target) = (clean(link)?, std::str::from_utf8(target).map_err(|_| LEAVES)?);
    if target.starts_with('/') || target.len() > MAX_NAME {
        return Err(LEAVES);
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => parts.pop().map(drop).ok_or(LEAVES)?,
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn shown(path: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(path)).to_owned()
}

impl ArchiveFile {
    /// Returns the number of its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the file that it was spooled to, if it was.
    pub fn spooled(&self) -> Option<&Arc<SpooledFile>> {
        match &self.place {
            Place::Spooled(file) => Some(file),
            Place::At { .. } => None,
        }
    }

    /// Opens it for reading, from its first byte to its last.
    ///
    /// # Errors
    ///
    /// [`FileError`] when what was spooled cannot be opened.
    pub fn open(&self) -> Result<Box<dyn Read + Send>, FileError> {
        Ok(match &self.place {
            Place::At { archive, offset } => {
                let section = Section { archive: Arc::clone(archive), base: *offset, at: 0 };
                Box::new(section.take(self.size))
            }
            Place::Spooled(file) => Box::new(file.open()?),
        })
    }
}

/// A file from some byte on; whoever else reads it does not move it.
#[derive(Debug)]
struct Section {
    archive: Arc<File>,
    base: u64,
    at: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.archive.read_at(buffer, self.base.saturating_add(self.at))?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(_) => None,
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// The content of the current entry as a reader.
struct ContentOf<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for ContentOf<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.0.content().map_err(io::Error::other)?;
        let (count, rest) = (available.len().min(buffer.len()), available.len().saturating_sub(buffer.len()));
        buffer[..count].copy_from_slice(&available[..count]);
        self.0.put_back(rest);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    /// Makes a tar of (name, type flag, content or link target).
    fn tar(entries: &[(&str, u8, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, flag, text) in entries {
            let content = if *flag == b'0' { text.as_bytes() } else { b"" };
            let mut header = header(name, tar::EntryType::new(*flag), content.len() as u64);
            if matches!(flag, b'1' | b'2') {
                header.as_ustar_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// Reads the archive in place, behind other bytes, and spooled; both must show the same.
    fn check(tar: &[u8], look: impl Fn(&ArchiveFiles)) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        file.write_all(tar).unwrap();
        file.seek(SeekFrom::Start(6)).unwrap();
        look(&store.archive_in_place(file).unwrap());
        look(&store.spool_archive(tar).unwrap());
    }

    fn read(files: &ArchiveFiles, name: &str) -> Option<String> {
        let file = files.file(name)?;
        let mut text = String::new();
        file.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(file.size(), text.len() as u64);
        Some(text)
    }

    #[test]
    fn files_are_found_by_their_names_and_through_links_within_the_archive() {
        let entries = [
            ("./", b'5', ""),
            ("./a/", b'5', ""),
            ("./a/file", b'0', "one"),
            ("a/", b'5', ""),
            ("b/soft", b'2', "../a/file"),
            ("b/hard", b'1', "./a/file"),
            ("b/again", b'2', "soft"),
            ("c", b'0', "two"),
        ];
        check(&tar(&entries), |files| {
            for name in ["a/file", "./a//file", "b/soft", "b/hard", "b/again"] {
                assert_eq!(read(files, name).as_deref(), Some("one"), "{name}");
            }
            assert_eq!(read(files, "c").as_deref(), Some("two"));
            for name in ["a", "", "d", "/c", "a/../c"] {
                assert_eq!(read(files, name), None, "{name}");
            }
            assert_eq!(files.refused(), None);
        });
    }

    #[test]
    fn what_no_such_archive_has_is_named_and_never_found() {
        let cases = [
            (("/etc/passwd", b'0', "x"), "has an absolute name"),
            (("a/../../x", b'0', "x"), "has a name that leaves the archive"),
            (("l", b'2', "/etc/passwd"), "is a link that leaves the archive"),
            (("d/l", b'2', "../../x"), "is a link that leaves the archive"),
            (("h", b'1', "/etc/passwd"), "is a link that leaves the archive"),
            (("h", b'1', "../x"), "is a link that leaves the archive"),
            (("p", b'6', ""), "is a named pipe"),
            (("dev", b'3', ""), "is a device"),
            (("first", b'0', "other"), "is there twice"),
            (("first", b'2', "x"), "is there twice"),
        ];
        for (entry, reason) in cases {
            check(&tar(&[("first", b'0', "1"), entry]), |files| {
                let refused = files.refused().map(|refused| (refused.path.to_str().unwrap(), refused.reason));
                assert_eq!(refused, Some((entry.0, reason)));
                assert_eq!(read(files, "first").as_deref(), Some("1"));
                assert!(entry.0 == "first" || files.file(entry.0).is_none(), "{}", entry.0);
            });
        }
    }

    #[test]
    fn links_that_lead_nowhere_end() {
        check(&tar(&[("a", b'2', "b"), ("b", b'2', "a"), ("c", b'2', "c"), ("d", b'2', "e")]), |files| {
            assert!(["a", "b", "c", "d"].iter().all(|name| files.file(name).is_none()));
        });
    }

    #[test]
    fn an_archive_that_ends_within_an_entry_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let tar = tar(&[("a", b'0', "text")]);
        for length in [100, 512, 514] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&tar[..length]).unwrap();
            file.rewind().unwrap();
            assert!(store.archive_in_place(file).is_err(), "{length}");
            assert!(store.spool_archive(&tar[..length]).is_err(), "{length}");
        }
    }
}
