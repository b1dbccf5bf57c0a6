//! What must hold for any `.dockerignore` file: the fuzz target `ignore`.
//!
//! Not a module of the library, so that the tests of either crate see only what is theirs: whoever includes this file has a
//! `Dockerignore` beside it.

use super::Dockerignore;

/// Patterns are refused or decide about each path, and what one says of a directory holds for all that is in it.
///
/// The first line is the path, the others are the patterns.
pub fn ignore(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (path, patterns) = text.split_once('\n').unwrap_or((text, ""));
    one_literal(path);
    let Ok(ignore) = Dockerignore::parse(patterns) else { return };
    let ignore = ignore.named("patterns");
    let decision = ignore.decide(path.as_bytes());
    assert_eq!(decision.as_ref().is_some_and(|decision| decision.is_ignored), ignore.is_ignored(path.as_bytes()));
    let below = format!("{path}/below");
    if let Some(decision) = decision {
        let line = patterns.lines().nth(decision.line - 1).expect("a decision names a line of the file");
        assert!(line.contains(decision.pattern), "line {} is not `{}`", decision.line, decision.pattern);
        let later =
            ignore.decide(below.as_bytes()).expect("what decides about a directory decides about what is in it");
        assert!(later.line >= decision.line, "an earlier pattern decides about what is in `{path}`");
    }
    let surely = ignore.ignored_by(path).is_some();
    assert!(!surely || path == "." || ignore.is_ignored(path.as_bytes()) && ignore.is_ignored(below.as_bytes()));
    assert!(surely || path == "." || ignore.has_exceptions() || !ignore.is_ignored(path.as_bytes()));
}

/// A path without special characters is a pattern for itself and nothing beside it.
fn one_literal(path: &str) {
    let is_clean = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !is_clean || path.contains(['*', '?', '[', '\\', '\r', '\u{feff}']) || path.starts_with(['#', '!']) {
        return;
    }
    if path.trim() != path {
        return;
    }
    let ignore = Dockerignore::parse(path).unwrap_or_else(|error| panic!("`{path}`: {error}"));
    assert!(ignore.is_ignored(path.as_bytes()), "`{path}` ignores itself");
    assert!(ignore.is_ignored(format!("{path}/below").as_bytes()), "`{path}` ignores what is below");
    assert!(!ignore.is_ignored(format!("{path}.").as_bytes()), "`{path}` ignores its neighbour");
    assert!(!ignore.is_ignored(format!("above/{path}").as_bytes()), "`{path}` ignores its namesake");
}
