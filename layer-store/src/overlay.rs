//! Overlay: which of its attributes apply here, and how stacks are mounted.
//!
//! ```text
//! lowerdir+ (topmost first) … upperdir, workdir ─fsopen, fsconfig, fsmount─▶ a detached mount ─move_mount─▶ its place
//! ```
//!
//! - Layers are named by open handles, so a layer that is renamed meanwhile is still the one that was meant.
//! - Features that write more than the layer's own changes are off: no redirects, no metadata-only copies, no index. An upper
//!   directory therefore is a layer as it stands.
//! - `volatile`: unmounting does not wait for the disk; a half-written upper directory never becomes a layer.
//! - Device nodes in a mounted stack cannot be opened (`nodev`): a container gets its own `/dev`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

use crate::sys;

const TRUSTED: &str = "trusted.overlay.opaque";
const USER: &str = "user.overlay.opaque";

/// Which extended attributes overlay reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverlayXattrs {
    /// `trusted.overlay.*`: in the initial user namespace.
    Trusted,
    /// `user.overlay.*`, mounted with `userxattr`: in any other.
    User,
}

impl OverlayXattrs {
    /// Finds out by setting one on `directory`.
    pub(crate) fn probe(directory: &Path) -> Self {
        match rustix::fs::setxattr(directory, TRUSTED, b"n", XattrFlags::empty()) {
            Ok(()) => Self::Trusted,
            Err(_) => Self::User,
        }
    }

    fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => TRUSTED,
            Self::User => USER,
        }
    }

    /// Makes a directory hide what lower layers have in it.
    pub(crate) fn set_opaque(self, directory: &OwnedFd) -> Result<(), Errno> {
        rustix::fs::fsetxattr(directory, self.opaque(), b"y", XattrFlags::empty())
    }

    /// Marks a directory that holds whiteouts: without it, overlay lists their names when no other layer has the directory.
    pub(crate) fn set_origin(self, directory: &OwnedFd) -> Result<(), Errno> {
        let name = match self {
            Self::Trusted => "trusted.overlay.origin",
            Self::User => "user.overlay.origin",
        };
        rustix::fs::fsetxattr(directory, name, b"", XattrFlags::empty())
    }

    /// Tells whether a directory hides what lower layers have in it.
    pub(crate) fn is_opaque(self, path: &Path) -> Result<bool, Errno> {
        Ok(sys::xattr(path, self.opaque())?.is_some_and(|value| value == b"y"))
    }
}

/// Tells whether an extended attribute is overlay's own, which never enters or leaves a layer.
pub(crate) fn is_overlay_private(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Tells whether an extended attribute is a label of this host, which says nothing about an image.
pub(crate) fn is_host_label(name: &[u8]) -> bool {
    matches!(name, b"security.selinux" | b"security.ima" | b"security.evm")
}

/// Tells whether an extended attribute is one that layers keep; an empty capability is none.
pub(crate) fn is_kept(name: &[u8], value: &[u8]) -> bool {
    let is_no_capability = name == sys::CAPABILITY && value.is_empty();
    !is_overlay_private(name) && !is_host_label(name) && !is_no_capability
}

/// A stack to mount.
pub(crate) struct Stack<'a> {
    /// The layers' directories, topmost first; at least two when there is no upper directory.
    pub(crate) lower: &'a [OwnedFd],
    /// The upper and the work directory of a writable mount.
    pub(crate) upper: Option<(&'a Path, &'a Path)>,
    pub(crate) xattrs: OverlayXattrs,
}

const OFF: [(&str, &str); 4] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off"), ("xino", "off")];

impl Stack<'_> {
    /// Mounts the stack on `target`, in this process's mount namespace.
    pub(crate) fn mount(&self, target: &Path) -> Result<(), Errno> {
        match self.mount_each(target) {
            // before Linux 6.8 overlay does not take its layers one by one
            Err(Errno::INVAL | Errno::NOSYS) => self.mount_joined(target),
            result => result,
        }
    }

    fn mount_each(&self, target: &Path) -> Result<(), Errno> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = |key: &str, value: &Path| fsconfig_set_string(context.as_fd(), key, value);
        set("source", Path::new("overlay"))?;
        for directory in self.lower {
            set("lowerdir+", &handle(directory))?;
        }
        // paths may be longer than what the call takes: these are handles too
        let opened = self.upper.map(|(upper, work)| Ok((sys::open_directory(upper)?, sys::open_directory(work)?)));
        if let Some((upper, work)) = opened.transpose()? {
            set("upperdir", &handle(&upper))?;
            set("workdir", &handle(&work))?;
            fsconfig_set_flag(context.as_fd(), "volatile")?;
            return self.finish(&context, target);
        }
        self.finish(&context, target)
    }

    fn finish(&self, context: &OwnedFd, target: &Path) -> Result<(), Errno> {
        match self.xattrs {
            OverlayXattrs::User => fsconfig_set_flag(context.as_fd(), "userxattr")?,
            OverlayXattrs::Trusted => {
                for (key, value) in OFF {
                    fsconfig_set_string(context.as_fd(), key, value)?;
                }
            }
        }
        fsconfig_create(context.as_fd())?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
        if self.upper.is_none() {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        let mounted = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        move_mount(mounted.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    fn mount_joined(&self, target: &Path) -> Result<(), Errno> {
        let lower: Vec<String> = self.lower.iter().map(|fd| handle(fd).to_string_lossy().into_owned()).collect();
        let mut options = format!("lowerdir={}", lower.join(":"));
        let opened = self.upper.map(|(upper, work)| Ok((sys::open_directory(upper)?, sys::open_directory(work)?)));
        let opened = opened.transpose()?;
        let mut flags = MountFlags::NODEV;
        match &opened {
            Some((upper, work)) => {
                options += &format!(",upperdir={},workdir={}", handle(upper).display(), handle(work).display());
            }
            None => flags |= MountFlags::RDONLY,
        }
        match self.xattrs {
            OverlayXattrs::User => options += ",userxattr",
            OverlayXattrs::Trusted => OFF.iter().for_each(|(key, value)| options += &format!(",{key}={value}")),
        }
        let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
        mount("overlay", target, "overlay", flags, options.as_c_str())
    }
}

fn handle(directory: &OwnedFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// Unmounts `target`; fails when something in it is still used.
pub(crate) fn unmount_now(target: &Path) -> Result<(), Errno> {
    unmount(target, UnmountFlags::NOFOLLOW)
}

/// Unmounts `target` as soon as nothing uses it.
pub(crate) fn unmount_lazily(target: &Path) -> Result<(), Errno> {
    unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
}
