//! `wharf volume ls`: the volumes that have a name, or got one.

use std::collections::BTreeSet;

use anyhow::Context;
use layer_store::{LabelFilter, Store, Volume, VolumeName};

use crate::filter::Filter;
use crate::listing::{Field, Format, Listing};
use crate::prune_flags::filtered;
use crate::session::Session;
use crate::{output, report};

/// What docker shows of what it does not know.
const UNKNOWN: &str = "N/A";

const FIELDS: [Field; 10] = [
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Group", "GROUP"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeLsArgs {
    /// Only show names
    #[arg(short, long)]
    quiet: bool,
    /// Only volumes that match: name=PART, label=KEY[=VALUE], dangling=BOOL (no running command uses it), driver=NAME
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Format: `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// Lists volumes.
pub(crate) fn volume_ls(args: &VolumeLsArgs, session: &Session) -> anyhow::Result<u8> {
    let format = Format::parse(args.format.as_deref())?;
    let store = session.look()?;
    let selection = Selection::new(&args.filters, &store)?;
    let mut listing = Listing::new(&FIELDS, &["Driver", "Name"]);
    let (mut names, mut code) = (String::new(), 0);
    for volume in store.volumes().context("cannot list the volumes")? {
        match volume {
            Ok(volume) if selection.has(&volume) => {
                names.push_str(&format!("{}\n", volume.name));
                listing.row(row(&volume));
            }
            Ok(_) => {}
            Err(error) => {
                report::one_of_several(&error.into());
                code = 1;
            }
        }
    }
    output::print(&if args.quiet && args.format.is_none() { names } else { listing.render(&format)? })?;
    Ok(code)
}

fn row(volume: &Volume) -> Vec<String> {
    let label = |(key, value): (&String, &String)| format!("{key}={value}");
    let labels: Vec<String> = volume.labels.iter().map(label).collect();
    let (data, name) = (volume.data.display().to_string(), volume.name.to_string());
    let cells = [UNKNOWN, "local", UNKNOWN, &labels.join(","), UNKNOWN, &data, &name, "local", UNKNOWN, UNKNOWN];
    cells.map(str::to_owned).to_vec()
}

/// Which volumes are shown. Of several filters of a kind one has to match, but of labels all.
struct Selection {
    names: Vec<String>,
    drivers: Vec<String>,
    labels: Vec<LabelFilter>,
    dangling: Option<bool>,
    used: BTreeSet<VolumeName>,
}

impl Selection {
    fn new(filters: &[Filter], store: &Store) -> anyhow::Result<Self> {
        let of = |key: &str| filters.iter().filter(|filter| filter.key == key).cloned().collect::<Vec<_>>();
        let values = |key: &str| of(key).into_iter().map(|filter| filter.value).collect();
        for filter in filters {
            filter.check(&["name", "label", "dangling", "driver"])?;
        }
        let dangling = of("dangling").last().map(Filter::flag).transpose()?;
        let used = if dangling.is_some() { store.used_volumes()? } else { BTreeSet::new() };
        let labels = filtered(&of("label"), &["label"])?.labels;
        Ok(Self { names: values("name"), drivers: values("driver"), labels, dangling, used })
    }

    fn has(&self, volume: &Volume) -> bool {
        let is_named = self.names.is_empty() || self.names.iter().any(|part| volume.name.as_str().contains(part));
        let is_kept = self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == "local");
        let is_dangling = !self.used.contains(&volume.name);
        let is_wanted = self.dangling.is_none_or(|wanted| wanted == is_dangling);
        is_named && is_kept && is_wanted && self.labels.iter().all(|filter| filter.holds(&volume.labels))
    }
}
