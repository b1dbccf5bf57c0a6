//! `wharf history`: the instructions that made an image, latest first, and what each added.

use std::time::SystemTime;

use anyhow::Context;
use layer_store::Store;
use oci::{HistoryEntry, ImageConfig};

use crate::image_view::Ids;
use crate::listing::{Field, Format, Listing};
use crate::session::Session;
use crate::shown::shown;
use crate::table::ellipsis;
use crate::{age, output, size};

const MISSING: &str = "<missing>";
const CREATED_BY_WIDTH: usize = 45;

const FIELDS: [Field; 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// The image
    image: String,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Show whole IDs and instructions
    #[arg(long)]
    no_trunc: bool,
    /// Show sizes and dates for people (`--human=false`: bytes and RFC 3339)
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set)]
    human: bool,
    /// Format: `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// Shows the history of an image.
pub(crate) fn history(args: &HistoryArgs, session: &Session) -> anyhow::Result<u8> {
    let format = Format::parse(args.format.as_deref())?;
    let store = session.look()?;
    let id = store.find(&args.image)?;
    let config = store.config(&id)?;
    let steps =
        steps(&store, config.value()).with_context(|| format!("cannot show the history of {}", shown(&args.image)))?;
    let show = Show { args, ids: Ids::from_no_trunc(args.no_trunc), now: SystemTime::now() };
    let created = if args.human { "CreatedSince" } else { "CreatedAt" };
    let mut listing = Listing::new(&FIELDS, &["ID", created, "CreatedBy", "Size", "Comment"]);
    let mut ids = String::new();
    for (place, step) in steps.iter().rev().enumerate() {
        let shown_id = if place == 0 { show.ids.show(&id.0) } else { MISSING.to_owned() };
        ids.push_str(&format!("{shown_id}\n"));
        listing.row(show.row(shown_id, step));
    }
    output::print(&if args.quiet && args.format.is_none() { ids } else { listing.render(&format)? })?;
    Ok(0)
}

/// One line of a history.
#[derive(Debug, PartialEq)]
struct Step {
    entry: HistoryEntry,
    /// Bytes that its layer added.
    size: u64,
}

/// Pairs history entries with layers; layers that no entry tells of get an empty one.
fn steps(store: &Store, config: &ImageConfig) -> anyhow::Result<Vec<Step>> {
    let mut sizes = Vec::new();
    for diff_id in &config.rootfs.diff_ids {
        sizes.push(store.layer(diff_id)?.content_size);
    }
    Ok(pair(&config.history, &sizes))
}

fn pair(history: &[HistoryEntry], sizes: &[u64]) -> Vec<Step> {
    let mut sizes = sizes.iter();
    let mut steps = Vec::new();
    for entry in history {
        let size = if entry.empty_layer { 0 } else { sizes.next().copied().unwrap_or(0) };
        steps.push(Step { entry: entry.clone(), size });
    }
    steps.extend(sizes.map(|&size| Step { entry: HistoryEntry::default(), size }));
    steps
}

struct Show<'a> {
    args: &'a HistoryArgs,
    ids: Ids,
    now: SystemTime,
}

impl Show<'_> {
    fn row(&self, id: String, Step { entry, size }: &Step) -> Vec<String> {
        let created = entry.created.as_deref().and_then(age::parse);
        let created_by = shown(entry.created_by.as_deref().unwrap_or_default());
        let created_by = if self.args.no_trunc { created_by } else { ellipsis(&created_by, CREATED_BY_WIDTH) };
        let size = if self.args.human { size::listed(*size) } else { size.to_string() };
        let comment = entry.comment.clone().unwrap_or_default();
        vec![id, age::ago(created, self.now), age::rfc3339(created), created_by, size, comment]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_with_a_layer_take_its_size() {
        let entry = |empty_layer| HistoryEntry { empty_layer, ..HistoryEntry::default() };
        let sizes = |history: &[HistoryEntry], layers: &[u64]| -> Vec<u64> {
            pair(history, layers).iter().map(|step| step.size).collect()
        };
        assert_eq!(sizes(&[entry(false), entry(true), entry(false)], &[5, 7]), [5, 0, 7]);
        assert_eq!(sizes(&[], &[5, 7]), [5, 7]);
        assert_eq!(sizes(&[entry(false)], &[]), [0]);
    }
}
