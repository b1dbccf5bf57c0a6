//! What COPY and ADD take files from: build contexts and stages, and the digest of what is selected.

use layer_store::{Lower, View};

use super::StepError;
use super::copy::select_options;
use crate::cache_key::FilesKey;
use crate::content_digest::{ContentDigest, Holdings, content_digest, digest_of, entries, find_holdings};
use crate::context_index::{ContextIndex, is_settled, now};
use crate::dockerignore::Dockerignore;
use crate::exec_mount::ExecMount;
use crate::file_tree::{FileTree, Owners};
use crate::graph::{Copy, CopyFrom, NodeId, Op, TreeName};
use crate::progress::Event;
use crate::select::{SelectOptions, Selection, literal, select};
use crate::solve::Solver;

/// What a copy selects, already looked at for its cache key.
pub(crate) struct Digested {
    pub(super) selection: Selection,
    pub(super) holdings: Holdings,
    /// Of all of it.
    pub(crate) digest: ContentDigest,
}

/// Opens what a copy takes files from, selects them, and hands both to `work`.
pub(super) fn with_sources<T>(
    solver: &Solver,
    action: &Copy,
    stage: Option<&[Lower]>,
    work: impl FnOnce(&FileTree, Selection) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let (options, patterns) = (select_options(action), action.patterns());
    match &action.from {
        CopyFrom::Context(name) => {
            let tree = context(solver, name)?;
            let selection = select(tree, &patterns, &options);
            work(tree, selection.map_err(|source| StepError::SelectContext { name: name.clone(), source })?)
        }
        CopyFrom::Input => {
            let view = view(solver, stage.expect("a copy from a stage has that stage as its second input"))?;
            let tree = FileTree::open(view.path(), Dockerignore::default(), Owners::Kept)
                .map_err(|source| StepError::OpenTree { source })?;
            let selection = select(&tree, &patterns, &options).map_err(|source| StepError::SelectStage { source })?;
            work(&tree, selection)
        }
    }
}

/// Returns a build context, with what is known of it.
pub(super) fn context<'a>(solver: &'a Solver, name: &TreeName) -> Result<&'a FileTree, StepError> {
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

/// Digests what a copy selects from a build context; `None` when a source is not there.
pub(crate) fn context_digest(solver: &Solver, id: NodeId) -> Result<Option<Digested>, StepError> {
    digest(solver, id, None)
}

/// Returns the keys of what a step copies or mounts from `stages`, by content; `None` when a source is not there.
///
/// What is mounted of an image or of a build context stays as it is in `chains`: these layers are known by their content already.
pub(crate) fn content_keys(
    solver: &Solver,
    id: NodeId,
    stages: &[Vec<Lower>],
    chains: Vec<FilesKey>,
) -> Result<Option<Vec<FilesKey>>, StepError> {
    let node = solver.graph.node(id);
    let Op::Exec(exec) = &node.op else {
        let digested = digest(solver, id, Some(&stages[0]))?;
        return Ok(digested.map(|digested| vec![FilesKey::Content(digested.digest)]));
    };
    let mut keys = Vec::new();
    for files in exec.mounts.iter().filter_map(ExecMount::files) {
        let place = files.input - 1;
        keys.push(match is_made_of_steps(solver, node.inputs[files.input]) {
            false => chains[place].clone(),
            true => match mounted_digest(solver, &stages[place], &files.source)? {
                Some(digest) => FilesKey::Content(digest),
                None => return Ok(None),
            },
        });
    }
    Ok(Some(keys))
}

/// Tells whether the layers of a node may differ though its files are the same: not those of an image or of a build context.
fn is_made_of_steps(solver: &Solver, id: NodeId) -> bool {
    let is_source = |id| matches!(solver.graph.node(id).op, Op::Source(_));
    let node = solver.graph.node(id);
    let is_copy = node.op.copy().is_some_and(|copy| matches!(copy.from, CopyFrom::Context(_)));
    let is_context = is_copy && node.inputs.iter().all(|input| is_source(*input));
    !(is_source(id) || is_context)
}

fn mounted_digest(solver: &Solver, stage: &[Lower], source: &str) -> Result<Option<ContentDigest>, StepError> {
    let view = view(solver, stage)?;
    let tree = FileTree::open(view.path(), Dockerignore::default(), Owners::Kept);
    let tree = tree.map_err(|source| StepError::OpenTree { source })?;
    match select(&tree, &[literal(source)], &SelectOptions::default()) {
        Ok(selection) => Ok(Some(content_digest(&tree, &selection)?)),
        // the step itself says what is wrong
        Err(_) => Ok(None),
    }
}

fn digest(solver: &Solver, id: NodeId, stage: Option<&[Lower]>) -> Result<Option<Digested>, StepError> {
    let Some(action) = solver.graph.node(id).op.copy() else { return Ok(None) };
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
