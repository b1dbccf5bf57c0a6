//! The digest by which files enter a cache key: their content, not where or when they were read.
//!
//! | of a file | in the digest | why |
//! |---|---|---|
//! | name below the destination | yes | the same bytes under another name give another layer |
//! | kind, permission bits, link target, device number | yes | they are in the layer |
//! | owner and group | only when kept (`Owners::Kept`) | from a build context they become 0:0 |
//! | extended attributes that are copied | yes | they are in the layer |
//! | bytes | yes | |
//! | sockets | no | they are not copied |
//! | times, inode, link count, path in the tree | no | a checkout or a touch must not miss |

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::context_index::Pass;
use crate::file_tree::{FileEntry, FileTree, Owners};
use crate::select::{Selected, Selection};
use crate::source_file::holding_of;

/// The digest of a selection of files, as 64 hexadecimal digits of BLAKE3.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ContentDigest(String);

/// A file of the tree that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read `{}`", .path.display())]
pub struct ReadError {
    /// Where it stands in the tree.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// What each entry of a selection holds, in its order: the digest of bytes, attributes and link target.
pub(crate) type Holdings = Vec<Option<blake3::Hash>>;

/// Byte strings, each with its length before it, so that no two lists of them look alike.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads the selected files and returns their digest; writing the layer (`layer_writer.rs`) finds the same one on its way.
///
/// # Errors
///
/// [`ReadError`] with the path of the first file that cannot be read, or changes meanwhile.
pub fn content_digest(tree: &FileTree, selection: &Selection) -> Result<ContentDigest, ReadError> {
    let holdings = find_holdings(tree, selection, Holdings::new())?;
    Ok(digest_of(tree.owners(), selection, &holdings))
}

/// Finds what each entry holds, as far as `holdings` does not say it yet.
pub(crate) fn find_holdings(
    tree: &FileTree,
    selection: &Selection,
    mut holdings: Holdings,
) -> Result<Holdings, ReadError> {
    let mut pass = Pass::new(tree.index());
    let mut buffer = vec![0; 256 << 10];
    for (place, (_, entry)) in entries(selection).enumerate() {
        if holdings.len() == place {
            holdings.push(None);
        }
        if holdings[place].is_none() {
            holdings[place] = holding_of(tree, entry, &mut pass, &mut buffer)?;
        }
    }
    Ok(holdings)
}

/// Returns the digest of a selection whose entries hold this.
pub(crate) fn digest_of(owners: Owners, selection: &Selection, holdings: &[Option<blake3::Hash>]) -> ContentDigest {
    let mut hasher = blake3::Hasher::new();
    let mut frames = Frames::default();
    for ((name, entry), holding) in entries(selection).zip(holdings) {
        let stat = &entry.stat;
        let owner = owners.of(entry);
        frames.add(name.as_os_str().as_bytes());
        frames.add(&stat.st_mode.to_le_bytes());
        frames.add(&owner.0.to_le_bytes());
        frames.add(&owner.1.to_le_bytes());
        frames.add(&entry.device().to_le_bytes());
        frames.add(holding.as_ref().map_or(b"", |holding| holding.as_bytes()));
        if frames.0.len() > 64 << 10 {
            hasher.update(&frames.0);
            frames.0.clear();
        }
    }
    hasher.update(&frames.0);
    ContentDigest(hasher.finalize().to_hex().to_string())
}

/// Lists what is copied of a selection, with the names below the destination; the order of [`Holdings`].
pub(crate) fn entries(selection: &Selection) -> impl Iterator<Item = (&Path, &FileEntry)> {
    selection.sources.iter().flat_map(copied)
}

/// Lists what is copied of one source.
pub(crate) fn copied(source: &Selected) -> impl Iterator<Item = (&Path, &FileEntry)> {
    source.named_entries().filter(|(_, entry)| entry.kind() != FileType::Socket)
}
