//! `wharf system df -v`: what each image, volume and item of the build cache takes.
//!
//! | section | adds up to its row of the summary |
//! |---|---|
//! | images | the unique sizes of all images, and what several share, once |
//! | volumes | all sizes |
//! | build cache | what of each item is not shared |
//!
//! With `--format` there is one object with the sections, as docker has it: `.Images`, `.Containers`, `.Volumes`, `.BuildCache`.

use std::collections::HashMap;
use std::time::SystemTime;

use anyhow::Context;
use layer_store::{CacheItemKind, CacheUsage, ImageId, ImageUsage, ListedImage, Store, UsageDetails, VolumeUsage};
use serde_json::json;
use time::OffsetDateTime;

use crate::image_view::{Ids, Images, created};
use crate::listing::{Field, Format, Listing};
use crate::shown::shown_json;
use crate::{age, output, size};

/// What docker shows of what it does not know; nobody counts here how often a cache is used.
const UNKNOWN: &str = "N/A";
const NONE: &str = "<none>";

const IMAGE_FIELDS: [Field; 9] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];
const IMAGE_COLUMNS: [&str; 8] =
    ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"];

const VOLUME_FIELDS: [Field; 3] = [("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];

const CACHE_FIELDS: [Field; 10] = [
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("LastUsedSince", "LAST USED"),
    ("LastUsedAt", "LAST USED AT"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
    ("InUse", "IN USE"),
];
const CACHE_COLUMNS: [&str; 7] = ["ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"];

/// Shows `details`; returns the exit code.
pub(super) fn show(store: &Store, details: &UsageDetails, format: &Format) -> anyhow::Result<u8> {
    let images = Images::of(store).context("cannot list the images")?;
    let now = SystemTime::now();
    let of_images = image_rows(&images.readable, details, now);
    let of_volumes = volume_rows(&details.volumes);
    let whole = if *format == Format::Table { Ids::Short } else { Ids::Whole };
    let of_cache = cache_rows(&details.cache, whole, now);
    let value = || {
        json!({
            "Images": of_images.objects(), "Containers": [], "Volumes": of_volumes.objects(), "BuildCache": of_cache.objects(),
        })
    };
    let text = match format {
        Format::Table => tables(store, details, [of_images, of_volumes, of_cache])?,
        Format::Json => shown_json(&value().to_string()) + "\n",
        Format::TableOf(template) | Format::Custom(template) => template.render(&value())? + "\n",
    };
    output::print(&text)?;
    Ok(images.report_unreadable())
}

fn tables(store: &Store, details: &UsageDetails, listings: [Listing; 3]) -> anyhow::Result<String> {
    let usage = &details.usage;
    let mut tables = Vec::new();
    for listing in &listings {
        tables.push(listing.render(&Format::Table)?);
    }
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage: 0B\n\nLocal Volumes space usage:\n\n{}\n\
         Build cache usage: {}\n\n{}\n\
         Store {}: {} on disk; {} are shared by images, {} are neither image nor volume nor build cache\n",
        tables[0],
        tables[1],
        size::summed(usage.build_cache.size),
        tables[2],
        store.root().display(),
        size::summed(usage.total()),
        size::summed(details.images_shared),
        size::summed(usage.other),
    ))
}

fn image_rows(images: &[ListedImage], details: &UsageDetails, now: SystemTime) -> Listing {
    let known: HashMap<&ImageId, &ImageUsage> = details.images.iter().map(|usage| (&usage.id, usage)).collect();
    let mut listing = Listing::new(&IMAGE_FIELDS, &IMAGE_COLUMNS);
    // one that came since everything was measured is shown the next time
    for (image, usage) in images.iter().filter_map(|image| Some((image, known.get(&image.id)?))) {
        let names = image.tags.iter().map(|name| (name.familiar_repository(), name.tag().unwrap_or(NONE).to_owned()));
        let mut names: Vec<(String, String)> = names.collect();
        if names.is_empty() {
            names.push((NONE.to_owned(), NONE.to_owned()));
        }
        for (repository, tag) in names {
            listing.row(vec![
                repository,
                tag,
                image.id.0.short().to_owned(),
                age::ago(created(image), now),
                age::dated(created(image)),
                size::listed(usage.shared + usage.unique),
                size::listed(usage.shared),
                size::listed(usage.unique),
                usage.users.to_string(),
            ]);
        }
    }
    listing
}

fn volume_rows(volumes: &[VolumeUsage]) -> Listing {
    let mut listing = Listing::new(&VOLUME_FIELDS, &VOLUME_FIELDS.map(|(name, _)| name));
    for VolumeUsage { name, size, users } in volumes {
        listing.row(vec![name.to_string(), users.to_string(), size::listed(*size)]);
    }
    listing
}

/// Lists the build cache, what was used last first.
fn cache_rows(cache: &[CacheUsage], ids: Ids, now: SystemTime) -> Listing {
    let mut cache: Vec<&CacheUsage> = cache.iter().collect();
    cache.sort_by_key(|item| std::cmp::Reverse(item.last_used));
    let mut listing = Listing::new(&CACHE_FIELDS, &CACHE_COLUMNS);
    for item in cache {
        let (created, last_used) = (item.created.map(OffsetDateTime::from), item.last_used.map(OffsetDateTime::from));
        listing.row(vec![
            cache_id(item, ids),
            cache_type(item.kind).to_owned(),
            size::listed(item.shared + item.unique),
            age::ago(created, now),
            age::dated(created),
            age::ago(last_used, now),
            age::dated(last_used),
            UNKNOWN.to_owned(),
            (item.shared > 0).to_string(),
            item.is_held.to_string(),
        ]);
    }
    listing
}

fn cache_id(item: &CacheUsage, ids: Ids) -> String {
    match (item.kind, ids) {
        (CacheItemKind::Mount, _) | (_, Ids::Whole) => item.name.clone(),
        (CacheItemKind::Layer | CacheItemKind::Context, Ids::Short) => item.name.chars().take(12).collect(),
    }
}

/// Returns BuildKit's word for it.
fn cache_type(kind: CacheItemKind) -> &'static str {
    match kind {
        CacheItemKind::Layer => "regular",
        CacheItemKind::Context => "source.local",
        CacheItemKind::Mount => "exec.cachemount",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_build_cache_is_listed_as_docker_does_it() {
        let second = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let item = |kind, name: &str, shared| CacheUsage {
            kind,
            name: name.to_owned(),
            shared,
            unique: 4096,
            created: Some(second(0)),
            last_used: Some(second(shared)),
            is_held: false,
        };
        let key = "0123456789abcdef".repeat(4);
        let cache = [item(CacheItemKind::Layer, &key, 0), item(CacheItemKind::Mount, "/root/.cache/pip", 60)];
        let expected = "\
CACHE ID           CACHE TYPE        SIZE      CREATED         LAST USED       USAGE     SHARED
/root/.cache/pip   exec.cachemount   4.16kB    2 minutes ago   About a minute ago   N/A       true
0123456789ab       regular           4.1kB     2 minutes ago   2 minutes ago        N/A       false
";
        let table = cache_rows(&cache, Ids::Short, second(120)).render(&Format::Table).unwrap();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&table), words(expected));
        assert!(cache_rows(&cache, Ids::Whole, second(120)).objects().to_string().contains(&key));
    }
}
