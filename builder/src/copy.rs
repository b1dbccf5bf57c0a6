//! Says where each selected file goes: from a selection to the draft of a layer.
//!
//! | destination | one file | a directory, several sources, a wildcard with several matches |
//! |---|---|---|
//! | ends in `/` or is a directory | below it | into it |
//! | does not exist | under this name | made, then into it |
//! | is a file | replaces it | error |
//!
//! - The destination, if it is there, keeps its mode, owner and time; directories below it take those of the source's
//!   directories, whether they are there or made. With `--parents` all that are there keep theirs.
//! - An archive that is unpacked also replaces directories by files and files and links by directories, as layers do; of a
//!   directory that it has no entry for it knows nothing, so one that is there keeps what it has, and a link is followed.
//! - Sources go in their order, each archive that is unpacked in its place: of two files at one path the later stays.
//! - A socket in a directory is skipped, since no layer can hold one; one that is a source itself is an error.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dockerfile::{FileKind, Mode};
use layer_store::{TarLayerError, UnpackError};
use rustix::fs::FileType;

use crate::content_digest::{ReadError, copied};
use crate::draft::{Attributes, Draft, Matter, NodeId, Source, There};
use crate::file_tree::{FileEntry, FileTree};
use crate::graph::InlineFile;
use crate::rootfs::{Owner, WriteError};
use crate::select::{Selected, Selection};
use crate::unpack::Archive;

/// How files are changed on their way.
#[derive(Clone, Debug)]
pub(crate) struct CopyOptions {
    /// Absolute; a trailing slash says that it is a directory.
    pub(crate) destination: String,
    /// The owner of everything written; `None` keeps the tree's.
    pub(crate) owner: Option<Owner>,
    /// The mode of everything written, or how it changes; `None` keeps the tree's.
    pub(crate) mode: Option<Mode>,
    /// The time of everything written, in seconds since 1970; `None` keeps the tree's.
    pub(crate) time: Option<i64>,
    /// Whether the destination must be a directory.
    pub(crate) needs_directory: bool,
    /// What becomes of directories below the destination that are there.
    pub(crate) merge: Merge,
}

/// What a directory that is there takes of a source's directory besides its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merge {
    /// Mode, owner and time.
    Metadata,
    /// Nothing.
    Contents,
}

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CopyError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot unpack `{}`", .path.display())]
    Unpack { path: PathBuf, source: UnpackError },
    #[error("`{}` is a socket, which no image can hold", .path.display())]
    Socket { path: PathBuf },
    #[error("`{destination}` must end in `/` to take several files")]
    NeedsDirectory { destination: String },
    #[error(transparent)]
    Layer(#[from] TarLayerError),
    #[error("stopped")]
    Stopped,
}

/// One source on its way into a draft.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyItem<'a> {
    pub(crate) tree: &'a FileTree,
    pub(crate) source: &'a Selected,
    /// What stands for a source that is unpacked.
    pub(crate) archive: Option<&'a Archive>,
    /// The place of its first entry among the selection's holdings; `None` where nobody asks for a digest.
    pub(crate) place: Option<usize>,
}

/// Lists the sources of a selection from `tree`; `archives` has what stands for one that is unpacked, in their order.
pub(crate) fn items<'a>(
    tree: &'a FileTree,
    selection: &'a Selection,
    archives: &'a [Option<Archive>],
) -> Vec<CopyItem<'a>> {
    let mut place = 0;
    let item = |(at, source): (usize, &'a Selected)| {
        let item = CopyItem { tree, source, archive: archives.get(at).and_then(Option::as_ref), place: Some(place) };
        place += copied(source).count();
        item
    };
    selection.sources.iter().enumerate().map(item).collect()
}

/// Drafts the copy of `items`.
pub(crate) fn copy<'a>(draft: &mut Draft<'a>, items: &[CopyItem<'a>], options: &CopyOptions) -> Result<(), CopyError> {
    if options.needs_directory && !options.is_directory(draft)? {
        return Err(CopyError::NeedsDirectory { destination: options.destination.clone() });
    }
    for item in items {
        let mut copy = Copy { draft, tree: item.tree, archive: None, options, places: item.place };
        match item.archive {
            Some(archive) => copy.archive(archive)?,
            None => copy.source(item.source)?,
        }
    }
    Ok(())
}

/// Drafts a here-document as a file with mode 0644, unless the options say another.
pub(crate) fn copy_inline<'a>(
    draft: &mut Draft<'a>,
    file: &'a InlineFile,
    options: &CopyOptions,
) -> Result<(), CopyError> {
    let (parent, name) = options.target(draft, Path::new(&file.name))?;
    let mode = options.mode.as_ref().map_or(0o644, |mode| mode.apply(0o644, FileKind::Other));
    let attributes = Attributes { mode, owner: options.parent_owner(), modified: draft.made() };
    Ok(draft.put(parent, &name, Matter::Text(&file.content), attributes)?)
}

impl CopyOptions {
    /// Returns the owner of directories that have to be made.
    fn parent_owner(&self) -> Owner {
        self.owner.unwrap_or((0, 0))
    }

    fn is_directory(&self, draft: &mut Draft<'_>) -> Result<bool, WriteError> {
        if self.destination.ends_with('/') {
            return Ok(true);
        }
        let place = draft.place(Path::new(&self.destination), self.parent_owner())?;
        Ok(matches!(place.there, There::Directory(_)))
    }

    /// Returns where one file goes: under the destination's own name, unless that is or must be a directory.
    fn target(&self, draft: &mut Draft<'_>, file: &Path) -> Result<(NodeId, Vec<u8>), WriteError> {
        let destination = Path::new(&self.destination);
        let name = file.as_os_str().as_bytes().to_vec();
        if self.needs_directory || self.destination.ends_with('/') {
            return Ok((draft.make_directory(destination, self.parent_owner())?.0, name));
        }
        let place = draft.place(destination, self.parent_owner())?;
        match place.there {
            There::Directory(directory) => Ok((directory, name)),
            _ => Ok((place.parent, place.name)),
        }
    }
}

struct Copy<'d, 'a, 'o> {
    draft: &'d mut Draft<'a>,
    tree: &'a FileTree,
    /// The archive that the tree came out of.
    archive: Option<&'a Archive>,
    options: &'o CopyOptions,
    /// The place of the next entry among the selection's holdings; `None` for what comes out of an archive.
    places: Option<usize>,
}

impl<'a> Copy<'_, 'a, '_> {
    fn source(&mut self, source: &'a Selected) -> Result<(), CopyError> {
        match source.entry.kind() {
            FileType::Directory => self.directory(source),
            FileType::Socket => Err(CopyError::Socket { path: source.entry.path.clone() }),
            _ => {
                let (parent, name) = self.options.target(self.draft, &source.name)?;
                self.put(parent, &name, &source.entry)
            }
        }
    }

    /// Drafts what an archive holds, which keeps its modes.
    fn archive(&mut self, archive: &'a Archive) -> Result<(), CopyError> {
        let options = CopyOptions { mode: None, ..self.options.clone() };
        let from = Some(archive);
        let mut copy = Copy { draft: self.draft, tree: &archive.tree, archive: from, options: &options, places: None };
        archive.selection.sources.iter().try_for_each(|source| copy.source(source))
    }

    fn directory(&mut self, source: &'a Selected) -> Result<(), CopyError> {
        let destination = Path::new(&self.options.destination);
        let (root, _) = self.draft.make_directory(destination, self.options.parent_owner())?;
        let mut levels: Vec<(&Path, NodeId)> = vec![(Path::new(""), root)];
        for (path, entry) in source.named_entries() {
            let above = path.parent().unwrap_or(Path::new(""));
            while levels.len() > 1 && levels.last().is_some_and(|(level, _)| *level != above) {
                levels.pop();
            }
            let (_, parent) = *levels.last().expect("the destination's level is never popped");
            let name = path.file_name().unwrap_or_default().as_bytes();
            match entry.kind() {
                FileType::Directory => {
                    self.next_place();
                    levels.push((path, self.enter(parent, path, entry)?));
                }
                FileType::Socket => {}
                _ => self.put(parent, name, entry)?,
            }
        }
        Ok(())
    }

    /// Finds or makes a directory below the destination.
    fn enter(&mut self, parent: NodeId, path: &Path, entry: &FileEntry) -> Result<NodeId, WriteError> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let is_implied = self.archive.is_some_and(|archive| archive.implies(&entry.path));
        let attributes = match self.attributes(entry) {
            Attributes { owner, .. } if is_implied => Attributes { mode: 0o755, owner, modified: self.draft.made() },
            attributes => attributes,
        };
        match self.draft.look(parent, name)? {
            There::Nothing => Ok(self.draft.add_directory(parent, name, (attributes, entry.xattrs.clone()))),
            There::Directory(directory) => {
                if self.options.merge == Merge::Metadata && !is_implied {
                    self.draft.set_attributes(directory, (attributes, &entry.xattrs));
                }
                Ok(directory)
            }
            _ if self.archive.is_some() && !is_implied => {
                Ok(self.draft.add_directory(parent, name, (attributes, entry.xattrs.clone())))
            }
            There::Link(_) | There::File(_) | There::Other => {
                let full = Path::new(&self.options.destination).join(path);
                Ok(self.draft.make_directory(&full, self.options.parent_owner())?.0)
            }
        }
    }

    /// Drafts anything but a directory.
    fn put(&mut self, parent: NodeId, name: &[u8], entry: &'a FileEntry) -> Result<(), CopyError> {
        let source = Source { tree: self.tree, entry, place: self.next_place() };
        let (matter, attributes) = (Matter::Source(source), self.attributes(entry));
        match self.archive {
            Some(_) => self.draft.replace(parent, name, matter, attributes)?,
            None => self.draft.put(parent, name, matter, attributes)?,
        }
        Ok(())
    }

    fn next_place(&mut self) -> Option<usize> {
        let place = self.places;
        self.places = place.map(|place| place + 1);
        place
    }

    fn attributes(&self, entry: &FileEntry) -> Attributes {
        let stat = &entry.stat;
        let mode = match (&self.options.mode, entry.kind()) {
            (None, _) | (_, FileType::Symlink) => stat.st_mode,
            (Some(mode), FileType::Directory) => mode.apply(stat.st_mode, FileKind::Directory),
            (Some(mode), _) => mode.apply(stat.st_mode, FileKind::Other),
        };
        let own = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
        let modified = self.options.time.map_or(own, |seconds| (seconds, 0));
        let owner = self.options.owner.unwrap_or_else(|| self.tree.owners().of(entry));
        Attributes { mode: mode & 0o7777, owner, modified }
    }
}

#[cfg(test)]
mod tests;
