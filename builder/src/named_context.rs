//! Named contexts: what `--build-context NAME=…` puts in the place of a stage or an image of that name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use oci::Reference;

use crate::file_tree::FileTree;
use crate::images::BaseImage;

/// What a name of the command line stands for.
#[derive(Clone, Debug)]
pub enum NamedContext {
    /// The files of a directory, with an ignore file of its own.
    Tree(Arc<FileTree>),
    /// The image of this name.
    Image(Reference),
    /// This image.
    Pinned(Arc<BaseImage>),
}

/// The named contexts of a build.
pub type NamedContexts = BTreeMap<String, NamedContext>;

/// Returns their names.
pub(crate) fn names(contexts: &NamedContexts) -> BTreeSet<String> {
    contexts.keys().cloned().collect()
}
