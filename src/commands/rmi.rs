//! `wharf rmi`: takes names away, and removes the images that have none left.
//!
//! | given | what happens |
//! |---|---|
//! | a name of several | this name goes |
//! | the last name | the image goes |
//! | an ID of an image with names in several repositories | an error, unless forced |
//! | any other ID | the image goes with all of its names |

use layer_store::{FreedKind, Image, Store};
use oci::Reference;

use crate::ending::Ending;
use crate::session::Session;
use crate::{output, report};

#[derive(Debug, clap::Args)]
pub(crate) struct RmiArgs {
    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove an ID with all of its names; no error for what is not there
    #[arg(short, long)]
    force: bool,
}

/// An ID that stands for several names.
#[derive(Debug, thiserror::Error)]
#[error("image {id} has names in several repositories: {}", .names.join(", "))]
pub(crate) struct SeveralNames {
    id: String,
    names: Vec<String>,
}

/// Removes images.
pub(crate) fn rmi(args: &RmiArgs, session: &Session) -> anyhow::Result<u8> {
    let mut has_failed = false;
    for name in &args.images {
        // a store of its own for each: what one name held must not keep what the next lets go
        match remove(&session.store()?, name, args.force) {
            Ok(lines) => output::print(&lines)?,
            Err(error) => {
                report::one_of_several(&error);
                has_failed |= !(args.force && is_missing(&error));
            }
        }
    }
    if has_failed { Err(Ending::Reported.into()) } else { Ok(0) }
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(layer_store::FindError::NotFound { .. }))
}

fn remove(store: &Store, given: &str, is_forced: bool) -> anyhow::Result<String> {
    let id = store.find(given)?;
    let image = store.image(&id)?;
    let name = given.parse::<Reference>().ok().filter(|name| name.digest().is_none()).map(Reference::or_latest);
    let name = name.filter(|name| image.tags.contains(name));
    if let Some(name) = &name
        && image.tags.len() > 1
    {
        store.untag(name)?;
        return Ok(format!("Untagged: {}\n", name.familiar()));
    }
    if name.is_none() && !is_forced && repositories(&image) > 1 {
        let names = image.tags.iter().map(Reference::familiar).collect();
        return Err(SeveralNames { id: id.0.short().to_owned(), names }.into());
    }
    let mut lines: String = image.tags.iter().map(|name| format!("Untagged: {}\n", name.familiar())).collect();
    lines.extend(image.repo_digests.iter().map(|name| format!("Untagged: {}\n", name.familiar())));
    for freed in store.remove_image(&id)? {
        if matches!(freed.what, FreedKind::Image | FreedKind::Layer) {
            lines.push_str(&format!("Deleted: {}\n", freed.name));
        }
    }
    Ok(lines)
}

fn repositories(image: &Image) -> usize {
    let mut repositories: Vec<String> = image.tags.iter().map(Reference::repository).collect();
    repositories.dedup();
    repositories.len()
}
