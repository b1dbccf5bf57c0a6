//! A run of the program: what the scenarios work with, and the rounds in which peers take turns.
//!
//! ```text
//! round 1   all stores emptied   wharf  docker  buildah  podman
//! round 2   all stores emptied   docker buildah podman   wharf      the first one moves to the end, so none is always first
//! ```
//!
//! All stores are emptied together before a round, as ext4 remembers deleted inodes for minutes and makes new files dearer
//! for whoever comes next.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::figures::Figures;
use crate::images::Images;
use crate::interrupt::Interrupt;
use crate::peer::{Peer, Tool};
use crate::registry::Registry;
use crate::table::{Table, time};
use crate::workload::Workload;

/// What is done with the stores before each round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stores {
    Emptied,
    Kept,
}

/// What the scenarios work with.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) work: PathBuf,
    /// Has the images that are pulled.
    pub(crate) registry: Registry,
    /// Takes those that are pushed.
    pub(crate) target: Registry,
    pub(crate) rounds: usize,
    pub(crate) interrupt: Interrupt,
    pub(crate) table: Table,
    /// What was left out, and why.
    pub(crate) notes: Vec<String>,
    /// Who has failed in the scenario that runs.
    pub(crate) failed: Vec<Tool>,
}

/// What one round of a scenario measured: what, and what it cost.
type Round = anyhow::Result<Vec<(String, Figures)>>;

impl Bench {
    /// Has every peer do `each` in every round, and adds the figures to the table. A peer that fails is noted, and left out
    /// of the rest of the scenario.
    ///
    /// # Errors
    ///
    /// When the user wants to stop.
    pub(crate) fn rounds(
        &mut self,
        peers: &mut [Peer],
        stores: Stores,
        each: impl FnMut(&mut Self, &Peer) -> Round,
    ) -> anyhow::Result<()> {
        self.take_turns(peers, stores, self.rounds, each)
    }

    /// Has every peer do `each` once.
    ///
    /// # Errors
    ///
    /// When the user wants to stop.
    pub(crate) fn once(
        &mut self,
        peers: &mut [Peer],
        stores: Stores,
        each: impl FnMut(&mut Self, &Peer) -> Round,
    ) -> anyhow::Result<()> {
        self.take_turns(peers, stores, 1, each)
    }

    fn take_turns(
        &mut self,
        peers: &mut [Peer],
        stores: Stores,
        rounds: usize,
        mut each: impl FnMut(&mut Self, &Peer) -> Round,
    ) -> anyhow::Result<()> {
        for round in 0..rounds {
            for peer in peers.iter_mut().filter(|_| stores == Stores::Emptied) {
                let emptied = peer.empty();
                self.keep(peer, emptied.map(|()| vec![]))?;
            }
            for turn in 0..peers.len() {
                let peer = &peers[(round + turn) % peers.len()];
                if !self.failed.contains(&peer.tool) {
                    let figures = each(self, peer);
                    self.keep(peer, figures)?;
                }
            }
        }
        Ok(())
    }

    /// Adds figures to the table, or notes why there are none.
    fn keep(&mut self, peer: &Peer, figures: Round) -> anyhow::Result<()> {
        self.interrupt.check()?;
        match figures {
            Ok(figures) => self.add(peer, &figures),
            Err(error) => {
                self.failed.push(peer.tool);
                self.note(format!("{} left out: {error:#}", peer.tool.name()));
            }
        }
        Ok(())
    }

    /// The images that peers pull.
    pub(crate) fn images(&self) -> Images<'_> {
        Images { work: &self.work, registry: &self.registry }
    }

    /// Where build contexts are.
    pub(crate) fn contexts(&self) -> PathBuf {
        self.work.join("contexts")
    }

    /// Writes a Dockerfile of `context` that names the base images where they are, beside the contexts, and returns its path.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub(crate) fn dockerfile(&self, context: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.work.join("dockerfiles").join(context.file_name().unwrap_or_default());
        let path = directory.join(name);
        let text = Workload::dockerfile(context, name, &self.registry.reference("base"))?;
        let written = fs::create_dir_all(&directory).and_then(|()| fs::write(&path, text));
        written.with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(path)
    }

    /// Keeps a note for the end, and shows it now.
    pub(crate) fn note(&mut self, note: String) {
        say(&note);
        self.notes.push(note);
    }

    fn add(&mut self, peer: &Peer, figures: &[(String, Figures)]) {
        for (what, figures) in figures {
            if let (Some(wall), Some(cpu)) = (figures.wall, figures.cpu) {
                say(&format!("{what}, {}: {} wall, {} CPU", peer.tool.name(), time(wall), time(cpu)));
            }
            self.table.add(what, peer.tool, *figures);
        }
    }
}

/// Shows what is going on.
pub(crate) fn say(line: &str) {
    // Nobody may be reading any more; the figures go elsewhere.
    let _ = writeln!(std::io::stderr(), "{line}");
}
