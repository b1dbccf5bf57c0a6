//! Which rules are on.
//!
//! | said where | `skip` | `experimental` | `error` |
//! |---|---|---|---|
//! | `# check=` at the top of the file | for the file | for the file | for the file |
//! | the build argument `BUILDKIT_DOCKERFILE_CHECK` | the same, and the top of the file counts no longer | | |
//! | `# check=` in a comment above an instruction | for it, but for rules of the file | for it | no effect |
//!
//! Of the comments above an instruction the first with options counts. Docker says nothing about names of rules that do not
//! exist; here they get a warning.
//!
//! Not here: the grammar of the options (`directives.rs`).

use crate::instruction::Located;
use crate::{BuildArguments, Check, Diagnostic, Literal, Parsed, Rule, Rules, Span, directives};

const ARGUMENT: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The rules that are on for a file.
#[derive(Debug)]
pub(super) struct Switches {
    file: Check,
}

impl Switches {
    /// Reads what the file and the build arguments say, and returns what is wrong with it.
    pub(super) fn read(parsed: &Parsed, arguments: &BuildArguments) -> (Self, Vec<Diagnostic>) {
        let (file, mut mistakes) = match (arguments.given.get(ARGUMENT), &parsed.dockerfile.directives.check) {
            (Some(text), _) => Check::read(literal(text, Span::default())),
            // The parser has said what is wrong with the directive.
            (None, Some(check)) => (check.clone(), Vec::new()),
            (None, None) => Check::read(literal("", Span::default())),
        };
        mistakes.extend(unknown_rules(&file));
        if arguments.given.contains_key(ARGUMENT) {
            let label = format!("in the build argument `{ARGUMENT}`");
            mistakes = mistakes.into_iter().map(|mistake| mistake.label(label.clone())).collect();
        }
        (Self { file }, mistakes)
    }

    /// Returns whether `rule` is on where `comments` stand above.
    pub(super) fn is_on(&self, rule: Rule, comments: &[String]) -> bool {
        let above = if rule.is_of_the_file() { None } else { above(comments, Span::default()) };
        let above = above.map(|(check, _)| check);
        if rule.is_experimental() {
            return self.file.experimental.hold(rule) || above.is_some_and(|check| check.experimental.hold(rule));
        }
        !self.file.skip.hold(rule) && !above.is_some_and(|check| check.skip.hold(rule))
    }

    /// Returns whether what a rule finds fails the build.
    pub(super) fn are_errors(&self) -> bool {
        self.file.error
    }
}

/// Says what is wrong with the options in comments above an instruction.
pub(super) fn mistakes_above<T>(located: &Located<T>) -> Vec<Diagnostic> {
    let span = located.keyword_span;
    let Some((check, invalid)) = above(&located.comments, span) else { return Vec::new() };
    // Docker takes no notice of what it cannot read here, so it is no error.
    let invalid = invalid.into_iter().map(|mistake| {
        let warning = Diagnostic::warning(span, mistake.title);
        Diagnostic { help: mistake.help, ..warning }.label("in the comment above")
    });
    let mut mistakes: Vec<_> = invalid.collect();
    mistakes.extend(unknown_rules(&check));
    if check.error {
        let warning = Diagnostic::warning(span, "check option `error` has no effect above an instruction");
        mistakes.push(warning.note("it belongs into `# check=…` at the top of the file"));
    }
    for rule in check.skip.rules().filter(|rule| rule.is_of_the_file()) {
        let warning = Diagnostic::warning(span, format!("`{rule}` cannot be skipped for one instruction"));
        mistakes.push(warning.note(format!("skip it for the file, with `# check=skip={rule}` at its top")));
    }
    if options(&located.comments).count() > 1 {
        let warning = Diagnostic::warning(span, "only the first `# check=` above an instruction is read");
        mistakes.push(warning.note("one comment can name several rules: `# check=skip=A,B`"));
    }
    mistakes
}

/// Returns the keyword of an instruction, as written.
pub(super) fn keyword<T>(located: &Located<T>) -> &str {
    located.text.split(char::is_whitespace).next().unwrap_or_default()
}

/// Reads the first options in `comments`, which stand above what is at `span`.
fn above(comments: &[String], span: Span) -> Option<(Check, Vec<Diagnostic>)> {
    let text = options(comments).next()?;
    let (kept, warning) = directives::before_blank(&literal(text, span));
    let (check, mut mistakes) = Check::read(Literal { span, ..kept });
    mistakes.extend(warning);
    Some((check, mistakes))
}

/// Returns the check options in `comments`.
fn options(comments: &[String]) -> impl Iterator<Item = &str> {
    comments.iter().filter_map(|comment| check_option(comment))
}

/// Returns what follows `check=` in a comment that begins with it.
pub(super) fn check_option(comment: &str) -> Option<&str> {
    let (key, value) = directives::split_option(comment)?;
    key.eq_ignore_ascii_case("check").then(|| comment[value..].trim_end())
}

fn literal(text: &str, span: Span) -> Literal {
    Literal { text: text.to_owned(), span }
}

fn unknown_rules(check: &Check) -> Vec<Diagnostic> {
    let names = [&check.skip, &check.experimental].into_iter().flat_map(Rules::names);
    let unknown = names.filter(|name| Rule::named(name).is_none());
    let warnings = unknown.map(|name| {
        let warning = Diagnostic::warning(part(&check.text, name), format!("no rule is named `{name}`"));
        warning.suggest(name, Rule::ALL.iter().map(|rule| rule.name()).chain(["all"]))
    });
    warnings.collect()
}

/// Returns where `part` of a text stands; all of it when the text is not what stands there.
fn part(text: &Literal, part: &str) -> Span {
    let start = text.text.find(part).filter(|_| text.span.end - text.span.start == text.text.len());
    start.map_or(text.span, |start| Span::new(text.span.start + start, text.span.start + start + part.len()))
}

impl Rules {
    fn hold(&self, rule: Rule) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| name == rule.name()),
        }
    }

    fn names(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Named(names) => names,
        }
    }

    fn rules(&self) -> impl Iterator<Item = Rule> {
        self.names().iter().filter_map(|name| Rule::named(name))
    }
}
