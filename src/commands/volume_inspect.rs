//! `wharf volume inspect`: everything about volumes, as JSON or through a template.

use std::collections::BTreeMap;

use layer_store::{Store, Volume, VolumeName};
use serde::Serialize;
use time::OffsetDateTime;

use super::inspect::format_json;
use crate::ending::Ending;
use crate::session::Session;
use crate::template::Template;
use crate::{age, output, report};

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeInspectArgs {
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<VolumeName>,
    /// Format: `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Docker's keys, in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
}

/// Shows volumes; one that is not there is an error of its own.
pub(crate) fn volume_inspect(args: &VolumeInspectArgs, session: &Session) -> anyhow::Result<u8> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let store = session.store()?;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in &args.names {
        match inspected(&store, name) {
            Ok(volume) => found.push(volume),
            Err(error) => failed.push(error),
        }
    }
    let text = match template {
        None => format_json(&found, args.format.is_some())?,
        Some(template) => {
            let lines = found.iter().map(|volume| Ok(template.render(&serde_json::to_value(volume)?)? + "\n"));
            lines.collect::<anyhow::Result<String>>()?
        }
    };
    output::print(&text)?;
    let has_failed = !failed.is_empty();
    failed.iter().for_each(report::one_of_several);
    if has_failed { Err(Ending::Reported.into()) } else { Ok(0) }
}

fn inspected(store: &Store, name: &VolumeName) -> anyhow::Result<Inspected> {
    let Volume { name, created, labels, data } = store.volume(name)?;
    Ok(Inspected {
        created_at: age::rfc3339(Some(OffsetDateTime::from(created))),
        driver: "local",
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        mountpoint: data.display().to_string(),
        name: name.to_string(),
        options: None,
        scope: "local",
    })
}
