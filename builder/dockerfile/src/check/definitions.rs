//! Rules about the names of stages, and the comments that describe stages and arguments.

use super::report::{Report, Site};
use super::switches::check_option;
use crate::instruction::{Arg, From, Located};
use crate::{Diagnostic, Instruction, Rule};

/// Checks that no stage has a name that means something else to docker.
pub(super) fn reserved_stage_name(from: &Located<From>, report: &mut Report<'_>) {
    let (Some(name), Some(key)) = (&from.value.name, from.value.stage_name()) else { return };
    let meaning = match key.as_str() {
        "scratch" => "the base without files",
        "context" => "the build context",
        _ => return,
    };
    report.rule(Rule::ReservedStageName, Site::of(from), || {
        let warning = Diagnostic::warning(name.span, format!("`{key}` is reserved and should not name a stage"));
        warning.label(format!("means {meaning}")).note("give the stage another name")
    });
}

/// Checks that the comment above a global ARG describes one of its arguments.
pub(super) fn arg_description(arg: &Located<Arg>, report: &mut Report<'_>) {
    description(arg, "ARG", &names(&arg.value), report);
}

/// Checks the same of an ARG in a stage.
pub(super) fn instruction_description(located: &Located<Instruction>, report: &mut Report<'_>) {
    if let Instruction::Arg(arg) = &located.value {
        description(located, "ARG", &names(arg), report);
    }
}

fn names(arg: &Arg) -> Vec<&str> {
    arg.declarations.iter().map(|declaration| declaration.name.as_str()).collect()
}

/// Checks that the comment above a FROM describes its stage.
pub(super) fn stage_description(from: &Located<From>, report: &mut Report<'_>) {
    if let Some(name) = from.value.stage_name() {
        description(from, "FROM", &[&name], report);
    }
}

/// Only the last comment is looked at: earlier ones may say anything.
fn description<T>(located: &Located<T>, keyword: &str, names: &[&str], report: &mut Report<'_>) {
    let mut comments = located.comments.iter().rev().filter(|comment| check_option(comment).is_none());
    let Some(comment) = comments.next() else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    if names.contains(&first) {
        return;
    }
    report.rule(Rule::InvalidDefinitionDescription, Site::of(located), || {
        let (subject, example) = match names {
            [name] => (format!("`{name}`"), (*name).to_owned()),
            _ => ("one of its names".to_owned(), "NAME".to_owned()),
        };
        let title = format!("the comment above {keyword} does not begin with {subject}");
        let warning = Diagnostic::warning(located.keyword_span, title).label(format!("want `# {example} …` above"));
        warning.note("if it describes something else, put a line with only `#` below it")
    });
}
