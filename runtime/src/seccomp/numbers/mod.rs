//! The numbers of system calls, for each architecture: all that the kernel's tables name, whether a container may make them or not.
//!
//! Names are those of the kernel's tables. A number without a name does not exist, as far as the filter is concerned.

mod aarch64;
mod arm;
mod i386;
mod shared;
mod x86_64;

use self::shared::{EVERYWHERE, TIME64};

/// The number of a system call: its name, and what the kernel is called with.
pub(super) type Number = (&'static str, u32);

macro_rules! numbers {
    ($($name:ident $number:literal,)*) => { &[$((stringify!($name), $number)),*] };
}
use numbers;

/// An architecture that the kernel tells filters of.
#[derive(Debug)]
pub(super) struct Architecture {
    /// Its `AUDIT_ARCH_` value: the ELF machine, with a bit for 64 bits and one for little-endian.
    pub(super) id: u32,
    tables: &'static [&'static [Number]],
}

impl Architecture {
    /// Lists its calls.
    pub(super) fn numbers(&self) -> impl Iterator<Item = Number> {
        self.tables.iter().flat_map(|table| table.iter().copied())
    }
}

/// The architectures of programs that an `x86_64` machine runs, its own first.
///
/// x32 is no architecture to filters: its numbers are those of `x86_64` and a high bit, so that none has a name.
pub(super) const X86_64: [Architecture; 2] = [
    Architecture { id: 0xc000_003e, tables: &[x86_64::X86_64, EVERYWHERE] },
    Architecture { id: 0x4000_0003, tables: &[i386::I386, TIME64, EVERYWHERE] },
];

/// The architectures of programs that an aarch64 machine runs, its own first.
pub(super) const AARCH64: [Architecture; 2] = [
    Architecture { id: 0xc000_00b7, tables: &[aarch64::AARCH64, EVERYWHERE] },
    Architecture { id: 0x4000_0028, tables: &[arm::ARM, TIME64, EVERYWHERE] },
];
