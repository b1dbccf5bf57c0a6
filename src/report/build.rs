//! Errors and warnings that stand at a place in a Dockerfile, with an excerpt of it.
//!
//! ```text
//! error: [2/3] COPY srcs /app failed
//!  --> Dockerfile:2:1
//!   |
//! 2 | COPY srcs /app
//!   | ^^^^^^^^^^^^^^
//!   caused by: cannot copy from the build context
//!   caused by: `srcs` is not there
//! hint: did you mean `src`?
//! ```

use std::error::Error;
use std::fmt::{self, Write};
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use builder::{BuildError, Built, PlanError, StepError, UnusedArg};
use dockerfile::{Diagnostic, Help, Rule, Severity, Source, Span};

use super::{details, write_causes};
use crate::config::Display;
use crate::output;
use crate::shown::{Colours, OutputLines, shown};
use crate::table::ellipsis;

/// Lines of a failed step's output that are shown again.
const LAST_LINES: usize = 20;
/// Characters of a step that its failure shows; the excerpt shows where it stands.
const MAX_LABEL: usize = 100;
/// Characters of a mistake: it may quote a word of the file.
const MAX_TITLE: usize = 300;

/// A Dockerfile as the user knows it.
#[derive(Clone, Debug)]
pub(crate) struct DockerfileText {
    /// Its path, as given; `-` for standard input.
    pub(crate) name: String,
    /// What is in it.
    pub(crate) text: String,
}

/// Why a Dockerfile was not built.
#[derive(Debug)]
pub(crate) struct BuildFailure {
    pub(crate) dockerfile: DockerfileText,
    pub(crate) error: BuildError,
    /// Whether people have seen the output of a failed step already.
    pub(crate) output: Seen,
}

/// Whether the output of steps was shown while they ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Whole,
    /// At most the last line of each step.
    Little,
}

impl fmt::Display for BuildFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            BuildError::Solve(error) => write!(f, "{} failed", ellipsis(&shown(&error.label), MAX_LABEL)),
            other => f.write_str(&shown(&other.to_string())),
        }
    }
}

impl Error for BuildFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Writes a failure with its excerpt, causes, last output and hint.
pub(super) fn text(failure: &BuildFailure, display: Display) -> String {
    let dockerfile = &failure.dockerfile;
    if let BuildError::Dockerfile { diagnostics } = &failure.error {
        let (errors, warnings): (Vec<_>, Vec<_>) =
            diagnostics.iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
        let mut text: String = errors.iter().map(|error| diagnostic(dockerfile, error, display)).collect();
        text.push_str(&compact(dockerfile, &warnings));
        return text;
    }
    if let BuildError::Plan { errors } = &failure.error {
        let mut text: String = errors.iter().map(|error| of_plan(dockerfile, error, display)).collect();
        details(&mut text, failure);
        return text;
    }
    let title = failure.to_string();
    let mut text = match place(failure) {
        Some(span) => excerpt(dockerfile, &Title::error(&title), span, (None, display)),
        None => format!("error: {title}\n"),
    };
    if failure.output == Seen::Little {
        text.push_str(&last_output(failure));
    }
    details(&mut text, failure);
    text
}

/// Shows what the author of a Dockerfile should know after a build: a line for each warning.
pub(crate) fn warnings(dockerfile: &DockerfileText, built: &Built) {
    let warnings: Vec<_> = built.warnings.iter().collect();
    let mut text = compact(dockerfile, &warnings);
    for UnusedArg { name, similar } in &built.unused_args {
        let meant = similar.as_ref().map(|name| format!("; did you mean `{}`?", shown(name))).unwrap_or_default();
        let _infallible = writeln!(text, "warning: no ARG declares the build argument `{}`{meant}", shown(name));
    }
    if !text.is_empty() {
        output::notice(text.trim_end_matches('\n'));
    }
}

/// Lists warnings as docker does after a build; no text when there are none.
fn compact(dockerfile: &DockerfileText, warnings: &[&Diagnostic]) -> String {
    let head = match warnings.len() {
        0 => return String::new(),
        1 => "1 warning found (`wharf build --check` shows it in full):\n".to_owned(),
        count => format!("{count} warnings found (`wharf build --check` shows them in full):\n"),
    };
    let source = Source::new(&dockerfile.text);
    let line = |warning: &&Diagnostic| {
        let rule = warning.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
        let title = ellipsis(&shown(&warning.title), MAX_TITLE);
        format!(" - {rule}{title} (line {})\n", source.line_of(warning.span))
    };
    head + &warnings.iter().map(line).collect::<String>()
}

fn place(failure: &BuildFailure) -> Option<Span> {
    let text = &failure.dockerfile.text;
    match &failure.error {
        BuildError::Resolve(error) => error.span,
        BuildError::Solve(error) => error.line.map(|line| whole_line(text, line)),
        _ => None,
    }
}

/// Returns where line `line`, from 1, stands, without the blanks around it.
fn whole_line(text: &str, line: usize) -> Span {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let content = Source::new(text).line_text(line);
    let indent = content.len() - content.trim_start().len();
    Span::new(start + indent, start + content.trim_end().len())
}

/// Writes one of the instructions that cannot be built, and why.
fn of_plan(dockerfile: &DockerfileText, error: &PlanError, display: Display) -> String {
    let title = error.to_string();
    let mut text = match error.span {
        Some(span) => excerpt(dockerfile, &Title::error(&title), span, (None, display)),
        None => format!("error: {}\n", shown(&title)),
    };
    write_causes(&mut text, error);
    text
}

/// Writes a diagnostic with the rule it is of, its excerpt and its hint.
pub(crate) fn diagnostic(dockerfile: &DockerfileText, diagnostic: &Diagnostic, display: Display) -> String {
    let title = Title {
        severity: diagnostic.severity,
        rule: diagnostic.rule.map(Rule::name),
        text: &ellipsis(&diagnostic.title, MAX_TITLE),
    };
    let mut text = excerpt(dockerfile, &title, diagnostic.span, (diagnostic.label.as_deref(), display));
    let _infallible = match &diagnostic.help {
        Some(Help::DidYouMean(word)) => writeln!(text, "hint: did you mean `{}`?", shown(word)),
        Some(Help::Note(note)) => writeln!(text, "hint: {}", shown(note)),
        None => Ok(()),
    };
    text.push('\n');
    text
}

/// The first line of a report.
struct Title<'a> {
    severity: Severity,
    /// The lint rule that it is of.
    rule: Option<&'static str>,
    text: &'a str,
}

impl<'a> Title<'a> {
    fn error(text: &'a str) -> Self {
        Self { severity: Severity::Error, rule: None, text }
    }
}

/// Draws the lines around a span.
fn excerpt(
    dockerfile: &DockerfileText,
    title: &Title<'_>,
    span: Span,
    (label, display): (Option<&str>, Display),
) -> String {
    let level = match title.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let range = first_line(&dockerfile.text, span);
    let text = shown(title.text);
    let label = label.map(shown);
    let annotation = AnnotationKind::Primary.span(range).label(label);
    let name = shown(&dockerfile.name);
    let snippet = Snippet::source(&dockerfile.text).path(&name).annotation(annotation);
    let renderer = if display.has_colours() { Renderer::styled() } else { Renderer::plain() };
    let primary = level.primary_title(&text);
    let primary = match title.rule {
        Some(rule) => primary.id(rule),
        None => primary,
    };
    let report = [primary.element(snippet)];
    renderer.decor_style(DecorStyle::Ascii).render(&report) + "\n"
}

/// Cuts a span at the end of its first line, and to what is there.
fn first_line(text: &str, span: Span) -> Range<usize> {
    let end = span.end.min(text.len());
    let start = span.start.min(end);
    let within = text.get(start..end).unwrap_or_default();
    let line = within.split('\n').next().unwrap_or_default().trim_end();
    start..start + line.len()
}

/// Writes the end of what a failed step wrote.
fn last_output(failure: &BuildFailure) -> String {
    let BuildError::Solve(error) = &failure.error else { return String::new() };
    let StepError::Exit { output, .. } = &error.source else { return String::new() };
    let mut lines = OutputLines::new(Colours::Dropped);
    let mut all = lines.push(output);
    all.extend(lines.finish());
    let first = all.len().saturating_sub(LAST_LINES);
    if all.is_empty() {
        return String::new();
    }
    let shown: String = all[first..].iter().map(|line| format!("  | {line}\n")).collect();
    let skipped = if first > 0 { format!("  | … ({first} lines before)\n") } else { String::new() };
    format!("  output:\n{skipped}{shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dockerfile(text: &str) -> DockerfileText {
        DockerfileText { name: "Dockerfile".to_owned(), text: text.to_owned() }
    }

    fn failure(text: &str) -> BuildFailure {
        let diagnostics = dockerfile::parse(text).diagnostics;
        BuildFailure {
            dockerfile: dockerfile(text),
            error: BuildError::Dockerfile { diagnostics },
            output: Seen::Whole,
        }
    }

    #[test]
    fn a_misspelt_instruction_is_shown_where_it_stands() {
        let shown = text(&failure("FROM scratch\nCPOY app /\n"), Display::Plain);
        let expected = "\
error: unknown instruction `CPOY`
 --> Dockerfile:2:1
  |
2 | CPOY app /
  | ^^^^
hint: did you mean `COPY`?

";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_line_is_marked_without_the_blanks_around_it() {
        let text = "FROM scratch\n  RUN x \r\nRUN y";
        assert_eq!(&text[whole_line(text, 2).range()], "RUN x");
        assert_eq!(&text[whole_line(text, 3).range()], "RUN y");
        assert_eq!(whole_line(text, 9).range().len(), 0);
    }

    #[test]
    fn a_span_of_several_lines_is_marked_on_its_first() {
        let text = "FROM a\nRUN b \\\n  c\n";
        assert_eq!(&text[first_line(text, Span::new(7, text.len()))], "RUN b \\");
        assert_eq!(first_line(text, Span::new(500, 600)).len(), 0);
    }
}
