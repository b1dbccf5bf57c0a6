//! `wharf volume prune`: removes volumes that no running command uses; those with a name only on request.

use anyhow::Context;
use layer_store::VolumePrune;

use super::image_prune::{done, filtered, planned, warning};
use crate::filter::Filter;
use crate::session::Session;
use crate::{output, prompt};

const ANONYMOUS: &str = "WARNING! This will remove anonymous local volumes not used by at least one container.";
const ALL: &str = "WARNING! This will remove all local volumes not used by at least one container.";

#[derive(Debug, clap::Args)]
pub(crate) struct VolumePruneArgs {
    /// Remove all unused volumes, not only those that nobody gave a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only volumes that match: label=KEY[=VALUE], label!=KEY[=VALUE]; all=true is --all
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Show what would be removed and why, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Prunes volumes.
pub(crate) fn volume_prune(args: &VolumePruneArgs, session: &Session) -> anyhow::Result<u8> {
    let (all, labels): (Vec<Filter>, Vec<Filter>) =
        args.filters.iter().cloned().partition(|filter| filter.key == "all");
    let mut named = args.all;
    for filter in &all {
        filter.check(&["all", "label"])?;
        named |= filter.flag()?;
    }
    let what = VolumePrune { named, labels: filtered(&labels, &["label", "all"])?.labels, dry_run: args.dry_run };
    let warning = warning(if named { ALL } else { ANONYMOUS }, &labels);
    if !args.force && !args.dry_run && !prompt::confirm(&warning)? {
        return Ok(0);
    }
    let freed = session.store()?.prune_volumes(&what).context("cannot prune the volumes")?;
    output::print(&if args.dry_run { planned(&freed) } else { done("Deleted Volumes:", &freed) })?;
    Ok(0)
}
