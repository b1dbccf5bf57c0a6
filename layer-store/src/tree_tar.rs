//! Writes a layer's tree as a tar: the frozen format that diff IDs of built layers are digests of.
//!
//! The walk of a tree is here; the bytes are `header`'s and `writer`'s, which `tar_layer` uses too.
//!
//! | part | rule |
//! |---|---|
//! | order | bytewise by path, directories with a trailing slash; in each directory the opaque marker, then whiteouts, then the rest |
//! | root | has no entry |
//! | names, links, ids, sizes, times | in the ustar header where they fit; else in one PAX header before it (`header`) |
//! | user and group names, atime, ctime | never |
//! | hard links | to the first name of the same inode in this order |
//! | extended attributes | all but overlay's own and labels of this host, as `SCHILY.xattr.*`, sorted |
//! | holes | written as zeros |
//! | overlay's whiteouts and opaque directories | `.wh.<name>` and `.wh..wh..opq`, empty files with the time and owner 0 |
//! | sockets | left out, as a deletion; only trees of earlier versions have some, others lose them before (`sockets`) |
//! | a name that starts with `.wh.` | refused: it would delete something |
//! | end | two blocks of zeros |
//!
//! Any change of these bytes is a new format and changes digests. Memory is bounded by the largest directory and the number of
//! files with several names; the depth of the tree costs no open files.

pub(crate) mod header;
pub(crate) mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::overlay::{OverlayXattrs, is_host_label, is_overlay_private};
use crate::sys::{self, Name, Xattrs};

use header::Header;
use writer::{PassOn, TarWriter};

/// Why a tree could not be written as a tar.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum TreeTarError {
    #[error("`{}` cannot be in a layer: names that start with `.wh.` mean deletions there", .path.display())]
    ReservedName { path: PathBuf },
    #[error("extended attribute `{}` of `{}` has a name that a tar cannot hold", .name.escape_ascii(), .path.display())]
    XattrName { path: PathBuf, name: Vec<u8> },
    #[error("`{}` changed while it was read", .path.display())]
    Changed { path: PathBuf },
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the tar")]
    Write(#[source] io::Error),
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes of the tar.
    pub(crate) tar_size: u64,
    /// Bytes of all files together; a file with several names counts once.
    pub(crate) content_size: u64,
    pub(crate) entries: u64,
}

/// Writes the tree to `output`.
pub(crate) fn write(tree: &OwnedFd, xattrs: OverlayXattrs, output: &mut impl Write) -> Result<Written, TreeTarError> {
    let mut walk = Walk { tar: TarWriter::new(PassOn(output)), xattrs, first_names: HashMap::new() };
    walk.tree(tree)?;
    let (written, _) = walk.tar.finish().map_err(TreeTarError::Write)?;
    Ok(written)
}

/// Returns whether all that a layer can say of a file is that nothing is there.
fn is_deletion(stat: &Stat) -> bool {
    sys::is_whiteout(stat) || sys::kind(stat) == FileType::Socket
}

struct Walk<'a, W> {
    tar: TarWriter<PassOn<'a, W>>,
    xattrs: OverlayXattrs,
    /// (device, inode) → path of the first name of a file with several.
    first_names: HashMap<(u64, u64), Vec<u8>>,
}

/// A directory that is being walked; its handle is reopened from below when the walk comes back.
struct Level {
    names: std::vec::IntoIter<Name>,
    path_length: usize,
    identity: (u64, u64),
}

impl<W: Write> Walk<'_, W> {
    fn tree(&mut self, tree: &OwnedFd) -> Result<(), TreeTarError> {
        let mut path = Vec::new();
        let mut current = tree.try_clone().map_err(|source| TreeTarError::Read { path: PathBuf::new(), source })?;
        let mut levels = vec![self.enter(&current, &path)?];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_length);
            let Some(name) = level.names.next() else {
                levels.pop();
                let Some(above) = levels.last() else { break };
                current = reopen_parent(&current, above.identity, &path)?;
                continue;
            };
            path.extend_from_slice(&name.bytes);
            if let Some(child) = self.entry(&current, &name, &mut path)? {
                levels.push(self.enter(&child, &path)?);
                current = child;
            }
        }
        Ok(())
    }

    /// Lists a directory in the order of the tar, and writes its opaque marker and whiteouts.
    fn enter(&mut self, directory: &OwnedFd, path: &[u8]) -> Result<Level, TreeTarError> {
        let failed = |error: Errno| read_error(path, error.into());
        let stat = fs::fstat(directory).map_err(failed)?;
        let mut names = sys::names(directory).map_err(failed)?;
        // a directory's path ends in a slash, which sorts after some characters
        names.sort_by(|a, b| key(a).cmp(key(b)));
        let is_opaque = self.xattrs.is_opaque(&sys::through(directory.as_fd(), b".")).map_err(failed)?;
        if is_opaque && !path.is_empty() {
            self.whiteout(&[path, b".wh..wh..opq"].concat())?;
        }
        let mut rest = Vec::with_capacity(names.len());
        for name in names {
            let is_file = !name.is_directory();
            let look = || sys::look(directory, &name.bytes).map_err(failed);
            if is_file && look()?.is_some_and(|stat| is_deletion(&stat)) {
                refuse_reserved(path, &name.bytes)?;
                self.whiteout(&[path, b".wh.", &name.bytes].concat())?;
            } else {
                rest.push(name);
            }
        }
        let identity = (stat.st_dev, stat.st_ino);
        Ok(Level { names: rest.into_iter(), path_length: path.len(), identity })
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), TreeTarError> {
        self.header(&Header::file(path))
    }

    /// Writes one entry; returns the directory to walk into, whose path then ends in a slash.
    fn entry(&mut self, parent: &OwnedFd, name: &Name, path: &mut Vec<u8>) -> Result<Option<OwnedFd>, TreeTarError> {
        refuse_reserved(&path[..path.len() - name.bytes.len()], &name.bytes)?;
        let stat = sys::look(parent, &name.bytes).map_err(|error| read_error(path, error.into()))?;
        let stat = stat.ok_or_else(|| TreeTarError::Changed { path: shown(path) })?;
        let kind = sys::kind(&stat);
        let mut header = Header::of(&stat);
        if kind == FileType::Directory {
            path.push(b'/');
        } else if let Some(first) = self.first_name(&stat, path) {
            header.link_to(first);
            header.path.clone_from(path);
            return self.header(&header).map(|()| None);
        }
        header.path.clone_from(path);
        header.xattrs = self.read_xattrs(parent, name, path)?;
        match kind {
            FileType::Directory => {
                self.header(&header)?;
                let child = sys::open_directory_at(parent, &name.bytes);
                return child.map(Some).map_err(|error| read_error(path, error.into()));
            }
            FileType::Symlink => {
                let target = fs::readlinkat(parent, &name.bytes[..], Vec::new());
                header.link = target.map_err(|error| read_error(path, error.into()))?.into_bytes();
                self.header(&header)?;
            }
            FileType::RegularFile => {
                self.header(&header)?;
                self.content(parent, name, path, header.size)?;
            }
            _ => self.header(&header)?,
        }
        Ok(None)
    }

    /// Returns the path under which the same file was written before.
    fn first_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        match self.first_names.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(none) => {
                none.insert(path.to_vec());
                None
            }
        }
    }

    fn read_xattrs(&self, parent: &OwnedFd, name: &Name, path: &[u8]) -> Result<Xattrs, TreeTarError> {
        let keep = |name: &[u8]| !is_overlay_private(name) && !is_host_label(name);
        let through = sys::through(parent.as_fd(), &name.bytes);
        let xattrs = sys::xattrs(&through, keep).map_err(|error| read_error(path, error.into()))?;
        let unwritable = |name: &&Vec<u8>| name.contains(&b'=') || std::str::from_utf8(name).is_err();
        match xattrs.iter().map(|(name, _)| name).find(unwritable) {
            Some(name) => Err(TreeTarError::XattrName { path: shown(path), name: name.clone() }),
            None => Ok(xattrs),
        }
    }

    fn content(&mut self, parent: &OwnedFd, name: &Name, path: &[u8], size: u64) -> Result<(), TreeTarError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = fs::openat(parent, &name.bytes[..], flags, Mode::empty());
        let mut file = File::from(file.map_err(|error| read_error(path, error.into()))?);
        self.tar.content(size, &mut file).map_err(|fault| fault.into_error(path))
    }

    fn header(&mut self, header: &Header) -> Result<(), TreeTarError> {
        self.tar.header(header).map_err(TreeTarError::Write)
    }
}

/// The bytes that a name is sorted by: a directory's end in a slash.
fn key(name: &Name) -> impl Iterator<Item = u8> + '_ {
    let slash: &[u8] = if name.is_directory() { b"/" } else { b"" };
    name.bytes.iter().chain(slash).copied()
}

fn reopen_parent(child: &OwnedFd, identity: (u64, u64), path: &[u8]) -> Result<OwnedFd, TreeTarError> {
    let parent = sys::open_directory_at(child, b"..").map_err(|error| read_error(path, error.into()))?;
    let stat = fs::fstat(&parent).map_err(|error| read_error(path, error.into()))?;
    if (stat.st_dev, stat.st_ino) != identity {
        return Err(TreeTarError::Changed { path: shown(path) });
    }
    Ok(parent)
}

fn refuse_reserved(parent: &[u8], name: &[u8]) -> Result<(), TreeTarError> {
    if name.starts_with(b".wh.") {
        return Err(TreeTarError::ReservedName { path: shown(&[parent, name].concat()) });
    }
    Ok(())
}

fn read_error(path: &[u8], source: io::Error) -> TreeTarError {
    TreeTarError::Read { path: shown(path), source }
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}
