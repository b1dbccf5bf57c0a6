//! Turns a resolved Dockerfile into a graph of ops and the config of the image.
//!
//! ```text
//! FROM               ─▶ source node, or the stage it names
//! RUN                ─▶ exec node                (`run.rs`, `mount.rs`)
//! COPY ADD WORKDIR   ─▶ file node                (`copy.rs`)
//! all others         ─▶ change of the config     (`config.rs`)
//! ```
//!
//! - No I/O: the same input gives the same plan.
//! - What the language has and this builder does not is refused here, by name and place, never skipped.

mod change;
mod config;
mod copy;
mod mount;
mod run;
mod stage;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use dockerfile::{ExpandError, Instruction, ModeError, MountError, PortError, SignalError, Source as Text, Variables};
use oci::{Platform, Reference};
use remote_files::{InvalidChecksum, RemoteSourceError};

use crate::entitlements::{Entitlement, Entitlements};
use crate::export::{Epoch, EpochError, PlannedEntry, PlannedImage};
use crate::graph::{FileAction, Graph, HostEntry, NodeId, Op, RunNetwork, Source, TreeName};
use crate::images::BaseImage;
use crate::resolve::{Base, Origin, Resolved, ResolvedInstruction, ResolvedStage};
use crate::spanned::Spanned;
pub use change::{ChangeError, change_config};
pub(crate) use run::is_proxy;
use stage::StageState;

/// What decides about a plan, besides the Dockerfile.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are the flags of `wharf build`")]
pub struct PlanOptions<'a> {
    pub labels: &'a BTreeMap<String, String>,
    pub platform: &'a Platform,
    pub network: RunNetwork,
    pub extra_hosts: &'a [HostEntry],
    pub allowed: &'a Entitlements,
}

/// What is to be done, and what comes of it.
#[derive(Debug)]
pub struct Plan {
    /// The ops.
    pub graph: Graph,
    /// The images of the source nodes.
    pub bases: HashMap<NodeId, BaseImage>,
    /// The image of the target stage.
    pub image: PlannedImage,
}

/// Why a Dockerfile cannot be built.
pub type PlanError = Spanned<PlanProblem>;

/// What is wrong with an instruction, or not built yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum PlanProblem {
    #[error("cannot expand `{text}`")]
    Expand { text: String, source: ExpandError },
    #[error("{what} is not built yet")]
    NotBuilt { what: String },
    #[error("`{what}` is not allowed")]
    NotAllowed { what: &'static str, entitlement: Entitlement },
    #[error("`{text}` is not a mode")]
    Mode { text: String, source: ModeError },
    #[error(transparent)]
    Remote { source: RemoteSourceError },
    #[error("COPY takes no files from elsewhere, as ADD does")]
    RemoteOfCopy,
    #[error("`--checksum` is for a source that is fetched: a URL or a git repository")]
    ChecksumOfLocal,
    #[error("`--checksum` cannot be used")]
    Checksum { source: InvalidChecksum },
    #[error("`--keep-git-dir` contradicts the URL `{url}`")]
    GitDir { url: String },
    #[error("`{text}` is not a pattern of files to exclude")]
    Exclude { text: String },
    #[error("`{text}` is not a port, a range of ports, or one of these with `/tcp`, `/udp` or `/sctp`")]
    Port { text: String, source: PortError },
    #[error("`{text}` is not a signal")]
    Signal { text: String, source: SignalError },
    #[error("`{text}` is no time for `SOURCE_DATE_EPOCH`")]
    Epoch { text: String, source: EpochError },
    #[error("the mount cannot be used")]
    Mount { source: MountError },
    #[error("`{text}` cannot be the target of a mount: that would hide all files")]
    MountTarget { text: String },
    #[error("RUN needs a command")]
    NoCommand,
    #[error("{instruction} has a blank name or path")]
    Blank { instruction: &'static str },
}

/// Plans the build of the last stage of `resolved`.
///
/// # Errors
///
/// A [`PlanError`] with its place for every instruction that cannot be built.
pub fn plan(resolved: &Resolved, options: &PlanOptions<'_>) -> Result<Plan, Vec<PlanError>> {
    let mut planner = Planner {
        options,
        resolved,
        text: Text::new(&resolved.source),
        graph: Graph::default(),
        bases: HashMap::new(),
        states: Vec::new(),
        errors: Vec::new(),
        time: None,
    };
    let epoch = planner.epoch();
    planner.time = epoch.as_ref().map(Epoch::seconds);
    for stage in &resolved.stages {
        planner.stage(stage);
    }
    if !planner.errors.is_empty() {
        return Err(planner.errors);
    }
    let state = planner.states.pop().expect("a resolved Dockerfile has its target stage");
    let mut config = state.config;
    config.platform = config.platform.normalised();
    config.config.labels.extend(options.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    let image = PlannedImage { top: state.top, config, history: state.history, epoch };
    Ok(Plan { graph: planner.graph, bases: planner.bases, image })
}

struct Planner<'a> {
    options: &'a PlanOptions<'a>,
    resolved: &'a Resolved,
    text: Text<'a>,
    graph: Graph,
    bases: HashMap<NodeId, BaseImage>,
    states: Vec<StageState>,
    errors: Vec<PlanError>,
    /// The time that the build gives to what it copies and makes.
    time: Option<i64>,
}

/// What an instruction comes to.
enum Planned {
    Op(Box<PlannedOp>),
    /// The config has been changed; history shows this, if anything.
    Config {
        created_by: Option<String>,
    },
}

/// An op of an instruction, before it is a node.
struct PlannedOp {
    op: Op,
    /// What is copied from or mounted, where that is no build context.
    further: Vec<NodeId>,
    created_by: String,
}

/// What a COPY takes files from.
enum Copied {
    Tree(TreeName),
    Node(NodeId),
}

/// A stage's place in what people read: `[build 2/4]`.
struct Counter {
    name: Option<String>,
    step: usize,
    steps: usize,
}

impl Counter {
    fn new(stage: &ResolvedStage, is_only: bool) -> Self {
        let makes_layer = |found: &&ResolvedInstruction| {
            use Instruction::{Add, Copy, Run, Workdir};
            matches!(found.instruction, Run(_) | Copy(_) | Add(_) | Workdir(_))
        };
        let steps = 1 + stage.instructions.iter().filter(makes_layer).count();
        Self { name: (!is_only).then(|| stage.name.clone()), step: 0, steps }
    }

    fn label(&mut self, text: &str) -> String {
        self.step += 1;
        let name = self.name.as_ref().map(|name| format!("{name} ")).unwrap_or_default();
        format!("[{name}{}/{}] {text}", self.step, self.steps)
    }
}

/// Returns what people read of a stage's FROM; where a named context stands for it, what that is.
fn shown_base(stage: &ResolvedStage) -> String {
    let written = stage.base_name.parse::<Reference>().map(|name| name.or_latest().familiar());
    match &stage.base {
        Base::Image(image) if written.as_ref() != Ok(&image.name) => {
            format!("FROM {} ({})", stage.base_name, image.name)
        }
        _ => format!("FROM {}", stage.base_name),
    }
}

impl Planner<'_> {
    /// Plans a stage; an instruction that cannot be built is left out, so that all of them are found.
    fn stage(&mut self, stage: &ResolvedStage) {
        let mut counter = Counter::new(stage, self.resolved.stages.len() == 1);
        let label = counter.label(&shown_base(stage));
        let top = self.base(&stage.base, label, stage);
        let is_tree = matches!(stage.base, Base::Tree(_));
        let mut state = match &stage.base {
            Base::Scratch | Base::Tree(_) => StageState::scratch(top, self.options.platform),
            Base::Image(image) => StageState::new(top, image.config.clone()),
            Base::Stage(index) => self.states[*index].child(),
        };
        if is_tree {
            let created_by = format!("FROM {}", stage.base_name);
            state.history.push(PlannedEntry { created_by, node: Some(top) });
        }
        for found in &stage.instructions {
            if let Err(mut error) = self.instruction(&mut state, found, (stage, &mut counter)) {
                if found.origin == Origin::BaseImage {
                    error.span = Some(found.span);
                }
                self.errors.push(error);
            }
        }
        self.states.push(state);
    }

    /// Returns the node of a base; the first stage that needs an image gives its node the label.
    fn base(&mut self, base: &Base, label: String, stage: &ResolvedStage) -> NodeId {
        let line = Some(self.text.line_of(stage.span));
        match base {
            Base::Scratch => self.graph.add(Op::Source(Source::Scratch), Vec::new(), label, line),
            Base::Stage(index) => self.states[*index].top,
            Base::Tree(name) => {
                let scratch =
                    self.graph.add(Op::Source(Source::Scratch), Vec::new(), "[internal] scratch".to_owned(), line);
                self.graph.add(copy::all_of_tree(name, self.time), vec![scratch], label, line)
            }
            Base::Image(image) => {
                let source = Source::Image {
                    name: image.name.clone(),
                    id: image.id.clone(),
                    layers: image.diff_ids().cloned().collect(),
                };
                let node = self.graph.add(Op::Source(source), Vec::new(), label, line);
                self.bases.entry(node).or_insert_with(|| image.as_ref().clone());
                node
            }
        }
    }

    fn instruction(
        &mut self,
        state: &mut StageState,
        found: &ResolvedInstruction,
        (stage, counter): (&ResolvedStage, &mut Counter),
    ) -> Result<(), PlanError> {
        let planned = match self.planned(state, found, stage)? {
            Planned::Op(planned) => planned,
            Planned::Config { created_by } => {
                state.history.extend(created_by.map(|created_by| PlannedEntry { created_by, node: None }));
                return Ok(());
            }
        };
        let label = counter.label(&found.text);
        let inputs = std::iter::once(state.top).chain(planned.further).collect();
        state.top = self.graph.add(planned.op, inputs, label, Some(self.text.line_of(found.span)));
        state.history.push(PlannedEntry { created_by: planned.created_by, node: Some(state.top) });
        Ok(())
    }

    fn planned(
        &mut self,
        state: &mut StageState,
        found: &ResolvedInstruction,
        stage: &ResolvedStage,
    ) -> Result<Planned, PlanError> {
        match &found.instruction {
            Instruction::Run(run) => {
                let mounts = self.mounts(state, run, (found, stage))?;
                run::run(state, run, (found.span, mounts), (self.options, self.given()))
                    .map(|planned| Planned::Op(Box::new(planned)))
            }
            Instruction::Copy(copy) => {
                let from = found.from.first().map(|base| self.copied(base, stage));
                copy::copy(state, copy, (from, self.time)).map(|planned| Planned::Op(Box::new(planned)))
            }
            Instruction::Add(add) => copy::add(state, add, self.time).map(|planned| Planned::Op(Box::new(planned))),
            Instruction::Workdir(workdir) => {
                let (path, created_by) = state.enter_directory(workdir)?;
                if path == "/" {
                    return Ok(Planned::Config { created_by: Some(created_by) });
                }
                let user = state.config.config.user.clone();
                let op = Op::File(FileAction::MakeDirectory { path, user, time: self.time });
                Ok(Planned::Op(Box::new(PlannedOp { op, further: Vec::new(), created_by })))
            }
            Instruction::Arg(arg) => {
                self.declare(state, arg).map(|created_by| Planned::Config { created_by: Some(created_by) })
            }
            other => config::change(state, other, found.span).map(|created_by| Planned::Config { created_by }),
        }
    }

    /// Returns what a COPY of a stage takes files from.
    fn copied(&mut self, base: &Base, stage: &ResolvedStage) -> Copied {
        let name = match base {
            Base::Tree(name) => return Copied::Tree(TreeName::Named(name.clone())),
            Base::Image(image) => image.name.clone(),
            Base::Scratch | Base::Stage(_) => "scratch".to_owned(),
        };
        Copied::Node(self.base(base, format!("[{}] FROM {name}", stage.name), stage))
    }

    /// Returns the time that the image is to have: of the command line, or of an ARG before the first FROM.
    fn epoch(&mut self) -> Option<Epoch> {
        let given = self.given().get(Epoch::NAME).cloned();
        let text = given.or_else(|| self.resolved.global.lookup(Epoch::NAME).map(Cow::into_owned));
        let text = text.filter(|text| !text.is_empty())?;
        match text.parse() {
            Ok(epoch) => Some(epoch),
            Err(source) => {
                self.errors.push(Spanned { span: None, error: PlanProblem::Epoch { text, source } });
                None
            }
        }
    }

    /// Returns the arguments of the command line.
    fn given(&self) -> &BTreeMap<String, String> {
        &self.resolved.global.arguments().given
    }

    /// Declares the arguments of an ARG and returns the text for the history.
    fn declare(&self, state: &mut StageState, arg: &dockerfile::Arg) -> Result<String, PlanError> {
        let mut shown = Vec::new();
        for declaration in &arg.declarations {
            let name = &declaration.name;
            let value = state.declare(declaration, &self.resolved.global)?;
            shown.push(value.map_or_else(|| name.clone(), |value| format!("{name}={value}")));
        }
        Ok(format!("ARG {}", shown.join(" ")))
    }
}
