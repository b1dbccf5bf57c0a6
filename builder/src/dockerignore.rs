//! Which files of a build context are left out: the patterns of a `.dockerignore` file.
//!
//! ```text
//! # comment            only at the start of a line
//! target/              a match on a directory covers what is in it
//! **/*.o               `**` spans any depth, `*` and `?` stop at `/`
//! !target/keep         brings back; the last pattern that matches decides
//! ```
//!
//! A path is decided about component by component, as docker walks a context:
//!
//! | pattern | is compared with |
//! |---|---|
//! | that matched a directory above | nothing: it covers all that is in it |
//! | that would change nothing: `!` for what is kept so far, any other for what is left out | nothing, so it covers nothing either |
//! | any other | the path itself |
//!
//! So `*.log` and then `!logs` leaves `logs/a.log` out: nothing had left `logs` out that `!logs` could bring back.
//!
//! Spec: Dockerfile reference, ".dockerignore file"; the matching rules are those of Go's `filepath.Match` with `**` added, as
//! moby/patternmatcher has them (`MatchesUsingParentResults`).

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::Regex;

/// The patterns of one ignore file, in order.
#[derive(Debug, Default)]
pub struct Dockerignore {
    name: String,
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    regex: Regex,
    text: String,
    line: usize,
    keeps: bool,
}

/// Why an ignore file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum DockerignoreError {
    #[error("line {line} of the ignore file: `{pattern}` is not a pattern")]
    Pattern { line: usize, pattern: String, source: Box<regex::Error> },
    #[error("line {line} of the ignore file: `!` needs a pattern after it")]
    LoneExclamation { line: usize },
}

/// The pattern that decided about a path.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether the path is left out.
    pub is_ignored: bool,
    /// The deciding pattern as written.
    pub pattern: &'a str,
    /// Its line in the ignore file, from 1.
    pub line: usize,
}

impl Dockerignore {
    /// Reads the text of an ignore file; a byte order mark, comments and blank lines are skipped.
    ///
    /// # Errors
    ///
    /// [`DockerignoreError`] with the line of a malformed pattern.
    pub fn parse(text: &str) -> Result<Self, DockerignoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            patterns.extend(parse_line(line.trim(), index + 1)?);
        }
        Ok(Self { name: ".dockerignore".to_owned(), patterns })
    }

    /// Takes patterns as an instruction has them (`--exclude`); numbers count the patterns, from 1.
    ///
    /// # Errors
    ///
    /// [`DockerignoreError`] for a malformed pattern.
    pub fn of_patterns(patterns: &[String]) -> Result<Self, DockerignoreError> {
        let read = patterns.iter().zip(1..).map(|(pattern, number)| parse_line(pattern.trim(), number));
        let patterns = read.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(Self { name: "--exclude".to_owned(), patterns })
    }

    /// Says by which name people know the file.
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Returns the name by which people know the file; `None` when there is none.
    pub fn name(&self) -> Option<&str> {
        Some(self.name.as_str()).filter(|name| !name.is_empty())
    }

    /// Returns the place of a line, as in `.dockerignore:3`.
    pub fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }

    /// Returns what decided about `path` (relative, `/`-separated), or `None` when no pattern did.
    pub fn decide(&self, path: &[u8]) -> Option<Decision<'_>> {
        let slashes = path.iter().enumerate().filter(|&(_, byte)| *byte == b'/').map(|(end, _)| end);
        let mut has_matched = vec![false; self.patterns.len()];
        let mut deciding: Option<&Pattern> = None;
        for end in slashes.chain([path.len()]) {
            deciding = None;
            for (pattern, has_matched) in self.patterns.iter().zip(&mut has_matched) {
                let is_ignored = deciding.is_some_and(|deciding| !deciding.keeps);
                *has_matched |= pattern.keeps == is_ignored && pattern.regex.is_match(&path[..end]);
                if *has_matched {
                    deciding = Some(pattern);
                }
            }
        }
        deciding.map(|pattern| Decision { is_ignored: !pattern.keeps, pattern: &pattern.text, line: pattern.line })
    }

    /// Returns the place, as in `.dockerignore:3`, of the line that surely leaves `path` out, with all that is below it.
    ///
    /// `path` may be a pattern or `.`, all of the context; where a `!` line may bring something back, nothing is sure.
    pub fn ignored_by(&self, path: &str) -> Option<String> {
        if self.has_exceptions() {
            return None;
        }
        // A name that only a pattern for everything matches stands for all of them.
        let path = if path == "." { "\u{1}" } else { path };
        let decision = self.decide(path.as_bytes()).filter(|decision| decision.is_ignored)?;
        Some(self.place(decision.line))
    }

    /// Tells whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Tells whether `path` is left out.
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        self.decide(path).is_some_and(|decision| decision.is_ignored)
    }

    /// Tells whether something below an ignored directory might be brought back, so that it must be walked all the same.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.keeps)
    }
}

fn parse_line(line: &str, number: usize) -> Result<Option<Pattern>, DockerignoreError> {
    let (keeps, text) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    if text.is_empty() {
        return Err(DockerignoreError::LoneExclamation { line: number });
    }
    let cleaned = clean(text);
    if cleaned.is_empty() {
        // docker takes the slash for a part of the `!`, and `.` for a pattern that matches nothing
        let is_lone = keeps && text.starts_with('/');
        return if is_lone { Err(DockerignoreError::LoneExclamation { line: number }) } else { Ok(None) };
    }
    let regex = pattern_regex(&cleaned).and_then(|regex| Regex::new(&regex)).map_err(|source| {
        DockerignoreError::Pattern { line: number, pattern: text.to_owned(), source: Box::new(source) }
    })?;
    Ok(Some(Pattern { regex, text: line.to_owned(), line: number, keeps }))
}

/// Resolves `.`, `..` and double slashes without looking at files, as Go's `filepath.Clean` does; the root itself becomes nothing.
///
/// What begins with `..` stands outside of the context and matches nothing, unless a slash before it keeps it inside.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Translates a pattern into an anchored regular expression over bytes.
pub(crate) fn pattern_regex(pattern: &str) -> Result<String, regex::Error> {
    let mut regex = String::from("(?s-u)^");
    let mut chars = pattern.chars().peekable();
    // `**` before plain characters is any beginning; else it is whole directories, with or without a slash after it
    if let Some(rest) = pattern.strip_prefix("**").filter(|rest| !rest.contains(['*', '?', '[', ']', '\\', '/'])) {
        regex.push_str(".*");
        chars = rest.chars().peekable();
    }
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                let _slash = chars.next_if_eq(&'/');
                regex.push_str(if chars.peek().is_some() { "(?:.*/)?" } else { ".*" });
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("(?u:[^/])"),
            '[' => class(&mut chars, &mut regex)?,
            '\\' => {
                let escaped = chars.next().ok_or_else(|| syntax("a pattern ends in a backslash"))?;
                regex.push_str(&literal(escaped));
            }
            c => regex.push_str(&literal(c)),
        }
    }
    regex.push('$');
    Ok(regex)
}

fn literal(c: char) -> String {
    format!("(?u:{})", regex::escape(c.encode_utf8(&mut [0; 4])))
}

fn syntax(message: &str) -> regex::Error {
    regex::Error::Syntax(message.to_owned())
}

/// Translates `[a-z]`, `[^x]` and their backslash escapes; a class may match a slash, as in Go.
fn class(chars: &mut Peekable<Chars<'_>>, regex: &mut String) -> Result<(), regex::Error> {
    let mut body = String::new();
    let negation = if chars.next_if_eq(&'^').is_some() { "^" } else { "" };
    while body.is_empty() || chars.next_if_eq(&']').is_none() {
        push_member(&mut body, member(chars)?);
        if chars.next_if_eq(&'-').is_some() {
            body.push('-');
            push_member(&mut body, member(chars)?);
        }
    }
    regex.push_str(&format!("(?u:[{negation}{body}])"));
    Ok(())
}

/// Reads one character of a class; `-` and `]` stand for themselves only after a backslash.
fn member(chars: &mut Peekable<Chars<'_>>) -> Result<char, regex::Error> {
    match chars.next().ok_or_else(|| syntax("a `[` is not closed"))? {
        '\\' => chars.next().ok_or_else(|| syntax("a `[` is not closed")),
        '-' => Err(syntax("a `-` in a class has nothing before or after it")),
        ']' => Err(syntax("a class or a range in it is empty")),
        c => Ok(c),
    }
}

fn push_member(body: &mut String, c: char) {
    if c.is_ascii_punctuation() {
        body.push('\\');
    }
    body.push(c);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &str, ignored: &[&str], kept: &[&str]) {
        let ignore = Dockerignore::parse(patterns).unwrap();
        for path in ignored {
            assert!(ignore.is_ignored(path.as_bytes()), "{patterns:?} should ignore {path}");
        }
        for path in kept {
            assert!(!ignore.is_ignored(path.as_bytes()), "{patterns:?} should keep {path}");
        }
    }

    #[test]
    fn a_match_on_a_directory_covers_what_is_in_it() {
        check("target/", &["target", "target/a", "target/a/b"], &["src/target2", "targets", "a/target"]);
        check("/a/b", &["a/b", "a/b/c"], &["a", "b", "a/bc"]);
        check("a*/b", &["ax/b", "ax/b/c"], &["ax", "ax/c/b"]);
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        check("*.o", &["a.o", ".o"], &["d/a.o", "a.oo"]);
        check("*/x*", &["d/x", "d/xy", "d/x/z"], &["x", "d/e/x"]);
        check("**/*.o", &["a.o", "d/a.o", "d/e/a.o"], &["a.c"]);
        check("a/**", &["a/b", "a/b/c"], &["a", "ab"]);
        check("**", &["a", "a/b"], &[]);
        check("**/", &["a", "a/b"], &[]);
        check("?", &["a", "é"], &["ab", "/"]);
        check("d?e", &["dxe"], &["d/e", "de"]);
    }

    #[test]
    fn double_stars_stand_for_whole_directories_but_at_an_end() {
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b", "a/x/b/c"], &["ab", "a/xb", "x/a/b"]);
        check("a**/b", &["ab", "a/b", "ax/b", "ax/y/b"], &["axb"]);
        check("a**b", &["ab", "a/b", "ax/b"], &["axb"]);
        check("a**", &["a", "ab", "ab/c", "a/b"], &["ba"]);
        check("**b", &["b", "ab", "x/ab"], &["ba"]);
        check("**b*", &["b", "bc", "x/bc"], &["abc"]);
        check("**/**/b", &["b", "a/b", "x/y/b"], &["ab"]);
    }

    #[test]
    fn the_last_match_decides() {
        check("*\n!keep\n", &["a", "b/c"], &["keep", "keep/x"]);
        check("!keep\n*\n", &["keep"], &[]);
        check("docs\n!docs/README.md", &["docs", "docs/a"], &["docs/README.md"]);
        check("*.md\n!README*.md\nREADME-secret.md", &["a.md", "README-secret.md"], &["README.md", "a.txt"]);
        check("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README.md", "README-secret.md"]);
        check("**\n!d/e\nd/e/f", &["d/e/f", "d/x", "d"], &["d/e", "d/e/g"]);
        assert!(Dockerignore::parse("a\n!b").unwrap().has_exceptions());
    }

    #[test]
    fn an_exception_covers_only_a_directory_that_was_left_out() {
        check("**/*.log\n!logs", &["logs/a.log", "a.log"], &["logs", "logs/b"]);
        check("**/*.log\n!logs/**", &["a.log"], &["logs/a.log", "logs/d/a.log"]);
        check("a/b\n!a", &["a/b", "a/b/c"], &["a", "a/c"]);
        check("*\n!a\na/b\n!a/b/c", &["x", "a/b", "a/b/d"], &["a", "a/x", "a/b/c"]);
    }

    #[test]
    fn comments_blanks_and_dots_are_cleaned_away() {
        check("\u{feff}# c\n\n  a  \n./b/../c/\r\n", &["a", "c"], &["# c", "b"]);
        check("\u{feff}a\n\t\n! # b", &["a"], &["# b"]);
        check(".\n/\n./", &[], &["a"]);
        check(" # not a comment", &["# not a comment"], &[]);
        check("//a//b//", &["a/b"], &[]);
    }

    #[test]
    fn what_leads_out_of_the_context_matches_nothing() {
        check("../a\nb/../../c\n..", &[], &["a", "c", "b"]);
        check("/../a\n/b/../../c", &["a", "c"], &["b"]);
        check("*\n!../a\n!b/..", &["a", "b"], &[]);
    }

    #[test]
    fn classes_and_escapes_are_go_s() {
        check("[a-c].txt", &["a.txt", "c.txt"], &["d.txt", "-.txt"]);
        check("[^a].txt", &["b.txt", "/.txt"], &["a.txt", ".txt"]);
        check("[a^]", &["a", "^"], &["b"]);
        check("[a-cx-z]", &["b", "y"], &["d", "-"]);
        check("[\\-a]", &["-", "a"], &["b"]);
        check("a]", &["a]"], &["a"]);
        check("\\*", &["*"], &["a"]);
        check("\\a\\.b", &["a.b"], &["axb"]);
        check("[\\]]", &["]"], &["a"]);
        check("[[]", &["["], &["a"]);
        check("a.b", &["a.b"], &["axb"]);
        check("(a)|{b}+$^", &["(a)|{b}+$^"], &["a"]);
        check("!!a", &[], &["a", "!a"]);
        check("*\n!!a", &["a", "b"], &["!a"]);
    }

    #[test]
    fn what_is_no_pattern_names_its_line() {
        let bad =
            ["[]", "a\\", "!", "!  ", "!/", "[a", "[^]", "[-a]", "[a-]", "[a-b-c]", "[z-a]", "[\\", "[\\]", "![a"];
        for (text, line) in bad.map(|text| (text, 1)).into_iter().chain([("ok\n[", 2), ("# c\n\n!", 3)]) {
            let message = Dockerignore::parse(text).map(|_| text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("line {line} ")), "{message}");
        }
    }

    #[test]
    fn the_deciding_pattern_is_named() {
        let ignore = Dockerignore::parse("# c\n*.log\n").unwrap();
        let decision = Decision { is_ignored: true, pattern: "*.log", line: 2 };
        assert_eq!(ignore.decide(b"x.log"), Some(decision));
        assert_eq!(ignore.decide(b"x.txt"), None);
        assert_eq!(ignore.named("x.dockerignore").place(2), "x.dockerignore:2");
        let ignore = Dockerignore::parse("d\n!d/k\n!e").unwrap();
        let line = |path: &[u8]| ignore.decide(path).map(|decision| (decision.is_ignored, decision.line));
        assert_eq!((line(b"d/k/x"), line(b"d/x"), line(b"e")), (Some((false, 2)), Some((true, 1)), None));
        assert_eq!((ignore.name(), Dockerignore::default().name()), (Some(".dockerignore"), None));
    }
}
