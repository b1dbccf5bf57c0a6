//! The system call filter of a container: which calls are let through, and what the others get.
//!
//! | call, of the machine or of its 32-bit programs | result |
//! |---|---|
//! | named in `calls.rs` as free, or brought by a capability of the container | goes on |
//! | `clone`, `socket`, `ioctl`, `personality` | goes on for most arguments |
//! | any other that the kernel's tables name (`numbers/`) | `EPERM` |
//! | `clone3`, without `SYS_ADMIN` | `ENOSYS`: its flags are in memory where a filter cannot look; C libraries then use `clone` |
//! | `socketcall` for a new socket (i386) | `ENOSYS`: so is the address family |
//! | numbers without a name, or younger than the tables; all of x32 | `ENOSYS`: a program then uses what it used before that call existed |
//! | of another architecture | the process is killed with `SIGSYS` |
//!
//! A name has the same verdict on every architecture; only its number differs.

mod calls;
mod numbers;
mod program;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use libc::sock_filter;
use rustix::thread::CapabilitySet;

use self::calls::{ABSENT, BROUGHT, CHECKED, FREE};
use self::numbers::Architecture;
use self::program::{Calls, Verdict};

/// The architectures of programs that this machine runs.
const HERE: &[Architecture] = if cfg!(target_arch = "x86_64") { &numbers::X86_64 } else { &numbers::AARCH64 };

/// An assembled filter, ready for the kernel.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) program: Vec<sock_filter>,
}

impl Filter {
    /// Whether these capabilities bring no call, so that the filter is that of a container without any.
    pub(crate) fn is_usual_for(capabilities: CapabilitySet) -> bool {
        brought(capabilities).next().is_none()
    }

    /// Assembles the filter of a container with these capabilities.
    pub(crate) fn new(capabilities: CapabilitySet) -> Self {
        Self::of(HERE, capabilities)
    }

    fn of(architectures: &[Architecture], capabilities: CapabilitySet) -> Self {
        let rules = rules(capabilities);
        let calls = |architecture: &Architecture| Calls {
            architecture: architecture.id,
            verdicts: verdicts(architecture, &rules),
        };
        Self { program: program::assemble(&architectures.iter().map(calls).collect::<Vec<_>>()) }
    }
}

/// The verdicts of all calls that are not simply refused, by name.
fn rules(capabilities: CapabilitySet) -> HashMap<&'static str, Verdict> {
    let free = FREE.iter().flat_map(|group| group.iter()).map(|name| (*name, Verdict::Allow));
    let checked = CHECKED.iter().map(|(name, check)| (*name, Verdict::ByArgument(*check)));
    let absent = ABSENT.iter().map(|name| (*name, Verdict::Errno(libc::ENOSYS)));
    let brought = brought(capabilities).map(|name| (name, Verdict::Allow));
    free.chain(checked).chain(absent).chain(brought).collect()
}

/// The calls that these capabilities bring.
fn brought(capabilities: CapabilitySet) -> impl Iterator<Item = &'static str> {
    let held = BROUGHT.iter().filter(move |(capability, _)| capabilities.contains(*capability));
    held.flat_map(|(_, calls)| calls.iter().copied())
}

/// The verdicts of all calls of an architecture, by number.
fn verdicts(architecture: &Architecture, rules: &HashMap<&str, Verdict>) -> BTreeMap<u32, Verdict> {
    let refused = Verdict::Errno(libc::EPERM);
    let verdict = |(name, number)| (number, rules.get(name).copied().unwrap_or(refused));
    architecture.numbers().map(verdict).collect()
}
