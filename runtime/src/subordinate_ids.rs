//! Subordinate ids: the ranges of `/etc/subuid` and `/etc/subgid` that a user may map into a namespace of their own.
//!
//! Spec: subuid(5), subgid(5), newuidmap(1). Only the files are read, no name service.

use std::path::Path;
use std::{fs, io};

/// A range of ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// Returns the ranges that `file` gives to the user with this `uid` or `name`, in the order of the file.
///
/// A file that does not exist gives none.
pub(crate) fn ranges(file: &Path, uid: u32, name: Option<&str>) -> io::Result<Vec<Range>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(parse(&text, uid, name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(text: &str, uid: u32, name: Option<&str>) -> Vec<Range> {
    let uid = uid.to_string();
    let mut ranges = Vec::new();
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(owner), Some(first), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if owner != uid && Some(owner) != name {
            continue;
        }
        let (Ok(first), Ok(count)) = (first.parse(), count.parse()) else { continue };
        let range = Range { first, count };
        if count > 0 && first.checked_add(count).is_some() && !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    ranges
}

/// Returns the arguments of `newuidmap` after the pid: 0 is the user, then 1 and up are the subordinate ids.
pub(crate) fn map_arguments(own_id: u32, ranges: &[Range]) -> Vec<String> {
    let mut arguments = vec!["0".to_owned(), own_id.to_string(), "1".to_owned()];
    let mut inside = 1_u32;
    for range in ranges {
        let Some(next) = inside.checked_add(range.count) else { break };
        arguments.extend([inside.to_string(), range.first.to_string(), range.count.to_string()]);
        inside = next;
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "ana:100000:65536\n# bob:1:2\nbob:165536:65536\n1000:300000:10\nana:100000:65536\n\
                        ana:x:1\nana:5:0\nana:4294967295:9\n";

    #[test]
    fn ranges_are_found_by_name_and_by_uid_once_each() {
        let found = parse(FILE, 1000, Some("ana"));
        assert_eq!(found, [Range { first: 100_000, count: 65_536 }, Range { first: 300_000, count: 10 }]);
    }

    #[test]
    fn a_user_without_a_line_has_no_range() {
        assert_eq!(parse(FILE, 1001, Some("eve")), []);
        assert_eq!(parse(FILE, 1001, None), []);
        assert_eq!(ranges(Path::new("/nonexistent/subuid"), 0, None).unwrap(), []);
    }

    #[test]
    fn ranges_are_mapped_one_after_the_other_behind_the_own_id() {
        let ranges = [Range { first: 100_000, count: 65_536 }, Range { first: 300_000, count: 10 }];
        assert_eq!(map_arguments(1000, &ranges).join(" "), "0 1000 1 1 100000 65536 65537 300000 10");
    }
}
