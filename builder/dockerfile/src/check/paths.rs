//! Rules about paths: WORKDIR, and what COPY and ADD take from the build context.

use super::CheckOptions;
use super::report::{Report, Site};
use crate::{Diagnostic, Rule, Span, Word};

/// Reports a WORKDIR that is relative to whatever the base image happens to have.
pub(super) fn relative_workdir(word: &Word, path: &str, site: Site<'_>, report: &mut Report<'_>) {
    if path.starts_with('/') {
        return;
    }
    report.rule(Rule::WorkdirRelativePath, site, || {
        let warning = Diagnostic::warning(word.span(), format!("WORKDIR `{path}` begins where the base image says"));
        let warning = warning.label("is relative");
        warning.note(format!("write `WORKDIR /{}`, or an absolute WORKDIR before it", path.trim_start_matches("./")))
    });
}

/// Reports a path of the build context that is left out of it.
pub(super) fn ignored_file(
    (path, span): (&str, Span),
    options: &CheckOptions<'_>,
    site: Site<'_>,
    report: &mut Report<'_>,
) {
    let path = cleaned(path);
    let Some(place) = options.ignored_by.and_then(|ignored_by| ignored_by(&path)) else { return };
    report.rule(Rule::CopyIgnoredFile, site, || {
        if path == "." {
            let warning = Diagnostic::warning(span, format!("all of the build context is left out by {place}"));
            return warning.label("is empty").note("take in again what is needed, with `!` lines after that one");
        }
        let warning = Diagnostic::warning(span, format!("`{path}` is left out of the build context by {place}"));
        warning.label(format!("see {place}")).note(format!("a later line `!{path}` takes it in again"))
    });
}

/// Cleans a path lexically; the root of the build context is `.`, and nothing is above it.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// Returns whether a source of ADD or COPY is fetched over HTTP.
pub(super) fn is_url(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}
