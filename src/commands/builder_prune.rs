//! `wharf builder prune`: removes the build cache; layers that images need stay.

use anyhow::Context;
use layer_store::{FreedKind, Prune, PruneImages};

use crate::prune_flags::{PruneArgs, filtered};
use crate::prune_report::planned;
use crate::session::Session;
use crate::{output, size};

const WARNING: &str = "WARNING! This will remove all build cache.";

#[derive(Debug, clap::Args)]
#[command(mut_arg("filters", |arg| arg.help("Only records that match: until=TIME")))]
pub(crate) struct BuilderPruneArgs {
    /// Remove all of it (the same: between builds nothing in the cache is in use)
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: PruneArgs,
}

/// Prunes the build cache.
pub(crate) fn builder_prune(args: &BuilderPruneArgs, session: &Session) -> anyhow::Result<u8> {
    let prune = &args.prune;
    let limits = filtered(&prune.filters, &["until"])?;
    let what = Prune { images: PruneImages::None, build_cache: true, dry_run: prune.dry_run, ..limits };
    if !prune.is_confirmed(WARNING)? {
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
