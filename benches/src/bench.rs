//! A run of the program: what the scenarios work with, and the rounds in which peers take turns.
//!
//! ```text
//! round 1   all stores emptied   wharf  docker  buildah  podman
//! round 2   all stores emptied   docker buildah podman   wharf      the first one moves to the end, so none is always first
//! ```
//!
//! All stores are emptied together before a round, as ext4 remembers deleted inodes for minutes and makes new files dearer
//! for whoever comes next.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::figures::Figures;
use crate::images::Images;
use crate::interrupt::Interrupt;
use crate::peer::Peer;
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
}

/// What one round of a scenario measured: what, and what it cost.
type Round = anyhow::Result<Vec<(&'static str, Figures)>>;

impl Bench {
    /// Has every peer do `each` in every round, and adds the figures to the table. A peer that fails is noted, and left out
    /// of the rounds that follow.
    ///
    /// # Errors
    ///
    /// When the user wants to stop.
    pub(crate) fn rounds(
        &mut self,
        peers: &mut [Peer],
        stores: Stores,
        each: impl FnMut(&mut Self, &Peer, usize) -> Round,
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
        each: impl FnMut(&mut Self, &Peer, usize) -> Round,
    ) -> anyhow::Result<()> {
        self.take_turns(peers, stores, 1, each)
    }

    fn take_turns(
        &mut self,
        peers: &mut [Peer],
        stores: Stores,
        rounds: usize,
        mut each: impl FnMut(&mut Self, &Peer, usize) -> Round,
    ) -> anyhow::Result<()> {
        let mut failed = BTreeSet::new();
        for round in 0..rounds {
            if stores == Stores::Emptied {
                peers.iter_mut().try_for_each(Peer::empty)?;
            }
            for turn in 0..peers.len() {
                let at = (round + turn) % peers.len();
                self.interrupt.check()?;
                if failed.contains(&at) {
                    continue;
                }
                match each(self, &peers[at], round) {
                    Ok(figures) => self.add(&peers[at], &figures),
                    Err(error) => {
                        self.interrupt.check()?;
                        failed.insert(at);
                        self.note(format!("{} left out: {error:#}", peers[at].tool.name()));
                    }
                }
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

    fn add(&mut self, peer: &Peer, figures: &[(&str, Figures)]) {
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
