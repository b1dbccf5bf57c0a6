//! The one way through: parse, resolve, plan, solve, export.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock};

use dockerfile::{Diagnostic, GlobalScope, Instruction, Stages, has_errors, nearest, parse};
use layer_store::{ImageId, Store};
use oci::{Platform, Reference};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::check::{Checking, Names, known_bases};
use crate::dockerignore::Dockerignore;
use crate::entitlements::Entitlements;
use crate::export::{Epoch, ExportError, export};
use crate::file_tree::FileTree;
use crate::graph::{HostEntry, RunNetwork, TreeName};
use crate::images::{ImageSource, Pull};
use crate::lent::Lent;
use crate::named_context::{NamedContext, NamedContexts, names};
use crate::plan::{PlanError, PlanOptions, is_proxy, plan};
use crate::progress::Progress;
use crate::remote::{RemoteFiles, Remotes};
use crate::resolve::{ResolveError, ResolveOptions, ResolveProblem, Resolved, build_arguments, resolve};
use crate::sandbox::Sandbox;
use crate::solve::{Cache, SolveError, Solver};
use crate::spanned::Spanned;

/// What is to be built.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the flags of `wharf build`")]
pub struct BuildRequest {
    pub dockerfile: String,
    /// The build context; `None` when there is none.
    pub context: Option<FileTree>,
    pub build_args: BTreeMap<String, String>,
    pub contexts: NamedContexts,
    pub target: Option<String>,
    /// The names the image gets.
    pub names: Vec<Reference>,
    pub labels: BTreeMap<String, String>,
    pub platform: Platform,
    pub pull: Pull,
    pub cache: Cache,
    /// Bytes that the build cache may take on disk when the build begins to write; `None` is no limit.
    pub keep_storage: Option<u64>,
    pub network: RunNetwork,
    pub extra_hosts: Vec<HostEntry>,
    pub allowed: Entitlements,
}

/// What a build works with.
#[derive(Clone)]
#[expect(missing_docs, reason = "the fields' types say it")]
pub struct Backend {
    pub store: Store,
    pub images: Arc<dyn ImageSource>,
    pub remote_files: Arc<dyn RemoteFiles>,
    pub sandbox: Arc<dyn Sandbox>,
    pub lent: Arc<Lent>,
    pub progress: Arc<dyn Progress>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A built image.
#[derive(Clone, Debug)]
pub struct Built {
    /// The image ID.
    pub id: ImageId,
    /// What was found on the way.
    pub findings: Findings,
}

/// What the checks of a build have found, though it can be built.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What the Dockerfile's author should know; no error among them.
    pub warnings: Vec<Diagnostic>,
    /// Build arguments of the command line that no ARG declares.
    pub unused_args: Vec<UnusedArg>,
}

/// A build argument that no ARG declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedArg {
    /// Its name.
    pub name: String,
    /// The declared argument whose name is nearest.
    pub similar: Option<String>,
}

/// A build that failed.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: BuildError,
    /// What was found before it failed.
    pub findings: Findings,
}

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum BuildError {
    #[error("the Dockerfile has mistakes")]
    Dockerfile { diagnostics: Vec<Diagnostic> },
    #[error(transparent)]
    Resolve(Box<Spanned<ResolveProblem>>),
    #[error("the Dockerfile cannot be built")]
    Plan { errors: Vec<PlanError> },
    #[error(transparent)]
    Solve(Arc<SolveError>),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error("stopped")]
    Cancelled,
}

impl From<ResolveError> for BuildError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Dockerfile { diagnostics } => Self::Dockerfile { diagnostics },
            ResolveError::Name(error) => Self::Resolve(error),
        }
    }
}

/// Builds `request` and keeps the image in the store under its names.
///
/// # Errors
///
/// [`Failed`]; steps that were finished before stay in the cache, but no image is made.
pub async fn build(request: BuildRequest, backend: &Backend, stop: &CancellationToken) -> Result<Built, Failed> {
    let mut findings = Findings::default();
    match image(request, (backend, stop), &mut findings).await {
        Ok(id) => Ok(Built { id, findings }),
        Err(error) => Err(Failed { error, findings }),
    }
}

async fn image(
    request: BuildRequest,
    (backend, stop): (&Backend, &CancellationToken),
    findings: &mut Findings,
) -> Result<ImageId, BuildError> {
    let parsed = parse(&request.dockerfile);
    let target = request.target.as_deref();
    let arguments = build_arguments(request.build_args, &request.platform, &parsed.dockerfile, target);
    let (global, _) = GlobalScope::read(&parsed.dockerfile.global_args, arguments.clone());
    let nothing_ignored = Dockerignore::default();
    let ignore = request.context.as_ref().map_or(&nothing_ignored, FileTree::ignore);
    // A stage that is not built may hold mistakes, as in docker.
    let last = parsed.dockerfile.stages.len().checked_sub(1).map(|last| last.to_string());
    let checked = target.or(last.as_deref());
    let contexts = names(&request.contexts);
    let checking = Checking { parsed: &parsed, arguments, contexts: &contexts, target: checked, ignore };
    let stages = Stages::read(&parsed.dockerfile, &global, &contexts);
    let names = stages.ok().map(|stages| Names { stages, global: global.clone(), target: checked });
    passed(checking.run(BTreeMap::new(), names.as_ref()))?;
    let Names { stages, .. } = names.as_ref().expect("what is wrong with the names of stages is an error of the check");
    let contexts = &request.contexts;
    let options = ResolveOptions { target, platform: &request.platform, pull: request.pull, contexts };
    let resolving = resolve(&request.dockerfile, (stages, &global), &options, backend.images.as_ref());
    let resolved = tokio::select! {
        resolved = resolving => resolved?,
        () = stop.cancelled() => return Err(BuildError::Cancelled),
    };
    findings.warnings = passed(checking.run(known_bases(&resolved), None))?;
    findings.unused_args = unused_args(&resolved);
    let options = PlanOptions {
        labels: &request.labels,
        platform: &request.platform,
        network: request.network,
        extra_hosts: &request.extra_hosts,
        allowed: &request.allowed,
    };
    let plan = plan(&resolved, &options).map_err(|errors| BuildError::Plan { errors })?;
    let solver = Arc::new(Solver {
        graph: plan.graph,
        bases: plan.bases,
        backend: backend.clone(),
        trees: trees(request.context, request.contexts),
        platform: request.platform.clone(),
        cache: request.cache,
        keep_storage: request.keep_storage,
        has_room: OnceCell::new(),
        stop: stop.child_token(),
        interrupt: stop.clone(),
        outputs: Mutex::new(HashMap::new()),
        failure: OnceLock::new(),
        sealing: Mutex::new(Vec::new()),
        remotes: Remotes::new(Arc::clone(&backend.remote_files)),
    });
    let solved = solver.solve(plan.image.top).await;
    if stop.is_cancelled() {
        return Err(BuildError::Cancelled);
    }
    let layers = solved.map_err(BuildError::Solve)?;
    let (store, names) = (backend.store.clone(), request.names);
    let exported = tokio::task::spawn_blocking(move || export(&store, &plan.image, &layers, &names)).await;
    Ok(exported.expect("exporting does not panic")?)
}

/// Returns what COPY takes files from, by what names it.
fn trees(context: Option<FileTree>, named: NamedContexts) -> BTreeMap<TreeName, Arc<FileTree>> {
    let named = named.into_iter().filter_map(|(name, context)| match context {
        NamedContext::Tree(tree) => Some((TreeName::Named(name), tree)),
        NamedContext::Image(_) | NamedContext::Pinned(_) => None,
    });
    context.map(|tree| (TreeName::Main, Arc::new(tree))).into_iter().chain(named).collect()
}

/// Returns what was found if none of it is an error.
fn passed(diagnostics: Vec<Diagnostic>) -> Result<Vec<Diagnostic>, BuildError> {
    if has_errors(&diagnostics) { Err(BuildError::Dockerfile { diagnostics }) } else { Ok(diagnostics) }
}

/// Returns the build arguments of the command line that nothing reads.
fn unused_args(resolved: &Resolved) -> Vec<UnusedArg> {
    let in_stages =
        resolved.stages.iter().flat_map(|stage| &stage.instructions).filter_map(|found| match &found.instruction {
            Instruction::Arg(arg) => Some(&arg.declarations),
            _ => None,
        });
    let in_stages = in_stages.flatten().map(|declaration| declaration.name.as_str());
    let declared: BTreeSet<&str> = resolved.global.names().chain(in_stages).collect();
    let given = resolved.global.arguments().given.keys();
    let unused = given.filter(|name| !declared.contains(name.as_str()) && !is_predefined(name));
    let similar = |name: &str| nearest(name, declared.iter().copied()).map(str::to_owned);
    unused.map(|name| UnusedArg { name: name.clone(), similar: similar(name) }).collect()
}

/// Returns whether an argument is read without being declared.
fn is_predefined(name: &str) -> bool {
    name == Epoch::NAME || name.starts_with("BUILDKIT_") || is_proxy(name)
}
