//! `wharf builder prune`: removes the build cache; layers that images need stay.

use anyhow::Context;
use layer_store::{FreedKind, Prune, PruneCache};

use crate::prune_flags::{KeepArgs, PruneArgs, filtered};
use crate::prune_report::planned;
use crate::session::Session;
use crate::{output, size};

const UNSHARED: &str = "WARNING! This will remove all dangling build cache.";
const ALL: &str = "WARNING! This will remove all build cache.";

#[derive(Debug, clap::Args)]
#[command(mut_arg("filters", |arg| arg.help("Only what matches: until=TIME, last used before then")))]
pub(crate) struct BuilderPruneArgs {
    /// Also forget how the layers of images were built
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    prune: PruneArgs,
}

/// Prunes the build cache.
pub(crate) fn builder_prune(args: &BuilderPruneArgs, session: &Session) -> anyhow::Result<u8> {
    let prune = &args.prune;
    let what = Prune {
        build_cache: if args.all { PruneCache::All } else { PruneCache::Unshared },
        keep_storage: args.keep.keep_storage,
        dry_run: prune.dry_run,
        ..filtered(&prune.filters, &["until"])?
    };
    if !prune.is_confirmed(if args.all { ALL } else { UNSHARED })? {
        return Ok(0);
    }
    let freed = session.store()?.prune(&what).context("cannot prune the build cache")?;
    if prune.dry_run {
        output::print(&planned(&freed))?;
        return Ok(0);
    }
    let records = freed.iter().filter(|freed| freed.what == FreedKind::CacheRecord).count();
    let total: u64 = freed.iter().map(|freed| freed.size).sum();
    output::print(&format!("Deleted build cache records: {records}\nTotal:\t{}\n", size::summed(total)))?;
    Ok(0)
}
