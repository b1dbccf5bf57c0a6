//! The mounts of a RUN: what they show becomes further inputs of its node.
//!
//! Files of a build context become a layer first, by a copy onto nothing: so `.dockerignore` counts, a file that changes meanwhile
//! cannot be seen half, and the same files are there already the next time.

use dockerfile::{BindMount, CacheMount as WrittenCache, Mount, MountFlag, SecretMount as WrittenSecret};
use dockerfile::{Run, SshMount as WrittenSsh};

use super::stage::{StageState, absolute};
use super::{Copied, PlanError, PlanProblem, Planner, copy};
use crate::exec_mount::{
    CacheMount, ExecMount, FilesMount, MountAccess, MountedFiles, Need, SecretMount, SshMount, TmpfsMount,
};
use crate::graph::{NodeId, Op, Source, TreeName};
use crate::resolve::{Base, ResolvedInstruction, ResolvedStage};
use crate::spanned::Spanned;

/// The build argument that keeps caches of one id apart.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";
/// Where the files of a context are in their layer.
const CONTEXT_FILES: &str = "/files";

/// The mounts of a RUN, and the inputs of its node that come after the files below.
#[derive(Default)]
pub(super) struct PlannedMounts {
    pub(super) mounts: Vec<ExecMount>,
    pub(super) inputs: Vec<NodeId>,
}

impl PlannedMounts {
    /// Returns the place of `node` among the inputs.
    fn place(&mut self, node: NodeId) -> usize {
        let at = self.inputs.iter().position(|input| *input == node).unwrap_or_else(|| {
            self.inputs.push(node);
            self.inputs.len() - 1
        });
        at + 1
    }

    fn agents(&self) -> usize {
        self.mounts.iter().filter(|mount| matches!(mount, ExecMount::Ssh(_))).count()
    }
}

impl Planner<'_> {
    /// Plans the mounts of `run`.
    pub(super) fn mounts(
        &mut self,
        state: &StageState,
        run: &Run,
        (found, stage): (&ResolvedInstruction, &ResolvedStage),
    ) -> Result<PlannedMounts, PlanError> {
        let mut planned = PlannedMounts::default();
        let mut bases = found.from.iter();
        for flag in &run.mounts {
            let from = flag.from().and_then(|_| bases.next());
            let mount = self.mount(state, flag, (from, stage, found), &mut planned)?;
            planned.mounts.push(mount);
        }
        Ok(planned)
    }

    fn mount(
        &mut self,
        state: &StageState,
        flag: &MountFlag,
        (from, stage, found): (Option<&Base>, &ResolvedStage, &ResolvedInstruction),
        planned: &mut PlannedMounts,
    ) -> Result<ExecMount, PlanError> {
        let span = flag.text.span;
        let mount = flag.expand(&state.scope).map_err(|source| Spanned::new(span, PlanProblem::Mount { source }))?;
        let target = |text: &str| mount_target(state, text).map_err(|problem| Spanned::new(span, problem));
        let mut files = |source: &str| {
            let copied = from.map_or(Copied::Tree(TreeName::Main), |base| self.copied(base, stage));
            let (node, source) = match copied {
                Copied::Node(node) => (node, absolute("/", source)),
                Copied::Tree(name) => {
                    let label = format!("[{}] files for --mount={}", stage.name, flag.text.text);
                    (self.context_files(name, source, (label, found)), CONTEXT_FILES.to_owned())
                }
            };
            MountedFiles { input: planned.place(node), source }
        };
        Ok(match mount {
            Mount::Bind(BindMount { target: text, source, is_read_only, .. }) => ExecMount::Files(FilesMount {
                target: target(&text)?,
                files: files(&source),
                access: access(is_read_only),
            }),
            Mount::Cache(cache) => {
                let files = from.is_some().then(|| files(&cache.source));
                ExecMount::Cache(self.cache(cache, &target, files)?)
            }
            Mount::Tmpfs(tmpfs) => ExecMount::Tmpfs(TmpfsMount {
                target: target(&tmpfs.target)?,
                size: tmpfs.size.filter(|size| *size > 0),
            }),
            Mount::Secret(secret) => ExecMount::Secret(secret_mount(secret, &target)?),
            Mount::Ssh(ssh) => ExecMount::Ssh(ssh_mount(ssh, planned.agents(), &target)?),
        })
    }

    fn cache(
        &self,
        written: WrittenCache,
        target: &dyn Fn(&str) -> Result<String, PlanError>,
        files: Option<MountedFiles>,
    ) -> Result<CacheMount, PlanError> {
        let target = target(&written.target)?;
        let id = written.id.unwrap_or_else(|| target.clone());
        let id = match self.given().get(CACHE_NAMESPACE) {
            Some(namespace) if !namespace.is_empty() => format!("{namespace}/{id}"),
            _ => id,
        };
        Ok(CacheMount {
            target,
            id,
            sharing: written.sharing,
            mode: written.mode.unwrap_or(0o755),
            owner: (written.uid.unwrap_or(0), written.gid.unwrap_or(0)),
            files,
            access: access(written.is_read_only),
        })
    }

    /// Returns the node that has the files of a build context as a layer of their own.
    fn context_files(
        &mut self,
        name: TreeName,
        source: &str,
        (label, found): (String, &ResolvedInstruction),
    ) -> NodeId {
        let line = Some(self.text.line_of(found.span));
        let scratch = self.graph.add(Op::Source(Source::Scratch), Vec::new(), "[internal] scratch".to_owned(), line);
        self.graph.add(copy::mounted_files(name, source, CONTEXT_FILES), vec![scratch], label, line)
    }
}

fn access(is_read_only: bool) -> MountAccess {
    if is_read_only { MountAccess::ReadOnly } else { MountAccess::ReadWrite }
}

fn need(is_required: bool) -> Need {
    if is_required { Need::Required } else { Need::Optional }
}

/// Returns the absolute target; nothing is mounted on the root.
fn mount_target(state: &StageState, text: &str) -> Result<String, PlanProblem> {
    match absolute(state.directory(), text) {
        root if root == "/" => Err(PlanProblem::MountTarget { text: text.to_owned() }),
        target => Ok(target),
    }
}

fn secret_mount(
    written: WrittenSecret,
    target: &dyn Fn(&str) -> Result<String, PlanError>,
) -> Result<SecretMount, PlanError> {
    Ok(SecretMount {
        target: written.target.as_deref().map(target).transpose()?,
        id: written.id,
        variable: written.env,
        need: need(written.is_required),
        mode: written.mode.unwrap_or(0o400),
        owner: (written.uid.unwrap_or(0), written.gid.unwrap_or(0)),
    })
}

fn ssh_mount(
    written: WrittenSsh,
    agents: usize,
    target: &dyn Fn(&str) -> Result<String, PlanError>,
) -> Result<SshMount, PlanError> {
    let given = written.target.as_deref().map(target).transpose()?;
    Ok(SshMount {
        id: written.id,
        target: given.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{agents}")),
        need: need(written.is_required),
        mode: written.mode.unwrap_or(0o600),
        owner: (written.uid.unwrap_or(0), written.gid.unwrap_or(0)),
    })
}
