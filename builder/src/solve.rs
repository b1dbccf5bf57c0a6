//! Solves a graph: every node once, independent nodes at the same time, the cache first.
//!
//! ```text
//! inputs ─▶ was this op ever built? ─no──────────────────────────────▶ execute ─▶ seal, remember (while later steps run)
//!                 │ yes                                                  ▲
//!                 ▼                                                      │ miss
//!           exact key ─miss, files from a stage─▶ content key ──────────╯
//!                 │ hit                                │ hit
//!                 ╰──────────────▶ the layer that is there
//! ```
//!
//! - A file op's layer is finished with it, digest and all; a RUN's is frozen, and sealed while later steps run.
//! - What of the build context was digested for a key is copied as it was then, without looking again.
//! - A step starts as soon as the files below it are there; their digests are waited for only where a key needs them.
//! - The first failure stops the other steps; what was finished before is remembered all the same. Whoever interrupts does not wait
//!   for that.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, try_join_all};
use layer_store::{CacheRecord, Lower, SealError};
use oci::{ChainId, DiffId, Platform};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::Backend;
use crate::cache_key::{BelowKey, FilesKey, RecipedKey, definition_key, input_key};
use crate::content_digest::ContentDigest;
use crate::file_tree::FileTree;
use crate::graph::{Copy, CopyFrom, Graph, Ground, Node, NodeId, Op, TreeName};
use crate::images::BaseImage;
use crate::ops::{self, Change, Digested, StepError, Taken};
use crate::progress::Event;
use crate::remote::{Pin, Pinned, Remote, Remotes};

/// Why a graph could not be solved: the node that failed, and how.
#[derive(Debug, thiserror::Error)]
#[error("{label}")]
pub struct SolveError {
    /// What the node was called.
    pub label: String,
    /// Its line in the Dockerfile.
    pub line: Option<usize>,
    /// How it failed.
    #[source]
    pub source: StepError,
}

/// Whether layers of earlier builds are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Wherever a key matches.
    Used,
    /// Never; what is built is remembered.
    Ignored,
}

/// One layer of a node's output.
#[derive(Clone, Debug)]
pub(crate) struct MadeLayer {
    pub(crate) diff_id: DiffId,
    /// The node that made it.
    pub(crate) node: NodeId,
    /// When, as RFC 3339; `None` for layers of a base.
    pub(crate) created: Option<String>,
}

type Failable<T> = Result<T, Arc<SolveError>>;
type Layers = Shared<BoxFuture<'static, Failable<Arc<Vec<MadeLayer>>>>>;

/// What a node gives: files to build on at once, and, later, their digests.
#[derive(Clone)]
pub(crate) struct Output {
    lowers: Vec<Lower>,
    layers: Layers,
}

impl Output {
    fn ready(layers: Vec<MadeLayer>) -> Self {
        let lowers = layers.iter().map(|layer| Lower::Layer(layer.diff_id.clone())).collect();
        Self { lowers, layers: std::future::ready(Ok(Arc::new(layers))).boxed().shared() }
    }

    async fn chain(&self) -> Failable<Option<ChainId>> {
        let layers = self.layers.clone().await?;
        let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        Ok(ChainId::of(&diff_ids))
    }
}

/// What the solver works with.
pub(crate) struct Solver {
    pub(crate) graph: Graph,
    pub(crate) bases: HashMap<NodeId, BaseImage>,
    pub(crate) backend: Backend,
    /// What COPY takes files from, beside stages and images.
    pub(crate) trees: BTreeMap<TreeName, Arc<FileTree>>,
    pub(crate) platform: Platform,
    pub(crate) cache: Cache,
    /// Bytes that the build cache may take when the build begins to write; see `room`.
    pub(crate) keep_storage: Option<u64>,
    pub(crate) has_room: OnceCell<()>,
    /// Cancelled by the caller or by the first failure.
    pub(crate) stop: CancellationToken,
    /// Cancelled by the caller only: then what is finished is not remembered either, if that takes time.
    pub(crate) interrupt: CancellationToken,
    pub(crate) outputs: Mutex<HashMap<NodeId, Shared<BoxFuture<'static, Failable<Output>>>>>,
    pub(crate) failure: OnceLock<Arc<SolveError>>,
    pub(crate) sealing: Mutex<Vec<Layers>>,
    pub(crate) remotes: Remotes,
}

impl Solver {
    /// Solves `target` and what it needs; returns its layers, lowest first.
    ///
    /// Returns only when every layer that was finished is remembered, also after a failure.
    pub(crate) async fn solve(self: &Arc<Self>, target: NodeId) -> Failable<Arc<Vec<MadeLayer>>> {
        let result = match self.output(target).await {
            Ok(output) => output.layers.await,
            Err(error) => Err(error),
        };
        let sealing = std::mem::take(&mut *self.sealing.lock().unwrap_or_else(PoisonError::into_inner));
        for layers in sealing {
            let _remembered_or_reported = layers.await;
        }
        let solver = Arc::clone(self);
        tokio::task::spawn_blocking(move || ops::keep_indexes(&solver)).await.expect("keeping indexes does not panic");
        result.map_err(|error| self.failure.get().cloned().unwrap_or(error))
    }

    fn output(self: &Arc<Self>, id: NodeId) -> Shared<BoxFuture<'static, Failable<Output>>> {
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        let solver = Arc::clone(self);
        let run = || {
            let task = tokio::spawn(async move { solver.run(id).await });
            async move { task.await.expect("a step neither panics nor is aborted") }.boxed().shared()
        };
        outputs.entry(id).or_insert_with(run).clone()
    }

    async fn run(self: Arc<Self>, id: NodeId) -> Failable<Output> {
        let node = self.graph.node(id);
        let inputs = try_join_all(node.inputs.iter().map(|input| self.output(*input))).await?;
        let started = Instant::now();
        self.backend.progress.event(Event::Started { node: id, label: &node.label });
        let result = match &node.op {
            Op::Source(_) => self.source(id).await,
            Op::Exec(_) | Op::File(_) => self.step(id, inputs).await,
        };
        match &result {
            Ok(_) => self.backend.progress.event(Event::Finished { node: id, elapsed: started.elapsed() }),
            Err(error) if matches!(error.source, StepError::Cancelled) => {
                self.backend.progress.event(Event::Cancelled { node: id });
            }
            Err(error) => {
                self.backend.progress.event(Event::Failed { node: id });
                self.failure.get_or_init(|| Arc::clone(error));
                self.stop.cancel();
            }
        }
        result
    }

    async fn source(&self, id: NodeId) -> Failable<Output> {
        let Some(base) = self.bases.get(&id) else { return Ok(Output::ready(Vec::new())) };
        let fetched = self.backend.images.fetch(base, &self.backend.progress, &self.stop).await;
        fetched.map_err(|source| self.fail(id, StepError::Base { name: base.name.clone(), source }))?;
        let layers = base.diff_ids().map(|diff_id| MadeLayer { diff_id: diff_id.clone(), node: id, created: None });
        Ok(Output::ready(layers.collect()))
    }

    async fn step(self: &Arc<Self>, id: NodeId, inputs: Vec<Output>) -> Failable<Output> {
        if self.stop.is_cancelled() {
            return Err(self.fail(id, StepError::Cancelled));
        }
        let definition = definition_key(&self.graph.node(id).op, &self.platform);
        let was_built = self.cache == Cache::Used && self.backend.store.recall(&definition.key).is_some();
        let pinned = self.pin(id).await?;
        let pins: Vec<Pin> = pinned.iter().map(|pinned| pinned.pin.clone()).collect();
        let looked_up = if was_built { self.look_up(id, &inputs, &pins).await? } else { LookedUp::Missing(None) };
        match looked_up {
            LookedUp::Cached(output) => {
                self.backend.progress.event(Event::Cached { node: id });
                Ok(output)
            }
            LookedUp::Missing(selected) => {
                self.make_room().await;
                let taken = Taken { selected, fetched: self.fetch(id, &pinned).await? };
                self.execute(id, inputs, (definition, pins), taken).await
            }
        }
    }

    fn remotes(&self, id: NodeId) -> impl Iterator<Item = &Remote> {
        self.graph.node(id).op.copy().into_iter().flat_map(Copy::remotes)
    }

    /// Finds out what the remote sources of a step are now.
    async fn pin(&self, id: NodeId) -> Failable<Vec<Pinned>> {
        let pin = |remote| async move {
            let pinned = self.or_stop(id, self.remotes.pin(remote)).await?;
            pinned.map_err(|source| self.fail(id, StepError::Fetch(source)))
        };
        try_join_all(self.remotes(id).map(pin)).await
    }

    /// Fetches the remote sources of a step, as far as that was not done to pin them.
    async fn fetch(&self, id: NodeId, pinned: &[Pinned]) -> Failable<Vec<Arc<FileTree>>> {
        let fetch = |(remote, pinned)| async move {
            let fetched = self.or_stop(id, self.remotes.fetch(remote, pinned)).await?;
            fetched.map_err(|source| self.fail(id, StepError::Fetch(source)))
        };
        try_join_all(self.remotes(id).zip(pinned).map(fetch)).await
    }

    async fn or_stop<T>(&self, id: NodeId, work: impl Future<Output = T>) -> Failable<T> {
        tokio::select! {
            result = work => Ok(result),
            () = self.stop.cancelled() => Err(self.fail(id, StepError::Cancelled)),
        }
    }

    /// Looks for a layer that an earlier build made of the same inputs.
    async fn look_up(self: &Arc<Self>, id: NodeId, inputs: &[Output], pins: &[Pin]) -> Failable<LookedUp> {
        let (files, selected) = match self.exact_files(id, inputs).await? {
            Files::NotFound => return Ok(LookedUp::Missing(None)),
            Files::Keys(files) => (files, None),
            Files::Context(files) => (vec![FilesKey::Content(files.digest.clone())], Some(files)),
        };
        let chain = BelowKey::Chain(inputs[0].chain().await?);
        let exact = self.key(id, &chain, (&files, pins));
        if let Some(record) = self.backend.store.recall(&exact.key) {
            return self.cached(id, &inputs[0], record).await.map(LookedUp::Cached);
        }
        let mut further = Vec::new();
        let linked = self.linked(id, &inputs[0]).await?;
        further.extend(linked.as_ref().map(|linked| self.key(id, linked, (&files, pins))));
        if inputs.len() > 1 {
            let Some(content) = self.content(id, inputs).await? else { return Ok(LookedUp::Missing(None)) };
            further.push(self.key(id, linked.as_ref().unwrap_or(&chain), (&content, pins)));
        }
        let Some(record) = further.iter().find_map(|key| self.backend.store.recall(&key.key)) else {
            return Ok(LookedUp::Missing(selected));
        };
        self.remember(&exact, &record);
        self.cached(id, &inputs[0], record).await.map(LookedUp::Cached)
    }

    /// Returns how the files that a step copies or mounts enter its exact key.
    async fn exact_files(self: &Arc<Self>, id: NodeId, inputs: &[Output]) -> Failable<Files> {
        if let Some(copy) = self.graph.node(id).op.copy()
            && matches!(copy.from, CopyFrom::Context(_))
            && !copy.patterns().is_empty()
        {
            let digest = self.blocking(id, move |solver| ops::context_digest(solver, id)).await?;
            return Ok(digest.map_or(Files::NotFound, Files::Context));
        }
        Ok(Files::Keys(self.chains(inputs).await?))
    }

    /// Returns the keys of what a step copies or mounts, by the layers that it is in.
    async fn chains(&self, inputs: &[Output]) -> Failable<Vec<FilesKey>> {
        try_join_all(inputs[1..].iter().map(|input| async { Ok(FilesKey::Chain(input.chain().await?)) })).await
    }

    /// Returns the keys of what a step copies or mounts, by content; `None` when a file is not there.
    async fn content(self: &Arc<Self>, id: NodeId, inputs: &[Output]) -> Failable<Option<Vec<FilesKey>>> {
        let stages: Vec<_> = inputs[1..].iter().map(|input| input.lowers.clone()).collect();
        let chains = self.chains(inputs).await?;
        self.blocking(id, move |solver| ops::content_keys(solver, id, &stages, chains)).await
    }

    async fn cached(&self, id: NodeId, below: &Output, record: CacheRecord) -> Failable<Output> {
        let mut layers = below.layers.clone().await?.to_vec();
        if let Some(diff_id) = record.diff_id {
            layers.push(MadeLayer { diff_id, node: id, created: Some(record.created) });
        }
        Ok(Output::ready(layers))
    }

    /// Does the work; digests and cache records follow while later steps run.
    async fn execute(
        self: &Arc<Self>,
        id: NodeId,
        inputs: Vec<Output>,
        (definition, pins): (RecipedKey, Vec<Pin>),
        taken: Taken,
    ) -> Failable<Output> {
        let lowers: Vec<Vec<Lower>> = inputs.iter().map(|input| input.lowers.clone()).collect();
        let made = self.blocking(id, move |solver| ops::execute(solver, id, &lowers, taken)).await?;
        let layer = match made.change {
            Change::None => None,
            Change::Frozen(layer) => Some(Lower::Frozen(Arc::new(layer))),
            Change::Layer(diff_id) => Some(Lower::Layer(diff_id)),
        };
        let mut lowers = inputs[0].lowers.clone();
        lowers.extend(layer.clone());
        let solver = Arc::clone(self);
        let task = tokio::spawn(async move { solver.seal(id, inputs, layer, (definition, pins, made.content)).await });
        let layers = async move { task.await.expect("sealing neither panics nor is aborted") }.boxed().shared();
        self.sealing.lock().unwrap_or_else(PoisonError::into_inner).push(layers.clone());
        Ok(Output { lowers, layers })
    }

    async fn seal(
        self: Arc<Self>,
        id: NodeId,
        inputs: Vec<Output>,
        layer: Option<Lower>,
        (definition, pins, content): (RecipedKey, Vec<Pin>, Option<ContentDigest>),
    ) -> Failable<Arc<Vec<MadeLayer>>> {
        let created = now();
        let diff_id = match layer {
            Some(Lower::Layer(diff_id)) => Some(diff_id),
            Some(Lower::Frozen(frozen)) => {
                let seal = move |solver: &Self| match frozen.seal(&|| solver.interrupt.is_cancelled()) {
                    Ok(record) => Ok(record.diff_id),
                    Err(SealError::Stopped) => Err(StepError::Cancelled),
                    Err(source) => Err(StepError::Seal { source }),
                };
                Some(self.blocking(id, seal).await?)
            }
            None => None,
        };
        let record =
            CacheRecord { diff_id: diff_id.clone(), recipe: serde_json::Value::Null, created: created.clone() };
        let chain = BelowKey::Chain(inputs[0].chain().await?);
        let mut files = vec![content.map(|content| vec![FilesKey::Content(content)]).unwrap_or_default()];
        if inputs.len() > 1 {
            if self.graph.node(id).op.copy().is_none() {
                files = self.content(id, &inputs).await?.into_iter().collect();
            }
            files.push(self.chains(&inputs).await?);
        }
        for below in [Some(chain), self.linked(id, &inputs[0]).await?].iter().flatten() {
            for files in &files {
                self.remember(&self.key(id, below, (files, &pins)), &record);
            }
        }
        self.remember(&definition, &record);
        let mut layers = inputs[0].layers.clone().await?.to_vec();
        layers.extend(diff_id.map(|diff_id| MadeLayer { diff_id, node: id, created: Some(created) }));
        Ok(Arc::new(layers))
    }

    /// Returns what stands in a linked copy's key for the layers below, whichever these are; `None` for any other step.
    async fn linked(self: &Arc<Self>, id: NodeId, below: &Output) -> Failable<Option<BelowKey>> {
        if self.graph.node(id).op.copy().is_none_or(|copy| copy.ground == Ground::Below) {
            return Ok(None);
        }
        let lowers = below.lowers.clone();
        let key = self.blocking(id, move |solver| ops::linked_key(solver, id, &lowers)).await?;
        Ok(Some(BelowKey::Linked(key)))
    }

    fn key(&self, id: NodeId, below: &BelowKey, files: (&[FilesKey], &[Pin])) -> RecipedKey {
        input_key(&self.graph.node(id).op, &self.platform, below, files)
    }

    /// Keeps a record; the cache can be lost without harm, so a failure is only noted.
    fn remember(&self, key: &RecipedKey, record: &CacheRecord) {
        let record = CacheRecord { recipe: key.recipe.clone(), ..record.clone() };
        if let Err(error) = self.backend.store.remember(&key.key, &record) {
            self.backend
                .progress
                .event(Event::Note { text: &format!("this step will not be found in the cache: {error}") });
        }
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        id: NodeId,
        work: impl FnOnce(&Self) -> Result<T, StepError> + Send + 'static,
    ) -> Failable<T> {
        let solver = Arc::clone(self);
        let result =
            tokio::task::spawn_blocking(move || work(&solver)).await.expect("a step neither panics nor is aborted");
        result.map_err(|source| self.fail(id, source))
    }

    fn fail(&self, id: NodeId, source: StepError) -> Arc<SolveError> {
        let Node { label, line, .. } = self.graph.node(id);
        Arc::new(SolveError { label: label.clone(), line: *line, source })
    }
}

/// How files enter a key.
enum Files {
    /// A file is not there: no key, the step itself says what is wrong.
    NotFound,
    /// These; none for steps that neither copy nor mount files.
    Keys(Vec<FilesKey>),
    /// These of the build context.
    Context(Digested),
}

/// What came of looking for a layer.
enum LookedUp {
    /// It is there.
    Cached(Output),
    /// It is to be made; of these files of the build context, where they were looked at.
    Missing(Option<Digested>),
}

fn now() -> String {
    let format = time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::now_utc().format(&format).expect("a time of this century can be written as RFC 3339")
}
