//! Writes a draft as a layer, each file read once: its bytes go into the tar and into the digest at the same time.
//!
//! - Names that share an inode in a tree share one in the layer.
//! - A failure leaves nothing; so does being stopped.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

use layer_store::{LayerRecord, TarEntry, TarKind, TarLayer, TarLayerError};
use rustix::fs::FileType;
use tokio_util::sync::CancellationToken;

use crate::content_digest::{Holdings, ReadError};
use crate::context_index::Pass;
use crate::copy::CopyError;
use crate::draft::{Draft, Matter, Node, Source};
use crate::source_file::{SourceFile, Xattrs, link};

/// Writes the entries of a draft.
pub(crate) struct LayerWriter<'a> {
    layer: TarLayer,
    stop: &'a CancellationToken,
    /// Of the tree that the index belongs to.
    pass: Pass<'a>,
    /// Of the other trees, which have no index.
    unindexed: Pass<'a>,
    /// What the selection's entries hold, as far as it is known.
    holdings: Holdings,
    /// (device, inode) → first name, and what it holds.
    first_names: HashMap<(u64, u64), (PathBuf, blake3::Hash)>,
}

impl<'a> LayerWriter<'a> {
    /// Begins to write; `pass` and `holdings` are those of the selection whose entries have places.
    pub(crate) fn new(layer: TarLayer, pass: Pass<'a>, holdings: Holdings, stop: &'a CancellationToken) -> Self {
        Self { layer, stop, pass, unindexed: Pass::new(None), holdings, first_names: HashMap::new() }
    }

    /// Writes all of it; returns the layer and what the entries hold that were written.
    pub(crate) fn write(mut self, draft: Draft<'_>) -> Result<(LayerRecord, Holdings), CopyError> {
        for node in draft.into_entries() {
            if self.stop.is_cancelled() {
                return Err(CopyError::Stopped);
            }
            self.node(&node)?;
        }
        let record = self.layer.finish()?;
        Ok((record, self.holdings))
    }

    fn node(&mut self, node: &Node<'_>) -> Result<(), CopyError> {
        match &node.matter {
            Matter::Directory(_, xattrs) => self.entry(node, TarKind::Directory, xattrs, None),
            Matter::Text(text) => {
                let kind = TarKind::File { size: text.len() as u64 };
                self.entry(node, kind, &Vec::new(), Some(&mut text.as_bytes()))
            }
            Matter::Source(source) => self.source(node, source),
        }
    }

    fn source(&mut self, node: &Node<'_>, source: &Source<'_>) -> Result<(), CopyError> {
        let device = source.entry.stat.st_rdev;
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let kind = match source.entry.kind() {
            FileType::RegularFile => return self.file(node, source),
            FileType::Symlink => {
                let (target, holding) = link(source.tree, source.entry, self.pass_of(source))?;
                self.note(source, holding);
                return self.entry(node, TarKind::Symlink { target: &target }, &Vec::new(), None);
            }
            FileType::CharacterDevice => TarKind::Character { major, minor },
            FileType::BlockDevice => TarKind::Block { major, minor },
            _ => TarKind::Fifo,
        };
        self.entry(node, kind, &Vec::new(), None)
    }

    fn file(&mut self, node: &Node<'_>, source: &Source<'_>) -> Result<(), CopyError> {
        let stat = &source.entry.stat;
        let inode = (stat.st_dev, stat.st_ino);
        if let Some((first, holding)) = self.first_names.get(&inode) {
            let (first, holding) = (first.clone(), *holding);
            self.note(source, holding);
            return self.entry(node, TarKind::HardLink { to: &first }, &Vec::new(), None);
        }
        let known = source.place.and_then(|place| self.holdings.get(place).copied().flatten());
        let known = known.or_else(|| self.pass_of(source).known(source.entry));
        let (mut file, xattrs) = SourceFile::open(source.tree, source.entry, known)?;
        let kind = TarKind::File { size: source.entry.size() };
        self.entry(node, kind, &xattrs, Some(&mut file)).map_err(|error| of_source(error, source))?;
        let holding = file.finish(&xattrs, self.pass_of(source))?;
        self.note(source, holding);
        if stat.st_nlink > 1 {
            self.first_names.insert(inode, (node.path.clone(), holding));
        }
        Ok(())
    }

    fn entry(
        &mut self,
        node: &Node<'_>,
        kind: TarKind<'_>,
        xattrs: &Xattrs,
        content: Option<&mut dyn Read>,
    ) -> Result<(), CopyError> {
        let (uid, gid) = node.attributes.owner;
        let (mode, mtime) = (node.attributes.mode, node.attributes.modified);
        let entry = TarEntry { path: &node.path, kind, mode, uid, gid, mtime, xattrs };
        Ok(self.layer.entry(&entry, content)?)
    }

    /// The pass of a source's tree: what came out of an archive is in no index.
    fn pass_of(&mut self, source: &Source<'_>) -> &mut Pass<'a> {
        if source.place.is_none() {
            return &mut self.unindexed;
        }
        &mut self.pass
    }

    fn note(&mut self, source: &Source<'_>, holding: blake3::Hash) {
        let Some(place) = source.place else { return };
        if self.holdings.len() <= place {
            self.holdings.resize(place + 1, None);
        }
        self.holdings[place] = Some(holding);
    }
}

/// Says what could not be read by its name in the tree, not in the layer.
fn of_source(error: CopyError, source: &Source<'_>) -> CopyError {
    match error {
        CopyError::Layer(TarLayerError::Read { source: cause, .. }) => {
            ReadError { path: source.entry.path.clone(), source: cause }.into()
        }
        other => other,
    }
}
