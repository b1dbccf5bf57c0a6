//! COPY and ADD become file ops.

use dockerfile::{Add, Copy as CopyInstruction, CopySource as WrittenSource, CopySources, Literal, Mode, Word};
use remote_files::{GitDir, RemoteSource, RemoteSourceError, Use};

use super::stage::{StageState, absolute};
use super::{Copied, PlanError, PlanProblem, PlannedOp};
use crate::dockerignore::Dockerignore;
use crate::graph::{Archives, Copy, CopyFrom, CopySource, FileAction, Ground, InlineFile, Op, Parents, TreeName};
use crate::remote::Remote;
use crate::select::literal;
use crate::spanned::Spanned;

pub(super) fn copy(
    state: &StageState,
    instruction: &CopyInstruction,
    (from, time): (Option<Copied>, Option<i64>),
) -> Result<PlannedOp, PlanError> {
    let mode = mode(state, instruction.chmod.as_ref())?;
    let (mut copy, destination) = files(state, &instruction.files, instruction.chown.as_ref(), mode.as_ref())?;
    for source in &instruction.files.sources {
        let WrittenSource::Path(word) = source else { continue };
        let text = state.expand(word)?;
        if RemoteSource::parse(&text, Use::Add).is_some() {
            return Err(Spanned::new(word.span(), PlanProblem::RemoteOfCopy));
        }
    }
    let mut further = Vec::new();
    match from {
        Some(Copied::Node(node)) => {
            copy.from = CopyFrom::Input;
            further.push(node);
        }
        Some(Copied::Tree(name)) => copy.from = CopyFrom::Context(name),
        None => {}
    }
    if instruction.keeps_parents {
        copy.parents = Parents::Kept;
    }
    copy.exclude = exclude(&instruction.exclude)?;
    copy.ground = ground(instruction.is_linked);
    copy.time = time;
    let created_by = created_by("COPY", &copy, mode.as_ref(), &destination);
    Ok(PlannedOp { op: Op::File(FileAction::Copy(copy)), further, created_by })
}

pub(super) fn add(state: &StageState, instruction: &Add, time: Option<i64>) -> Result<PlannedOp, PlanError> {
    let mode = mode(state, instruction.chmod.as_ref())?;
    let (mut copy, destination) = files(state, &instruction.files, instruction.chown.as_ref(), mode.as_ref())?;
    remotes(state, instruction, &mut copy)?;
    copy.exclude = exclude(&instruction.exclude)?;
    copy.ground = ground(instruction.is_linked);
    copy.time = time;
    copy.archives = match instruction.unpack {
        None => Archives::Local,
        Some(true) => Archives::All,
        Some(false) => Archives::Kept,
    };
    let created_by = created_by("ADD", &copy, mode.as_ref(), &destination);
    Ok(PlannedOp { op: Op::File(FileAction::Copy(copy)), further: Vec::new(), created_by })
}

/// Finds the sources that are fetched; `--checksum` and `--keep-git-dir` are theirs.
fn remotes(state: &StageState, instruction: &Add, copy: &mut Copy) -> Result<(), PlanError> {
    let checksum = instruction.checksum.as_ref();
    let demanded = flag(state, checksum)?;
    let spans = instruction.files.sources.iter().filter_map(|source| match source {
        WrittenSource::Path(word) => Some(word.span()),
        WrittenSource::Heredoc(_) => None,
    });
    let mut has_remote = false;
    for (source, span) in copy.sources.iter_mut().zip(spans) {
        let CopySource::Path(text) = source else { continue };
        let Some(parsed) = RemoteSource::parse(text, Use::Add) else { continue };
        let parsed = parsed.map_err(|source| Spanned::new(span, PlanProblem::Remote { source }))?;
        let place = checksum.map_or(span, Word::span);
        let remote = remote(parsed, demanded.as_deref(), instruction.keep_git_dir);
        *source = CopySource::Remote(remote.map_err(|problem| Spanned::new(place, problem))?);
        has_remote = true;
    }
    match checksum {
        Some(word) if demanded.is_some() && !has_remote => Err(Spanned::new(word.span(), PlanProblem::ChecksumOfLocal)),
        _ => Ok(()),
    }
}

fn remote(source: RemoteSource, checksum: Option<&str>, keeps_git_dir: Option<bool>) -> Result<Remote, PlanProblem> {
    match source {
        RemoteSource::Http(source) => {
            let checksum = checksum.map(str::parse).transpose();
            Ok(Remote::File { source, checksum: checksum.map_err(|source| PlanProblem::Checksum { source })? })
        }
        RemoteSource::Git(source) => {
            let name = source.to_string();
            let commit = |source| PlanProblem::Remote { source: RemoteSourceError { url: name.clone(), source } };
            let source = match checksum {
                Some(checksum) => source.with_checksum(checksum).map_err(commit)?,
                None => source,
            };
            let flag = keeps_git_dir.map(|keeps| if keeps { GitDir::Keep } else { GitDir::Drop });
            let git_dir = match (flag, source.git_dir()) {
                (Some(flag), Some(url)) if flag != url => return Err(PlanProblem::GitDir { url: name }),
                (flag, url) => flag.or(url).unwrap_or(GitDir::Drop),
            };
            Ok(Remote::Tree { source, git_dir })
        }
    }
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
            WrittenSource::Path(word) => sources.push(CopySource::Path(state.expand(word)?)),
            WrittenSource::Heredoc(heredoc) => {
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
pub(super) fn all_of_tree(name: &str, time: Option<i64>) -> Op {
    let all = vec![CopySource::Path("/".to_owned())];
    Op::File(FileAction::Copy(Copy { time, ..plain(TreeName::Named(name.to_owned()), all, "/".to_owned()) }))
}

/// Returns the op that makes a layer of what a mount shows of a build context; `source` is a path, no pattern.
pub(super) fn mounted_files(from: TreeName, source: &str, destination: &str) -> Op {
    let source = CopySource::Path(literal(source));
    Op::File(FileAction::Copy(plain(from, vec![source], destination.to_owned())))
}

/// Returns a copy without any flags.
fn plain(from: TreeName, sources: Vec<CopySource>, destination: String) -> Copy {
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
        time: None,
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
    words.extend(copy.sources.iter().map(CopySource::to_string));
    words.extend(copy.inline.iter().map(|file| format!("<<{}", file.name)));
    words.extend([destination.to_owned(), "# buildkit".to_owned()]);
    words.join(" ")
}
