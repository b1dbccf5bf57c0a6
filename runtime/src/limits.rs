//! How much of the machine a container may take, as the caller wants it. Pure data.
//!
//! | limit | kept by |
//! |---|---|
//! | memory, CPU, processes, block devices | cgroups (`cgroup/`) |
//! | [`Ulimit`]s, the OOM score | the process itself and what it starts (`child.rs`) |
//! | `/dev/shm` | its size (`detached.rs`) |
//!
//! Not here: docker's checks of what makes sense together, which are the command line's.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use rustix::process::Resource;

/// What a container may take. The default sets nothing but a limit of processes, and that only where it can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of memory; more ends a process of the container.
    pub memory: Option<u64>,
    /// Most bytes of memory and swap together; `None` is twice the memory, where swap is counted. Nothing without `memory`.
    pub memory_and_swap: Option<Bound>,
    /// Bytes that it should keep when memory is short.
    pub memory_reservation: Option<u64>,
    /// Time on processors.
    pub cpu: Option<CpuQuota>,
    /// Its part of busy processors against others' 1024, from 2 to 262,144.
    pub cpu_shares: Option<u64>,
    /// The processors that it runs on.
    pub cpuset_cpus: Option<NumberList>,
    /// The memory nodes that it uses.
    pub cpuset_mems: Option<NumberList>,
    /// Most processes and threads.
    pub pids: PidsLimit,
    /// Its part of busy block devices, from 10 to 1000.
    pub io_weight: Option<u16>,
    /// Most bytes and operations per second of block devices.
    pub io_rates: Vec<IoRate>,
    /// From -1000, never ended when memory is short, to 1000, first; `None` is the caller's.
    pub oom_score: Option<i16>,
    /// Limits of each process; at most one of each kind.
    pub ulimits: Vec<Ulimit>,
    /// Bytes of `/dev/shm`; `None` is [`DEFAULT_SHM_SIZE`].
    pub shm_size: Option<u64>,
}

/// Bytes of `/dev/shm` unless the caller says otherwise.
pub const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// A number, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// This many.
    AtMost(u64),
    /// As many as there are.
    Unlimited,
}

/// Time on all processors together, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// Most time in one period.
    pub quota: Bound,
    /// Length of a period.
    pub period: u64,
}

impl CpuQuota {
    /// The kernel's own period: 100 ms.
    pub const DEFAULT_PERIOD: u64 = 100_000;
}

/// How many processes and threads there may be at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidsLimit {
    /// As many as the kernel has numbers.
    Unlimited,
    /// This many where a cgroup can be made, otherwise unlimited: the limit is a precaution that nobody asked for.
    WherePossible(u64),
    /// This many, or the container does not start.
    Required(u64),
}

impl Default for PidsLimit {
    fn default() -> Self {
        Self::WherePossible(2048)
    }
}

/// Numbers of processors or memory nodes, such as `0-3,6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberList(String);

impl NumberList {
    /// Returns it as the kernel reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that is no [`NumberList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("want numbers and ranges, such as `0-3,6`")]
pub struct NumberListError;

impl FromStr for NumberList {
    type Err = NumberListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<u32>().map_err(|_not_a_number| NumberListError);
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if number(first)? > number(last)? {
                return Err(NumberListError);
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// The most that a container may read from or write to a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoRate {
    /// The device's node on the host.
    pub device: PathBuf,
    /// What is counted.
    pub kind: IoKind,
    /// Most of it per second.
    pub rate: u64,
}

/// What an [`IoRate`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Reads.
    ReadOperations,
    /// Writes.
    WriteOperations,
}

/// A limit of each process (`setrlimit`), in the words of docker: `nofile=1024:2048`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ulimit {
    name: &'static str,
    pub(crate) resource: Resource,
    pub(crate) soft: Bound,
    pub(crate) hard: Bound,
}

const ULIMITS: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

impl Ulimit {
    /// Returns what it limits, such as `nofile`.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// Text that is no [`Ulimit`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum UlimitError {
    #[error("want NAME=SOFT or NAME=SOFT:HARD")]
    Form,
    #[error("there is no limit of that name; the names are {}", ULIMITS.map(|(name, _)| name).join(", "))]
    Name,
    #[error("`{}` is no number, nor -1 for unlimited", .text.escape_debug())]
    Number { text: String },
    #[error("the soft limit is above the hard one")]
    SoftAboveHard,
}

impl FromStr for Ulimit {
    type Err = UlimitError;

    /// Reads `name=soft[:hard]`; without `hard` both are the same, and -1 is unlimited.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, values) = text.split_once('=').ok_or(UlimitError::Form)?;
        let (name, resource) = ULIMITS.into_iter().find(|(known, _)| *known == name).ok_or(UlimitError::Name)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (soft, hard) = (ulimit_bound(soft)?, ulimit_bound(hard)?);
        let fits = match (soft, hard) {
            (_, Bound::Unlimited) => true,
            (Bound::Unlimited, Bound::AtMost(_)) => false,
            (Bound::AtMost(soft), Bound::AtMost(hard)) => soft <= hard,
        };
        if fits { Ok(Self { name, resource, soft, hard }) } else { Err(UlimitError::SoftAboveHard) }
    }
}

fn ulimit_bound(text: &str) -> Result<Bound, UlimitError> {
    match text {
        "-1" => Ok(Bound::Unlimited),
        text => text.parse().map(Bound::AtMost).map_err(|_no_number| UlimitError::Number { text: text.to_owned() }),
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bound| match bound {
            Bound::AtMost(number) => number.to_string(),
            Bound::Unlimited => "-1".to_owned(),
        };
        write!(f, "{}={}:{}", self.name, text(self.soft), text(self.hard))
    }
}

/// A limit that a container ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum LimitHit {
    #[error("the container ran out of memory (limit {}): the kernel killed a process of it", binary_size(*.limit))]
    Memory { limit: u64 },
    #[error("the container reached its limit of {limit} processes: starting more failed")]
    Pids { limit: u64 },
}

fn binary_size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let exact = units.into_iter().find(|(_, shift)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    exact.map_or_else(|| format!("{bytes} B"), |(unit, shift)| format!("{} {unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_are_read_as_docker_reads_them() {
        for (text, shown) in [
            ("nofile=1024:2048", "nofile=1024:2048"),
            ("nproc=7", "nproc=7:7"),
            ("core=-1", "core=-1:-1"),
            ("memlock=5:-1", "memlock=5:-1"),
            ("stack=0", "stack=0:0"),
        ] {
            assert_eq!(text.parse::<Ulimit>().unwrap().to_string(), shown);
        }
        for (text, error) in [
            ("nofile", UlimitError::Form),
            ("as=1", UlimitError::Name),
            ("NOFILE=1", UlimitError::Name),
            ("nofile=2:1", UlimitError::SoftAboveHard),
            ("nofile=-1:1", UlimitError::SoftAboveHard),
            ("nofile=x", UlimitError::Number { text: "x".to_owned() }),
            ("nofile=1:", UlimitError::Number { text: String::new() }),
            ("nofile=1:2:3", UlimitError::Number { text: "2:3".to_owned() }),
        ] {
            assert_eq!(text.parse::<Ulimit>(), Err(error), "{text}");
        }
    }

    #[test]
    fn lists_of_processors_are_numbers_and_ranges() {
        for text in ["0", "0-1", "0,2-3,7"] {
            assert_eq!(text.parse::<NumberList>().unwrap().as_str(), text);
        }
        for text in ["", "a", "1-", "2-1", "0,", "-1", "0 1", "0\n"] {
            assert_eq!(text.parse::<NumberList>(), Err(NumberListError), "{text:?}");
        }
    }

    #[test]
    fn a_limit_is_told_in_the_largest_unit_that_is_exact() {
        for (limit, shown) in
            [(64 << 20, "64 MiB"), (3 << 30, "3 GiB"), (6_291_457, "6291457 B"), (1536 << 20, "1536 MiB")]
        {
            assert_eq!(binary_size(limit), shown);
        }
    }
}
