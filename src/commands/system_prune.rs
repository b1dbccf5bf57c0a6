//! `wharf system prune`: removes what nothing needs: images, build cache and, on request, volumes.
//!
//! Containers and networks, which docker's verb removes too, end with their command here: there are none to remove.

use anyhow::Context;
use layer_store::{Freed, Prune, PruneCache, PruneImages, Store, VolumePrune};

use crate::ending::Ending;
use crate::output;
use crate::prune_flags::{KeepArgs, PruneArgs, filtered};
use crate::prune_report::{done_all, planned};
use crate::session::Session;

#[derive(Debug, clap::Args)]
#[command(mut_arg("filters", |arg| arg.help("Only what matches: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]")))]
pub(crate) struct SystemPruneArgs {
    /// Remove all images that no container uses, and all build cache, not only what has no name and what no image shares
    #[arg(short, long)]
    all: bool,
    /// Also remove volumes that nobody gave a name and no running command uses
    #[arg(long)]
    volumes: bool,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    prune: PruneArgs,
}

/// Prunes the store.
pub(crate) fn system_prune(args: &SystemPruneArgs, session: &Session) -> anyhow::Result<u8> {
    let prune = &args.prune;
    let what = Prune {
        images: if args.all { PruneImages::All } else { PruneImages::Dangling },
        build_cache: if args.all { PruneCache::All } else { PruneCache::Unshared },
        keep_storage: args.keep.keep_storage,
        dry_run: prune.dry_run,
        ..filtered(&prune.filters, &["until", "label"])?
    };
    if args.volumes && what.until.is_some() {
        return Err(Ending::usage("the filter `until` cannot be used with `--volumes`: volumes have no age").into());
    }
    if !prune.is_confirmed(&warning(args))? {
        return Ok(0);
    }
    let volumes =
        args.volumes.then(|| VolumePrune { named: false, labels: what.labels.clone(), dry_run: prune.dry_run });
    let freed = freed(&session.store()?, &what, volumes.as_ref())?;
    output::print(&if prune.dry_run { planned(&freed) } else { done_all(&freed) })?;
    Ok(0)
}

fn freed(store: &Store, what: &Prune, volumes: Option<&VolumePrune>) -> anyhow::Result<Vec<Freed>> {
    let volumes =
        volumes.map(|volumes| store.prune_volumes(volumes)).transpose().context("cannot prune the volumes")?;
    let mut freed = volumes.unwrap_or_default();
    freed.extend(store.prune(what).context("cannot prune the store")?);
    Ok(freed)
}

fn warning(args: &SystemPruneArgs) -> String {
    let volumes = args.volumes.then_some("all anonymous volumes not used by at least one container");
    let (images, cache) = match args.all {
        true => ("all images without at least one container associated to them", "all build cache"),
        false => ("all dangling images", "unused build cache"),
    };
    let lines = volumes.into_iter().chain([images, cache]).map(|line| format!("\n  - {line}"));
    format!("WARNING! This will remove:{}\n", lines.collect::<String>())
}
