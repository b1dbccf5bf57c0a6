//! `wharf push`: sends an image to the registry that its name says.

use std::sync::Arc;

use anyhow::Context;
use builder::Transfer;
use oci::Reference;
use registry_client::LayerEvent;
use tokio::sync::mpsc::unbounded_channel;

use crate::compression_flags::CompressionArgs;
use crate::ending::Ending;
use crate::output;
use crate::session::{Interrupt, Session};
use crate::shown::shown;
use crate::transfer_report::{Audience, Direction, TransferReport};

#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// The image; without a tag, `latest` is meant
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
    /// Only print the name of what was pushed
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    compression: CompressionArgs,
}

/// Pushes an image.
pub(crate) fn push(args: &PushArgs, session: &Session) -> anyhow::Result<u8> {
    let given: Reference = args.name.parse()?;
    if given.digest().is_some() {
        return Err(Ending::usage(format!("`{}` has a digest: push it by a tag", shown(&args.name))).into());
    }
    let compression = args.compression.compression()?;
    let audience = if args.quiet { Audience::Nobody } else { Audience::Output };
    let transfer = TransferReport::new(audience, Direction::Push);
    if given.tag().is_none() {
        transfer.say("Using default tag: latest");
    }
    let name = given.or_latest();
    let store = session.store()?;
    let id = store.find(&name.familiar()).with_context(|| format!("cannot push {}", name.familiar()))?;
    transfer.say(&format!("The push refers to repository [{}]", name.repository()));
    let between = Transfer { store, client: Arc::new(session.client()?), progress: Arc::clone(&transfer) as _ };
    let pushed = session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let (events, mut received) = unbounded_channel::<LayerEvent>();
        let (telling, config) = (Arc::clone(&transfer), id.clone());
        let told = tokio::spawn(async move {
            while let Some(blob) = received.recv().await {
                if blob.digest != config.0 {
                    telling.pushed(&blob);
                }
            }
        });
        let pushed = between.push(&id, &name, compression, Some(events));
        let pushed = interrupt.or_stop(async { Ok(pushed.await?) }).await?;
        told.await.context("cannot tell about the transfer")?;
        Ok(pushed)
    });
    transfer.finish();
    let pushed = pushed.with_context(|| format!("cannot push {}", name.familiar()))?;
    let tag = name.tag().unwrap_or_default();
    transfer.say(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size));
    if args.quiet {
        output::line(&name.to_string())?;
    }
    Ok(0)
}
