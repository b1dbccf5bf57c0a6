//! `wharf image prune`: removes images that nothing needs.

use anyhow::Context;
use layer_store::{Prune, PruneImages};

use crate::ending::Ending;
use crate::filter::Filter;
use crate::output;
use crate::prune_flags::{PruneArgs, filtered};
use crate::prune_report::{done, planned};
use crate::session::Session;

const KNOWN: [&str; 3] = ["until", "label", "dangling"];
const DANGLING: &str = "WARNING! This will remove all dangling images.";
const UNUSED: &str = "WARNING! This will remove all images without at least one container associated to them.";

#[derive(Debug, clap::Args)]
#[command(mut_arg("filters", |arg| arg.help("Only images that match: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]; dangling=false is --all")))]
pub(crate) struct ImagePruneArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    prune: PruneArgs,
}

/// Prunes images.
pub(crate) fn image_prune(args: &ImagePruneArgs, session: &Session) -> anyhow::Result<u8> {
    let prune = &args.prune;
    let (dangling, limits): (Vec<Filter>, Vec<Filter>) =
        prune.filters.iter().cloned().partition(|filter| filter.key == "dangling");
    let limits = filtered(&limits, &KNOWN)?;
    let images = images(args.all, &dangling)?;
    let what = Prune { images, dry_run: prune.dry_run, ..limits };
    if !prune.is_confirmed(if images == PruneImages::All { UNUSED } else { DANGLING })? {
        return Ok(0);
    }
    let freed = session.store()?.prune(&what).context("cannot prune the images")?;
    output::print(&if prune.dry_run { planned(&freed) } else { done("Deleted Images:", &freed) })?;
    Ok(0)
}

/// Returns which images are meant, by `--all` and by filters that say the same or the opposite.
fn images(all: bool, dangling: &[Filter]) -> anyhow::Result<PruneImages> {
    let mut images = if all { PruneImages::All } else { PruneImages::Dangling };
    for filter in dangling {
        filter.check(&KNOWN)?;
        images = match (filter.flag()?, all) {
            (true, true) => return Err(Ending::usage("`--all` and `dangling=true` contradict each other").into()),
            (true, false) => PruneImages::Dangling,
            (false, _) => PruneImages::All,
        };
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_says_the_same_as_all() {
        let check = |all, texts: &[&str]| {
            let filters: Vec<Filter> = texts.iter().map(|text| text.parse().unwrap()).collect();
            images(all, &filters).ok()
        };
        assert_eq!(check(false, &[]), Some(PruneImages::Dangling));
        assert_eq!(check(true, &[]), Some(PruneImages::All));
        assert_eq!(check(false, &["dangling=false"]), Some(PruneImages::All));
        assert_eq!(check(false, &["dangling=true"]), Some(PruneImages::Dangling));
        assert_eq!(check(true, &["dangling=false"]), Some(PruneImages::All));
        assert_eq!(check(true, &["dangling=true"]), None);
        assert_eq!(check(false, &["dangling=maybe"]), None);
        assert_eq!(check(false, &["dangling!=true"]), None);
    }
}
