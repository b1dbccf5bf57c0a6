//! `wharf pull`: brings an image and its layers from a registry into the store.

use std::sync::Arc;

use anyhow::Context;
use builder::{Pulled, Transfer};
use layer_store::Store;
use oci::{Platform, Reference};

use crate::output;
use crate::session::{Interrupt, Session};
use crate::shown::shown;
use crate::transfer_report::{Audience, Direction, TransferReport};

#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// The image; without a tag or digest, `latest` is meant
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
    /// Only print the name of what was pulled
    #[arg(short, long)]
    quiet: bool,
    /// Platform of the image, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

/// Pulls an image.
pub(crate) fn pull(args: &PullArgs, session: &Session) -> anyhow::Result<u8> {
    let given: Reference = args.name.parse()?;
    let audience = if args.quiet { Audience::Nobody } else { Audience::Output };
    let transfer = TransferReport::new(audience, Direction::Pull);
    if given.tag().is_none() && given.digest().is_none() {
        transfer.say("Using default tag: latest");
    }
    let name = given.or_latest();
    let store = session.store()?;
    pull_image(session, &store, (&name, args.platform.as_ref()), &transfer)?;
    output::line(&name.to_string())?;
    Ok(0)
}

/// Pulls what `name` means on a platform, or on this machine's, and tells about it.
///
/// # Errors
///
/// When it cannot be pulled, or a signal stopped it.
pub(crate) fn pull_image(
    session: &Session,
    store: &Store,
    (name, wanted): (&Reference, Option<&Platform>),
    transfer: &Arc<TransferReport>,
) -> anyhow::Result<Pulled> {
    let version = name.tag().map_or_else(|| name.digest().map(ToString::to_string), |tag| Some(tag.to_owned()));
    transfer.say(&format!("{}: Pulling from {}", version.unwrap_or_default(), name.path()));
    let platform = &wanted.cloned().unwrap_or_else(Platform::host);
    let between =
        Transfer { store: store.clone(), client: Arc::new(session.client()?), progress: Arc::clone(transfer) as _ };
    let pulled = session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let pulling = async {
            let remote = between.client.pull_image(name, platform).await?;
            check_platform(&remote.config.value().platform, wanted)?;
            Ok(between.store_image(&remote).await?)
        };
        interrupt.or_stop(pulling).await
    });
    transfer.finish();
    let pulled = pulled.with_context(|| format!("cannot pull {}", name.familiar()))?;
    transfer.say(&format!("Digest: {}", pulled.root.digest));
    transfer.say(&match pulled.is_up_to_date {
        true => format!("Status: Image is up to date for {}", name.familiar()),
        false => format!("Status: Downloaded newer image for {}", name.familiar()),
    });
    Ok(pulled)
}

/// Refuses an image for another platform than the one that was asked for; whoever asked for none gets what there is.
pub(super) fn check_platform(actual: &Platform, wanted: Option<&Platform>) -> anyhow::Result<()> {
    match wanted {
        Some(wanted) if !actual.runs_on(wanted) => {
            anyhow::bail!("the image is for {}, not for {wanted}", shown(&actual.to_string()))
        }
        _ => Ok(()),
    }
}
