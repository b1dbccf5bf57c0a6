//! COPY and ADD: selects, drafts and writes.
//!
//! ```text
//! files below (looked up) ───────────╮
//! tree ──select─▶ selection ─────────┼─copy─▶ draft ─write─▶ layer, and the digest of what was selected
//! fetched files, here-documents ─────╯
//! ```

use std::path::Path;
use std::sync::Arc;

use layer_store::{LayerFiles, Lower};
use runtime::find_owner;

use super::file::{account_file, write};
use super::sources::{context, with_sources};
use super::{Change, Executed, StepError, Taken};
use crate::cache_key::LinkedKey;
use crate::content_digest::{Holdings, digest_of, find_holdings};
use crate::context_index::Pass;
use crate::copy::{CopyError, CopyItem, CopyOptions, Merge, copy, copy_inline, items};
use crate::dockerignore::Dockerignore;
use crate::draft::{Below, Draft, Leading};
use crate::file_tree::FileTree;
use crate::graph::{Archives, Copy, CopyFrom, CopySource, Ground, NodeId, Parents};
use crate::remote::Remote;
use crate::rootfs::Owner;
use crate::select::{SelectOptions, Selection, select};
use crate::solve::Solver;
use crate::unpack::{Archive, unpack_archives};

/// Copies what `action` names.
pub(super) fn copy_files(
    solver: &Solver,
    action: &Copy,
    files: &LayerFiles,
    stage: Option<&[Lower]>,
    taken: Taken,
) -> Result<Executed, StepError> {
    let leading = match action.ground {
        Ground::Below => None,
        Ground::Empty => Some(leading(action, files)?),
    };
    let below = leading.as_ref().map_or(Below::Files(files), Below::Leading);
    let fetched = action.remotes().zip(taken.fetched).map(|(remote, tree)| Fetched::new(solver, action, remote, tree));
    let fetched = fetched.collect::<Result<_, _>>()?;
    let copying = Copying { solver, action, below, options: options(action, files)?, fetched };
    if action.patterns().is_empty() {
        return copying.run(None);
    }
    match (taken.selected, &action.from) {
        (Some(selected), CopyFrom::Context(name)) => {
            copying.run(Some((context(solver, name)?, &selected.selection, selected.holdings)))
        }
        _ => with_sources(solver, action, stage, |tree, selection| {
            copying.run(Some((tree, &selection, Holdings::new())))
        }),
    }
}

fn options(action: &Copy, files: &LayerFiles) -> Result<CopyOptions, StepError> {
    Ok(CopyOptions {
        destination: action.destination.clone(),
        owner: owner(action, files)?,
        mode: action.mode.clone(),
        time: action.time,
        needs_directory: action.sources.len() + action.inline.len() > 1,
        merge: match action.parents {
            Parents::Dropped => Merge::Metadata,
            Parents::Kept => Merge::Contents,
        },
    })
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
    let action = solver.graph.node(id).op.copy().expect("only copies are linked");
    let files = solver.backend.store.files(below).map_err(|source| StepError::Files { source })?;
    Ok(LinkedKey { owner: owner(action, &files)?, leading: leading(action, &files)? })
}

/// Returns what `--exclude` says, and what is done otherwise.
pub(super) fn select_options(action: &Copy) -> SelectOptions {
    let exclude = Dockerignore::of_patterns(&action.exclude).expect("planning has read the patterns");
    SelectOptions { exclude, parents: action.parents }
}

/// What was fetched for one source, as it is copied.
struct Fetched {
    tree: Arc<FileTree>,
    selection: Selection,
    archives: Vec<Option<Archive>>,
}

impl Fetched {
    fn new(solver: &Solver, action: &Copy, remote: &Remote, tree: Arc<FileTree>) -> Result<Self, StepError> {
        let options = select_options(action);
        // a tree is copied as its contents, and a file, the only one of its tree, under its own name
        let pattern = match remote {
            Remote::Tree { .. } => "/",
            Remote::File { .. } => "*",
        };
        let selection = select(&tree, &[pattern.to_owned()], &options);
        let selection = selection.map_err(|source| StepError::SelectFetched { source })?;
        let archives = match (remote, action.archives) {
            (Remote::File { .. }, Archives::All) => unpack_archives(&solver.backend.store, &tree, &selection)
                .map_err(|source| StepError::Copy { destination: action.destination.clone(), source })?,
            _ => Vec::new(),
        };
        Ok(Self { tree, selection, archives })
    }

    /// Lists what is copied; nothing of it is asked for its digest, because it is pinned.
    fn items(&self) -> impl Iterator<Item = CopyItem<'_>> {
        let items = items(&self.tree, &self.selection, &self.archives);
        items.into_iter().map(|item| CopyItem { place: None, ..item })
    }
}

/// What is selected: a tree, what is taken of it, and what of that is known to hold what.
type Selected<'a> = (&'a FileTree, &'a Selection, Holdings);

/// A COPY or ADD at work.
struct Copying<'a> {
    solver: &'a Solver,
    action: &'a Copy,
    below: Below<'a>,
    options: CopyOptions,
    /// In the order of the remote sources.
    fetched: Vec<Fetched>,
}

impl Copying<'_> {
    /// Writes the layer; the digest of what is selected comes of the same reading.
    fn run(&self, selected: Option<Selected<'_>>) -> Result<Executed, StepError> {
        let failed = |source| self.failed(source);
        let archives = match (&selected, self.action.archives) {
            (Some((tree, selection, _)), Archives::Local | Archives::All) => {
                unpack_archives(&self.solver.backend.store, tree, selection).map_err(failed)?
            }
            _ => Vec::new(),
        };
        let local = match &selected {
            Some((tree, selection, _)) => items(tree, selection, &archives),
            None => Vec::new(),
        };
        let needs_directory = selected.as_ref().is_some_and(|(_, selection, _)| selection.needs_directory);
        let needs_directory = self.options.needs_directory || needs_directory;
        let options = CopyOptions { needs_directory, ..self.options.clone() };
        let mut draft = Draft::new(self.below).made_at(self.action.time);
        copy(&mut draft, &self.in_order(local), &options).map_err(failed)?;
        for file in &self.action.inline {
            copy_inline(&mut draft, file, &self.options).map_err(failed)?;
        }
        let Some((tree, selection, holdings)) = selected else {
            let (layer, _) = write(self.solver, draft, Pass::new(None), Holdings::new()).map_err(failed)?;
            return Ok(Executed { change: Change::Layer(layer.diff_id), content: None });
        };
        let (layer, holdings) = write(self.solver, draft, Pass::new(tree.index()), holdings).map_err(failed)?;
        // what was unpacked, or had another file put in its place, was not read as a file
        let holdings = find_holdings(tree, selection, holdings)?;
        let content = Some(digest_of(tree.owners(), selection, &holdings));
        Ok(Executed { change: Change::Layer(layer.diff_id), content })
    }

    /// Puts what is copied into the order of the sources.
    fn in_order<'i>(&'i self, local: Vec<CopyItem<'i>>) -> Vec<CopyItem<'i>> {
        let mut local = local.into_iter().peekable();
        let mut fetched = self.fetched.iter();
        let mut pattern = 0;
        let mut ordered = Vec::new();
        for source in &self.action.sources {
            match source {
                CopySource::Remote(_) => ordered.extend(fetched.by_ref().take(1).flat_map(Fetched::items)),
                CopySource::Path(_) => {
                    while let Some(item) = local.next_if(|item| item.source.pattern == pattern) {
                        ordered.push(item);
                    }
                    pattern += 1;
                }
            }
        }
        ordered
    }

    fn failed(&self, source: CopyError) -> StepError {
        StepError::Copy { destination: self.action.destination.clone(), source }
    }
}
