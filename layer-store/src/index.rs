//! The index of a layer's tar: an EROFS image that shows the tar's entries as files, whose contents stay in the tar.
//!
//! ```text
//! entries ─builder─▶ nodes ─image─▶ index ─lookup─▶ what is at a path
//!                                   index + tar ─mount─▶ a lower directory, without a copy of any file
//! ```
//!
//! - An index shows what a tree of the same tar shows (`apply::tree`): a layer may be in either form, and nobody sees which.
//! - Its bytes depend on the tar alone.
//! - Nothing here touches a file system; memory is bounded, whatever the entries say.
//!
//! In `nodes`: files and names while they are collected. In `parents`: the directories that entries go into. In `xattrs`: which
//! extended attributes there are. In `sparse`: files with holes. In `format`: the numbers of EROFS.

mod builder;
mod format;
mod image;
mod lookup;
mod nodes;
mod parents;
mod sparse;
#[cfg(test)]
mod tests;
mod xattrs;

pub(crate) use builder::IndexBuilder;
pub(crate) use image::IndexImage;
pub(crate) use lookup::{Found, IndexFile, Indexed, IndexedKind};

use crate::ApplyError;

/// Why a layer gets no index.
#[derive(Debug)]
pub(crate) enum IndexFault {
    /// An entry may not be, in no form of the layer.
    Apply(ApplyError),
    /// An index cannot show the layer: it needs a tree.
    Unsuitable(Unsuitable),
}

impl From<ApplyError> for IndexFault {
    fn from(error: ApplyError) -> Self {
        Self::Apply(error)
    }
}

impl From<Unsuitable> for IndexFault {
    fn from(reason: Unsuitable) -> Self {
        Self::Unsuitable(reason)
    }
}

/// What an index cannot show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsuitable {
    #[error("its tar has more than 1 TiB")]
    TarTooLarge,
    #[error("it has more than 400,000 entries")]
    TooManyEntries,
    #[error("its names, links and extended attributes have more than 64 MiB")]
    TooMuchMetadata,
    #[error("it has a sparse file whose regions do not begin and end at multiples of 4096 bytes")]
    Sparse,
    #[error("a file's content does not begin at a multiple of 512 bytes")]
    Unaligned,
    #[error("it has an access control list")]
    AccessControl,
    #[error("the extended attributes of a file are too large")]
    Xattrs,
}
