//! Which extended attributes of an entry a file gets, and how EROFS writes their names.
//!
//! | attribute | here, and in a tree |
//! |---|---|
//! | overlay's own, labels of this host, an empty capability | left out, and counted |
//! | `user.*` of a link, a device or a pipe; a prefix that Linux does not know | left out, and counted |
//! | a name that cannot be, a capability that is none | the layer is refused, as the kernel would refuse it |
//! | access control lists | [`Unsuitable::AccessControl`]: they change the mode of the file, and of files below |
//! | what EROFS cannot hold: 64 KiB in one value, 256 KiB in one file | [`Unsuitable::Xattrs`] |

use rustix::io::Errno;

use super::{IndexFault, Unsuitable};
use crate::apply::meaning::{NAME_MAX, write};
use crate::overlay::is_kept;
use crate::sys::CAPABILITY;

/// Prefixes that are not written out, with the numbers that stand for them; a whole name stands for itself.
pub(super) const PREFIXES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// Bytes of one value, at most.
const MAX_VALUE: usize = 65_535;
/// Bytes of one value that Linux takes, at most.
const LINUX_MAX_VALUE: usize = 65_536;

/// Tells whether a file gets an attribute; `is_plain`: it is a regular file or a directory.
pub(super) fn is_set(name: &[u8], value: &[u8], is_plain: bool, path: &[u8]) -> Result<bool, IndexFault> {
    let refuse = |error: Errno| IndexFault::Apply(write("write an extended attribute of", path)(error));
    if !is_kept(name, value) {
        return Ok(false);
    }
    if name.contains(&0) {
        return Err(refuse(Errno::INVAL));
    }
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(refuse(Errno::RANGE));
    }
    if value.len() > LINUX_MAX_VALUE {
        return Err(refuse(Errno::TOOBIG));
    }
    if name.starts_with(b"system.posix_acl_") {
        return if is_plain { Err(Unsuitable::AccessControl.into()) } else { Ok(false) };
    }
    let Some((prefix, _)) = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)) else { return Ok(false) };
    if *prefix == b"user." && !is_plain {
        return Ok(false);
    }
    if name.len() == prefix.len() || (name == CAPABILITY && !is_capability(value)) {
        return Err(refuse(Errno::INVAL));
    }
    if value.len() > MAX_VALUE { Err(Unsuitable::Xattrs.into()) } else { Ok(true) }
}

/// Tells whether a value is what the kernel takes for capabilities: version 2, or 3 with the root user of a namespace.
fn is_capability(value: &[u8]) -> bool {
    let version = value.get(3).copied().unwrap_or(0);
    matches!((value.len(), version), (20, 2) | (24, 3)) && value[1..3] == [0, 0]
}
