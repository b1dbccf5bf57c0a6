//! The capabilities of a container: by default ten, against docker's fourteen.
//!
//! | left out | why, and who notices |
//! |---|---|
//! | `NET_RAW` | raw sockets spoof neighbours; `ping` works without it where `ping_group_range` allows |
//! | `MKNOD` | no device is needed in a layer; fifos and sockets need no capability |
//! | `AUDIT_WRITE` | writes to the host's audit log; `sudo` and `su` warn and go on |
//! | `SETPCAP` | only ever raises inheritable or drops; nobody needs it to drop for good |

use rustix::thread::{CapabilitySet, CapabilitySets};

/// What stays in the bounding set if nothing else is said; root has them all, other users none.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT);

/// The names of capabilities(7), each at the place of its bit.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities; the default is the ten that a container has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(CapabilitySet);

impl Default for Capabilities {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl Capabilities {
    /// No capability.
    pub const NONE: Self = Self(CapabilitySet::empty());

    /// Every capability that whoever starts the container has.
    pub const ALL: Self = Self(CapabilitySet::from_bits_retain(u64::MAX));

    /// Returns the capability of this name, in either case and with or without `CAP_`; `ALL` is [`Self::ALL`].
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        if name == "ALL" {
            return Some(Self::ALL);
        }
        let bit = NAMES.iter().position(|known| *known == name)?;
        Some(Self(CapabilitySet::from_bits_retain(1 << bit)))
    }

    /// Returns every name, without `CAP_`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter()
    }

    /// Returns these and those of `other`.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns these less those of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }

    /// The set that a container gets from a process that has `held`, or the name of the first that this process lacks.
    ///
    /// Who asks for all of them, with or without exceptions, gets what there is.
    pub(crate) fn granted(self, held: CapabilitySet) -> Result<CapabilitySet, &'static str> {
        const YOUNGER_THAN_ANY: u64 = 1 << 63;
        if self.0.bits() & YOUNGER_THAN_ANY != 0 {
            return Ok(self.0 & held);
        }
        let missing = (self.0 - held).bits();
        match NAMES.iter().enumerate().find(|(bit, _)| missing & (1 << bit) != 0) {
            Some((_, name)) => Err(name),
            None => Ok(self.0),
        }
    }
}

/// Permitted and effective `set`, nothing inheritable.
pub(crate) const fn only(set: CapabilitySet) -> CapabilitySets {
    CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() }
}

/// Every capability that must leave the bounding set, also those that this code has no name for.
pub(crate) fn dropped(kept: CapabilitySet) -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)).filter(move |capability| !kept.contains(*capability))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_ten_of_the_table() {
        assert_eq!(DEFAULT.bits(), 0x8004_04fb);
        assert_eq!(DEFAULT.bits().count_ones(), 10);
    }

    #[test]
    fn whatever_is_not_kept_is_dropped() {
        assert_eq!(dropped(DEFAULT).count(), 54);
        assert!(dropped(DEFAULT).all(|capability| !DEFAULT.intersects(capability)));
    }

    #[test]
    fn names_are_the_kernels_at_their_bits() {
        let named = |name| Capabilities::named(name).map(|set| set.0);
        for (name, set) in [
            ("CHOWN", CapabilitySet::CHOWN),
            ("cap_net_admin", CapabilitySet::NET_ADMIN),
            ("Sys_Admin", CapabilitySet::SYS_ADMIN),
            ("CAP_SETFCAP", CapabilitySet::SETFCAP),
            ("syslog", CapabilitySet::SYSLOG),
            ("CHECKPOINT_RESTORE", CapabilitySet::CHECKPOINT_RESTORE),
        ] {
            assert_eq!(named(name), Some(set), "{name}");
        }
        assert_eq!(Capabilities::named("cap_all"), Some(Capabilities::ALL));
        for unknown in ["", "CAP_", "ADMIN", "CAP_CAP_CHOWN", "SYS_ADMIN "] {
            assert_eq!(named(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_capability_that_the_caller_lacks_is_named_unless_all_are_wanted() {
        let held = CapabilitySet::CHOWN | CapabilitySet::KILL;
        let chown = Capabilities(CapabilitySet::CHOWN);
        assert_eq!(chown.granted(held), Ok(CapabilitySet::CHOWN));
        assert_eq!(Capabilities::default().granted(held), Err("DAC_OVERRIDE"));
        assert_eq!(Capabilities::ALL.granted(held), Ok(held));
        assert_eq!(Capabilities::ALL.without(chown).granted(held), Ok(CapabilitySet::KILL));
        assert_eq!(Capabilities::NONE.granted(held), Ok(CapabilitySet::empty()));
    }
}
