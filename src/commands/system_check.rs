//! `wharf system check`: whether the store is whole, and with `--repair` what mends it.
//!
//! One line for each problem: what, why, and what is done or would be. The exit code is 0 when the store is whole at the end.

use std::error::Error;

use anyhow::Context;
use layer_store::{Checked, Depth, Problem, Repair, SubjectKind};
use serde_json::json;

use crate::output;
use crate::session::Session;
use crate::shown::{shown, shown_json};

#[derive(Debug, clap::Args)]
pub(crate) struct SystemCheckArgs {
    /// Look at names, sizes and records only
    #[arg(short, long)]
    quick: bool,
    /// Mend what is wrong: make it again from what is here, or remove it so that it can be pulled or built again
    #[arg(short, long)]
    repair: bool,
    /// Format: `text`, or `json` (a line for each problem, and one for all)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: ReportFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ReportFormat {
    Text,
    Json,
}

/// A problem, and what became of it.
struct Line<'a> {
    problem: &'a Problem,
    state: State<'a>,
}

enum State<'a> {
    Found,
    Mended,
    Left(&'a (dyn Error + 'static)),
}

/// Checks the store.
pub(crate) fn system_check(args: &SystemCheckArgs, session: &Session) -> anyhow::Result<u8> {
    let store = session.store()?;
    let depth = if args.quick { Depth::Quick } else { Depth::Whole };
    let failed = || format!("cannot check the store in {}", store.root().display());
    if args.repair {
        let repaired = store.repair(depth).with_context(failed)?;
        let mended = repaired.mended.iter().map(|problem| Line { problem, state: State::Mended });
        let left = repaired.left.iter().map(|(problem, error)| Line { problem, state: State::Left(error) });
        report(args.format, &mended.chain(left).collect::<Vec<_>>(), &repaired.checked)?;
        return Ok(u8::from(!repaired.left.is_empty()));
    }
    let checked = store.check(depth).with_context(failed)?;
    let found = checked.problems.iter().map(|problem| Line { problem, state: State::Found });
    report(args.format, &found.collect::<Vec<_>>(), &checked)?;
    Ok(u8::from(!checked.problems.is_empty()))
}

fn report(format: ReportFormat, lines: &[Line<'_>], checked: &Checked) -> anyhow::Result<()> {
    let text: String = match format {
        ReportFormat::Text => lines.iter().map(Line::text).chain([summary(lines, checked)]).collect(),
        ReportFormat::Json => {
            let values = lines.iter().map(Line::json).chain([json_summary(lines, checked)]);
            values.map(|value| shown_json(&value.to_string()) + "\n").collect()
        }
    };
    Ok(output::print(&text)?)
}

impl Line<'_> {
    fn text(&self) -> String {
        let Problem { kind, name, repair, .. } = self.problem;
        let what = format!("{} {}: {}", kind.name(), shown(name), self.why());
        match self.state {
            State::Found if *repair == Repair::Leave => format!("{what}; `--repair` leaves it alone\n"),
            State::Found => format!("{what}; `--repair` {repair}\n"),
            State::Mended => format!("{what}; mended: {repair}\n"),
            State::Left(error) => format!("{what}; not mended: {}\n", chain(error)),
        }
    }

    fn why(&self) -> String {
        chain(&self.problem.fault)
    }

    fn json(&self) -> serde_json::Value {
        let Problem { kind, name, repair, .. } = self.problem;
        let (state, error) = match self.state {
            State::Found => ("found", None),
            State::Mended => ("mended", None),
            State::Left(error) => ("left", Some(chain(error))),
        };
        let repair = repair.to_string();
        json!({ "Kind": kind.name(), "Name": name, "Problem": self.why(), "Repair": repair, "State": state, "Error": error })
    }
}

/// Writes an error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut causes: Vec<String> = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes.dedup();
    shown(&causes.join(": "))
}

fn summary(lines: &[Line<'_>], checked: &Checked) -> String {
    let counted = checked.examined.iter().filter(|(kind, _)| **kind != SubjectKind::Stray);
    let counted: Vec<String> = counted.map(|(kind, count)| counted_name(*kind, *count)).collect();
    let examined = if counted.is_empty() { "nothing".to_owned() } else { counted.join(", ") };
    let mut text = String::new();
    if !checked.unverified.is_empty() {
        let count = counted_name(SubjectKind::Layer, checked.unverified.len() as u64);
        text = format!("{count} cannot be verified: the tar was written by others, and its blob is not here\n");
    }
    let mended = lines.iter().filter(|line| matches!(line.state, State::Mended)).count();
    let problems = lines.len() - mended;
    let verdict = match (problems, mended) {
        (0, 0) => "the store is whole".to_owned(),
        (0, mended) => format!("the store is whole again, {mended} mended"),
        (1, 0) => "1 problem".to_owned(),
        (problems, 0) => format!("{problems} problems"),
        (problems, mended) => format!("{mended} mended, {problems} left"),
    };
    text + &format!("checked {examined}: {verdict}\n")
}

fn counted_name(kind: SubjectKind, count: u64) -> String {
    format!("{count} {}{}", kind.name(), if count == 1 { "" } else { "s" })
}

fn json_summary(lines: &[Line<'_>], checked: &Checked) -> serde_json::Value {
    let examined: serde_json::Map<_, _> =
        checked.examined.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
    let mended = lines.iter().filter(|line| matches!(line.state, State::Mended)).count();
    let unverified: Vec<String> = checked.unverified.iter().map(ToString::to_string).collect();
    json!({ "Examined": examined, "Unverified": unverified, "Mended": mended, "Left": lines.len() - mended })
}
