//! The refs of a repository, as `git ls-remote` prints them, and which one a name means.

use super::Commit;
use crate::source::is_commit_id;

pub(super) const HEAD: &str = "HEAD";
/// Follows the name of an annotated tag where the commit is listed that it is of.
const PEELED: &str = "^{}";
const MAX_NEAREST: usize = 3;

/// A ref of the other side.
pub(super) struct Ref {
    name: String,
    id: String,
}

/// Reads the output of `git ls-remote`; lines that are none are passed over.
pub(super) fn read(output: &[u8]) -> Vec<Ref> {
    let lines = output.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let pairs = lines.filter_map(|line| line.split_once('\t')).filter(|(id, _)| is_commit_id(id));
    pairs.map(|(id, name)| Ref { name: name.to_owned(), id: id.to_owned() }).collect()
}

/// Returns what `git ls-remote` is to be asked for.
pub(super) fn patterns(name: &str) -> Vec<String> {
    if name == HEAD { vec![HEAD.to_owned()] } else { vec![name.to_owned(), format!("{name}{PEELED}")] }
}

/// Returns the commit that `name` means: as `refs/<name>`, then as a branch, then as a tag.
pub(super) fn choose(refs: &[Ref], name: &str) -> Option<Commit> {
    let find = |name: &str| refs.iter().find(|one| one.name == name).map(|one| one.id.clone());
    if name == HEAD {
        return Some(Commit { id: find(HEAD)?, reference: Some(HEAD.to_owned()), tag: None });
    }
    let full = |prefix: &str| format!("{prefix}{}", name.strip_prefix(prefix).unwrap_or(name));
    ["refs/", "refs/heads/", "refs/tags/"].into_iter().map(full).find_map(|full| {
        let id = find(&full)?;
        let reference = Some(full.clone());
        Some(match find(&format!("{full}{PEELED}")) {
            Some(commit) => Commit { id: commit, reference, tag: Some(id) },
            None => Commit { id, reference, tag: None },
        })
    })
}

/// Returns the branches and tags whose names are most like `name`, safe to show.
pub(super) fn nearest(refs: &[Ref], name: &str) -> Vec<String> {
    let short = |one: &'_ Ref| {
        let name = one.name.strip_prefix("refs/heads/").or_else(|| one.name.strip_prefix("refs/tags/"))?;
        (!name.ends_with(PEELED)).then(|| name.to_owned())
    };
    let wanted = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name);
    let near = |candidate: String| {
        let distance = distance(wanted, &candidate);
        (distance <= 2.max(wanted.len() / 3)).then_some((distance, candidate))
    };
    let mut found: Vec<_> = refs.iter().filter_map(short).filter_map(near).collect();
    found.sort();
    found.dedup();
    found.into_iter().take(MAX_NEAREST).map(|(_, name)| http_transport::shown(&name)).collect()
}

/// Counts the characters that have to be added, removed or replaced.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, c) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, &d) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(c != d);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn refs() -> Vec<Ref> {
        let lines = [
            ('1', "HEAD"),
            ('1', "refs/heads/main"),
            ('2', "refs/heads/both"),
            ('3', "refs/tags/both"),
            ('4', "refs/tags/v1"),
            ('5', "refs/tags/v1^{}"),
            ('6', "refs/heads/x/main"),
            ('7', "refs/pull/42/head"),
        ];
        let text: String = lines.iter().map(|(digit, name)| format!("{}\t{name}\n", id(*digit))).collect();
        read(format!("warning: x\ty\n{text}").as_bytes())
    }

    #[test]
    fn a_name_is_a_ref_then_a_branch_then_a_tag() {
        let check = |name: &str, digit: char, full: &str, tag: Option<char>| {
            let expected = Commit { id: id(digit), reference: Some(full.to_owned()), tag: tag.map(id) };
            assert_eq!(choose(&refs(), name), Some(expected), "{name}");
        };
        check("HEAD", '1', "HEAD", None);
        check("main", '1', "refs/heads/main", None);
        check("both", '2', "refs/heads/both", None);
        check("tags/both", '3', "refs/tags/both", None);
        check("refs/tags/v1", '5', "refs/tags/v1", Some('4'));
        check("v1", '5', "refs/tags/v1", Some('4'));
        check("pull/42/head", '7', "refs/pull/42/head", None);
        assert_eq!(choose(&refs(), "head"), None);
    }

    #[test]
    fn a_misspelt_name_brings_the_nearest_ones() {
        assert_eq!(nearest(&refs(), "mian"), ["main"]);
        assert_eq!(nearest(&refs(), "refs/tags/v2"), ["v1"]);
        assert!(nearest(&refs(), "something-else").is_empty());
    }
}
