//! `wharf export`: writes the root file system of an image to a tar archive, all layers merged.

use std::path::PathBuf;

use anyhow::Context;
use layer_store::{ImageId, Lower, Store};
use tokio::task::spawn_blocking;

use crate::destination::{self, Destination};
use crate::input::Stoppable;
use crate::output;
use crate::session::{Interrupt, Session};
use crate::shown::shown;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// An image: no container outlives `wharf run` yet that could be named here
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Exports a root file system.
pub(crate) fn export(args: &ExportArgs, session: &Session) -> anyhow::Result<u8> {
    let what = || format!("cannot export `{}`", shown(&args.image));
    let store = session.store()?;
    let id = store.find(&args.image).with_context(what)?;
    let destination = Destination::open(args.output.as_deref())?;
    let writer = destination.writer()?;
    let exported = session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let mut writer = Stoppable { bytes: writer, stop: interrupt.stop().clone() };
        let export = move || write(&store, &id, &mut writer);
        let exporting = async { spawn_blocking(export).await.expect("exporting does not panic") };
        interrupt.or_stop(exporting).await
    });
    exported.map_err(destination::closed).with_context(what)?;
    destination.finish()?;
    Ok(0)
}

fn write(store: &Store, id: &ImageId, output: &mut impl std::io::Write) -> anyhow::Result<()> {
    let image = store.image(id)?;
    let diff_ids = &image.config.value().rootfs.diff_ids;
    let layers: Vec<_> = diff_ids.iter().cloned().map(Lower::Layer).collect();
    store.view(&layers)?.write_tar(output)?;
    let skipped = diff_ids.iter().map(|diff_id| store.layer(diff_id).map(|layer| layer.skipped));
    let skipped = skipped.collect::<Result<Vec<_>, _>>()?;
    tell_skipped(skipped.iter().map(|layer| layer.devices).sum(), skipped.iter().map(|layer| layer.xattrs).sum());
    Ok(())
}

/// Says what the layers have that this user cannot make, and the archive therefore has not.
fn tell_skipped(devices: u64, xattrs: u64) {
    if devices > 0 || xattrs > 0 {
        let left = "note: left out, as this user could not make them";
        output::notice(&format!("{left}: {devices} devices, {xattrs} extended attributes"));
    }
}
