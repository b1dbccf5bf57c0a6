//! The ids that exist in a user namespace, as `/proc/self/uid_map` and `gid_map` list them.

/// One of the two maps of a user namespace, without the outer ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    ranges: Vec<(u32, u32)>,
    identity: bool,
}

impl IdMap {
    /// Reads lines of `inside outside count`; lines that are none are not there.
    pub(crate) fn parse(text: &str) -> Self {
        let lines: Vec<Vec<u32>> =
            text.lines().map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect()).collect();
        let identity = matches!(lines.as_slice(), [line] if *line == [0, 0, u32::MAX]);
        let ranges = lines.iter().filter_map(|line| match line.as_slice() {
            [inside, _, count] => Some((*inside, *count)),
            _ => None,
        });
        Self { ranges: ranges.collect(), identity }
    }

    /// Whether `id` can be given to a process or a file.
    pub(crate) fn contains(&self, id: u32) -> bool {
        self.ranges.iter().any(|(first, count)| id >= *first && id - first < *count)
    }

    /// Whether this is the initial namespace, or one that maps every id to itself.
    pub(crate) fn is_identity(&self) -> bool {
        self.identity
    }

    /// How many ids there are.
    pub(crate) fn len(&self) -> u64 {
        self.ranges.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initial_namespace_maps_every_id_to_itself() {
        let map = IdMap::parse("         0          0 4294967295\n");
        assert!(map.is_identity());
        assert!(map.contains(0) && map.contains(4_294_967_294));
    }

    #[test]
    fn an_id_between_two_ranges_does_not_exist() {
        let map = IdMap::parse("0 1000 1\n1 100000 65536\n100000 300000 10\n");
        assert!(!map.is_identity());
        assert_eq!(map.len(), 65_547);
        for (id, exists) in [(0, true), (1, true), (65_536, true), (65_537, false), (100_009, true), (100_010, false)] {
            assert_eq!(map.contains(id), exists, "{id}");
        }
    }
}
