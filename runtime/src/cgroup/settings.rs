//! Which files of a cgroup get which values: from [`Limits`] to [`Setting`]s, without looking at any cgroup.
//!
//! | limit | version 1 | version 2 |
//! |---|---|---|
//! | memory | `memory.limit_in_bytes` | `memory.max` |
//! | memory and swap | `memory.memsw.limit_in_bytes` | `memory.swap.max`: without the memory |
//! | memory reservation | `memory.soft_limit_in_bytes` | `memory.low` |
//! | CPU time | `cpu.cfs_period_us`, `cpu.cfs_quota_us` | `cpu.max` |
//! | CPU shares | `cpu.shares`, of 1024 | `cpu.weight`, of 100 |
//! | CPUs, memory nodes | `cpuset.cpus`, `cpuset.mems` | the same |
//! | processes | `pids.max` | the same |
//! | weight of block devices | `blkio.bfq.weight`, before Linux 5 `blkio.weight` | `io.bfq.weight`, else `io.weight`, of 100 |
//! | rates of block devices | `blkio.throttle.*_device` | `io.max` |
//!
//! Order: what was asked for before what is a precaution; memory before memory and swap, which must not be below it.

use std::fmt;

use rustix::fs::{FileType, major, minor};

use super::{CgroupError, Version};
use crate::limits::{Bound, CpuQuota, IoKind, IoRate, Limits, PidsLimit};

/// A part of the kernel that keeps limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Cpuset,
    Io,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::Cpuset, Self::Io, Self::Pids];

    pub(crate) fn name(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::Memory, _) => "memory",
            (Self::Cpu, _) => "cpu",
            (Self::Cpuset, _) => "cpuset",
            (Self::Pids, _) => "pids",
            (Self::Io, Version::One) => "blkio",
            (Self::Io, Version::Two) => "io",
        }
    }
}

/// What a user wants to limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the fields of `Limits`")]
#[non_exhaustive]
pub enum Limit {
    Memory,
    MemoryAndSwap,
    MemoryReservation,
    Cpu,
    CpuShares,
    CpusetCpus,
    CpusetMems,
    Pids,
    IoWeight,
    IoRate,
}

impl Limit {
    pub(crate) fn controller(self) -> Controller {
        match self {
            Self::Memory | Self::MemoryAndSwap | Self::MemoryReservation => Controller::Memory,
            Self::Cpu | Self::CpuShares => Controller::Cpu,
            Self::CpusetCpus | Self::CpusetMems => Controller::Cpuset,
            Self::Pids => Controller::Pids,
            Self::IoWeight | Self::IoRate => Controller::Io,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::MemoryAndSwap => "memory and swap",
            Self::MemoryReservation => "the memory reservation",
            Self::Cpu => "CPU time",
            Self::CpuShares => "CPU shares",
            Self::CpusetCpus => "the CPUs",
            Self::CpusetMems => "the memory nodes",
            Self::Pids => "the number of processes",
            Self::IoWeight => "the weight of block devices",
            Self::IoRate => "the rate of a block device",
        })
    }
}

/// A value and the file for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) limit: Limit,
    /// The first file that is there gets its value.
    pub(crate) choices: Vec<(&'static str, String)>,
    pub(crate) need: Need,
}

/// Whether a container can go without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    /// Where the kernel has no such file, it counts nothing of the kind either.
    IfThere,
}

/// Returns what is to be limited, in the order of the settings.
pub(crate) fn wanted(limits: &Limits) -> Vec<Limit> {
    let all = [
        (Limit::Memory, limits.memory.is_some()),
        (Limit::MemoryAndSwap, limits.memory.is_some()),
        (Limit::MemoryReservation, limits.memory_reservation.is_some()),
        (Limit::Cpu, limits.cpu.is_some()),
        (Limit::CpuShares, limits.cpu_shares.is_some()),
        (Limit::CpusetCpus, limits.cpuset_cpus.is_some()),
        (Limit::CpusetMems, limits.cpuset_mems.is_some()),
        (Limit::IoWeight, limits.io_weight.is_some()),
        (Limit::IoRate, !limits.io_rates.is_empty()),
        (Limit::Pids, limits.pids != PidsLimit::Unlimited),
    ];
    all.into_iter().filter(|(_, is_set)| *is_set).map(|(limit, _)| limit).collect()
}

/// Returns the settings of one limit.
///
/// # Errors
///
/// [`CgroupError::Device`] for a path that is no block device.
pub(crate) fn settings(limits: &Limits, limit: Limit, version: Version) -> Result<Vec<Setting>, CgroupError> {
    let plain = |file: &'static str, value: String| vec![setting(limit, file, value)];
    let number = |value: Option<u64>| value.unwrap_or_default().to_string();
    let list = |list: &Option<crate::NumberList>| list.iter().map(|list| list.as_str()).collect::<String>();
    Ok(match (limit, version) {
        (Limit::Memory, Version::One) => plain("memory.limit_in_bytes", number(limits.memory)),
        (Limit::Memory, Version::Two) => plain("memory.max", number(limits.memory)),
        (Limit::MemoryAndSwap, version) => vec![memory_and_swap(limits, version)],
        (Limit::MemoryReservation, Version::One) => {
            plain("memory.soft_limit_in_bytes", number(limits.memory_reservation))
        }
        (Limit::MemoryReservation, Version::Two) => plain("memory.low", number(limits.memory_reservation)),
        (Limit::Cpu, version) => limits.cpu.map(|cpu| cpu_time(cpu, version)).unwrap_or_default(),
        (Limit::CpuShares, Version::One) => plain("cpu.shares", number(limits.cpu_shares)),
        (Limit::CpuShares, Version::Two) => {
            plain("cpu.weight", cpu_weight(limits.cpu_shares.unwrap_or_default()).to_string())
        }
        (Limit::CpusetCpus, _) => plain("cpuset.cpus", list(&limits.cpuset_cpus)),
        (Limit::CpusetMems, _) => plain("cpuset.mems", list(&limits.cpuset_mems)),
        (Limit::Pids, _) => plain("pids.max", number(most_pids(limits.pids))),
        (Limit::IoWeight, version) => vec![io_weight(limits.io_weight.unwrap_or_default(), version)],
        (Limit::IoRate, version) => {
            limits.io_rates.iter().map(|rate| io_rate(rate, version)).collect::<Result<_, _>>()?
        }
    })
}

fn setting(limit: Limit, file: &'static str, value: String) -> Setting {
    Setting { limit, choices: vec![(file, value)], need: Need::Required }
}

/// Returns the number of processes that is kept, if any.
pub(crate) fn most_pids(pids: PidsLimit) -> Option<u64> {
    match pids {
        PidsLimit::Unlimited => None,
        PidsLimit::WherePossible(most) | PidsLimit::Required(most) => Some(most),
    }
}

/// Version 1 counts both together, version 2 the swap alone.
fn memory_and_swap(limits: &Limits, version: Version) -> Setting {
    let memory = limits.memory.unwrap_or_default();
    let most = limits.memory_and_swap.unwrap_or(Bound::AtMost(memory.saturating_mul(2)));
    let (file, value) = match (version, most) {
        (Version::One, Bound::Unlimited) => ("memory.memsw.limit_in_bytes", "-1".to_owned()),
        (Version::One, Bound::AtMost(total)) => ("memory.memsw.limit_in_bytes", total.to_string()),
        (Version::Two, Bound::Unlimited) => ("memory.swap.max", "max".to_owned()),
        (Version::Two, Bound::AtMost(total)) => ("memory.swap.max", total.saturating_sub(memory).to_string()),
    };
    let need = if limits.memory_and_swap.is_some() { Need::Required } else { Need::IfThere };
    Setting { need, ..setting(Limit::MemoryAndSwap, file, value) }
}

fn cpu_time(CpuQuota { quota, period }: CpuQuota, version: Version) -> Vec<Setting> {
    let quota = |unlimited: &str| match quota {
        Bound::AtMost(quota) => quota.to_string(),
        Bound::Unlimited => unlimited.to_owned(),
    };
    match version {
        Version::One => vec![
            setting(Limit::Cpu, "cpu.cfs_period_us", period.to_string()),
            setting(Limit::Cpu, "cpu.cfs_quota_us", quota("-1")),
        ],
        Version::Two => vec![setting(Limit::Cpu, "cpu.max", format!("{} {period}", quota("max")))],
    }
}

/// Turns shares (2 to 262,144, usually 1024) into a weight (1 to 10,000, usually 100), as runc and crun do: a parabola of logarithms
/// through (2, 1), (1024, 100) and (262,144, 10,000).
#[expect(clippy::cast_precision_loss, reason = "shares have 18 bits")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the result is from 1 to 10,000")]
fn cpu_weight(shares: u64) -> u64 {
    let logarithm = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    // the formula is exact at its ends but for the last digits of a double
    let weight = (10_f64.powf(exponent) - 1e-6).ceil();
    (weight as u64).clamp(1, 10_000)
}

fn io_weight(weight: u16, version: Version) -> Setting {
    let choices = match version {
        Version::One => vec![("blkio.bfq.weight", weight.to_string()), ("blkio.weight", weight.to_string())],
        Version::Two => {
            let of_ten_thousand = 1 + (u32::from(weight).saturating_sub(10)) * 9999 / 990;
            vec![("io.bfq.weight", weight.to_string()), ("io.weight", of_ten_thousand.to_string())]
        }
    };
    Setting { limit: Limit::IoWeight, choices, need: Need::Required }
}

fn io_rate(rate: &IoRate, version: Version) -> Result<Setting, CgroupError> {
    let IoRate { device, kind, rate } = rate;
    let failed = |source| CgroupError::Device { path: device.clone(), source };
    let stat = rustix::fs::stat(device).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Err(failed(std::io::Error::other("it is no block device")));
    }
    let number = format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
    let (file, key) = match kind {
        IoKind::ReadBytes => ("blkio.throttle.read_bps_device", "rbps"),
        IoKind::WriteBytes => ("blkio.throttle.write_bps_device", "wbps"),
        IoKind::ReadOperations => ("blkio.throttle.read_iops_device", "riops"),
        IoKind::WriteOperations => ("blkio.throttle.write_iops_device", "wiops"),
    };
    Ok(match version {
        Version::One => setting(Limit::IoRate, file, format!("{number} {rate}")),
        Version::Two => setting(Limit::IoRate, "io.max", format!("{number} {key}={rate}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the whole of what is written for `limits`.
    #[track_caller]
    fn check(limits: &Limits, version: Version, expected: &[&str]) {
        let limits = Limits { pids: PidsLimit::Unlimited, ..limits.clone() };
        let all = wanted(&limits).into_iter().flat_map(|limit| settings(&limits, limit, version).unwrap());
        let lines: Vec<String> = all
            .map(|setting| {
                let choices: Vec<_> = setting.choices.iter().map(|(file, value)| format!("{file}={value}")).collect();
                let need = if setting.need == Need::IfThere { " if there" } else { "" };
                format!("{}{need}", choices.join(" or "))
            })
            .collect();
        assert_eq!(lines, expected);
    }

    fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    }

    #[test]
    fn nothing_is_written_where_nothing_is_limited_and_pids_come_last() {
        check(&Limits::default(), Version::One, &[]);
        check(&Limits::default(), Version::Two, &[]);
        assert_eq!(wanted(&limits(|limits| limits.memory = Some(1))).last(), Some(&Limit::Pids));
        let written = settings(&Limits::default(), Limit::Pids, Version::Two).unwrap();
        assert_eq!(written, [setting(Limit::Pids, "pids.max", "2048".to_owned())]);
    }

    #[test]
    fn swap_is_counted_with_memory_in_version_1_and_without_in_version_2() {
        let memory = |swap| limits(|limits| (limits.memory, limits.memory_and_swap) = (Some(100), swap));
        for (swap, one, two) in [
            (None, "memory.memsw.limit_in_bytes=200 if there", "memory.swap.max=100 if there"),
            (Some(Bound::AtMost(100)), "memory.memsw.limit_in_bytes=100", "memory.swap.max=0"),
            (Some(Bound::AtMost(150)), "memory.memsw.limit_in_bytes=150", "memory.swap.max=50"),
            (Some(Bound::Unlimited), "memory.memsw.limit_in_bytes=-1", "memory.swap.max=max"),
        ] {
            check(&memory(swap), Version::One, &["memory.limit_in_bytes=100", one]);
            check(&memory(swap), Version::Two, &["memory.max=100", two]);
        }
        let reserved = limits(|limits| limits.memory_reservation = Some(7));
        check(&reserved, Version::One, &["memory.soft_limit_in_bytes=7"]);
        check(&reserved, Version::Two, &["memory.low=7"]);
    }

    #[test]
    fn cpu_time_is_a_quota_of_a_period() {
        let time = |quota| limits(|limits| limits.cpu = Some(CpuQuota { quota, period: 50_000 }));
        let one = ["cpu.cfs_period_us=50000", "cpu.cfs_quota_us=25000"];
        check(&time(Bound::AtMost(25_000)), Version::One, &one);
        check(&time(Bound::AtMost(25_000)), Version::Two, &["cpu.max=25000 50000"]);
        check(&time(Bound::Unlimited), Version::One, &["cpu.cfs_period_us=50000", "cpu.cfs_quota_us=-1"]);
        check(&time(Bound::Unlimited), Version::Two, &["cpu.max=max 50000"]);
    }

    #[test]
    fn shares_and_weights_have_other_scales_in_version_2() {
        for (shares, weight) in
            [(2, 1), (0, 1), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000), (1 << 40, 10_000)]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        let set = limits(|limits| (limits.cpu_shares, limits.io_weight) = (Some(1024), Some(1000)));
        check(&set, Version::One, &["cpu.shares=1024", "blkio.bfq.weight=1000 or blkio.weight=1000"]);
        check(&set, Version::Two, &["cpu.weight=100", "io.bfq.weight=1000 or io.weight=10000"]);
        let least = limits(|limits| limits.io_weight = Some(10));
        check(&least, Version::Two, &["io.bfq.weight=10 or io.weight=1"]);
    }

    #[test]
    fn a_path_that_is_no_block_device_has_no_rate() {
        for path in ["/dev/null", "/nowhere"] {
            let rate = IoRate { device: path.into(), kind: IoKind::ReadBytes, rate: 1 };
            let error = io_rate(&rate, Version::One).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot limit the block device `{path}`"));
        }
    }
}
