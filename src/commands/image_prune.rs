//! `wharf image prune`: removes images that nothing needs.

use anyhow::Context;
use layer_store::{Prune, PruneImages};

use crate::output;
use crate::prune_flags::{PruneArgs, filtered};
use crate::prune_report::{done, planned};
use crate::session::Session;

const DANGLING: &str = "WARNING! This will remove all dangling images.";
const UNUSED: &str = "WARNING! This will remove all images without at least one container associated to them.";

#[derive(Debug, clap::Args)]
#[command(mut_arg("filters", |arg| arg.help("Only images that match: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]")))]
pub(crate) struct ImagePruneArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: PruneArgs,
}

/// Prunes images.
pub(crate) fn image_prune(args: &ImagePruneArgs, session: &Session) -> anyhow::Result<u8> {
    let ImagePruneArgs { all, prune } = args;
    let what = Prune {
        images: if *all { PruneImages::All } else { PruneImages::Dangling },
        build_cache: false,
        dry_run: prune.dry_run,
        ..filtered(&prune.filters, &["until", "label"])?
    };
    if !prune.is_confirmed(if *all { UNUSED } else { DANGLING })? {
        return Ok(0);
    }
    let freed = session.store()?.prune(&what).context("cannot prune the images")?;
    output::print(&if prune.dry_run { planned(&freed) } else { done("Deleted Images:", &freed) })?;
    Ok(0)
}
