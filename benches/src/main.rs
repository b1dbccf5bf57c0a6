//! Measures wharf and its peers on the same workloads, side by side, and prints one table.
//!
//! ```text
//! args ─▶ registries, groups, peers ─▶ scenarios, in rounds ─▶ table
//! ```
//!
//! | file | what |
//! |---|---|
//! | `workload`, `python_random` | the build contexts, with the reference's very bytes |
//! | `images`, `image_layout`, `registry` | what is pulled, made by no peer, and where it is pulled from |
//! | `peer`, `command`, `docker_daemon` | the programs that are compared |
//! | `cgroup`, `measure`, `disk` | what they cost |
//! | `scenario`, `bench` | what they do, and in which order |
//! | `figures`, `table` | medians and ratios |
//!
//! A wall time on a machine that does other things says little; a ratio of CPU times in one run says much.

mod args;
mod bench;
mod cgroup;
mod command;
mod disk;
mod docker_daemon;
mod figures;
mod image_layout;
mod images;
mod interrupt;
mod measure;
mod peer;
mod python_random;
mod registry;
mod scenario;
mod table;
mod workload;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use rustix::fs::{FlockOperation, flock};

use crate::args::Args;
use crate::bench::{Bench, say};
use crate::cgroup::Cgroup;
use crate::interrupt::Interrupt;
use crate::peer::{Peer, Surroundings, Tool};
use crate::registry::Registry;
use crate::table::Table;

/// What the columns are.
const LEGEND: &str = "\
Medians; /wharf: how often what wharf needs that is. CPU: of client, daemon and containers. Memory: the most that no file backs,
of all of them together, looked at every 10 ms. Bytes: sent blobs (w8), or space on the disk (w11).
";

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures everything and prints the table; fails if a peer was there and failed.
fn measure(args: &Args) -> anyhow::Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        bail!("only root can account CPU time in cgroups and start dockerd");
    }
    let interrupt = Interrupt::listen()?;
    let wharf = wharf(args.wharf.as_deref())?;
    fs::create_dir_all(&args.work).with_context(|| format!("cannot make `{}`", args.work.display()))?;
    let work = fs::canonicalize(&args.work).with_context(|| format!("cannot find `{}`", args.work.display()))?;
    let _lock = lock(&work)?;

    let inode = fs::metadata(&work).with_context(|| format!("cannot look at `{}`", work.display()))?.ino();
    let group = Cgroup::create(Path::new("/sys/fs/cgroup"), &format!("wharf-bench-{inode}"))?;
    let registries = group.child("registries")?;
    let mut bench = Bench {
        registry: Registry::start(&work.join("registry"), &registries)?,
        target: Registry::start(&work.join("target"), &registries)?,
        rounds: usize::try_from(args.rounds)?,
        interrupt: interrupt.clone(),
        table: Table::default(),
        notes: vec![],
        failed: vec![],
        work,
    };
    let measured = measure_peers(args, &mut bench, &group, &wharf);
    print(&bench)?;
    let is_complete = bench.notes.is_empty();
    put_away(bench, &group)?;
    measured?;
    Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure_peers(args: &Args, bench: &mut Bench, group: &Cgroup, wharf: &Path) -> anyhow::Result<()> {
    bench.images().busybox()?;
    let mut peers = find_peers(args, bench, group, wharf)?;
    for scenario in args.chosen() {
        bench.failed.clear();
        scenario.measure(bench, &mut peers)?;
    }
    Ok(())
}

fn find_peers(args: &Args, bench: &mut Bench, group: &Cgroup, wharf: &Path) -> anyhow::Result<Vec<Peer>> {
    let (work, interrupt) = (bench.work.clone(), bench.interrupt.clone());
    let busybox = bench.registry.reference("base/busybox:1");
    let around = Surroundings { wharf, work: &work, group, interrupt: &interrupt, busybox: &busybox };
    let mut peers: Vec<Peer> = vec![];
    for tool in &args.peers {
        if peers.iter().any(|peer| peer.tool == *tool) {
            continue;
        }
        match Peer::find(*tool, around) {
            Ok(peer) => {
                say(&format!("{}: {}, `{}`", tool.name(), peer.version, peer.program.display()));
                peers.push(peer);
            }
            Err(error) => {
                interrupt.check()?;
                bench.note(format!("{} left out: {error:#}", tool.name()));
            }
        }
    }
    Ok(peers)
}

/// The table, and what is not in it.
fn print(bench: &Bench) -> anyhow::Result<()> {
    let mut text = bench.table.text();
    text.push_str(LEGEND);
    for note in &bench.notes {
        text.push_str(note);
        text.push('\n');
    }
    std::io::stdout().write_all(text.as_bytes()).context("cannot print the table")
}

/// Stops the registries, and removes what the next run does not need.
fn put_away(bench: Bench, group: &Cgroup) -> anyhow::Result<()> {
    let work = bench.work.clone();
    drop(bench);
    ["stores", "dockerfiles", "target"].iter().try_for_each(|name| disk::remove(&work.join(name)))?;
    group.clear()
}

/// The wharf that is measured: the one that was named, or the one beside this program.
fn wharf(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let path = named.map_or_else(|| own.with_file_name(Tool::Wharf.name()), Path::to_owned);
    fs::canonicalize(&path).with_context(|| {
        format!("no wharf at `{}`: build it (`make build`), or name another with --wharf", path.display())
    })
}

/// Makes sure that only one run uses the work directory, as long as the file is open.
fn lock(work: &Path) -> anyhow::Result<File> {
    let path = work.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another run uses `{}`", work.display()))?;
    Ok(file)
}
