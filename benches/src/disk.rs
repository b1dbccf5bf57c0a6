//! What a directory takes on the disk, and its removal.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::mount::{UnmountFlags, unmount};

/// Space in a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

/// What everything below `directory` takes, as `du` counts it: blocks, hard links once, no other file system. What vanishes
/// meanwhile counts nothing.
pub(crate) fn space_of(directory: &Path) -> Space {
    let mut space = Space::default();
    let (mut seen, mut left) = (BTreeSet::new(), vec![directory.to_owned()]);
    let device = fs::metadata(directory).map(|metadata| metadata.dev()).ok();
    while let Some(path) = left.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if Some(metadata.dev()) != device || !seen.insert(metadata.ino()) {
            continue;
        }
        space.bytes += metadata.blocks() * 512;
        space.inodes += 1;
        if metadata.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    space
}

/// The bytes in all files below `directory`.
pub(crate) fn size_of(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Removes `directory` with everything in it, after unmounting what is mounted there. It may be absent.
///
/// # Errors
///
/// When a file cannot be removed.
pub(crate) fn remove(directory: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mounted in mounted_below(&mounts, directory) {
        // What stays mounted is told by the removal that follows.
        let _ = unmount(&mounted, UnmountFlags::DETACH);
    }
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove `{}`", directory.display()))?;
    }
    Ok(())
}

/// The places below `directory` where something is mounted, the last one first.
fn mounted_below(mounts: &str, directory: &Path) -> Vec<PathBuf> {
    let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    places.filter(|place| place.starts_with(directory)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_link_takes_no_further_space() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one"), [1; 5000]).unwrap();
        let before = space_of(directory.path());
        fs::hard_link(directory.path().join("one"), directory.path().join("two")).unwrap();
        assert_eq!(space_of(directory.path()), before);
        assert_eq!(before.inodes, 2, "the directory and the file");
    }

    #[test]
    fn mounts_below_a_directory_are_found_the_last_one_first() {
        let mounts = "a /work x\nb /work/store/one x\nc /work/store/one/two x\nd /work/store-other x\n";
        let found = mounted_below(mounts, Path::new("/work/store"));
        assert_eq!(found, [PathBuf::from("/work/store/one/two"), PathBuf::from("/work/store/one")]);
    }
}
