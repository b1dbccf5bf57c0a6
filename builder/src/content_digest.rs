//! The digest by which files enter a cache key: their content, not where or when they were read.
//!
//! | of a file | in the digest | why |
//! |---|---|---|
//! | name below the destination | yes | the same bytes under another name give another layer |
//! | kind, permission bits, link target, device number | yes | they are in the layer |
//! | owner and group | only when kept (`Owners::Kept`) | from a build context they become 0:0 |
//! | extended attributes that are copied | yes | they are in the layer |
//! | bytes | yes | |
//! | times, inode, link count, path in the tree | no | a checkout or a touch must not miss |

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::file_tree::{FileEntry, FileTree, Owners};
use crate::select::{Selected, Selection};

/// The digest of a selection of files, as 64 hexadecimal digits of BLAKE3.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ContentDigest(String);

/// A file of the tree that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", .path.display())]
pub struct ReadError {
    /// Where it stands in the tree.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What of an entry is copied, besides bytes and times.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) device: u64,
    pub(crate) target: Option<PathBuf>,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// Open for reading, if it is a regular file.
    pub(crate) file: Option<File>,
}

/// Adds up a [`ContentDigest`] entry by entry.
#[derive(Debug, Default)]
pub(crate) struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// Adds one entry; `content` is the BLAKE3 of a regular file's bytes.
    pub(crate) fn add(&mut self, name: &Path, facts: &Facts, content: Option<blake3::Hash>) {
        self.frame(name.as_os_str().as_bytes());
        self.frame(&facts.mode.to_le_bytes());
        self.frame(&facts.owner.0.to_le_bytes());
        self.frame(&facts.owner.1.to_le_bytes());
        self.frame(&facts.device.to_le_bytes());
        self.frame(facts.target.as_ref().map_or(b"", |target| target.as_os_str().as_bytes()));
        for (name, value) in &facts.xattrs {
            self.frame(name.as_bytes());
            self.frame(value);
        }
        self.frame(content.as_ref().map_or(b"", |hash| hash.as_bytes()));
        self.frame(b"end");
    }

    fn frame(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Returns the digest of all entries added.
    pub(crate) fn finish(&self) -> ContentDigest {
        ContentDigest(self.0.finalize().to_hex().to_string())
    }
}

/// Reads the selected files and returns their digest; [`crate::copy`] finds the same one on its way.
///
/// # Errors
///
/// [`ReadError`] with the path of the first file that cannot be read.
pub fn content_digest(tree: &FileTree, selection: &Selection) -> Result<ContentDigest, ReadError> {
    let mut hasher = ContentHasher::default();
    let mut buffer = vec![0; 256 << 10];
    for source in &selection.sources {
        for (name, entry) in named_entries(source) {
            let mut facts = facts(tree, entry)?;
            let read = |source| ReadError { path: entry.path.clone(), source };
            let content = facts.file.as_mut().map(|file| hash_file(file, &mut buffer)).transpose().map_err(read)?;
            hasher.add(&name, &facts, content);
        }
    }
    Ok(hasher.finish())
}

/// Lists the entries of a source that the copy will write, with their names below the destination.
///
/// A directory itself is not written: it stands for its contents.
pub(crate) fn named_entries(source: &Selected) -> impl Iterator<Item = (PathBuf, &FileEntry)> {
    let itself = (source.entry.kind() != FileType::Directory).then(|| (source.name.clone(), &source.entry));
    itself.into_iter().chain(source.children.iter().map(|(name, entry)| (name.clone(), entry)))
}

fn hash_file(file: &mut File, buffer: &mut [u8]) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        };
    }
}

/// Looks at everything of an entry that is copied, and opens it if it is a regular file.
pub(crate) fn facts(tree: &FileTree, entry: &FileEntry) -> Result<Facts, ReadError> {
    let read = |source| ReadError { path: entry.path.clone(), source };
    let kind = entry.kind();
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let target = (kind == FileType::Symlink).then(|| tree.link_target(&entry.path)).transpose().map_err(read)?;
    let file = (kind == FileType::RegularFile).then(|| tree.open_file(&entry.path)).transpose().map_err(read)?;
    let xattrs = file.as_ref().map(copied_xattrs).transpose().map_err(read)?.unwrap_or_default();
    Ok(Facts {
        kind,
        mode: entry.stat.st_mode,
        owner: match tree.owners() {
            Owners::Root => (0, 0),
            Owners::Kept => (entry.stat.st_uid, entry.stat.st_gid),
        },
        device: if is_device { entry.stat.st_rdev } else { 0 },
        target,
        xattrs,
        file,
    })
}

/// Reads the attributes that belong to a file's content: the user's own and its capabilities.
fn copied_xattrs(file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0_u8; 4096];
    let length = match rustix::fs::flistxattr(file.as_fd(), &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()) {
        let is_copied = name.starts_with("user.") && !name.starts_with("user.overlay.");
        if is_copied || name == "security.capability" {
            let mut value = vec![0_u8; 64 << 10];
            let length = rustix::fs::fgetxattr(file.as_fd(), name, &mut value[..])?;
            value.truncate(length);
            xattrs.push((name.to_owned(), value));
        }
    }
    xattrs.sort();
    Ok(xattrs)
}
