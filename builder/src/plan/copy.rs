//! COPY and ADD become file ops.

use dockerfile::{Add, Copy as CopyInstruction, CopySource, CopySources, Literal, Word};

use super::run::not_built;
use super::stage::{StageState, absolute};
use super::{PlanError, PlanProblem, PlannedOp};
use crate::graph::{Archives, Copy, CopyFrom, FileAction, InlineFile, NodeId, Op};
use crate::spanned::Spanned;

pub(super) fn copy(
    state: &StageState,
    instruction: &CopyInstruction,
    from: Option<NodeId>,
) -> Result<PlannedOp, PlanError> {
    refuse_flags(
        &instruction.files,
        &[("--link", instruction.is_linked), ("--parents", instruction.keeps_parents)],
        &instruction.exclude,
    )?;
    let mut copy = files(state, &instruction.files, instruction.chown.as_ref(), instruction.chmod.as_ref())?;
    if from.is_some() {
        copy.from = CopyFrom::Input;
    }
    let created_by = created_by("COPY", instruction.from.as_ref(), &copy);
    Ok(PlannedOp { op: Op::File(FileAction::Copy(copy)), from, created_by })
}

pub(super) fn add(state: &StageState, instruction: &Add) -> Result<PlannedOp, PlanError> {
    refuse_flags(
        &instruction.files,
        &[
            ("--link", instruction.is_linked),
            ("--checksum", instruction.checksum.is_some()),
            ("--keep-git-dir", instruction.keep_git_dir.is_some()),
        ],
        &instruction.exclude,
    )?;
    let mut copy = files(state, &instruction.files, instruction.chown.as_ref(), instruction.chmod.as_ref())?;
    if let Some(remote) = copy.sources.iter().find(|source| is_remote(source)) {
        return Err(not_built(instruction.files.destination.span(), &format!("ADD of the remote source `{remote}`")));
    }
    if instruction.unpack.unwrap_or(true) {
        copy.archives = Archives::Unpacked;
    }
    let created_by = created_by("ADD", None, &copy);
    Ok(PlannedOp { op: Op::File(FileAction::Copy(copy)), from: None, created_by })
}

fn refuse_flags(files: &CopySources, flags: &[(&str, bool)], exclude: &[Literal]) -> Result<(), PlanError> {
    if let Some(pattern) = exclude.first() {
        return Err(not_built(pattern.span, "`--exclude`"));
    }
    match flags.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(not_built(files.destination.span(), &format!("`{flag}`"))),
        None => Ok(()),
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|prefix| source.starts_with(prefix))
}

fn files(
    state: &StageState,
    files: &CopySources,
    chown: Option<&Word>,
    chmod: Option<&Word>,
) -> Result<Copy, PlanError> {
    let mut sources = Vec::new();
    let mut inline = Vec::new();
    for source in &files.sources {
        match source {
            CopySource::Path(word) => sources.push(state.expand(word)?),
            CopySource::Heredoc(heredoc) => {
                let content =
                    if heredoc.expands { state.expand(&heredoc.body_word())? } else { heredoc.body().into_owned() };
                inline.push(InlineFile { name: heredoc.name.clone(), content });
            }
        }
    }
    Ok(Copy {
        from: CopyFrom::Context,
        sources,
        inline,
        destination: destination(state, &state.expand(&files.destination)?),
        owner: chown.map(|word| state.expand(word)).transpose()?,
        mode: chmod.map(|word| mode(state, word)).transpose()?,
        archives: Archives::Kept,
    })
}

/// Returns the absolute destination; it keeps a trailing slash where the text says that it is a directory.
fn destination(state: &StageState, text: &str) -> String {
    let path = absolute(state.directory(), text);
    let is_directory = text.is_empty() || text.ends_with('/') || text == "." || text.ends_with("/.");
    if is_directory && path != "/" { path + "/" } else { path }
}

fn mode(state: &StageState, word: &Word) -> Result<u32, PlanError> {
    let text = state.expand(word)?;
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777 && !text.starts_with('+'));
    mode.ok_or_else(|| Spanned::new(word.span(), PlanProblem::Mode { text }))
}

fn created_by(instruction: &str, from: Option<&Literal>, copy: &Copy) -> String {
    let mut words = vec![instruction.to_owned()];
    words.extend(from.map(|from| format!("--from={}", from.text)));
    words.extend(copy.owner.as_ref().map(|owner| format!("--chown={owner}")));
    words.extend(copy.mode.map(|mode| format!("--chmod={mode:o}")));
    words.extend(copy.inline.iter().map(|file| format!("<<{}", file.name)));
    words.extend_from_slice(&copy.sources);
    words.push(copy.destination.clone());
    words.push("# buildkit".to_owned());
    words.join(" ")
}
