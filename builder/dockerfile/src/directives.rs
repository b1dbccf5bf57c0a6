//! Parser directives: `# syntax=`, `# escape=` and `# check=` at the very top of a file.
//!
//! - They end at the first line that is not `# key=value` with a known key: an instruction, a blank line, any other comment.
//! - Keys ignore case; each may be used once.
//! - After a `#!` first line, `escape` counts no longer; the other two do, up to one that is there twice.
//! - From the first one with blanks before its `#` on, only `escape` counts.
//! - `syntax` never loads anything: a version beyond the one this crate knows, or another frontend, gets a warning.

use crate::diagnostic::Diagnostics;
use crate::lines::Cursor;
use crate::{Diagnostic, Literal, Span};

/// The version of the Dockerfile frontend whose language this crate reads.
pub const LANGUAGE_VERSION: (u32, u32) = (1, 26);

/// What the directives at the top of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that was asked for, as written.
    pub syntax: Option<Literal>,
    /// The escape character: `\` or `` ` ``.
    pub escape: char,
    /// Options of the build checks.
    pub check: Option<Check>,
}

impl Default for Directives {
    fn default() -> Self {
        Self { syntax: None, escape: '\\', check: None }
    }
}

/// The options of `# check=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The rules that are not checked.
    pub skip: Rules,
    /// The experimental rules that are checked.
    pub experimental: Rules,
    /// Whether a warning of a rule fails the build.
    pub error: bool,
    /// The directive's value.
    pub text: Literal,
}

/// A choice of lint rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// All of them.
    All,
    /// Those with these names.
    Named(Vec<String>),
}

/// Reads the directives of `source`, and returns where the lines after them start.
pub(crate) fn read(source: &str, diagnostics: &mut Diagnostics) -> (Directives, usize) {
    let mut directives = Directives::default();
    let mut seen = Vec::new();
    let mut cursor = Cursor::new(source, if source.starts_with('\u{feff}') { 3 } else { 0 });
    let mut after = cursor.offset();
    let mut is_flush = true;
    let has_shebang = source[after..].starts_with("#!");
    if has_shebang {
        cursor.next_line();
        after = cursor.offset();
    }
    while let Some(line) = cursor.next_line() {
        let Some((key, value)) = split(&source[line.clone()]) else { break };
        let key = key.to_ascii_lowercase();
        is_flush &= source[line.start..].starts_with('#');
        let is_comment = has_shebang && (!is_flush || seen.contains(&key));
        if is_comment || !["syntax", "escape", "check"].contains(&key.as_str()) {
            break;
        }
        after = cursor.offset();
        let start = line.start + value;
        let text = source[start..line.end].trim_end();
        let value = Literal { text: text.to_owned(), span: Span::new(start, start + text.len()) };
        if seen.contains(&key) {
            diagnostics.add(Diagnostic::error(value.span, format!("only one `{key}` directive can be used")));
            continue;
        }
        match key.as_str() {
            "syntax" | "check" if !is_flush => diagnostics.add(not_flush(&key, &value)),
            "syntax" => directives.syntax = Some(checked_syntax(value, diagnostics)),
            "check" => {
                let (check, mistakes) = read_check(value);
                directives.check = Some(check);
                mistakes.into_iter().for_each(|mistake| diagnostics.add(mistake));
            }
            _ if has_shebang => {}
            _ => directives.escape = read_escape(&value, diagnostics),
        }
        seen.push(key);
    }
    (directives, after)
}

fn not_flush(key: &str, value: &Literal) -> Diagnostic {
    let warning = Diagnostic::warning(value.span, format!("the directive `{key}` is not read behind blanks"));
    warning.note("a directive begins with its `#`, and so do all before it")
}

/// Splits `# key = value` into the key and the offset of the value.
fn split(line: &str) -> Option<(&str, usize)> {
    let comment = line.trim_start().strip_prefix('#')?;
    let (key, value) = split_option(comment)?;
    Some((key, line.len() - comment.len() + value))
}

/// Splits `key = value` into the key and the offset of the value.
pub(crate) fn split_option(comment: &str) -> Option<(&str, usize)> {
    let text = comment.trim_start();
    let key = text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    if !key.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let value = text[key.len()..].trim_start().strip_prefix('=')?.trim_start();
    (!value.is_empty()).then_some((key, comment.len() - value.len()))
}

fn read_escape(value: &Literal, diagnostics: &mut Diagnostics) -> char {
    match value.text.as_str() {
        "\\" => '\\',
        "`" => '`',
        other => {
            let title = format!("`{other}` cannot be the escape character");
            diagnostics.add(Diagnostic::error(value.span, title).label("want \\ or `"));
            '\\'
        }
    }
}

fn checked_syntax(value: Literal, diagnostics: &mut Diagnostics) -> Literal {
    let frontend = value.text.split(' ').next().unwrap_or_default();
    if frontend == "dockerfile.v0" {
        return value;
    }
    let image = frontend.split('@').next().unwrap_or_default();
    let (name, tag) = image.split_once(':').unwrap_or((image, "latest"));
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    if !["docker/dockerfile", "docker/dockerfile-upstream"].contains(&name) {
        let warning = Diagnostic::warning(value.span, format!("frontend `{image}` is not used"));
        diagnostics.add(warning.note("the file is read as a Dockerfile; frontend images are never run"));
    } else if version(tag).is_some_and(|version| version > LANGUAGE_VERSION) {
        let (major, minor) = LANGUAGE_VERSION;
        let warning = Diagnostic::warning(value.span, format!("Dockerfile syntax {tag} is newer than {major}.{minor}"));
        diagnostics.add(warning.label(format!("read as {major}.{minor}")));
    }
    value
}

/// Reads `1`, `1.7`, `1.7.0-labs`, …; `None` for `latest`, `labs` and the like.
fn version(tag: &str) -> Option<(u32, u32)> {
    let mut numbers = tag.split('-').next()?.split('.').map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    Some((major, numbers.next().and_then(Result::ok).unwrap_or(0)))
}

/// Returns the part of a check directive's value that docker reads, which is all up to the first blank.
pub(crate) fn before_blank(value: &Literal) -> (Literal, Option<Diagnostic>) {
    let Some((text, rest)) = value.text.split_once(' ') else { return (value.clone(), None) };
    let span = value.span;
    let is_verbatim = span.end - span.start == value.text.len();
    let part = |start, end| if is_verbatim { Span::new(start, end) } else { span };
    let kept = Literal { text: text.to_owned(), span: part(span.start, span.start + text.len()) };
    let is_comment = rest.trim_start().starts_with("//");
    let warning = (!is_comment).then(|| {
        let rest = part(span.end.saturating_sub(rest.len()), span.end);
        let warning = Diagnostic::warning(rest, "check options end at the first blank");
        warning.label("is not read").note("a remark begins with `//`")
    });
    (kept, warning)
}

fn read_check(value: Literal) -> (Check, Vec<Diagnostic>) {
    let (kept, warning) = before_blank(&value);
    let (check, mut mistakes) = Check::read(kept);
    mistakes.extend(warning);
    (Check { text: value, ..check }, mistakes)
}

impl Check {
    /// Reads options such as `skip=A,B;error=true`, and says what is wrong with them.
    pub(crate) fn read(text: Literal) -> (Self, Vec<Diagnostic>) {
        let (skip, experimental) = (Rules::Named(Vec::new()), Rules::Named(Vec::new()));
        let mut check = Self { skip, experimental, error: false, text };
        let mut mistakes = Vec::new();
        let (text, span) = (check.text.text.clone(), check.text.span);
        for option in text.split(';').filter(|_| !text.is_empty()) {
            let (key, setting) = option.split_once('=').unwrap_or((option, ""));
            match (key.trim(), setting.trim()) {
                ("skip", names) if !names.is_empty() => check.skip = rules(names),
                ("experimental", names) if !names.is_empty() => check.experimental = rules(names),
                ("error", setting) if crate::flags::boolean(setting).is_some() => {
                    check.error = crate::flags::boolean(setting).unwrap_or_default();
                }
                (name, _) => {
                    let error = Diagnostic::error(span, format!("invalid check option `{}`", option.trim()));
                    let names = ["skip", "error", "experimental"];
                    mistakes.push(if names.contains(&name) { error } else { error.suggest(name, names) });
                }
            }
        }
        (check, mistakes)
    }
}

fn rules(names: &str) -> Rules {
    if names == "all" {
        return Rules::All;
    }
    Rules::Named(names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str) -> (char, Option<String>, usize) {
        let mut diagnostics = Diagnostics::default();
        let (directives, _) = read(source, &mut diagnostics);
        (directives.escape, directives.syntax.map(|syntax| syntax.text), diagnostics.errors())
    }

    #[test]
    fn directives_end_at_the_first_other_line() {
        assert_eq!(check("# escape=`\nFROM a"), ('`', None, 0));
        assert_eq!(check("\u{feff}  #ESCAPE = ` \r\nFROM a"), ('`', None, 0));
        assert_eq!(check("# syntax=docker/dockerfile:1\n# escape=`\n"), ('`', Some("docker/dockerfile:1".into()), 0));
        assert_eq!(check("# note\n# escape=`\n"), ('\\', None, 0));
        assert_eq!(check("\n# escape=`\n"), ('\\', None, 0));
        assert_eq!(check("# other=1\n# escape=`\n"), ('\\', None, 0));
        assert_eq!(check("FROM a\n# escape=`\n"), ('\\', None, 0));
        assert_eq!(check("# escape=\n# escape=`\n"), ('\\', None, 0));
        assert_eq!(check("# escape=`\n# escape=`\n"), ('`', None, 1));
        assert_eq!(check("# escape=x\n"), ('\\', None, 1));
    }

    #[test]
    fn a_shebang_leaves_syntax_but_not_escape() {
        assert_eq!(
            check("#!/usr/bin/x\n# syntax=dockerfile.v0\n# escape=`\n"),
            ('\\', Some("dockerfile.v0".into()), 0)
        );
    }
}
