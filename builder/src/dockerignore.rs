//! Which files of a build context are left out: the patterns of a `.dockerignore` file.
//!
//! ```text
//! # comment            only at the start of a line
//! target/              a match on a directory covers what is in it
//! **/*.o               `**` spans any depth, `*` and `?` stop at `/`
//! !target/keep         brings back; the last pattern that matches decides
//! ```
//!
//! Spec: Dockerfile reference, ".dockerignore file"; the matching rules are those of Go's `filepath.Match` with `**` added.

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

    /// Returns what decided about `path` (relative, `/`-separated), or `None` when no pattern names it or a parent of it.
    pub fn decide(&self, path: &[u8]) -> Option<Decision<'_>> {
        let prefixes: Vec<&[u8]> =
            path.iter().enumerate().filter(|&(_, b)| *b == b'/').map(|(end, _)| &path[..end]).collect();
        self.patterns
            .iter()
            .rev()
            .find(|pattern| {
                pattern.regex.is_match(path) || prefixes.iter().any(|prefix| pattern.regex.is_match(prefix))
            })
            .map(|pattern| Decision { is_ignored: !pattern.keeps, pattern: &pattern.text, line: pattern.line })
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
        Some(format!("{}:{}", self.name, decision.line))
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
        return Ok(None);
    }
    let regex = pattern_regex(&cleaned).and_then(|regex| Regex::new(&regex)).map_err(|source| {
        DockerignoreError::Pattern { line: number, pattern: text.to_owned(), source: Box::new(source) }
    })?;
    Ok(Some(Pattern { regex, text: line.to_owned(), line: number, keeps }))
}

/// Resolves `.`, `..` and double slashes without looking at files; the root itself becomes nothing.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Translates a pattern into an anchored regular expression over bytes.
pub(crate) fn pattern_regex(pattern: &str) -> Result<String, regex::Error> {
    let mut regex = String::from("(?s-u)^");
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.peek() == Some(&'*') => {
                chars.next();
                if chars.peek() == Some(&'/') {
                    chars.next();
                    regex.push_str("(?:.*/)?");
                } else {
                    regex.push_str(".*");
                }
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

/// Translates `[a-z]`, `[^x]` and their backslash escapes.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, regex: &mut String) -> Result<(), regex::Error> {
    let mut body = String::new();
    let is_negated = chars.next_if_eq(&'^').is_some();
    loop {
        match chars.next().ok_or_else(|| syntax("a `[` is not closed"))? {
            ']' if !body.is_empty() => break,
            ']' => return Err(syntax("a class is empty")),
            '-' if !body.is_empty() && chars.peek().is_some_and(|c| *c != ']') => body.push('-'),
            '\\' => {
                let escaped = chars.next().ok_or_else(|| syntax("a `[` is not closed"))?;
                push_member(&mut body, escaped);
            }
            c => push_member(&mut body, c),
        }
    }
    let negation = if is_negated { "^/" } else { "" };
    regex.push_str(&format!("(?u:[{negation}{body}])"));
    Ok(())
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
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        check("*.o", &["a.o", ".o"], &["d/a.o", "a.oo"]);
        check("**/*.o", &["a.o", "d/a.o", "d/e/a.o"], &["a.c"]);
        check("a/**", &["a/b", "a/b/c"], &["a", "ab"]);
        check("**", &["a", "a/b"], &[]);
        check("?", &["a", "é"], &["ab", "/"]);
    }

    #[test]
    fn the_last_match_decides() {
        check("*\n!keep\n", &["a", "b/c"], &["keep", "keep/x"]);
        check("!keep\n*\n", &["keep"], &[]);
        check("docs\n!docs/README.md", &["docs", "docs/a"], &["docs/README.md"]);
        assert!(Dockerignore::parse("a\n!b").unwrap().has_exceptions());
    }

    #[test]
    fn comments_blanks_and_dots_are_cleaned_away() {
        check("\u{feff}# c\n\n  a  \n./b/../c/\r\n", &["a", "c"], &["# c", "b"]);
        check(".", &[], &["a"]);
        check(" # not a comment", &["# not a comment"], &[]);
    }

    #[test]
    fn classes_and_escapes_are_go_s() {
        check("[a-c].txt", &["a.txt", "c.txt"], &["d.txt", "-.txt"]);
        check("[^a].txt", &["b.txt"], &["a.txt", "/.txt"]);
        check("\\*", &["*"], &["a"]);
        check("[\\]]", &["]"], &["a"]);
        check("a.b", &["a.b"], &["axb"]);
    }

    #[test]
    fn what_is_no_pattern_names_its_line() {
        for (text, line) in [("ok\n[", 2), ("[]", 1), ("a\\", 1), ("!", 1), ("[a", 1)] {
            let message = Dockerignore::parse(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("line {line} ")), "{message}");
        }
    }

    #[test]
    fn the_deciding_pattern_is_named() {
        let ignore = Dockerignore::parse("# c\n*.log\n").unwrap();
        let decision = Decision { is_ignored: true, pattern: "*.log", line: 2 };
        assert_eq!(ignore.decide(b"x.log"), Some(decision));
        assert_eq!(ignore.decide(b"x.txt"), None);
    }
}
