//! `wharf volume prune`: removes volumes that no running command uses; those with a name only on request.

use anyhow::Context;
use layer_store::VolumePrune;

use crate::filter::Filter;
use crate::output;
use crate::prune_flags::{PruneArgs, filtered};
use crate::prune_report::{done, planned};
use crate::session::Session;

const ANONYMOUS: &str = "WARNING! This will remove anonymous local volumes not used by at least one container.";
const ALL: &str = "WARNING! This will remove all local volumes not used by at least one container.";

#[derive(Debug, clap::Args)]
#[command(mut_arg("filters", |arg| {
    arg.help("Only volumes that match: label=KEY[=VALUE], label!=KEY[=VALUE]; all=true is --all")
}))]
pub(crate) struct VolumePruneArgs {
    /// Remove all unused volumes, not only those that nobody gave a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: PruneArgs,
}

/// Prunes volumes.
pub(crate) fn volume_prune(args: &VolumePruneArgs, session: &Session) -> anyhow::Result<u8> {
    let prune = &args.prune;
    let (all, labels): (Vec<Filter>, Vec<Filter>) =
        prune.filters.iter().cloned().partition(|filter| filter.key == "all");
    let mut named = args.all;
    for filter in &all {
        filter.check(&["all", "label"])?;
        named |= filter.flag()?;
    }
    let what = VolumePrune { named, labels: filtered(&labels, &["label", "all"])?.labels, dry_run: prune.dry_run };
    if !prune.is_confirmed(if named { ALL } else { ANONYMOUS })? {
        return Ok(0);
    }
    let freed = session.store()?.prune_volumes(&what).context("cannot prune the volumes")?;
    output::print(&if prune.dry_run { planned(&freed) } else { done("Deleted Volumes:", &freed) })?;
    Ok(0)
}
