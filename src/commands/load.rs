//! `wharf load`: reads images from an archive, in a file, in a directory, or on standard input.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use builder::{ImageArchive, LoadError, LoadedImage, TransferProgress};
use layer_store::Store;
use oci::Platform;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::ending::Ending;
use crate::input::{StandardInput, Stoppable};
use crate::output;
use crate::session::{Interrupt, Session};
use crate::transfer_report::{Audience, Direction, TransferReport};

#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Read this file or directory instead of standard input
    #[arg(short, long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Platform of the images, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

/// Loads images.
pub(crate) fn load(args: &LoadArgs, session: &Session) -> anyhow::Result<u8> {
    if args.input.is_none() && std::io::stdin().is_terminal() {
        let advice = "give it an archive, as in `wharf load < FILE`, or name one with `--input`";
        return Err(Ending::usage(format!("standard input is a terminal: {advice}")).into());
    }
    let store = session.store()?;
    let audience = if args.quiet { Audience::Nobody } else { Audience::Output };
    let report = TransferReport::new(audience, Direction::Load);
    let (input, platform, progress) = (args.input.clone(), args.platform.clone(), Arc::clone(&report));
    let loaded = session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let stop = interrupt.stop().clone();
        let load = move || load_from(&store, input.as_deref(), platform.as_ref(), (&*progress, &stop));
        let loading = async { spawn_blocking(load).await.expect("loading does not panic") };
        interrupt.or_stop(loading).await
    });
    report.finish();
    let from =
        args.input.as_ref().map_or_else(|| "from standard input".to_owned(), |path| format!("`{}`", path.display()));
    for image in loaded.with_context(|| format!("cannot load {from}"))? {
        output::print(&told(&image))?;
    }
    Ok(0)
}

fn load_from(
    store: &Store,
    input: Option<&Path>,
    platform: Option<&Platform>,
    (progress, stop): (&dyn TransferProgress, &CancellationToken),
) -> anyhow::Result<Vec<LoadedImage>> {
    let archive = open(store, input, stop)?;
    let loaded: Result<_, LoadError> = builder::load(store, &archive, platform, progress, &|| stop.is_cancelled());
    Ok(loaded?)
}

fn open(store: &Store, input: Option<&Path>, stop: &CancellationToken) -> anyhow::Result<ImageArchive> {
    let stop = stop.clone();
    let Some(path) = input else {
        let file = std::io::stdin().as_fd().try_clone_to_owned().context("standard input cannot be read")?;
        if let Some(archive) = ImageArchive::in_place(store, file.into())? {
            return Ok(archive);
        }
        return Ok(ImageArchive::stream(store, StandardInput { stop })?);
    };
    if path.is_dir() {
        return Ok(ImageArchive::directory(path)?);
    }
    let open = || File::open(path).context("it cannot be opened");
    if let Some(archive) = ImageArchive::in_place(store, open()?)? {
        return Ok(archive);
    }
    Ok(ImageArchive::stream(store, Stoppable { bytes: open()?, stop })?)
}

/// Says what docker says of a loaded image.
fn told(image: &LoadedImage) -> String {
    if image.names.is_empty() {
        return format!("Loaded image ID: {}\n", image.id);
    }
    let mut lines = String::new();
    for loaded in &image.names {
        let name = loaded.name.familiar();
        if let Some(before) = &loaded.replaced {
            lines +=
                &format!("The image {name} already exists, renaming the old one with ID {before} to empty string\n");
        }
        lines += &format!("Loaded image: {name}\n");
    }
    lines
}
