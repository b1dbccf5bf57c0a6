//! The flags that limit a container, as docker names and reads them: [`LimitArgs`] for `run` and `build`, [`RunLimitArgs`] for
//! `run` alone.
//!
//! What a value is, is said where it is parsed; what makes no sense together is refused by [`LimitArgs::limits`], before anything
//! is made. 0 is docker's way to say "not set".

use runtime::{Bound, CpuQuota, IoKind, IoRate, Limits, NumberList, PidsLimit, Ulimit};

use crate::ending::Ending;
use crate::shown::shown;
use crate::size::binary;

/// Less memory than this is of no use to any process: docker's number.
const LEAST_MEMORY: u64 = 6 << 20;
/// Billionths of a processor that are one.
const NANO_CPUS: u64 = 1_000_000_000;

/// Limits of every container.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Most memory, as in `512m`
    #[arg(short, long, value_name = "SIZE", value_parser = binary)]
    memory: Option<u64>,
    /// Most memory and swap together; -1 for unlimited swap [default: twice the memory]
    #[arg(long, value_name = "SIZE", value_parser = size_or_unlimited, allow_negative_numbers = true)]
    memory_swap: Option<Bound>,
    /// Number of processors, as in `1.5`
    #[arg(long, value_name = "NUMBER", value_parser = nano_cpus)]
    cpus: Option<u64>,
    /// Length of a period of processor time, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Part of busy processors, against 1024 of others
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// Processors to run on, as in `0-2,4`
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<NumberList>,
    /// Memory nodes to use, as in `0-2,4`
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<NumberList>,
    /// Most processes and threads; -1 for unlimited [default: 2048, in a build 4096]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Limit of each process, as in `nofile=1024:2048`
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<Ulimit>,
    /// Size of `/dev/shm` [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = binary)]
    shm_size: Option<u64>,
}

/// Limits that only `run` has.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct RunLimitArgs {
    #[command(flatten)]
    limits: LimitArgs,
    /// Memory to keep when there is little
    #[arg(long, value_name = "SIZE", value_parser = binary)]
    memory_reservation: Option<u64>,
    /// Part of busy block devices, from 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u16>,
    /// Most bytes per second to read from a device
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = bytes_per_second)]
    device_read_bps: Vec<DeviceRate>,
    /// Most bytes per second to write to a device
    #[arg(long, value_name = "DEVICE:SIZE", value_parser = bytes_per_second)]
    device_write_bps: Vec<DeviceRate>,
    /// Most reads per second from a device
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = operations_per_second)]
    device_read_iops: Vec<DeviceRate>,
    /// Most writes per second to a device
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = operations_per_second)]
    device_write_iops: Vec<DeviceRate>,
    /// When memory is short: from -1000, never ended, to 1000, first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i16).range(-1000..=1000))]
    oom_score_adj: Option<i16>,
}

impl LimitArgs {
    /// Returns the limits; `default_pids` is how many processes there may be if nothing is said.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`] for what makes no sense, by itself or together.
    pub(crate) fn limits(&self, default_pids: PidsLimit) -> Result<Limits, Ending> {
        let memory = self.memory.filter(|&memory| memory > 0);
        if memory.is_some_and(|memory| memory < LEAST_MEMORY) {
            return Err(Ending::usage("minimum memory limit allowed is 6MB"));
        }
        Ok(Limits {
            memory,
            memory_and_swap: self.memory_and_swap(memory)?,
            cpu: self.cpu()?,
            cpu_shares: self.cpu_shares.filter(|&shares| shares > 0),
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids(default_pids),
            ulimits: last_of_each(&self.ulimits),
            shm_size: self.shm_size.filter(|&size| size > 0),
            ..Limits::default()
        })
    }

    fn memory_and_swap(&self, memory: Option<u64>) -> Result<Option<Bound>, Ending> {
        match (memory, self.memory_swap.filter(|&swap| swap != Bound::AtMost(0))) {
            (None, Some(Bound::AtMost(_))) => Err(Ending::usage("`--memory-swap` needs `--memory`, which it includes")),
            (Some(memory), Some(Bound::AtMost(total))) if total < memory => {
                Err(Ending::usage("`--memory-swap` includes the memory: it cannot be less than `--memory`"))
            }
            (_, swap) => Ok(swap),
        }
    }

    fn cpu(&self) -> Result<Option<CpuQuota>, Ending> {
        let period = self.cpu_period.filter(|&period| period > 0);
        let quota = self.cpu_quota.filter(|&quota| quota != 0);
        if period.is_some_and(|period| !(1000..=1_000_000).contains(&period)) {
            return Err(Ending::usage("the CPU period must be from 1000 to 1000000 microseconds: 1 ms to 1 s"));
        }
        if quota.is_some_and(|quota| (0..1000).contains(&quota)) {
            return Err(Ending::usage("the CPU quota cannot be less than 1000 microseconds: 1 ms"));
        }
        let Some(nano_cpus) = self.cpus.filter(|&cpus| cpus > 0) else {
            if period.is_none() && quota.is_none() {
                return Ok(None);
            }
            let bound = |quota| u64::try_from(quota).map_or(Bound::Unlimited, Bound::AtMost);
            let quota = quota.map_or(Bound::Unlimited, bound);
            return Ok(Some(CpuQuota { quota, period: period.unwrap_or(CpuQuota::DEFAULT_PERIOD) }));
        };
        if period.is_some() || quota.is_some() {
            return Err(Ending::usage(
                "`--cpus` says both period and quota: leave `--cpu-period` and `--cpu-quota` out",
            ));
        }
        check_cpus(nano_cpus)?;
        let quota = u128::from(nano_cpus) * u128::from(CpuQuota::DEFAULT_PERIOD) / u128::from(NANO_CPUS);
        let quota = Bound::AtMost(u64::try_from(quota).unwrap_or(u64::MAX));
        Ok(Some(CpuQuota { quota, period: CpuQuota::DEFAULT_PERIOD }))
    }

    fn pids(&self, default: PidsLimit) -> PidsLimit {
        match self.pids_limit.map(u64::try_from) {
            None => default,
            Some(Ok(most)) if most > 0 => PidsLimit::Required(most),
            Some(_) => PidsLimit::Unlimited,
        }
    }
}

impl RunLimitArgs {
    /// Returns the limits of a container.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`] for what makes no sense, by itself or together.
    pub(crate) fn limits(&self) -> Result<Limits, Ending> {
        let common = self.limits.limits(PidsLimit::default())?;
        let reservation = self.memory_reservation.filter(|&memory| memory > 0);
        if reservation.is_some_and(|reservation| reservation < LEAST_MEMORY) {
            return Err(Ending::usage("minimum memory reservation allowed is 6MB"));
        }
        if reservation > common.memory && common.memory.is_some() {
            return Err(Ending::usage("`--memory-reservation` cannot be more than `--memory`"));
        }
        let weight = self.blkio_weight.filter(|&weight| weight > 0);
        if weight.is_some_and(|weight| !(10..=1000).contains(&weight)) {
            return Err(Ending::usage("the range of `--blkio-weight` is from 10 to 1000"));
        }
        let rates = [
            (IoKind::ReadBytes, &self.device_read_bps),
            (IoKind::WriteBytes, &self.device_write_bps),
            (IoKind::ReadOperations, &self.device_read_iops),
            (IoKind::WriteOperations, &self.device_write_iops),
        ];
        let rates = rates.into_iter().flat_map(|(kind, rates)| {
            rates.iter().map(move |rate| IoRate { device: rate.device.clone().into(), kind, rate: rate.rate })
        });
        Ok(Limits {
            memory_reservation: reservation,
            io_weight: weight,
            io_rates: rates.collect(),
            oom_score: self.oom_score_adj,
            ..common
        })
    }
}

/// Refuses more processors than there are, and less than the kernel can measure.
fn check_cpus(nano_cpus: u64) -> Result<(), Ending> {
    let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = u64::try_from(there).unwrap_or(u64::MAX).saturating_mul(NANO_CPUS);
    if (NANO_CPUS / 100..=most).contains(&nano_cpus) {
        return Ok(());
    }
    Err(Ending::usage(format!("the range of `--cpus` is from 0.01 to {there}: there are only {there} CPUs")))
}

/// Of several limits of one kind the last counts.
fn last_of_each(given: &[Ulimit]) -> Vec<Ulimit> {
    let mut ulimits: Vec<Ulimit> = Vec::new();
    for ulimit in given {
        ulimits.retain(|known| known.name() != ulimit.name());
        ulimits.push(*ulimit);
    }
    ulimits
}

fn size_or_unlimited(text: &str) -> Result<Bound, String> {
    if text == "-1" { Ok(Bound::Unlimited) } else { binary(text).map(Bound::AtMost) }
}

/// Reads a number of processors in billionths, exactly.
fn nano_cpus(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{}` is no number of CPUs, such as `1.5`", shown(text));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(wrong());
    }
    if fraction.len() > 9 {
        return Err(format!("`{}` is too precise: CPUs are counted in billionths", shown(text)));
    }
    let whole: u64 = format!("0{whole}").parse().map_err(|_too_large| wrong())?;
    let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_too_large| wrong())?;
    whole.checked_mul(NANO_CPUS).and_then(|whole| whole.checked_add(fraction)).ok_or_else(wrong)
}

/// A device and how much of it per second.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DeviceRate {
    device: String,
    rate: u64,
}

fn bytes_per_second(text: &str) -> Result<DeviceRate, String> {
    device_rate(text, binary)
}

fn operations_per_second(text: &str) -> Result<DeviceRate, String> {
    device_rate(text, |rate| rate.parse().map_err(|_no_number| format!("`{}` is no number", shown(rate))))
}

fn device_rate(text: &str, rate: impl Fn(&str) -> Result<u64, String>) -> Result<DeviceRate, String> {
    let parts = text.split_once(':').filter(|(device, _)| device.starts_with("/dev/"));
    let (device, value) = parts.ok_or("want the path of a device below /dev, a colon, and a rate")?;
    match rate(value)? {
        0 => Err("a rate of 0 would let nothing through".to_owned()),
        rate => Ok(DeviceRate { device: device.to_owned(), rate }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        limits: RunLimitArgs,
    }

    fn limits(words: &str) -> Result<Limits, String> {
        let command = Command::try_parse_from(std::iter::once("wharf").chain(words.split_whitespace()));
        command.map_err(|error| error.to_string())?.limits.limits().map_err(|error| error.to_string())
    }

    #[track_caller]
    fn check(words: &str, change: impl FnOnce(&mut Limits)) {
        let mut expected = Limits::default();
        change(&mut expected);
        assert_eq!(limits(words).unwrap(), expected, "{words}");
    }

    #[track_caller]
    fn check_refused(words: &str, why: &str) {
        let error = limits(words).unwrap_err();
        assert!(error.contains(why), "{words}: {error}");
    }

    #[test]
    fn nothing_and_zero_set_no_limit_but_the_default_one_of_processes() {
        check("", |_| ());
        let zeros = "-m 0 --memory-swap 0 --cpus 0 --cpu-period 0 --cpu-quota 0 -c 0 --shm-size 0 --blkio-weight 0";
        check(zeros, |_| ());
        check("--pids-limit 0", |limits| limits.pids = PidsLimit::Unlimited);
        check("--pids-limit=-1", |limits| limits.pids = PidsLimit::Unlimited);
        check("--pids-limit 7", |limits| limits.pids = PidsLimit::Required(7));
    }

    #[test]
    fn memory_and_swap_are_checked_against_each_other() {
        check("-m 64m", |limits| limits.memory = Some(64 << 20));
        let both =
            |swap| move |limits: &mut Limits| (limits.memory, limits.memory_and_swap) = (Some(8 << 20), Some(swap));
        check("-m 8m --memory-swap 9m", both(Bound::AtMost(9 << 20)));
        check("-m 8m --memory-swap -1", both(Bound::Unlimited));
        check("--memory-reservation 8m", |limits| limits.memory_reservation = Some(8 << 20));
        check_refused("-m 5m", "6MB");
        check_refused("-m 8m --memory-swap 7m", "cannot be less");
        check_refused("--memory-swap 64m", "needs `--memory`");
        check_refused("-m 8m --memory-reservation 9m", "cannot be more");
        check_refused("--memory-reservation 5m", "6MB");
        check_refused("-m x", "invalid size");
    }

    #[test]
    fn cpus_are_a_quota_of_the_usual_period() {
        let time = |quota, period| move |limits: &mut Limits| limits.cpu = Some(CpuQuota { quota, period });
        check("--cpus 0.5", time(Bound::AtMost(50_000), 100_000));
        check("--cpus .01", time(Bound::AtMost(1_000), 100_000));
        check("--cpu-quota 20000", time(Bound::AtMost(20_000), 100_000));
        check("--cpu-quota -1 --cpu-period 50000", time(Bound::Unlimited, 50_000));
        check("-c 512 --cpuset-cpus 0-1 --cpuset-mems 0", |limits| {
            limits.cpu_shares = Some(512);
            (limits.cpuset_cpus, limits.cpuset_mems) = ("0-1".parse().ok(), "0".parse().ok());
        });
        check_refused("--cpus 0.001", "from 0.01");
        check_refused("--cpus 100000", "there are only");
        check_refused("--cpus 1 --cpu-quota 20000", "both");
        check_refused("--cpus 1.0000000001", "too precise");
        check_refused("--cpus -1", "unexpected");
        check_refused("--cpu-period 999", "1000 to 1000000");
        check_refused("--cpu-quota 999", "1000 microseconds");
        check_refused("--cpuset-cpus 1-0", "such as");
    }

    #[test]
    fn of_ulimits_the_last_of_a_kind_counts() {
        check("--ulimit nofile=1:2 --ulimit core=0 --ulimit nofile=3", |limits| {
            limits.ulimits = ["core=0", "nofile=3"].map(|text| text.parse().unwrap()).to_vec();
        });
        check_refused("--ulimit nofile=2:1", "above the hard one");
        check_refused("--ulimit files=2", "the names are core, cpu,");
    }

    #[test]
    fn devices_have_rates_in_bytes_or_operations() {
        let rate = |kind, rate| IoRate { device: "/dev/sda".into(), kind, rate };
        let words =
            "--device-write-iops /dev/sda:9 --device-read-bps /dev/sda:1mb --blkio-weight 10 --oom-score-adj -5";
        check(words, |limits| {
            limits.io_rates = vec![rate(IoKind::ReadBytes, 1 << 20), rate(IoKind::WriteOperations, 9)];
            (limits.io_weight, limits.oom_score) = (Some(10), Some(-5));
        });
        check_refused("--device-read-bps sda:1", "below /dev");
        check_refused("--device-read-iops /dev/sda:1m", "no number");
        check_refused("--device-read-bps /dev/sda:0", "nothing through");
        check_refused("--blkio-weight 9", "10 to 1000");
        check_refused("--oom-score-adj 1001", "-1000..=1000");
    }
}
