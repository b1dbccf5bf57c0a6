//! Rules about CMD, ENTRYPOINT and HEALTHCHECK.

use super::report::{Report, Site};
use crate::instruction::Located;
use crate::{Command, Diagnostic, Instruction, Rule};

/// Reports a CMD or ENTRYPOINT in shell form, where no SHELL says that this is meant.
pub(super) fn json_args(located: &Located<Instruction>, command: &Command, site: Site<'_>, report: &mut Report<'_>) {
    let Command::Shell { text, .. } = command else { return };
    report.rule(Rule::JSONArgsRecommended, site, || {
        let keyword = located.value.keyword();
        let title = format!("{keyword} in shell form: the program gets no signals, so it is killed instead of stopped");
        let warning = Diagnostic::warning(located.keyword_span, title).label("runs inside of `/bin/sh -c`");
        warning.note(format!("write `{keyword} {}`", json_form(text)))
    });
}

/// Writes a command as a JSON array; one that needs a shell, as a pattern.
fn json_form(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+ ".contains(c);
    if text.is_empty() || text.len() > 60 || !text.chars().all(is_plain) {
        return "[\"program\", \"argument\"]`, or, if it needs a shell, `[\"/bin/sh\", \"-c\", \"exec …\"]".to_owned();
    }
    let words: Vec<_> = text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
    format!("[{}]", words.join(", "))
}

/// The instructions of a stage of which only the last counts.
#[derive(Debug, Default)]
pub(super) struct Once<'a> {
    cmd: Option<(&'a Located<Instruction>, Site<'a>)>,
    entrypoint: Option<(&'a Located<Instruction>, Site<'a>)>,
    healthcheck: Option<(&'a Located<Instruction>, Site<'a>)>,
}

impl<'a> Once<'a> {
    /// Takes note of an instruction, and reports the one before it that it makes void.
    ///
    /// As in docker, the comments above the later one can skip the rule.
    pub(super) fn see(&mut self, located: &'a Located<Instruction>, site: Site<'a>, report: &mut Report<'_>) {
        let seen = match &located.value {
            Instruction::Cmd(_) => &mut self.cmd,
            Instruction::Entrypoint(_) => &mut self.entrypoint,
            Instruction::Healthcheck(_) => &mut self.healthcheck,
            _ => return,
        };
        let Some((earlier, earlier_site)) = seen.replace((located, site)) else { return };
        let keyword = located.value.keyword();
        let line = report.line_of(site.trigger.map_or(located.span, |(from, _)| from));
        report.rule(Rule::MultipleInstructionsDisallowed, Site { trigger: earlier_site.trigger, ..site }, || {
            let title = format!("this {keyword} has no effect: the {keyword} of line {line} takes its place");
            let warning = Diagnostic::warning(earlier.keyword_span, title).label("has no effect");
            warning.note(format!("remove one of them: a stage has one {keyword}"))
        });
    }
}
