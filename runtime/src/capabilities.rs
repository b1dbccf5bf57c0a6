//! The capabilities of a container: ten, against docker's fourteen.
//!
//! | left out | why, and who notices |
//! |---|---|
//! | `NET_RAW` | raw sockets spoof neighbours; `ping` works without it where `ping_group_range` allows |
//! | `MKNOD` | no device is needed in a layer; fifos and sockets need no capability |
//! | `AUDIT_WRITE` | writes to the host's audit log; `sudo` and `su` warn and go on |
//! | `SETPCAP` | only ever raises inheritable or drops; nobody needs it to drop for good |

use rustix::thread::{CapabilitySet, CapabilitySets};

/// What stays in the bounding set; root has them all, other users none.
pub(crate) const ALLOWED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);

/// Permitted and effective `set`, nothing inheritable.
pub(crate) const fn only(set: CapabilitySet) -> CapabilitySets {
    CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() }
}

/// Every capability that must leave the bounding set, also those that this code has no name for.
pub(crate) fn dropped() -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(|capability| !ALLOWED.contains(*capability))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounding_set_is_the_ten_of_the_table() {
        assert_eq!(ALLOWED.bits(), 0x8004_04fb);
        assert_eq!(ALLOWED.bits().count_ones(), 10);
    }

    #[test]
    fn whatever_is_not_allowed_is_dropped() {
        assert_eq!(dropped().count(), 54);
        assert!(dropped().all(|capability| !ALLOWED.intersects(capability)));
    }
}
