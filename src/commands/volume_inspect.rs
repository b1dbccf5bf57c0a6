//! `wharf volume inspect`: everything about volumes, as JSON or through a template.

use std::collections::BTreeMap;

use layer_store::{Store, Volume, VolumeName};
use serde::Serialize;
use time::OffsetDateTime;

use super::inspect::show;
use crate::age;
use crate::session::Session;

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
    let value = |volume: &Inspected| serde_json::to_value(volume);
    show((&args.names, args.format.as_deref()), session, inspected, value)
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
