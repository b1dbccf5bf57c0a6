//! COPY and ADD become file ops.

use dockerfile::{Add, Copy as CopyInstruction, CopySource, CopySources, Literal, Mode, Word};

use super::run::not_built;
use super::stage::{StageState, absolute};
use super::{Copied, PlanError, PlanProblem, PlannedOp};
use crate::dockerignore::Dockerignore;
use crate::graph::{Archives, Copy, CopyFrom, FileAction, Ground, InlineFile, Op, Parents, TreeName};
use crate::spanned::Spanned;

pub(super) fn copy(
    state: &StageState,
    instruction: &CopyInstruction,
    from: Option<Copied>,
) -> Result<PlannedOp, PlanError> {
    let mode = mode(state, instruction.chmod.as_ref())?;
    let (mut copy, destination) = files(state, &instruction.files, instruction.chown.as_ref(), mode.as_ref())?;
    let from = match from {
        Some(Copied::Node(node)) => {
            copy.from = CopyFrom::Input;
            Some(node)
        }
        Some(Copied::Tree(name)) => {
            copy.from = CopyFrom::Context(name);
            None
        }
        None => None,
    };
    if instruction.keeps_parents {
        copy.parents = Parents::Kept;
    }
    copy.exclude = exclude(&instruction.exclude)?;
    copy.ground = ground(instruction.is_linked);
    let created_by = created_by("COPY", &copy, mode.as_ref(), &destination);
    Ok(PlannedOp { op: Op::File(FileAction::Copy(copy)), from, created_by })
}

pub(super) fn add(state: &StageState, instruction: &Add) -> Result<PlannedOp, PlanError> {
    refuse_flags(
        &instruction.files,
        &[("--checksum", instruction.checksum.is_some()), ("--keep-git-dir", instruction.keep_git_dir.is_some())],
    )?;
    let mode = mode(state, instruction.chmod.as_ref())?;
    let (mut copy, destination) = files(state, &instruction.files, instruction.chown.as_ref(), mode.as_ref())?;
    if let Some(remote) = copy.sources.iter().find(|source| is_remote(source)) {
        return Err(not_built(instruction.files.destination.span(), &format!("ADD of the remote source `{remote}`")));
    }
    copy.exclude = exclude(&instruction.exclude)?;
    copy.ground = ground(instruction.is_linked);
    if instruction.unpack.unwrap_or(true) {
        copy.archives = Archives::Unpacked;
    }
    let created_by = created_by("ADD", &copy, mode.as_ref(), &destination);
    Ok(PlannedOp { op: Op::File(FileAction::Copy(copy)), from: None, created_by })
}

/// Says what `--link` means.
fn ground(is_linked: bool) -> Ground {
    if is_linked { Ground::Empty } else { Ground::Below }
}

/// Reads the patterns of `--exclude`.
fn exclude(patterns: &[Literal]) -> Result<Vec<String>, PlanError> {
    let read = |pattern: &Literal| {
        let text = pattern.text.clone();
        match Dockerignore::of_patterns(std::slice::from_ref(&text)) {
            Ok(_) => Ok(text),
            Err(_) => Err(Spanned::new(pattern.span, PlanProblem::Exclude { text })),
        }
    };
    patterns.iter().map(read).collect()
}

fn refuse_flags(files: &CopySources, flags: &[(&str, bool)]) -> Result<(), PlanError> {
    match flags.iter().find(|(_, is_given)| *is_given) {
        Some((flag, _)) => Err(not_built(files.destination.span(), &format!("`{flag}`"))),
        None => Ok(()),
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@"].iter().any(|prefix| source.starts_with(prefix))
}

/// Returns what is copied, and the destination as it was written, after expansion.
fn files(
    state: &StageState,
    files: &CopySources,
    chown: Option<&Word>,
    mode: Option<&Mode>,
) -> Result<(Copy, String), PlanError> {
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
    let written = state.expand(&files.destination)?;
    let copy = Copy {
        inline,
        owner: flag(state, chown)?,
        mode: mode.cloned(),
        ..plain(TreeName::Main, sources, destination(state, &written))
    };
    Ok((copy, written))
}

/// Returns the op that begins a stage with all files of a named context.
pub(super) fn all_of_tree(name: &str) -> Op {
    Op::File(FileAction::Copy(plain(TreeName::Named(name.to_owned()), vec!["/".to_owned()], "/".to_owned())))
}

/// Returns a copy without any flags.
fn plain(from: TreeName, sources: Vec<String>, destination: String) -> Copy {
    Copy {
        from: CopyFrom::Context(from),
        sources,
        parents: Parents::Dropped,
        exclude: Vec::new(),
        inline: Vec::new(),
        destination,
        owner: None,
        mode: None,
        archives: Archives::Kept,
        ground: Ground::Below,
    }
}

/// Returns the value of a flag; one that expands to nothing is as good as none.
fn flag(state: &StageState, word: Option<&Word>) -> Result<Option<String>, PlanError> {
    let value = word.map(|word| state.expand(word)).transpose()?;
    Ok(value.filter(|value| !value.is_empty()))
}

/// Returns the absolute destination; it keeps a trailing slash where the text says that it is a directory.
fn destination(state: &StageState, text: &str) -> String {
    let path = absolute(state.directory(), text);
    let is_directory = text.is_empty() || text.ends_with('/') || text == ".";
    if is_directory && path != "/" { path + "/" } else { path }
}

fn mode(state: &StageState, word: Option<&Word>) -> Result<Option<Mode>, PlanError> {
    let (Some(word), Some(text)) = (word, flag(state, word)?) else { return Ok(None) };
    match text.parse() {
        Ok(mode) => Ok(Some(mode)),
        Err(source) => Err(Spanned::new(word.span(), PlanProblem::Mode { text, source })),
    }
}

/// Docker shows `--parents`, `--chown` and `--chmod` and no other flags, and the destination as it was written.
fn created_by(instruction: &str, copy: &Copy, mode: Option<&Mode>, destination: &str) -> String {
    let mut words = vec![instruction.to_owned()];
    words.extend((copy.parents == Parents::Kept).then(|| "--parents".to_owned()));
    words.extend(copy.owner.as_ref().map(|owner| format!("--chown={owner}")));
    words.extend(mode.map(|mode| format!("--chmod={mode}")));
    words.extend_from_slice(&copy.sources);
    words.extend(copy.inline.iter().map(|file| format!("<<{}", file.name)));
    words.extend([destination.to_owned(), "# buildkit".to_owned()]);
    words.join(" ")
}
