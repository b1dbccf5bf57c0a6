//! Rules about the case of keywords and names.

use super::report::{Report, Site};
use super::switches::keyword;
use crate::instruction::{From, Located};
use crate::{Diagnostic, Dockerfile, Rule, Span};

/// Checks every keyword against the case that most of them have.
///
/// Keywords of mixed case do not count, and are always wrong. With as many of one as of the other, upper case is right.
pub(super) fn consistent_instruction_casing(dockerfile: &Dockerfile, report: &mut Report<'_>) {
    let keywords = || {
        dockerfile.stages.iter().flat_map(|stage| {
            let instructions = stage.instructions.iter().map(|located| (keyword(located), located.keyword_span));
            std::iter::once((keyword(&stage.from), stage.from.keyword_span)).chain(instructions)
        })
    };
    let lower = keywords().filter(|(keyword, _)| is_lower(keyword)).count();
    let upper = keywords().filter(|(keyword, _)| is_upper(keyword)).count();
    for (keyword, span) in keywords() {
        let (is_right, most) = if lower > upper { (is_lower(keyword), "lower") } else { (is_upper(keyword), "upper") };
        if is_right {
            continue;
        }
        report.rule(Rule::ConsistentInstructionCasing, FILE, || {
            let want = if most == "lower" { keyword.to_lowercase() } else { keyword.to_uppercase() };
            let title = format!("`{keyword}` is not in {most} case, as most instructions of this file are");
            Diagnostic::warning(span, title).label(format!("want {want}"))
        });
    }
}

/// The site of a finding that belongs to the file as a whole.
const FILE: Site<'static> = Site { comments: &[], trigger: None };

fn is_lower(text: &str) -> bool {
    text.to_lowercase() == text
}

fn is_upper(text: &str) -> bool {
    text.to_uppercase() == text
}

/// Checks that a stage's name is in lower case.
pub(super) fn stage_name_casing(from: &Located<From>, report: &mut Report<'_>) {
    let Some(name) = from.value.name.as_ref().filter(|name| !is_lower(&name.text)) else { return };
    report.rule(Rule::StageNameCasing, Site::of(from), || {
        let lower = name.text.to_lowercase();
        let warning = Diagnostic::warning(name.span, format!("stage name `{}` is not in lower case", name.text));
        warning.label(format!("means `{lower}`")).note(format!("write `{lower}`: names of stages ignore case"))
    });
}

/// Checks that AS is in the case of its FROM; a FROM in mixed case is another rule's.
pub(super) fn from_as_casing(from: &Located<From>, report: &mut Report<'_>) {
    let Some((r#as, span)) = as_keyword(from) else { return };
    let keyword = keyword(from);
    let matches = match (is_lower(keyword), is_upper(keyword)) {
        (true, _) => is_lower(r#as),
        (_, true) => is_upper(r#as),
        (false, false) => true,
    };
    if matches {
        return;
    }
    report.rule(Rule::FromAsCasing, Site::of(from), || {
        let want = if is_lower(keyword) { "as" } else { "AS" };
        let title = format!("`{}` and `{}` are not in the same case", keyword, r#as);
        Diagnostic::warning(span, title).label(format!("want {want}"))
    });
}

/// Returns the AS of a FROM as written, and where it stands.
fn as_keyword(from: &Located<From>) -> Option<(&str, Span)> {
    let name = from.value.name.as_ref()?;
    let before = from.text.trim_end().strip_suffix(name.text.as_str())?.trim_end();
    let start = before.rfind(char::is_whitespace)? + 1;
    let is_verbatim = from.span.end - from.span.start == from.text.len();
    let span = if is_verbatim { Span::new(from.span.start + start, from.span.start + before.len()) } else { name.span };
    Some((&before[start..], span))
}
