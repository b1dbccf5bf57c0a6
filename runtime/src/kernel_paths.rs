//! Kernel files that a container must not see or change: what docker and podman hide, together, and a little more.
//!
//! A path that this kernel does not have is left out. Paths are relative to the mount they are below, and links in them are not
//! followed.

use std::ffi::{CStr, CString};
use std::fs;

/// Hidden below `/proc`: a file shows nothing, a directory is empty.
pub(crate) const MASKED_PROC: &[&CStr] = &[
    c"acpi",
    c"asound",
    c"interrupts",
    c"kcore",
    c"keys",
    c"latency_stats",
    c"sched_debug",
    c"scsi",
    c"timer_list",
    c"timer_stats",
];

/// Hidden below `/sys`; the `thermal_throttle` directories of [`thermal_throttle`] come on top.
pub(crate) const MASKED_SYS: &[&CStr] = &[
    c"dev/block",
    c"devices/virtual/powercap",
    c"firmware",
    c"fs/selinux",
    c"kernel/debug",
    c"kernel/security",
    c"kernel/tracing",
];

/// Read-only below `/proc`. All of `/sys` is.
pub(crate) const READ_ONLY_PROC: &[&CStr] = &[c"bus", c"fs", c"irq", c"sys", c"sysrq-trigger"];

/// The `thermal_throttle` directory of every processor that has one: their counters tell what a neighbour does.
pub(crate) fn thermal_throttle() -> Vec<CString> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.strip_prefix("cpu").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())))
        .map(|name| format!("devices/system/cpu/{name}/thermal_throttle"))
        .filter(|path| fs::exists(format!("/sys/{path}")).unwrap_or(false))
        .filter_map(|path| CString::new(path).ok())
        .collect()
}
