//! `wharf builder prune`: removes the build cache; layers that images need stay.

use anyhow::Context;
use layer_store::{FreedKind, Prune, PruneImages};

use super::image_prune::{filtered, planned, warning};
use crate::filter::Filter;
use crate::session::Session;
use crate::{output, prompt, size};

const WARNING: &str = "WARNING! This will remove all build cache.";

#[derive(Debug, clap::Args)]
pub(crate) struct BuilderPruneArgs {
    /// Remove all of it (the same: between builds nothing in the cache is in use)
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only records that match: until=TIME
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Show what would be removed and why, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Prunes the build cache.
pub(crate) fn builder_prune(args: &BuilderPruneArgs, session: &Session) -> anyhow::Result<u8> {
    let limits = filtered(&args.filters, &["until"])?;
    let what = Prune { images: PruneImages::None, build_cache: true, dry_run: args.dry_run, ..limits };
    if !args.force && !args.dry_run && !prompt::confirm(&warning(WARNING, &args.filters))? {
        return Ok(0);
    }
    let freed = session.store()?.prune(&what).context("cannot prune the build cache")?;
    if args.dry_run {
        output::print(&planned(&freed))?;
        return Ok(0);
    }
    let records = freed.iter().filter(|freed| freed.what == FreedKind::CacheRecord).count();
    let total: u64 = freed.iter().map(|freed| freed.size).sum();
    output::print(&format!("Deleted build cache records: {records}\nTotal:\t{}\n", size::summed(total)))?;
    Ok(0)
}
