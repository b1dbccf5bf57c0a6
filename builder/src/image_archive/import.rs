//! Imports a root file system: a tar becomes an image of one layer.
//!
//! tar, perhaps compressed ─spool (diff ID)─▶ layer ─▶ config, with the changes asked for ─▶ image, tag
//!
//! - The layer is the tar as it came, so the same tar has the same diff ID wherever it is imported, here or by docker.
//! - History tells the import and no changes, as docker does.

use std::io::{self, Read};

use layer_store::{ApplyError, ImageError, ImageId, SpoolError, Store, TagError};
use oci::{Algorithm, DiffId, Document, HistoryEntry, ImageConfig, Platform, Reference};

use crate::archive::{Content, content};
use crate::plan::{ChangeError, change_config};

/// What an imported image is to be.
#[derive(Clone, Debug)]
pub struct Import {
    /// Its name.
    pub name: Option<Reference>,
    /// Instructions that change its config, such as `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// The comment of its history.
    pub comment: String,
    /// The platform that its programs are for.
    pub platform: Platform,
    /// When it was made, in RFC 3339.
    pub created: String,
}

/// Why a root file system could not be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ImportError {
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("it cannot be read")]
    Read { source: io::Error },
    #[error("it is no tar archive, compressed or not")]
    NotATar,
    #[error("it is compressed by {method}, but no tar archive comes out")]
    Compressed { method: &'static str },
    #[error("it cannot be copied")]
    Copy { source: SpoolError },
    #[error("it cannot be a layer")]
    Apply { source: ApplyError },
    #[error("the image cannot be kept")]
    Image { source: ImageError },
    #[error("the name {} cannot be kept", .name.familiar())]
    Tag { name: Reference, source: TagError },
}

/// Makes an image of the files that `archive` has.
///
/// # Errors
///
/// [`ImportError`]; what is wrong with the changes is found before anything is read.
pub fn import(store: &Store, archive: impl Read + Send + 'static, asked: &Import) -> Result<ImageId, ImportError> {
    let mut config = change_config(ImageConfig::empty(asked.platform.clone()), &asked.changes)?;
    let mut tar = match content(archive).map_err(|source| ImportError::Read { source })? {
        Content::Tar(tar) => tar,
        Content::Compressed(method) => return Err(ImportError::Compressed { method }),
        Content::Other(_) => return Err(ImportError::NotATar),
    };
    let spooled = store.spool(&mut tar, Algorithm::Sha256).map_err(|source| ImportError::Copy { source })?;
    let diff_id = DiffId(spooled.digest().clone());
    store.apply_tar(&spooled, &diff_id).map_err(|source| ImportError::Apply { source })?;
    config.rootfs.diff_ids.push(diff_id);
    config.created = Some(asked.created.clone());
    let comment = Some(asked.comment.clone());
    config.history.push(HistoryEntry { created: config.created.clone(), comment, ..HistoryEntry::default() });
    let id = store.add_image(&Document::write(config)).map_err(|source| ImportError::Image { source })?;
    if let Some(name) = &asked.name {
        store.tag(name, &id).map_err(|source| ImportError::Tag { name: name.clone(), source })?;
    }
    Ok(id)
}
