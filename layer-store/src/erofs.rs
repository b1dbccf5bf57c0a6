//! Mounts a layer where it lies: the kernel reads its tar through its index.
//!
//! ```text
//! layers/<diff-id>/layer.erofs ─source─▶ fsopen("erofs") ─fsmount, move_mount─▶ tmp/<lease>/erofs-<n>     (read-only)
//!                  layer.tar   ─device─▶
//! ```
//!
//! - A layer is mounted once in the life of a command, in the mount namespace that its caller has entered, and goes with that. Every
//!   stack that has the layer shares the mount.
//! - Files are named by handle: the paths of a store may be longer than what the calls take.
//!
//! Not here: what is in an index (`index`), when a layer gets one (`tar_form`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, move_mount,
};

use crate::{overlay, sys};

/// A layer's index, mounted; dropped, it is unmounted as soon as nothing uses it.
#[derive(Debug)]
pub(crate) struct MountedIndex {
    target: PathBuf,
    root: OwnedFd,
}

impl MountedIndex {
    /// Mounts `index` with its `tar` on the empty directory `target`.
    pub(crate) fn new(index: &Path, tar: &Path, target: PathBuf) -> io::Result<Self> {
        let mounted = detached(index, tar)?;
        move_mount(mounted.as_fd(), "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        // from here on it is unmounted when this fails
        let mut this = Self { target, root: mounted };
        this.root = sys::open_directory_at(&this.root, b".")?;
        Ok(this)
    }

    /// Returns where it is mounted.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the root directory of the layer.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }
}

impl Drop for MountedIndex {
    fn drop(&mut self) {
        // what fails here goes with the mount namespace
        let _ = overlay::unmount_lazily(&self.target);
    }
}

/// Makes a mount that is nowhere yet.
pub(crate) fn detached(index: &Path, tar: &Path) -> io::Result<OwnedFd> {
    let (index, tar) = (File::open(index)?, File::open(tar)?);
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, file: &File| {
        fsconfig_set_string(context.as_fd(), key, format!("/proc/self/fd/{}", file.as_raw_fd()))
    };
    set("source", &index)?;
    set("device", &tar)?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd())?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
