//! `wharf tag`: gives an image a further name.

use anyhow::Context;
use oci::Reference;

use crate::ending::Ending;
use crate::session::Session;
use crate::shown::shown;

#[derive(Debug, clap::Args)]
pub(crate) struct TagArgs {
    /// The image: a name or an ID
    source: String,
    /// Its new name; without a tag, `latest` is meant
    target: String,
}

/// Tags an image.
pub(crate) fn tag(args: &TagArgs, session: &Session) -> anyhow::Result<u8> {
    let target: Reference = args.target.parse()?;
    if target.digest().is_some() {
        return Err(Ending::usage(format!("`{}` has a digest: an image gets a tag", shown(&args.target))).into());
    }
    let store = session.store()?;
    let id = store.find(&args.source)?;
    store.tag(&target, &id).with_context(|| format!("cannot tag {} as {}", shown(&args.source), target.familiar()))?;
    Ok(0)
}
