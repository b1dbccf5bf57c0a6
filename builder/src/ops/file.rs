//! COPY, ADD and WORKDIR: changes to files without a process.

use std::path::Path;

use layer_store::{Lower, Skeleton, View};
use runtime::{User, lookup_owner};

use super::{Executed, StepError};
use crate::content_digest::{ContentDigest, content_digest};
use crate::copy::{CopyOptions, copy, write_inline};
use crate::dockerignore::Dockerignore;
use crate::file_tree::{FileTree, Owners};
use crate::graph::{Archives, Copy, CopyFrom, FileAction, NodeId, Op};
use crate::rootfs::Rootfs;
use crate::select::{Selection, select};
use crate::solve::Solver;
use crate::unpack::{has_archives, unpack_archives};

pub(super) fn file(solver: &Solver, action: &FileAction, inputs: &[Vec<Lower>]) -> Result<Executed, StepError> {
    let snapshot =
        solver.backend.store.prepare(&inputs[0], Skeleton::None).map_err(|source| StepError::Snapshot { source })?;
    let rootfs = Rootfs::open(snapshot.path()).map_err(|source| StepError::MakeDirectory { source })?;
    let content = match action {
        FileAction::Copy(action) => copy_files(solver, action, inputs, &rootfs, snapshot.path())?,
        FileAction::MakeDirectory { path, user } => {
            if !make_directory(&rootfs, snapshot.path(), path, user)? {
                return Ok(Executed { layer: None, content: None });
            }
            None
        }
    };
    drop(rootfs);
    if solver.stop.is_cancelled() {
        return Err(StepError::Cancelled);
    }
    let layer = snapshot.freeze().map_err(|source| StepError::Snapshot { source })?;
    Ok(Executed { layer: Some(layer), content })
}

fn make_directory(rootfs: &Rootfs, root: &Path, path: &str, user: &str) -> Result<bool, StepError> {
    let owner = User::resolve(root, user).map_err(|source| StepError::Owner { owner: user.to_owned(), source })?;
    let made = rootfs.make_directory(Path::new(path), (owner.uid, owner.gid));
    Ok(made.map_err(|source| StepError::MakeDirectory { source })?.is_new)
}

/// Copies what `action` names; returns the digest of the files it selected, `None` when it selects none.
fn copy_files(
    solver: &Solver,
    action: &Copy,
    inputs: &[Vec<Lower>],
    rootfs: &Rootfs,
    root: &Path,
) -> Result<Option<ContentDigest>, StepError> {
    let owner = action
        .owner
        .as_deref()
        .map(|owner| lookup_owner(root, owner).map_err(|source| StepError::Owner { owner: owner.to_owned(), source }));
    let options = CopyOptions { destination: action.destination.clone(), owner: owner.transpose()?, mode: action.mode };
    let failed = |source| StepError::Copy { destination: action.destination.clone(), source };
    let is_single = action.sources.len() + action.inline.len() == 1;
    for file in &action.inline {
        write_inline(file, rootfs, &options, is_single).map_err(failed)?;
    }
    if action.sources.is_empty() {
        return Ok(None);
    }
    with_sources(solver, action, inputs.get(1).map(Vec::as_slice), |tree, mut selection| {
        selection.needs_directory |= !is_single;
        if action.archives == Archives::Unpacked && has_archives(tree, &selection)? {
            let digest = content_digest(tree, &selection)?;
            unpack_archives(&solver.backend.store, tree, &mut selection, rootfs, &options).map_err(failed)?;
            copy(tree, &selection, rootfs, &options).map_err(failed)?;
            return Ok(Some(digest));
        }
        copy(tree, &selection, rootfs, &options).map(Some).map_err(failed)
    })
}

/// Opens what a copy takes files from, selects them, and hands both to `work`.
fn with_sources<T>(
    solver: &Solver,
    action: &Copy,
    stage: Option<&[Lower]>,
    work: impl FnOnce(&FileTree, Selection) -> Result<T, StepError>,
) -> Result<T, StepError> {
    match action.from {
        CopyFrom::Context => {
            let tree = solver.context.as_ref().ok_or(StepError::NoContext)?;
            let selection = select(tree, &action.sources).map_err(|source| StepError::SelectContext { source })?;
            work(tree, selection)
        }
        CopyFrom::Input => {
            let view = view(solver, stage.expect("a copy from a stage has that stage as its second input"))?;
            let tree = FileTree::open(view.path(), Dockerignore::default(), Owners::Kept)
                .map_err(|source| StepError::OpenTree { source })?;
            let selection = select(&tree, &action.sources).map_err(|source| StepError::SelectStage { source })?;
            work(&tree, selection)
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
pub(crate) fn context_digest(solver: &Solver, id: NodeId) -> Result<Option<ContentDigest>, StepError> {
    digest(solver, id, None)
}

/// Digests what a copy selects from a stage; `None` when a source is not there.
pub(crate) fn stage_digest(solver: &Solver, id: NodeId, stage: &[Lower]) -> Result<Option<ContentDigest>, StepError> {
    digest(solver, id, Some(stage))
}

fn digest(solver: &Solver, id: NodeId, stage: Option<&[Lower]>) -> Result<Option<ContentDigest>, StepError> {
    let Some(action) = copy_action(solver, id) else { return Ok(None) };
    match with_sources(solver, action, stage, |tree, selection| Ok(content_digest(tree, &selection)?)) {
        Ok(digest) => Ok(Some(digest)),
        Err(StepError::SelectContext { .. } | StepError::SelectStage { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
