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
use builder::{BuildError, Findings, PlanError, StepError, UnusedArg};
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
/// Characters of a mistake, its label and its hint: each may quote a word of the file.
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
    let page = Page::new(&failure.dockerfile, display);
    if let BuildError::Dockerfile { diagnostics } = &failure.error {
        let (errors, warnings): (Vec<_>, Vec<_>) =
            diagnostics.iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
        let mut text: String = errors.iter().map(|error| page.diagnostic(error)).collect();
        text.push_str(&page.compact(&warnings));
        return text;
    }
    if let BuildError::Plan { errors } = &failure.error {
        let mut text: String = errors.iter().map(|error| page.of_plan(error)).collect();
        details(&mut text, failure);
        return text;
    }
    let title = failure.to_string();
    let mut text = match page.place(&failure.error) {
        Some(span) => page.excerpt(&Title::error(&title), span, None),
        None => format!("error: {title}\n"),
    };
    if failure.output == Seen::Little {
        text.push_str(&last_output(failure));
    }
    details(&mut text, failure);
    text
}

/// Writes diagnostics in full, a blank line behind each.
pub(crate) fn diagnostics(dockerfile: &DockerfileText, diagnostics: &[Diagnostic], display: Display) -> String {
    let page = Page::new(dockerfile, display);
    diagnostics.iter().map(|diagnostic| page.diagnostic(diagnostic)).collect()
}

/// Shows what the author of a Dockerfile should know after a build: a line for each warning.
pub(crate) fn warnings(dockerfile: &DockerfileText, findings: &Findings) {
    let warnings: Vec<_> = findings.warnings.iter().collect();
    let mut text = Page::new(dockerfile, Display::Plain).compact(&warnings);
    for UnusedArg { name, similar } in &findings.unused_args {
        let meant = similar.as_ref().map(|name| format!("; did you mean `{}`?", shown(name))).unwrap_or_default();
        let _infallible = writeln!(text, "warning: no ARG declares the build argument `{}`{meant}", shown(name));
    }
    if !text.is_empty() {
        output::notice(text.trim_end_matches('\n'));
    }
}

/// A Dockerfile to draw excerpts of.
struct Page<'a> {
    /// Its path, harmless.
    name: String,
    source: Source<'a>,
    display: Display,
}

impl<'a> Page<'a> {
    fn new(dockerfile: &'a DockerfileText, display: Display) -> Self {
        Self { name: shown(&dockerfile.name), source: Source::new(&dockerfile.text), display }
    }

    /// Lists warnings as docker does after a build; no text when there are none.
    fn compact(&self, warnings: &[&Diagnostic]) -> String {
        let head = match warnings.len() {
            0 => return String::new(),
            1 => "1 warning found (`wharf build --check` shows it in full):\n".to_owned(),
            count => format!("{count} warnings found (`wharf build --check` shows them in full):\n"),
        };
        let line = |warning: &&Diagnostic| {
            let rule = warning.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
            format!(" - {rule}{} (line {})\n", cut(&warning.title), self.source.line_of(warning.span))
        };
        head + &warnings.iter().map(line).collect::<String>()
    }

    fn place(&self, error: &BuildError) -> Option<Span> {
        match error {
            BuildError::Resolve(error) => error.span,
            BuildError::Solve(error) => error.line.map(|line| self.whole_line(line)),
            _ => None,
        }
    }

    /// Returns where line `line`, from 1, stands, without the blanks around it.
    fn whole_line(&self, line: usize) -> Span {
        let (content, start) = (self.source.line_text(line), self.source.line_start(line));
        let indent = content.len() - content.trim_start().len();
        Span::new(start + indent, start + content.trim_end().len())
    }

    /// Writes one of the instructions that cannot be built, and why.
    fn of_plan(&self, error: &PlanError) -> String {
        let title = error.to_string();
        let mut text = match error.span {
            Some(span) => self.excerpt(&Title::error(&title), span, None),
            None => format!("error: {}\n", shown(&title)),
        };
        write_causes(&mut text, error);
        text
    }

    /// Writes a diagnostic with the rule it is of, its excerpt and its hint.
    fn diagnostic(&self, diagnostic: &Diagnostic) -> String {
        let title =
            Title { severity: diagnostic.severity, rule: diagnostic.rule.map(Rule::name), text: &diagnostic.title };
        let mut text = self.excerpt(&title, diagnostic.span, diagnostic.label.as_deref());
        let _infallible = match &diagnostic.help {
            Some(Help::DidYouMean(word)) => writeln!(text, "hint: did you mean `{}`?", cut(word)),
            Some(Help::Note(note)) => writeln!(text, "hint: {}", cut(note)),
            None => Ok(()),
        };
        text.push('\n');
        text
    }

    /// Draws the first line of a span, with a marker under it. Of a long line, the part around the span is drawn.
    fn excerpt(&self, title: &Title<'_>, span: Span, label: Option<&str>) -> String {
        let level = match title.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let (number, text, label) = (self.source.line_of(span), cut(title.text), label.map(cut));
        let (line, start) = (self.source.line_text(number), self.source.line_start(number));
        let annotation = AnnotationKind::Primary.span(within(line, start, span)).label(label);
        let snippet = Snippet::source(line).line_start(number).path(&self.name).annotation(annotation);
        let renderer = if self.display.has_colours() { Renderer::styled() } else { Renderer::plain() };
        let primary = level.primary_title(&text);
        let primary = match title.rule {
            Some(rule) => primary.id(rule),
            None => primary,
        };
        let report = [primary.element(snippet)];
        renderer.decor_style(DecorStyle::Ascii).render(&report) + "\n"
    }
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

/// Makes a text that may quote the file harmless and short.
fn cut(text: &str) -> String {
    ellipsis(&shown(text), MAX_TITLE)
}

/// Returns the part of a span that is in a line, which starts at `start` of the file.
fn within(line: &str, start: usize, span: Span) -> Range<usize> {
    let place = |at: usize| at.saturating_sub(start).min(line.len());
    let (first, last) = (place(span.start), place(span.end.max(span.start)));
    first..first + line[first..last].trim_end().len()
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
        let dockerfile = dockerfile("FROM scratch\n  RUN x \r\nRUN y");
        let page = Page::new(&dockerfile, Display::Plain);
        assert_eq!(&dockerfile.text[page.whole_line(2).range()], "RUN x");
        assert_eq!(&dockerfile.text[page.whole_line(3).range()], "RUN y");
        assert_eq!(page.whole_line(9).range().len(), 0);
    }

    #[test]
    fn a_span_of_several_lines_is_marked_on_its_first() {
        let line = "RUN b \\";
        assert_eq!(&line[within(line, 7, Span::new(7, 20))], line);
        assert_eq!(&line[within(line, 7, Span::new(11, 12))], "b");
        assert_eq!(within(line, 7, Span::new(500, 600)), 7..7);
        assert_eq!(within("", 7, Span::default()), 0..0);
    }

    #[test]
    fn a_long_line_is_cut_around_its_marker() {
        let long = "x".repeat(30_000);
        let text = text(&failure(&format!("FROM scratch\nRUN --mount=type={long} y\n{long} z\n")), Display::Plain);
        assert!(text.contains("unknown mount type `xxx") && text.contains("unknown instruction `xxx"), "{text}");
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest < Some(400), "{longest:?}");
    }
}
