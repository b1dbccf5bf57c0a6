//! The flags that all prunes have: what limits them, and whether somebody is asked first.

use std::time::SystemTime;

use layer_store::Prune;

use crate::filter::Filter;
use crate::shown::shown;
use crate::{prompt, size};

#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Only what matches
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    pub(crate) filters: Vec<Filter>,
    /// Show what would be removed and why, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl PruneArgs {
    /// Asks whether to go on after `warning`, to which it adds what limits the prune; yes when nobody is to be asked.
    ///
    /// # Errors
    ///
    /// When the question cannot be printed or the answer not be read.
    pub(crate) fn is_confirmed(&self, text: &str) -> anyhow::Result<bool> {
        Ok(self.force || self.dry_run || prompt::confirm(&warning(text, &self.filters))?)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeepArgs {
    /// Remove only the least recently used, until the build cache takes no more than SIZE on disk (`10g`, `512MB`)
    #[arg(long, value_name = "SIZE", value_parser = size::binary)]
    pub(crate) keep_storage: Option<u64>,
}

/// Turns filters into what the store takes; nothing is pruned yet.
///
/// # Errors
///
/// [`crate::filter::FilterError`] for a key that is not `known` or a value that cannot be read.
pub(crate) fn filtered(filters: &[Filter], known: &[&str]) -> anyhow::Result<Prune> {
    let mut prune = Prune::default();
    for filter in filters {
        filter.check(known)?;
        if filter.key == "until" {
            let time = filter.time(SystemTime::now())?;
            prune.until = Some(prune.until.map_or(time, |until| until.min(time)));
            continue;
        }
        prune.labels.push(filter.of_labels());
    }
    Ok(prune)
}

fn warning(text: &str, filters: &[Filter]) -> String {
    if filters.is_empty() {
        return text.to_owned();
    }
    let sign = |filter: &Filter| if filter.is_negated { "!=" } else { "=" };
    let lines = filters.iter().map(|filter| format!("\n  - {}{}{}", filter.key, sign(filter), shown(&filter.value)));
    format!("{text}\n\n  Items to be pruned will be filtered with:{}\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

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
