//! Removes a file or a tree, whatever is in it.
//!
//! - Nothing below the top is named by path: a directory swapped for a link is not followed.
//! - A directory deeper than a few levels is first moved to the top, so neither the depth of the tree nor the number of open
//!   files limits what can be removed.
//! - Directories without permissions are given some before they are read.
//! - Two commands may remove the same tree at the same time: what is gone already is no error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, Mode};
use rustix::io::Errno;

use crate::file_error::failed;
use crate::{FileError, sys};

/// Levels that are walked before what is below them is moved up.
const DEPTH: usize = 24;

/// Removes `path`; nothing happens when it is not there.
pub(crate) fn remove_tree(path: &Path) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let parent = match sys::open_directory(parent) {
        Err(Errno::NOENT) => return Ok(()),
        parent => parent.map_err(failed("remove", path))?,
    };
    remove_at(parent.as_fd(), name).map_err(failed("remove", path))
}

/// Removes the entry `name` of `parent` and all that is in it.
pub(crate) fn remove_at(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = match open(parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        top => top?,
    };
    let mut removal = Removal { top: &top, moved: 0 };
    loop {
        removal.empty(top.as_fd(), DEPTH)?;
        match fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // each round empties the top of what the rounds before moved there
            Err(Errno::NOTEMPTY) => {}
            Err(error) => return Err(error),
        }
    }
}

struct Removal<'a> {
    top: &'a OwnedFd,
    moved: u64,
}

impl Removal<'_> {
    /// Removes what is in `directory`, or moves it to the top.
    fn empty(&mut self, directory: BorrowedFd<'_>, levels: usize) -> Result<(), Errno> {
        let names = match sys::names(directory) {
            Err(Errno::NOENT) => return Ok(()),
            names => names?,
        };
        for name in names {
            if !name.is_directory() {
                match fs::unlinkat(directory, &name.bytes[..], AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error),
                }
            }
            if levels == 0 {
                self.move_up(directory, &name.bytes)?;
                continue;
            }
            let child = match open(directory, &name.bytes) {
                Err(Errno::NOENT) => continue,
                child => child?,
            };
            self.empty(child.as_fd(), levels - 1)?;
            match fs::unlinkat(directory, &name.bytes[..], AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn move_up(&mut self, directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        loop {
            let target = format!("moved-{}", self.moved);
            self.moved += 1;
            match fs::renameat_with(directory, name, self.top, &*target, fs::RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) => return Ok(()),
                result => return result,
            }
        }
    }
}

/// Opens a directory that is about to go; one without permissions is given some.
fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let directory = match sys::open_directory_at(parent, name) {
        Err(Errno::ACCESS) => {
            fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            sys::open_directory_at(parent, name)?
        }
        directory => directory?,
    };
    let mode = Mode::from_raw_mode(fs::fstat(&directory)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        fs::fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(build: impl FnOnce(&Path)) {
        let directory = tempfile::tempdir().unwrap();
        let canary = directory.path().join("canary");
        std::fs::write(&canary, "x").unwrap();
        let tree = directory.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        build(&tree);
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "x");
    }

    #[test]
    fn links_out_of_the_tree_are_removed_and_not_followed() {
        check(|tree| {
            std::os::unix::fs::symlink("..", tree.join("up")).unwrap();
            std::fs::hard_link(tree.join("../canary"), tree.join("hard")).unwrap();
        });
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        check(|tree| {
            let mut directory = sys::open_directory(tree).unwrap();
            for _ in 0..6000 {
                fs::mkdirat(&directory, "directory", Mode::from_raw_mode(0o000)).unwrap();
                fs::openat(&directory, "file", fs::OFlags::CREATE | fs::OFlags::WRONLY, Mode::RUSR).unwrap();
                directory = sys::open_directory_at(&directory, b"directory").unwrap();
            }
        });
    }

    #[test]
    fn several_may_remove_the_same_tree() {
        for _ in 0..20 {
            check(|tree| {
                let deep = tree.join("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r/s/t/u/v/w/x/y/z/a/b/c/d/e/f/g");
                std::fs::create_dir_all(&deep).unwrap();
                (0..50).for_each(|n| std::fs::create_dir(tree.join(format!("{n}"))).unwrap());
                std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| remove_tree(tree).unwrap()))));
            });
        }
    }

    #[test]
    fn a_single_file_is_removed_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "x").unwrap();
        remove_tree(&file).unwrap();
        assert!(!file.exists());
    }
}
