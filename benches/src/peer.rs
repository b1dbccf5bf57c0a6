//! A peer: a program that builds and moves images, with a store of its own and a group in which everything it does is counted.
//!
//! | | build | pull, push | its daemon |
//! |---|---|---|---|
//! | wharf | `wharf build` | yes | – |
//! | docker | BuildKit: `DOCKER_BUILDKIT=1 docker build` | yes | `dockerd`, ours |
//! | buildah | `buildah bud --layers` with runc | yes | – |
//! | podman | `podman build --layers` with runc | yes | – |
//!
//! All of them build without a network. What peers are asked to do is in `command.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::ValueEnum;

use crate::cgroup::Cgroup;
use crate::disk::{Space, remove, space_of};
use crate::docker_daemon::DockerDaemon;
use crate::figures::Figures;
use crate::interrupt::Interrupt;
use crate::measure::{Meter, run};

/// The programs that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tool {
    Wharf,
    Docker,
    Buildah,
    Podman,
}

impl Tool {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wharf => "wharf",
            Self::Docker => "docker",
            Self::Buildah => "buildah",
            Self::Podman => "podman",
        }
    }

    /// Where it may be: a newer docker client than the distribution's often stands before it, without BuildKit.
    fn programs(self, wharf: &Path) -> Vec<PathBuf> {
        match self {
            Self::Wharf => vec![wharf.to_owned()],
            Self::Docker => vec!["docker".into(), "/usr/bin/docker".into()],
            Self::Buildah | Self::Podman => vec![self.name().into()],
        }
    }
}

/// A program that works here, with its store.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) tool: Tool,
    pub(crate) program: PathBuf,
    /// What it says its version is.
    pub(crate) version: String,
    pub(crate) store: PathBuf,
    pub(crate) containers: Cgroup,
    pub(crate) daemon: Option<DockerDaemon>,
    group: Cgroup,
    meter: Meter,
}

/// What peers share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) wharf: &'a Path,
    pub(crate) work: &'a Path,
    pub(crate) group: &'a Cgroup,
    pub(crate) interrupt: &'a Interrupt,
    /// The base image of the first build.
    pub(crate) busybox: &'a str,
}

impl Peer {
    /// Finds `tool`, and makes sure that it can build here, from a base in the registry.
    ///
    /// # Errors
    ///
    /// When it is not installed, or a build with one RUN fails, with what the last of its programs said.
    pub(crate) fn find(tool: Tool, around: Surroundings) -> anyhow::Result<Self> {
        let mut why = anyhow::anyhow!("it is not installed");
        for program in tool.programs(around.wharf) {
            around.interrupt.check()?;
            let Ok(version) = run(Command::new(&program).arg("--version")) else { continue };
            match Self::new(tool, program, version, around).and_then(|peer| peer.tried(around)) {
                Ok(peer) => return Ok(peer),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn new(tool: Tool, program: PathBuf, version: String, around: Surroundings) -> anyhow::Result<Self> {
        let group = around.group.child(tool.name())?;
        let meter = Meter { all: group.clone(), client: group.child("client")?, interrupt: around.interrupt.clone() };
        Ok(Self {
            tool,
            program,
            version: version.lines().next().unwrap_or_default().to_owned(),
            store: around.work.join("stores").join(tool.name()),
            containers: group.child("containers")?,
            daemon: None,
            group,
            meter,
        })
    }

    fn tried(mut self, around: Surroundings) -> anyhow::Result<Self> {
        self.empty()?;
        let context = around.work.join("contexts/first");
        fs::create_dir_all(&context).with_context(|| format!("cannot make `{}`", context.display()))?;
        let dockerfile = context.join("Dockerfile");
        fs::write(&dockerfile, format!("FROM {}\nRUN true\n", around.busybox))
            .with_context(|| format!("cannot write `{}`", dockerfile.display()))?;
        self.measure(&mut self.pull(around.busybox))?;
        self.measure(&mut self.build(&context, &dockerfile, "first"))?;
        Ok(self)
    }

    /// Empties its store by removing it, which is the same for all; docker gets a new daemon.
    ///
    /// # Errors
    ///
    /// When a file cannot be removed, or the daemon does not start.
    pub(crate) fn empty(&mut self) -> anyhow::Result<()> {
        self.daemon = None;
        remove(&self.store)?;
        fs::create_dir_all(&self.store).with_context(|| format!("cannot make `{}`", self.store.display()))?;
        if self.tool == Tool::Docker {
            let group = self.group.child("daemon")?;
            let log = self.store.with_extension("log");
            self.daemon = Some(DockerDaemon::start(&self.store, &group, &self.containers, &log)?);
        }
        Ok(())
    }

    /// Runs one of its commands, and returns what it cost.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub(crate) fn measure(&self, command: &mut Command) -> anyhow::Result<Figures> {
        self.measure_many(command, 1)
    }

    /// Runs one of its commands `times` times, and returns what one of them cost.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub(crate) fn measure_many(&self, command: &mut Command, times: u32) -> anyhow::Result<Figures> {
        self.meter.measure(command, times, &self.store.with_extension("output"))
    }

    /// What its store takes on the disk.
    pub(crate) fn space(&self) -> Space {
        space_of(&self.store)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.daemon = None;
        // A user who has interrupted wants to see the reason for it, not what could not be removed; the next run removes it.
        let _ = remove(&self.store);
        let _ = self.group.clear();
    }
}
