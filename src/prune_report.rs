//! What a prune says: what it removed, as docker does, or what it would remove, and why.

use layer_store::{Freed, FreedKind};

use crate::shown::shown;
use crate::size;

/// Writes what was removed, as docker does.
pub(crate) fn done(title: &str, freed: &[Freed]) -> String {
    let lines: String = freed.iter().filter_map(line).collect();
    let total = format!("Total reclaimed space: {}\n", size::summed(total(freed)));
    if lines.is_empty() { total } else { format!("{title}\n{lines}\n{total}") }
}

/// Writes what was removed of several kinds, as docker does.
pub(crate) fn done_all(freed: &[Freed]) -> String {
    let is_cache = |freed: &Freed| matches!(freed.what, FreedKind::CacheRecord | FreedKind::CacheMount);
    let is_volume = |freed: &Freed| freed.what == FreedKind::Volume;
    let part = |title: &str, lines: String| if lines.is_empty() { lines } else { format!("{title}\n{lines}\n") };
    let volumes = freed.iter().filter(|freed| is_volume(freed)).filter_map(line).collect();
    let images = freed.iter().filter(|freed| !is_volume(freed)).filter_map(line).collect();
    let cache = freed.iter().filter(|freed| is_cache(freed)).map(|freed| format!("{}\n", shown(&freed.name))).collect();
    [
        part("Deleted Volumes:", volumes),
        part("Deleted Images:", images),
        part("Deleted build cache objects:", cache),
        format!("Total reclaimed space: {}\n", size::summed(total(freed))),
    ]
    .concat()
}

/// Writes what would be removed, and why.
pub(crate) fn planned(freed: &[Freed]) -> String {
    let kind = |what| match what {
        FreedKind::Tag => "name",
        FreedKind::Image => "image",
        FreedKind::CacheRecord => "cache record",
        FreedKind::CacheMount => "cache mount",
        FreedKind::Layer => "layer",
        FreedKind::Blob => "blob",
        FreedKind::Temporary => "unfinished download",
        FreedKind::Volume => "volume",
    };
    let mut text = String::new();
    for Freed { what, name, why, size } in freed {
        text.push_str(&format!("would remove {} {} ({}): {why}\n", kind(*what), shown(name), size::summed(*size)));
    }
    text + &format!("Total reclaimable space: {}\n", size::summed(total(freed)))
}

fn line(freed: &Freed) -> Option<String> {
    match freed.what {
        FreedKind::Tag => Some(format!("untagged: {}\n", familiar(&freed.name))),
        FreedKind::Image | FreedKind::Layer => Some(format!("deleted: {}\n", freed.name)),
        FreedKind::Volume => Some(format!("{}\n", freed.name)),
        _ => None,
    }
}

fn familiar(name: &str) -> String {
    name.parse().map_or_else(|_| shown(name), |name: oci::Reference| name.familiar())
}

fn total(freed: &[Freed]) -> u64 {
    freed.iter().map(|freed| freed.size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freed() -> Vec<Freed> {
        let freed = |what, name: &str, size| Freed { what, name: name.to_owned(), why: "it is unused", size };
        vec![
            freed(FreedKind::Tag, "docker.io/library/app:1", 10),
            freed(FreedKind::Image, "sha256:ab", 20),
            freed(FreedKind::Blob, "sha256:cd", 1000),
        ]
    }

    #[test]
    fn what_was_removed_is_said_as_docker_says_it() {
        let expected = "Deleted Images:\nuntagged: app:1\ndeleted: sha256:ab\n\nTotal reclaimed space: 1.03kB\n";
        assert_eq!(done("Deleted Images:", &freed()), expected);
        assert_eq!(done("Deleted Images:", &[]), "Total reclaimed space: 0B\n");
    }

    #[test]
    fn what_was_removed_of_several_kinds_has_a_title_for_each() {
        let freed = |what, name: &str| Freed { what, name: name.to_owned(), why: "it is unused", size: 1 };
        let all = [
            freed(FreedKind::Volume, "vol"),
            freed(FreedKind::Image, "sha256:ab"),
            freed(FreedKind::CacheRecord, "key"),
            freed(FreedKind::CacheMount, "/root/\u{1b}cache"),
            freed(FreedKind::Temporary, "partial"),
        ];
        let expected = "Deleted Volumes:\nvol\n\nDeleted Images:\ndeleted: sha256:ab\n\n\
                        Deleted build cache objects:\nkey\n/root/\\u{1b}cache\n\nTotal reclaimed space: 5B\n";
        assert_eq!(done_all(&all), expected);
        assert_eq!(done_all(&[]), "Total reclaimed space: 0B\n");
    }

    #[test]
    fn a_dry_run_says_why() {
        let text = planned(&freed());
        assert!(text.contains("would remove image sha256:ab (20B): it is unused\n"), "{text}");
        assert!(text.ends_with("Total reclaimable space: 1.03kB\n"), "{text}");
    }
}
