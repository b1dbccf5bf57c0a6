//! Makes mounts that are not yet anywhere: handles, which the child attaches in its own mount namespace.
//!
//! | mount | made here | because |
//! |---|---|---|
//! | root filesystem, binds, tmpfs, `/dev`, `/dev/pts`, `/dev/shm` | yes | errors can name paths, and the child has less to do |
//! | `/proc`, `/sys`, `/sys/fs/cgroup`, `/dev/mqueue` | no, by the child | they show the namespaces of whoever makes them |
//! | binds of a mount made here | no, by the child | before Linux 6.15 a mount can be cloned only once it is attached |

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};

use crate::sys::{Reach, change_mount, restrict_mount};
use crate::{Access, DeviceNodes, GeneratedFile, GeneratedKind, Programs, Tmpfs};

/// The device nodes of `/dev`, with the number each must have: null, zero, full, random, urandom, tty.
pub(crate) const DEVICES: [(&CStr, u32, u32); 6] =
    [(c"null", 1, 3), (c"zero", 1, 5), (c"full", 1, 7), (c"random", 1, 8), (c"urandom", 1, 9), (c"tty", 5, 0)];

/// Links of `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Name of the empty directory in the scratch mount.
pub(crate) const EMPTY: &CStr = c"empty";

const NO_DEVICES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NO_PROGRAMS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Makes a mount of `kind` with these options; one without a value is a flag.
fn make(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // what `df` and /proc/mounts call it; else it is `none`
    fsconfig_set_string(&context, "source", kind)?;
    for (name, value) in options {
        match *value {
            "" => fsconfig_set_flag(&context, *name)?,
            value => fsconfig_set_string(&context, *name, value)?,
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Clones the mount at `path`, with those below it.
fn clone_tree(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags)
}

/// The root filesystem. Whether its device nodes work is as for `/dev`; where the host forbids them they never do.
pub(crate) fn rootfs(path: &Path, access: Access, nodes: DeviceNodes) -> Result<OwnedFd, Errno> {
    let mount = clone_tree(path)?;
    if FileType::from_raw_mode(rustix::fs::fstat(&mount)?.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR);
    }
    let read_only = match access {
        Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => MountAttrFlags::empty(),
    };
    match nodes {
        DeviceNodes::Basic => restrict_mount(mount.as_fd(), (read_only | NO_DEVICES).bits().into(), Reach::Tree)?,
        DeviceNodes::Host => {
            restrict_mount(mount.as_fd(), read_only.bits().into(), Reach::Tree)?;
            match change_mount(mount.as_fd(), (0, NO_DEVICES.bits().into()), Reach::Mount) {
                Ok(()) | Err(Errno::PERM) => (),
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(mount)
}

/// A file or directory of the caller.
pub(crate) fn bind(path: &Path, access: Access) -> Result<OwnedFd, Errno> {
    let mount = clone_tree(path)?;
    let attributes = match access {
        Access::ReadOnly => NO_DEVICES | MountAttrFlags::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => NO_DEVICES,
    };
    restrict_mount(mount.as_fd(), attributes.bits().into(), Reach::Tree)?;
    Ok(mount)
}

/// An empty directory in memory.
pub(crate) fn tmpfs(tmpfs: &Tmpfs) -> Result<OwnedFd, Errno> {
    let (uid, gid) = tmpfs.owner;
    let mut options =
        vec![("mode", format!("{:o}", tmpfs.mode & 0o7777)), ("uid", uid.to_string()), ("gid", gid.to_string())];
    options.extend(tmpfs.size.map(|size| ("size", size.to_string())));
    options.extend(tmpfs.inodes.map(|inodes| ("nr_inodes", inodes.to_string())));
    let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let programs = match tmpfs.programs {
        Programs::None => NO_PROGRAMS,
        Programs::Plain => MountAttrFlags::MOUNT_ATTR_NOSUID,
        Programs::SetUid => MountAttrFlags::empty(),
    };
    let access = match tmpfs.access {
        Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => MountAttrFlags::empty(),
    };
    make("tmpfs", &options, NO_DEVICES | programs | access)
}

/// `/dev/shm`: for everybody.
pub(crate) fn shm(size: u64) -> Result<OwnedFd, Errno> {
    make("tmpfs", &[("mode", "1777"), ("size", &size.to_string())], NO_DEVICES | NO_PROGRAMS)
}

/// The host's `/dev/shm`, for its ipc namespace.
pub(crate) fn host_shm() -> Result<OwnedFd, Errno> {
    let mount = clone_tree(Path::new("/dev/shm"))?;
    restrict_mount(mount.as_fd(), (NO_DEVICES | NO_PROGRAMS).bits().into(), Reach::Tree)?;
    Ok(mount)
}

/// `/dev/pts`: an instance of its own. `tty_group` owns its terminals, where that group exists.
pub(crate) fn pts(tty_group: Option<u32>) -> Result<OwnedFd, Errno> {
    let group = tty_group.map(|group| group.to_string());
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    options.extend(group.as_deref().map(|group| ("gid", group)));
    make("devpts", &options, NO_PROGRAMS)
}

/// Name of the console in `/dev`.
pub(crate) const CONSOLE: &CStr = c"console";

/// Whether a container has a console, which is its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Console {
    Absent,
    Present,
}

/// `/dev` with its directories, its links, and an empty file for every device, and for those of the `host` below it.
pub(crate) fn dev(host: &[CString], console: Console) -> Result<OwnedFd, Errno> {
    let dev = make("tmpfs", &[("mode", "755"), ("size", "64m")], MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    for directory in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&dev, directory, Mode::from_raw_mode(0o755))?;
    }
    for (name, _, _) in DEVICES {
        empty_file(&dev, name)?;
    }
    if console == Console::Present {
        empty_file(&dev, CONSOLE)?;
    }
    for (to, name) in LINKS {
        rustix::fs::symlinkat(to, &dev, name)?;
    }
    for path in host {
        place_for(&dev, path)?;
    }
    Ok(dev)
}

/// Makes an empty file, and the directories above it.
fn place_for(dev: &OwnedFd, path: &CStr) -> Result<(), Errno> {
    let bytes = path.to_bytes();
    for (end, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        match rustix::fs::mkdirat(dev, bytes.get(..end).unwrap_or_default(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => (),
            Err(errno) => return Err(errno),
        }
    }
    empty_file(dev, path).map(drop)
}

/// The paths of every device node below the host's `/dev`, but for those that a container has of its own.
///
/// Links are not followed, and what cannot be looked at is left out.
pub(crate) fn host_devices() -> Vec<CString> {
    const OWN: [&[u8]; 5] = [b"pts", b"shm", b"mqueue", b"console", b"ptmx"];
    let is_own = |name: &[u8]| OWN.contains(&name) || DEVICES.iter().any(|(device, ..)| device.to_bytes() == name);
    let mut found = Vec::new();
    let mut rest = vec![PathBuf::from("/dev")];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(below) = path.strip_prefix("/dev") else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            if is_own(below.as_os_str().as_bytes()) {
                continue;
            }
            if kind.is_dir() {
                rest.push(path);
            } else if kind.is_char_device() || kind.is_block_device() {
                found.extend(CString::new(below.as_os_str().as_bytes()));
            }
        }
    }
    found
}

/// A device that the caller names, as a mount of its node alone; `None` when it is none.
pub(crate) fn named_device(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let node = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&node)?.st_mode);
    if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        return Ok(None);
    }
    restrict_mount(node.as_fd(), NO_PROGRAMS.bits().into(), Reach::Mount)?;
    Ok(Some(node))
}

fn empty_file(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644))
}

/// The host's node of a device, checked to be that device.
pub(crate) fn device(name: &CStr, major: u32, minor: u32) -> Result<OwnedFd, Errno> {
    let path = [b"/dev/", name.to_bytes()].concat();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let node = open_tree(CWD, path.as_slice(), flags)?;
    let stat = rustix::fs::fstat(&node)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != makedev(major, minor) {
        return Err(Errno::NODEV);
    }
    restrict_mount(node.as_fd(), NO_PROGRAMS.bits().into(), Reach::Mount)?;
    Ok(node)
}

/// The tmpfs that holds the generated files, named `0`, `1`, …, and an empty directory for the masks.
pub(crate) fn scratch(files: &[GeneratedFile]) -> io::Result<OwnedFd> {
    let bytes: usize = files.iter().map(|file| file.contents.len() + 64 * 1024).sum();
    let size = (bytes + 1024 * 1024).to_string();
    let options = [("mode", "755"), ("size", size.as_str())];
    let holds_secret = files.iter().any(|file| matches!(file.kind, GeneratedKind::Secret { .. }));
    let mount = match holds_secret.then(|| unswapped(&options)) {
        Some(Ok(mount)) => mount,
        // older than Linux 6.4, or in a user namespace
        None | Some(Err(_)) => make("tmpfs", &options, NO_DEVICES | NO_PROGRAMS)?,
    };
    rustix::fs::mkdirat(&mount, EMPTY, Mode::from_raw_mode(0o555))?;
    for (number, file) in files.iter().enumerate() {
        let mut out = std::fs::File::from(empty_file(&mount, &scratch_name(number))?);
        let (mode, (uid, gid)) = match file.kind {
            GeneratedKind::Data => (0o644, (0, 0)),
            GeneratedKind::Program => (0o755, (0, 0)),
            GeneratedKind::Secret { mode, owner } => (mode & 0o777, owner),
        };
        if (uid, gid) != (0, 0) {
            rustix::fs::fchown(&out, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        rustix::fs::fchmod(&out, Mode::from_raw_mode(mode))?;
        io::Write::write_all(&mut out, &file.contents)?;
    }
    rustix::fs::chmodat(&mount, EMPTY, Mode::from_raw_mode(0o555), AtFlags::empty())?;
    Ok(mount)
}

/// The tmpfs of generated files, whose pages never go to a swap device.
fn unswapped(options: &[(&str, &str)]) -> Result<OwnedFd, Errno> {
    let mut options = options.to_vec();
    options.push(("noswap", ""));
    make("tmpfs", &options, NO_DEVICES | NO_PROGRAMS)
}

/// Name of the generated file with this number in the scratch mount.
pub(crate) fn scratch_name(number: usize) -> CString {
    CString::new(number.to_string()).expect("digits hold no NUL")
}
