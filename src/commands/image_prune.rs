//! `wharf image prune`: removes images that nothing needs.

use std::time::SystemTime;

use anyhow::Context;
use layer_store::{Freed, FreedKind, LabelFilter, Prune, PruneImages};

use crate::filter::Filter;
use crate::session::Session;
use crate::shown::shown;
use crate::{output, prompt, size};

const DANGLING: &str = "WARNING! This will remove all dangling images.";
const UNUSED: &str = "WARNING! This will remove all images without at least one container associated to them.";

#[derive(Debug, clap::Args)]
pub(crate) struct ImagePruneArgs {
    /// Remove all images that no container uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only images that match: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Show what would be removed and why, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Prunes images.
pub(crate) fn image_prune(args: &ImagePruneArgs, session: &Session) -> anyhow::Result<u8> {
    let what = Prune {
        images: if args.all { PruneImages::All } else { PruneImages::Dangling },
        build_cache: false,
        dry_run: args.dry_run,
        ..filtered(&args.filters, &["until", "label"])?
    };
    let warning = warning(if args.all { UNUSED } else { DANGLING }, &args.filters);
    if !args.force && !args.dry_run && !prompt::confirm(&warning)? {
        return Ok(0);
    }
    let freed = session.store()?.prune(&what).context("cannot prune the images")?;
    output::print(&if args.dry_run { planned(&freed) } else { done("Deleted Images:", &freed) })?;
    Ok(0)
}

/// Turns filters into what the store takes; nothing is pruned yet.
///
/// # Errors
///
/// [`crate::filter::FilterError`] for a key that is not `known` or a value that cannot be read.
pub(super) fn filtered(filters: &[Filter], known: &[&str]) -> anyhow::Result<Prune> {
    let mut prune = Prune::default();
    for filter in filters {
        filter.check(known)?;
        if filter.key == "until" {
            let time = filter.time(SystemTime::now())?;
            prune.until = Some(prune.until.map_or(time, |until| until.min(time)));
            continue;
        }
        let (key, value) = filter.label();
        let (key, value) = (key.to_owned(), value.map(str::to_owned));
        prune.labels.push(match filter.is_negated {
            true => LabelFilter::HasNot { key, value },
            false => LabelFilter::Has { key, value },
        });
    }
    Ok(prune)
}

/// Adds to a warning what limits it.
pub(super) fn warning(text: &str, filters: &[Filter]) -> String {
    if filters.is_empty() {
        return text.to_owned();
    }
    let sign = |filter: &Filter| if filter.is_negated { "!=" } else { "=" };
    let lines = filters.iter().map(|filter| format!("\n  - {}{}{}", filter.key, sign(filter), shown(&filter.value)));
    format!("{text}\n\n  Items to be pruned will be filtered with:{}\n", lines.collect::<String>())
}

/// Writes what was removed, as docker does.
pub(super) fn done(title: &str, freed: &[Freed]) -> String {
    let lines: String = freed.iter().filter_map(line).collect();
    let total = format!("Total reclaimed space: {}\n", size::summed(total(freed)));
    if lines.is_empty() { total } else { format!("{title}\n{lines}\n{total}") }
}

/// Writes what would be removed, and why.
pub(super) fn planned(freed: &[Freed]) -> String {
    let kind = |what| match what {
        FreedKind::Tag => "name",
        FreedKind::Image => "image",
        FreedKind::CacheRecord => "cache record",
        FreedKind::CacheMount => "cache mount",
        FreedKind::Layer => "layer",
        FreedKind::Blob => "blob",
        FreedKind::Temporary => "unfinished download",
    };
    let mut text = String::new();
    for Freed { what, name, why, size } in freed {
        text.push_str(&format!("would remove {} {} ({}): {why}\n", kind(*what), shown(name), size::summed(*size)));
    }
    text + &format!("Total reclaimable space: {}\n", size::summed(total(freed)))
}

fn line(freed: &Freed) -> Option<String> {
    match freed.what {
        FreedKind::Tag => Some(format!("untagged: {}\n", familiar(&freed.name))),
        FreedKind::Image | FreedKind::Layer => Some(format!("deleted: {}\n", freed.name)),
        _ => None,
    }
}

fn familiar(name: &str) -> String {
    name.parse().map_or_else(|_| shown(name), |name: oci::Reference| name.familiar())
}

fn total(freed: &[Freed]) -> u64 {
    freed.iter().map(|freed| freed.size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freed() -> Vec<Freed> {
        let freed = |what, name: &str, size| Freed { what, name: name.to_owned(), why: "it is unused", size };
        vec![
            freed(FreedKind::Tag, "docker.io/library/app:1", 10),
            freed(FreedKind::Image, "sha256:ab", 20),
            freed(FreedKind::Blob, "sha256:cd", 1000),
        ]
    }

    #[test]
    fn what_was_removed_is_said_as_docker_says_it() {
        let expected = "Deleted Images:\nuntagged: app:1\ndeleted: sha256:ab\n\nTotal reclaimed space: 1.03kB\n";
        assert_eq!(done("Deleted Images:", &freed()), expected);
        assert_eq!(done("Deleted Images:", &[]), "Total reclaimed space: 0B\n");
    }

    #[test]
    fn a_dry_run_says_why() {
        let text = planned(&freed());
        assert!(text.contains("would remove image sha256:ab (20B): it is unused\n"), "{text}");
        assert!(text.ends_with("Total reclaimable space: 1.03kB\n"), "{text}");
    }

    #[test]
    fn filters_become_conditions() {
        let filters: Vec<Filter> = ["label=a=b", "label!=c", "until=24h"].map(|text| text.parse().unwrap()).into();
        let prune = filtered(&filters, &["until", "label"]).unwrap();
        assert_eq!(prune.labels.len(), 2);
        assert!(prune.until.is_some());
        assert!(filtered(&filters, &["until"]).is_err());
        assert!(warning("W", &filters).contains("- label!=c"));
    }
}
