//! `wharf system df`: what the store takes on disk, in the bytes that `du` counts.
//!
//! The rows are docker's, and `Other`: directories, locks, unfinished work. Their sizes add up to what `du` finds.

use std::time::SystemTime;

use anyhow::Context;
use layer_store::{Share, Store, Usage};

use crate::image_view::{Images, created};
use crate::listing::{Field, Format, Listing};
use crate::session::Session;
use crate::table::Table;
use crate::{age, output, size};

const FIELDS: [Field; 5] =
    [("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];

#[derive(Debug, clap::Args)]
pub(crate) struct DfArgs {
    /// Show each image and each volume
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
    /// Format: `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// Shows what the store takes on disk.
pub(crate) fn system_df(args: &DfArgs, session: &Session) -> anyhow::Result<u8> {
    let format = Format::parse(args.format.as_deref())?;
    let store = session.store()?;
    let usage = store.usage().with_context(|| format!("cannot measure the store in {}", store.root().display()))?;
    if args.verbose {
        return verbose(&store, &usage);
    }
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

fn verbose(store: &Store, usage: &Usage) -> anyhow::Result<u8> {
    let images = Images::of(store).context("cannot list the images")?;
    let now = SystemTime::now();
    let mut table =
        Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"]);
    let shared = SharedLayers::of(store, &images)?;
    for image in &images.readable {
        let (shared, unique) = shared.split(&image.config.value().rootfs.diff_ids);
        let mut names: Vec<(String, String)> = Vec::new();
        for tag in &image.tags {
            names.push((tag.familiar_repository(), tag.tag().unwrap_or_default().to_owned()));
        }
        if names.is_empty() {
            names.push(("<none>".to_owned(), "<none>".to_owned()));
        }
        for (repository, tag) in names {
            table.row(vec![
                repository,
                tag,
                image.id.0.short().to_owned(),
                age::ago(created(image), now),
                size::summed(image.size),
                size::summed(shared),
                size::summed(unique),
                "0".to_owned(),
            ]);
        }
    }
    let mut text = format!("Images space usage:\n\n{}", table.render());
    text.push_str(&format!(
        "\nContainers space usage: 0B\n\nLocal Volumes space usage:\n\n{}",
        volumes(store)?.render()
    ));
    let cache = &usage.build_cache;
    text.push_str(&format!("\nBuild cache usage: {} in {} records\n", size::summed(cache.size), cache.count));
    text.push_str(&format!("\nStore {}: {} on disk", store.root().display(), size::summed(usage.total())));
    text.push_str(&format!(", {} of them neither image nor volume nor build cache\n", size::summed(usage.other)));
    output::print(&text)?;
    Ok(images.report_unreadable())
}

fn volumes(store: &Store) -> anyhow::Result<Table> {
    let mut table = Table::new(&["VOLUME NAME", "SIZE"]);
    // one that cannot be read is `wharf volume ls`'s to report
    for volume in store.volumes().context("cannot list the volumes")?.into_iter().flatten() {
        let bytes = store.volume_size(&volume.name).with_context(|| format!("cannot measure `{}`", volume.name))?;
        table.row(vec![volume.name.to_string(), size::summed(bytes)]);
    }
    Ok(table)
}

/// How many images have each layer, and its size.
struct SharedLayers(std::collections::BTreeMap<oci::DiffId, (u32, u64)>);

impl SharedLayers {
    fn of(store: &Store, images: &Images) -> anyhow::Result<Self> {
        let mut layers = std::collections::BTreeMap::new();
        for image in &images.readable {
            let unique: std::collections::BTreeSet<_> = image.config.value().rootfs.diff_ids.iter().collect();
            for diff_id in unique {
                let entry = layers.entry(diff_id.clone()).or_insert((0, 0));
                entry.0 += 1;
                entry.1 = store.layer(diff_id)?.content_size;
            }
        }
        Ok(Self(layers))
    }

    /// Returns the bytes that an image shares with others, and those it does not.
    fn split(&self, layers: &[oci::DiffId]) -> (u64, u64) {
        let unique: std::collections::BTreeSet<_> = layers.iter().collect();
        unique.into_iter().filter_map(|layer| self.0.get(layer)).fold((0, 0), |(shared, unique), &(count, size)| {
            if count > 1 { (shared + size, unique) } else { (shared, unique + size) }
        })
    }
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
