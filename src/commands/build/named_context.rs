//! What `--build-context` names: files or an image in the place of a stage or an image of that name.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use builder::{FileTree, NamedContext, NamedContexts, Owners};
use oci::Reference;

use super::dockerfile::read_ignore;
use crate::ending::Ending;
use crate::shown::shown;

/// Opens what these words name; of one name the last counts.
pub(super) fn named_contexts(given: &[String]) -> anyhow::Result<NamedContexts> {
    let mut contexts = NamedContexts::new();
    for word in given {
        let named = word.split_once('=').filter(|(name, source)| !name.is_empty() && !source.is_empty());
        let Some((name, source)) = named else {
            let why = format!("`{}` is not a named context (want `NAME=SOURCE`)", shown(word));
            return Err(Ending::usage(why).into());
        };
        contexts.insert(name.to_owned(), open(name, source)?);
    }
    Ok(contexts)
}

fn open(name: &str, source: &str) -> anyhow::Result<NamedContext> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        let reference = image.parse::<Reference>();
        let what = || format!("cannot use `{}` as the image of the named context `{}`", shown(image), shown(name));
        return Ok(NamedContext::Image(reference.with_context(what)?));
    }
    if source.contains("://") || source.starts_with("git@") {
        let why = format!("`{}`: a named context is a directory or `docker-image://IMAGE`, yet", shown(source));
        return Err(Ending::usage(why).into());
    }
    let directory = Path::new(source);
    if !directory.is_dir() {
        let why = format!("the named context `{}` is not a directory: `{}`", shown(name), shown(source));
        return Err(Ending::usage(why).into());
    }
    let tree = FileTree::open(directory, read_ignore(None, directory)?, Owners::Root);
    let tree = tree.with_context(|| format!("cannot open the named context `{}`", shown(source)))?;
    Ok(NamedContext::Tree(Arc::new(tree)))
}
