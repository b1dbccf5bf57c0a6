//! `wharf save`: writes images to an archive, or to a directory.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use builder::{SaveFormat, SaveTo, SavedImage, TransferProgress};
use clap::ValueEnum;
use layer_store::{Compression, ImageId, Store};
use oci::{Platform, Reference};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::pull::check_platform;
use crate::compression_flags::CompressionArgs;
use crate::destination::{self, Destination, DestinationDirectory};
use crate::ending::Ending;
use crate::input::Stoppable;
use crate::session::{Interrupt, Session};
use crate::transfer_report::{Audience, Direction, TransferReport};

#[derive(Debug, clap::Args)]
pub(crate) struct SaveArgs {
    /// Images; a name without a tag stands for all of its tags
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Write to this file, or make this directory, instead of standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::DockerArchive)]
    format: Format,
    #[command(flatten)]
    compression: CompressionArgs,
    /// Refuse images for another platform than this
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// The formats, under podman's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A tar that is a docker archive and an image layout
    DockerArchive,
    /// A tar of an image layout
    OciArchive,
    /// A directory that is an image layout
    OciDir,
    /// A directory of one image, as skopeo's `dir:`
    DockerDir,
}

impl Format {
    fn of_archive(self) -> SaveFormat {
        match self {
            Self::DockerArchive => SaveFormat::DockerArchive,
            Self::OciArchive => SaveFormat::OciArchive,
            Self::OciDir => SaveFormat::OciDirectory,
            Self::DockerDir => SaveFormat::DockerDirectory,
        }
    }
}

/// Saves images.
pub(crate) fn save(args: &SaveArgs, session: &Session) -> anyhow::Result<u8> {
    let format = args.format.of_archive();
    let compression = args.compression.compression()?;
    let store = session.store()?;
    let images = find_all(&store, &args.images)?;
    for image in &images {
        let config = store.image(&image.id)?.config;
        let checked = check_platform(&config.value().platform, args.platform.as_ref());
        checked.with_context(|| format!("cannot save {}", shown_image(image)))?;
    }
    let audience = if args.quiet { Audience::Nobody } else { Audience::Errors };
    let report = TransferReport::new(audience, Direction::Save);
    let saving = Saving { store, images, format, compression, report };
    if !format.is_directory() {
        let destination = Destination::open(args.output.as_deref())?;
        let writer = destination.writer()?;
        saving.run(session, |stop| Stoppable { bytes: writer, stop }, |writer| SaveTo::Stream(writer))?;
        destination.finish()?;
    } else if let Some(path) = &args.output {
        let made = DestinationDirectory::make(path)?;
        let into = made.path().to_owned();
        saving.run(session, |_| into, |into| SaveTo::<File>::Directory(into))?;
        made.finish()?;
    } else {
        return Err(Ending::usage("a directory needs a name: use `--output DIR`").into());
    }
    Ok(0)
}

/// Images on their way to an archive.
struct Saving {
    store: Store,
    images: Vec<SavedImage>,
    format: SaveFormat,
    compression: Compression,
    report: Arc<TransferReport>,
}

impl Saving {
    /// Saves into what `make` makes, as `to` says; a signal stops it.
    fn run<T: Send + 'static, W: Write>(
        self,
        session: &Session,
        make: impl FnOnce(CancellationToken) -> T,
        to: impl FnOnce(&mut T) -> SaveTo<'_, W> + Send + 'static,
    ) -> anyhow::Result<()> {
        let Self { store, images, format, compression, report } = self;
        let progress: Arc<dyn TransferProgress> = Arc::clone(&report) as _;
        let saved = session.block_on(async {
            let interrupt = Interrupt::watch()?;
            let mut target = make(interrupt.stop().clone());
            let save = move || builder::save(&store, &images, (format, compression), &mut to(&mut target), &progress);
            let saving = async { Ok(spawn_blocking(save).await.expect("saving does not panic")?) };
            interrupt.or_stop(saving).await
        });
        report.finish();
        saved.map_err(destination::closed).context("cannot save the images")
    }
}

/// Finds the images that are meant; one that is meant by several names is one image with these names.
fn find_all(store: &Store, given: &[String]) -> anyhow::Result<Vec<SavedImage>> {
    let mut images: Vec<SavedImage> = Vec::new();
    for word in given {
        for (id, name) in find(store, word).with_context(|| format!("cannot save `{}`", crate::shown::shown(word)))? {
            let at = images.iter().position(|image| image.id == id).unwrap_or_else(|| {
                images.push(SavedImage { id, names: Vec::new() });
                images.len() - 1
            });
            let names = &mut images[at].names;
            let new = name.filter(|name| !names.contains(name));
            names.extend(new);
        }
    }
    Ok(images)
}

/// Returns what a word means, and by which name, if it is one.
fn find(store: &Store, word: &str) -> anyhow::Result<Vec<(ImageId, Option<Reference>)>> {
    let reference = word.parse::<Reference>().ok().filter(|name| name.digest().is_none());
    if let Some(repository) = reference.as_ref().filter(|name| name.tag().is_none()) {
        let mut tagged = BTreeSet::new();
        for image in store.images()?.into_iter().flatten() {
            let tags = image.tags.iter().filter(|tag| tag.repository() == repository.repository());
            tagged.extend(tags.map(|tag| (tag.clone(), image.id.clone())));
        }
        if !tagged.is_empty() {
            return Ok(tagged.into_iter().map(|(name, id)| (id, Some(name))).collect());
        }
    }
    let id = store.find(word)?;
    let is_its = |name: &Reference| store.image(&id).is_ok_and(|image| image.tags.contains(name));
    let name = reference.filter(is_its);
    Ok(vec![(id, name)])
}

fn shown_image(image: &SavedImage) -> String {
    image.names.first().map_or_else(|| image.id.0.short().to_owned(), Reference::familiar)
}
