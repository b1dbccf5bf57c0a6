//! RUN: a process in a container, whose changes are a layer.

use std::collections::VecDeque;

use layer_store::{Lower, Skeleton};
use runtime::ExitStatus;

use super::mounts::StepMounts;
use super::{Change, Executed, StepError};
use crate::exec_mount::ExecMount;
use crate::graph::{Exec, NodeId};
use crate::lent::Secret;
use crate::mask::Mask;
use crate::progress::Event;
use crate::solve::Solver;

/// Bytes of a step's output that are kept for the error message.
const KEPT_OUTPUT: usize = 64 << 10;

pub(super) fn exec(solver: &Solver, id: NodeId, exec: &Exec, inputs: &[Vec<Lower>]) -> Result<Executed, StepError> {
    let backend = &solver.backend;
    let mounts = StepMounts::make(solver, exec, inputs)?;
    let snapshot = backend.store.prepare(&inputs[0], Skeleton::MountPoints);
    let snapshot = snapshot.map_err(|source| StepError::Snapshot { source })?;
    let mut tail = Tail::default();
    let mut show = |bytes: &[u8]| {
        tail.push(bytes);
        backend.progress.event(Event::Output { node: id, bytes });
    };
    let mut mask = Mask::new(secrets(solver, exec));
    let mut output = |bytes: &[u8]| mask.push(bytes, &mut show);
    let status = backend.sandbox.run((snapshot.path(), exec), &mounts.lending, &mut output, &solver.stop);
    mask.finish(&mut show);
    drop(mounts);
    if solver.stop.is_cancelled() {
        return Err(StepError::Cancelled);
    }
    let command = exec.args.join(" ");
    let ended = status.map_err(|source| StepError::Sandbox { command: command.clone(), source })?;
    match ended.status {
        ExitStatus::Code(0) => {
            let layer = snapshot.freeze().map_err(|source| StepError::Snapshot { source })?;
            Ok(Executed { change: Change::Frozen(layer), content: None })
        }
        status => Err(StepError::Exit { command, status, output: tail.bytes.into(), limit_hit: ended.limit_hit }),
    }
}

/// Returns the secrets that the process sees.
fn secrets<'a>(solver: &'a Solver, exec: &'a Exec) -> impl Iterator<Item = &'a [u8]> {
    exec.mounts.iter().filter_map(|mount| match mount {
        ExecMount::Secret(mount) => solver.backend.lent.secrets.get(&mount.id).map(Secret::bytes),
        _ => None,
    })
}

/// The end of what a step wrote.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(KEPT_OUTPUT);
        self.bytes.drain(..excess);
    }
}
