//! Figures: what one run of a command cost, and the medians of several.

use std::time::Duration;

/// What was measured; None is what does not apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) wall: Option<Duration>,
    /// CPU time of client, daemon and containers.
    pub(crate) cpu: Option<Duration>,
    /// Most bytes of anonymous memory of client, daemon and containers together, looked at every ten milliseconds.
    pub(crate) memory: Option<u64>,
    /// Bytes that were sent, or that the store takes on the disk.
    pub(crate) bytes: Option<u64>,
    pub(crate) inodes: Option<u64>,
}

impl Figures {
    /// The figures of one command and then another.
    pub(crate) fn then(self, other: Self) -> Self {
        Self {
            wall: sum(self.wall, other.wall),
            cpu: sum(self.cpu, other.cpu),
            memory: self.memory.max(other.memory),
            ..self
        }
    }

    /// The figures of one of `times` equal commands.
    pub(crate) fn divided(self, times: u32) -> Self {
        Self { wall: self.wall.map(|wall| wall / times), cpu: self.cpu.map(|cpu| cpu / times), ..self }
    }

    /// The median of each figure.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        Self {
            wall: median(rounds.iter().filter_map(|figures| figures.wall)),
            cpu: median(rounds.iter().filter_map(|figures| figures.cpu)),
            memory: median(rounds.iter().filter_map(|figures| figures.memory)),
            bytes: median(rounds.iter().filter_map(|figures| figures.bytes)),
            inodes: median(rounds.iter().filter_map(|figures| figures.inodes)),
        }
    }
}

fn sum(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    Some(one? + other?)
}

/// The middle of the values; of an even number, the lower of the two.
fn median<T: Ord + Copy>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(seconds: u64) -> Figures {
        Figures { cpu: Some(Duration::from_secs(seconds)), memory: Some(seconds), ..Figures::default() }
    }

    #[test]
    fn the_median_is_that_of_each_figure_and_none_of_nothing() {
        let median = Figures::median(&[cpu(9), cpu(1), cpu(4)]);
        assert_eq!((median.cpu, median.memory, median.wall), (Some(Duration::from_secs(4)), Some(4), None));
        assert_eq!(Figures::median(&[cpu(2), cpu(1)]), cpu(1));
        assert_eq!(Figures::median(&[]), Figures::default());
    }

    #[test]
    fn two_commands_take_the_time_of_both_and_the_memory_of_the_larger() {
        let both = cpu(2).then(cpu(3));
        assert_eq!((both.cpu, both.memory), (Some(Duration::from_secs(5)), Some(3)));
    }
}
