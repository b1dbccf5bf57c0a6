//! COPY, ADD and WORKDIR: changes to files without a process, written as a finished layer.
//!
//! ```text
//! files below (looked up) ──╮
//! tree ─select─▶ selection ─┴─copy─▶ draft ─write─▶ layer, and the digest of what was selected
//! ```
//!
//! Nothing is mounted, but for the stage that a COPY takes files from.

use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use layer_store::{LayerFiles, LayerRecord, Lower, View};
use runtime::{LARGEST_ACCOUNT_FILE, User, UserError, find_owner};

use super::{Change, Executed, StepError};
use crate::cache_key::LinkedKey;
use crate::content_digest::{ContentDigest, Holdings, digest_of, entries, find_holdings};
use crate::context_index::{ContextIndex, Pass, is_settled, now};
use crate::copy::{CopyError, CopyOptions, Merge, copy, copy_inline};
use crate::dockerignore::Dockerignore;
use crate::draft::{Below, Draft, Leading, Standing, There};
use crate::file_tree::{FileTree, Owners};
use crate::graph::{Archives, Copy, CopyFrom, FileAction, Ground, NodeId, Op, Parents, TreeName};
use crate::layer_writer::LayerWriter;
use crate::progress::Event;
use crate::rootfs::{Owner, WriteError};
use crate::select::{SelectOptions, Selection, select};
use crate::solve::Solver;
use crate::unpack::unpack_archives;

/// What a copy selects, already looked at for its cache key.
pub(crate) struct Digested {
    selection: Selection,
    holdings: Holdings,
    /// Of all of it.
    pub(crate) digest: ContentDigest,
}

pub(super) fn file(
    solver: &Solver,
    action: &FileAction,
    inputs: &[Vec<Lower>],
    selected: Option<Digested>,
) -> Result<Executed, StepError> {
    let files = solver.backend.store.files(&inputs[0]).map_err(|source| StepError::Files { source })?;
    let executed = match action {
        FileAction::Copy(action) => copy_files(solver, action, &files, inputs.get(1).map(Vec::as_slice), selected),
        FileAction::MakeDirectory { path, user } => make_directory(solver, &files, path, user),
    };
    if solver.stop.is_cancelled() { Err(StepError::Cancelled) } else { executed }
}

fn make_directory(solver: &Solver, files: &LayerFiles, path: &str, user: &str) -> Result<Executed, StepError> {
    let owner = User::find(user, &|path| account_file(files, path));
    let owner = owner.map_err(|source| StepError::Owner { owner: user.to_owned(), source })?;
    let mut draft = Draft::new(Below::Files(files));
    let failed = |source| StepError::MakeDirectory { source };
    let made = draft.make_directory(Path::new(path), (owner.uid, owner.gid));
    let (_, standing) = made.map_err(|source| failed(source.into()))?;
    if standing == Standing::Below {
        return Ok(Executed { change: Change::None, content: None });
    }
    let (layer, _) = write(solver, draft, Pass::new(None), Holdings::new()).map_err(failed)?;
    Ok(Executed { change: Change::Layer(layer.diff_id), content: None })
}

/// Copies what `action` names.
fn copy_files(
    solver: &Solver,
    action: &Copy,
    files: &LayerFiles,
    stage: Option<&[Lower]>,
    selected: Option<Digested>,
) -> Result<Executed, StepError> {
    let is_single = action.sources.len() + action.inline.len() == 1;
    let (destination, mode) = (action.destination.clone(), action.mode.clone());
    let owner = owner(action, files)?;
    let merge = match action.parents {
        Parents::Dropped => Merge::Metadata,
        Parents::Kept => Merge::Contents,
    };
    let options = CopyOptions { destination, owner, mode, needs_directory: !is_single, merge };
    let leading = match action.ground {
        Ground::Below => None,
        Ground::Empty => Some(leading(action, files)?),
    };
    let below = leading.as_ref().map_or(Below::Files(files), Below::Leading);
    let copying = Copying { solver, action, below, options };
    if action.sources.is_empty() {
        let mut draft = Draft::new(copying.below);
        copying.inline(&mut draft)?;
        let written = write(solver, draft, Pass::new(None), Holdings::new());
        let (layer, _) = written.map_err(|source| copying.failed(source))?;
        return Ok(Executed { change: Change::Layer(layer.diff_id), content: None });
    }
    match (selected, &action.from) {
        (Some(selected), CopyFrom::Context(name)) => {
            copying.run(context(solver, name)?, &selected.selection, selected.holdings)
        }
        _ => with_sources(solver, action, stage, |tree, selection| copying.run(tree, &selection, Holdings::new())),
    }
}

/// Finds the owner that a copy asks for.
fn owner(action: &Copy, files: &LayerFiles) -> Result<Option<Owner>, StepError> {
    let find = |owner: &String| {
        let found = find_owner(owner, &|path| account_file(files, path));
        found.map_err(|source| StepError::Owner { owner: owner.clone(), source })
    };
    action.owner.as_ref().map(find).transpose()
}

/// Finds what a linked copy repeats of the files below.
fn leading(action: &Copy, files: &LayerFiles) -> Result<Leading, StepError> {
    let destination = &action.destination;
    let found = Leading::find(files, Path::new(destination));
    found.map_err(|source| StepError::Copy { destination: destination.clone(), source: source.into() })
}

/// Returns what decides about a linked copy instead of the layers below.
pub(crate) fn linked_key(solver: &Solver, id: NodeId, below: &[Lower]) -> Result<LinkedKey, StepError> {
    let action = copy_action(solver, id).expect("only copies are linked");
    let files = solver.backend.store.files(below).map_err(|source| StepError::Files { source })?;
    Ok(LinkedKey { owner: owner(action, &files)?, leading: leading(action, &files)? })
}

/// A COPY or ADD at work.
struct Copying<'a> {
    solver: &'a Solver,
    action: &'a Copy,
    below: Below<'a>,
    options: CopyOptions,
}

impl<'a> Copying<'a> {
    /// Drafts the here-documents, which come after all other sources.
    fn inline(&self, draft: &mut Draft<'a>) -> Result<(), StepError> {
        let mut files = self.action.inline.iter();
        files.try_for_each(|file| copy_inline(draft, file, &self.options)).map_err(|source| self.failed(source))
    }

    /// Writes the layer with what is selected; the digest of that comes of the same reading.
    fn run(&self, tree: &FileTree, selection: &Selection, holdings: Holdings) -> Result<Executed, StepError> {
        let failed = |source| self.failed(source);
        let archives = match self.action.archives {
            Archives::Unpacked => unpack_archives(&self.solver.backend.store, tree, selection).map_err(failed)?,
            Archives::Kept => Vec::new(),
        };
        let mut draft = Draft::new(self.below);
        let needs_directory = self.options.needs_directory || selection.needs_directory;
        let options = CopyOptions { needs_directory, ..self.options.clone() };
        copy(&mut draft, tree, selection, &archives, &options).map_err(failed)?;
        self.inline(&mut draft)?;
        let (layer, holdings) = write(self.solver, draft, Pass::new(tree.index()), holdings).map_err(failed)?;
        // what was unpacked, or had another file put in its place, was not read as a file
        let holdings = find_holdings(tree, selection, holdings)?;
        let content = Some(digest_of(tree.owners(), selection, &holdings));
        Ok(Executed { change: Change::Layer(layer.diff_id), content })
    }

    fn failed(&self, source: CopyError) -> StepError {
        StepError::Copy { destination: self.action.destination.clone(), source }
    }
}

fn write(
    solver: &Solver,
    draft: Draft<'_>,
    pass: Pass<'_>,
    holdings: Holdings,
) -> Result<(LayerRecord, Holdings), CopyError> {
    let layer = solver.backend.store.begin_tar()?;
    LayerWriter::new(layer, pass, holdings, &solver.stop).write(draft)
}

/// Reads one of the files that know the users of an image, found inside it, links and all; one that is not there is empty.
fn account_file(files: &LayerFiles, path: &Path) -> Result<Vec<u8>, UserError> {
    type Cause = Box<dyn Error + Send + Sync>;
    let read = |source: Cause| UserError::Read { path: path.to_owned(), source: io::Error::other(source) };
    let mut draft = Draft::new(Below::Files(files));
    let place = match draft.place(path, (0, 0)) {
        Ok(place) => place,
        Err(WriteError::NotADirectory { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(read(Box::new(error))),
    };
    match place.there {
        There::Nothing => Ok(Vec::new()),
        There::File(size) if size > LARGEST_ACCOUNT_FILE => Err(UserError::TooLarge { path: path.to_owned() }),
        There::File(_) => {
            let found = draft.path(place.parent).join(OsStr::from_bytes(&place.name));
            let bytes = files.read(&found, LARGEST_ACCOUNT_FILE).map_err(|error| read(Box::new(error)))?;
            Ok(bytes.unwrap_or_default())
        }
        There::Directory(_) | There::Link(_) | There::Other => Err(UserError::NotAFile { path: path.to_owned() }),
    }
}

/// Opens what a copy takes files from, selects them, and hands both to `work`.
fn with_sources<T>(
    solver: &Solver,
    action: &Copy,
    stage: Option<&[Lower]>,
    work: impl FnOnce(&FileTree, Selection) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let exclude = Dockerignore::of_patterns(&action.exclude).expect("planning has read the patterns");
    let options = SelectOptions { exclude, parents: action.parents };
    match &action.from {
        CopyFrom::Context(name) => {
            let tree = context(solver, name)?;
            let selection =
                select(tree, &action.sources, &options).map_err(|source| StepError::SelectContext { source })?;
            work(tree, selection)
        }
        CopyFrom::Input => {
            let view = view(solver, stage.expect("a copy from a stage has that stage as its second input"))?;
            let tree = FileTree::open(view.path(), Dockerignore::default(), Owners::Kept)
                .map_err(|source| StepError::OpenTree { source })?;
            let selection =
                select(&tree, &action.sources, &options).map_err(|source| StepError::SelectStage { source })?;
            work(&tree, selection)
        }
    }
}

/// Returns a build context, with what is known of it.
fn context<'a>(solver: &'a Solver, name: &TreeName) -> Result<&'a FileTree, StepError> {
    let tree = solver.trees.get(name).ok_or(StepError::NoContext)?;
    tree.set_index(|| read_index(solver, tree));
    Ok(tree)
}

/// Reads what is known of a build context; it can be lost without harm.
fn read_index(solver: &Solver, tree: &FileTree) -> ContextIndex {
    let bytes = solver.backend.store.read_context(&tree.name()).ok().flatten();
    ContextIndex::read(bytes.unwrap_or_default())
}

/// Keeps what was learnt of the build contexts for the next build.
pub(crate) fn keep_indexes(solver: &Solver) {
    for tree in solver.trees.values() {
        let Some(bytes) = tree.index().and_then(ContextIndex::updated) else { continue };
        if let Err(error) = solver.backend.store.write_context(&tree.name(), &bytes) {
            let text = format!("the files of the build context will be read again by the next build: {error}");
            solver.backend.progress.event(Event::Note { text: &text });
        }
    }
}

fn view(solver: &Solver, layers: &[Lower]) -> Result<View, StepError> {
    solver.backend.store.view(layers).map_err(|source| StepError::Snapshot { source })
}

fn copy_action(solver: &Solver, id: NodeId) -> Option<&Copy> {
    match &solver.graph.node(id).op {
        Op::File(FileAction::Copy(copy)) => Some(copy),
        _ => None,
    }
}

/// Digests what a copy selects from the build context; `None` when a source is not there.
pub(crate) fn context_digest(solver: &Solver, id: NodeId) -> Result<Option<Digested>, StepError> {
    digest(solver, id, None)
}

/// Digests what a copy selects from a stage; `None` when a source is not there.
pub(crate) fn stage_digest(solver: &Solver, id: NodeId, stage: &[Lower]) -> Result<Option<ContentDigest>, StepError> {
    Ok(digest(solver, id, Some(stage))?.map(|digested| digested.digest))
}

fn digest(solver: &Solver, id: NodeId, stage: Option<&[Lower]>) -> Result<Option<Digested>, StepError> {
    let Some(action) = copy_action(solver, id) else { return Ok(None) };
    let digested = with_sources(solver, action, stage, |tree, selection| {
        let began = now();
        let mut holdings = find_holdings(tree, &selection, Holdings::new())?;
        let digest = digest_of(tree.owners(), &selection, &holdings);
        // a file that was written a moment ago may have been written again since, with the same times
        let holdings_of = entries(&selection).zip(&mut holdings);
        holdings_of.filter(|((_, entry), _)| !is_settled(&entry.stat, began)).for_each(|(_, holding)| *holding = None);
        Ok(Digested { selection, holdings, digest })
    });
    match digested {
        Ok(digested) => Ok(Some(digested)),
        Err(StepError::SelectContext { .. } | StepError::SelectStage { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
