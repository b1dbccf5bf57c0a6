//! Digests: of a tree, with everything that a build context consists of, and of one file.
//!
//! A tree's digest is over its entries in the bytewise order of their paths (`.` is the root), each as
//! `<kind> <mode> <mtime> <path>\0`, then the digest of a file's content, or a link's target and `\0`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

/// The digest of a tree, in hex.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn digest_of_tree(root: &Path) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    for path in paths_below(root)? {
        add_entry(&mut digest, &path, &root.join(&path))
            .with_context(|| format!("cannot read `{}`", path.display()))?;
    }
    Ok(hex::encode(digest.finalize()))
}

/// The digest of a file's content, in hex.
///
/// # Errors
///
/// When the file cannot be read.
pub(crate) fn digest_of_file(path: &Path) -> anyhow::Result<String> {
    let digest = content(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(hex::encode(digest))
}

/// The paths of everything below `root`, relative to it and in bytewise order; `.` is `root`.
///
/// # Errors
///
/// When a directory cannot be read.
pub(super) fn paths_below(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::from(".")];
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let read = |error| format!("cannot read the directory `{}`: {error}", root.join(&directory).display());
        for entry in fs::read_dir(root.join(&directory)).map_err(|error| anyhow::anyhow!(read(error)))? {
            let entry = entry.map_err(|error| anyhow::anyhow!(read(error)))?;
            let path = directory.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort_by(|one, other| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
    Ok(paths)
}

fn add_entry(digest: &mut Sha256, path: &Path, file: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(file)?;
    let kind = match metadata.file_type() {
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        _ => 'f',
    };
    let mode = metadata.permissions().mode() & 0o7777;
    digest.update(format!("{kind} {mode:04o} {} {}\0", metadata.mtime(), path.display()));
    match kind {
        'f' => digest.update(content(file)?),
        'l' => {
            digest.update(fs::read_link(file)?.as_os_str().as_bytes());
            digest.update(b"\0");
        }
        _ => {}
    }
    Ok(())
}

fn content(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(digest.finalize().into());
        }
        digest.update(&buffer[..read]);
    }
}
