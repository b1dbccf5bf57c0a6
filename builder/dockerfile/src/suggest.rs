//! Finds what was probably meant: the nearest of some words by edit distance.
//!
//! An edit inserts, removes or replaces a character, or swaps two neighbours. At most two edits count as near, and never so many
//! that nothing of the word is left.

const NEAR: usize = 2;
const LONGEST: usize = 40;

/// Returns the one of `candidates` that is nearest to `word`, ignoring case; `None` when none is near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let length = word.chars().count();
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= NEAR && *distance * 2 < length.max(candidate.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Counts the edits between two words: characters inserted, removed, replaced, or swapped with their neighbour.
///
/// Takes time in proportion to the product of their lengths. (Optimal string alignment, three rows at a time.)
pub fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let names = ["COPY", "ADD", "RUN", "FROM", "ENV", "ENTRYPOINT"];
        let cases = [
            ("CPOY", Some("COPY")),
            ("copyy", Some("COPY")),
            ("FORM", Some("FROM")),
            ("RNU", Some("RUN")),
            ("ENTRPOINTT", Some("ENTRYPOINT")),
            ("AD", Some("ADD")),
            ("X", None),
            ("", None),
            ("apt-get", None),
            ("&&", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000), names), None);
    }
}
