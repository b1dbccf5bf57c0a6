//! `wharf system df`: what the store takes on disk, in the bytes that `du` counts.
//!
//! The rows are docker's, and `Other`: directories, locks, unfinished work. Their sizes add up to what `du` finds. What `-v` tells of
//! each image, volume and item of the build cache is in `details.rs`.

mod details;

use anyhow::Context;
use layer_store::{Share, Usage};

use crate::listing::{Field, Format, Listing};
use crate::session::Session;
use crate::{output, size};

const FIELDS: [Field; 5] =
    [("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];

#[derive(Debug, clap::Args)]
pub(crate) struct DfArgs {
    /// Show each image, each volume and each item of the build cache
    #[arg(short, long)]
    verbose: bool,
    /// Format: `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// Shows what the store takes on disk.
pub(crate) fn system_df(args: &DfArgs, session: &Session) -> anyhow::Result<u8> {
    let format = Format::parse(args.format.as_deref())?;
    let store = session.look()?;
    let failed = || format!("cannot measure the store in {}", store.root().display());
    if args.verbose {
        let details = store.usage_details().with_context(failed)?;
        return details::show(&store, &details, &format);
    }
    let usage = store.usage().with_context(failed)?;
    output::print(&summary(&usage).render(&format)?)?;
    Ok(0)
}

fn summary(usage: &Usage) -> Listing {
    let mut listing = Listing::new(&FIELDS, &FIELDS.map(|(name, _)| name));
    let none = Share::default();
    let other = Share { size: usage.other, ..none };
    let rows = [
        ("Images", &usage.images),
        ("Containers", &none),
        ("Local Volumes", &usage.volumes),
        ("Build Cache", &usage.build_cache),
        ("Other", &other),
    ];
    for (title, share) in rows {
        listing.row(vec![
            title.to_owned(),
            share.count.to_string(),
            share.active.to_string(),
            size::summed(share.size),
            reclaimable(share),
        ]);
    }
    listing
}

fn reclaimable(share: &Share) -> String {
    let bytes = size::summed(share.reclaimable);
    let percent = (u128::from(share.reclaimable) * 100).checked_div(u128::from(share.size));
    percent.map_or_else(|| bytes.clone(), |percent| format!("{bytes} ({percent}%)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_dockers() {
        let usage = Usage {
            images: Share { count: 2, active: 0, size: 1_000_000, reclaimable: 500_000 },
            build_cache: Share { count: 3, active: 0, size: 0, reclaimable: 0 },
            volumes: Share { count: 2, active: 1, size: 3000, reclaimable: 1000 },
            other: 4096,
        };
        let expected = "\
TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
Images          2         0         1MB       500kB (50%)
Containers      0         0         0B        0B
Local Volumes   2         1         3kB       1kB (33%)
Build Cache     3         0         0B        0B
Other           0         0         4.096kB   0B (0%)
";
        assert_eq!(summary(&usage).render(&Format::Table).unwrap(), expected);
    }
}
