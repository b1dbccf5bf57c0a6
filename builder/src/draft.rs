//! What a file op will write, settled before anything is written: the entries of its layer, on the files below.
//!
//! ```text
//! files below (looked up, never mounted) ─┐
//! sources, one after the other ───────────┴─▶ draft: one node per path ─sorted─▶ entries of the layer
//! ```
//!
//! - A path is walked one component at a time from the root; links, absolute or not, stay inside the root, also dangling ones,
//!   whose missing parts are made. `..` goes back along the directories that were walked, so it cannot pass the root.
//! - What was drafted hides what is below, also for the walk; of two files at one place the later stays.
//! - A linked layer sees nothing below: what leads to its destination is made, with the attributes it has there ([`Leading`]).
//! - A directory that is below appears only as the parent of something new, with the metadata it has there, or with new ones.
//! - What the build itself makes gets [`MADE`] as its time, not the time of the build: the same inputs give the same layer.
//!
//! Not here: which files come from where (`copy.rs`), the bytes (`layer_writer.rs`).

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use layer_store::{LayerFile, LayerFileKind, LayerFiles};
use rustix::fs::FileType;
use serde::Serialize;

use crate::file_tree::{FileEntry, FileTree};
use crate::rootfs::{MAX_LINKS, Owner, WriteError};
use crate::source_file::Xattrs;

/// The time of directories that only had to be there and of here-documents: 2 January 1980.
///
/// Archives that count from 1980, such as zip, can hold it in every time zone, which they cannot of 1970.
pub(crate) const MADE: Time = (315_619_200, 0);

/// Seconds since 1970 and nanoseconds after that second.
pub(crate) type Time = (i64, u32);

/// The place of a node in its draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(usize);

/// The entries of a layer that is to be written.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    below: Below<'a>,
    /// The time of what the build itself makes.
    made: Time,
    nodes: Vec<Node<'a>>,
    ids: HashMap<Vec<u8>, NodeId>,
}

/// What is known of the files that a layer is to lie on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Below<'a> {
    /// All of it.
    Files(&'a LayerFiles),
    /// Nothing but the attributes of directories that the layer has to repeat.
    Leading(&'a Leading),
}

/// Directories that lead to a destination, by path: mode, owner and extended attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Leading(BTreeMap<PathBuf, (u32, Owner, Xattrs)>);

impl Leading {
    /// Finds the directories of `destination` as far as they are there, without links on the way.
    pub(crate) fn find(below: &LayerFiles, destination: &Path) -> Result<Self, WriteError> {
        let mut leading = Self::default();
        let mut path = PathBuf::new();
        for name in names(destination) {
            path.push(OsStr::from_bytes(&name));
            let looked = below.look(&path).map_err(|source| WriteError::Look { path: path.clone(), source })?;
            let Some(file) = looked.filter(|file| file.kind == LayerFileKind::Directory) else { break };
            leading.0.insert(path.clone(), (file.mode, (file.uid, file.gid), file.xattrs));
        }
        Ok(leading)
    }
}

/// One entry, or a directory that is only known.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) path: PathBuf,
    pub(crate) attributes: Attributes,
    pub(crate) matter: Matter<'a>,
    parent: NodeId,
    /// Whether it is in the layer.
    is_written: bool,
}

/// What an entry's header says besides its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
    pub(crate) modified: Time,
}

/// What an entry is.
#[derive(Debug)]
pub(crate) enum Matter<'a> {
    /// A directory, with its attributes if it is one of the files below.
    Directory(Standing, Xattrs),
    /// Anything else of a tree.
    Source(Source<'a>),
    /// A file with this text.
    Text(&'a str),
}

/// Where a directory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is one of the files below.
    Below,
    /// It is made by this layer, so nothing below is in it.
    Made,
}

/// An entry of a tree that is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) tree: &'a FileTree,
    pub(crate) entry: &'a FileEntry,
    /// Its place among the selection's holdings; `None` where nobody asks for a digest.
    pub(crate) place: Option<usize>,
}

/// Where a name stands or would stand: `name` inside `parent`, after all links.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) parent: NodeId,
    pub(crate) name: Vec<u8>,
    pub(crate) there: There,
}

/// What stands at a place.
#[derive(Debug)]
pub(crate) enum There {
    Nothing,
    Directory(NodeId),
    Link(PathBuf),
    /// A regular file of so many bytes.
    File(u64),
    /// Something of another kind.
    Other,
}

const ROOT: NodeId = NodeId(0);

impl<'a> Draft<'a> {
    /// Begins a draft.
    pub(crate) fn new(below: Below<'a>) -> Self {
        let root = Node {
            path: PathBuf::new(),
            attributes: Attributes { mode: 0o755, owner: (0, 0), modified: MADE },
            matter: Matter::Directory(Standing::Below, Vec::new()),
            parent: ROOT,
            is_written: true,
        };
        Self { below, made: MADE, nodes: vec![root], ids: HashMap::from([(Vec::new(), ROOT)]) }
    }

    /// Gives what the build itself makes another time, in seconds since 1970.
    pub(crate) fn made_at(self, time: Option<i64>) -> Self {
        Self { made: time.map_or(MADE, |seconds| (seconds, 0)), ..self }
    }

    /// Returns the time of what the build itself makes.
    pub(crate) fn made(&self) -> Time {
        self.made
    }

    /// Finds the directory `path`, making what is missing of it with mode 0755 and this owner; says whether it made any.
    pub(crate) fn make_directory(&mut self, path: &Path, owner: Owner) -> Result<(NodeId, Standing), WriteError> {
        let mut walk = Walk::new(path, owner);
        while let Some(name) = walk.queue.pop_front() {
            self.enter(&mut walk, &name)?;
        }
        Ok((walk.top(), walk.standing))
    }

    /// Finds where `path` stands, following links, making missing parents with mode 0755 and this owner.
    pub(crate) fn place(&mut self, path: &Path, owner: Owner) -> Result<Place, WriteError> {
        let mut walk = Walk::new(path, owner);
        while let Some(name) = walk.queue.pop_front() {
            if !walk.queue.is_empty() || name == b".." {
                self.enter(&mut walk, &name)?;
                continue;
            }
            match self.look(walk.top(), &name)? {
                There::Link(target) => walk.follow(&target)?,
                there => return Ok(Place { parent: walk.top(), name, there }),
            }
        }
        Ok(Place { parent: walk.top(), name: b".".to_vec(), there: There::Directory(walk.top()) })
    }

    /// Returns what stands under `name` in a directory, not following links.
    pub(crate) fn look(&mut self, parent: NodeId, name: &[u8]) -> Result<There, WriteError> {
        let path = self.join(parent, name);
        if let Some(id) = self.ids.get(path.as_os_str().as_bytes()).copied() {
            return self.drafted(id);
        }
        if self.standing(parent) == Standing::Made {
            return Ok(There::Nothing);
        }
        let Below::Files(below) = self.below else { return Ok(There::Nothing) };
        let looked = below.look(&path).map_err(|source| WriteError::Look { path: path.clone(), source })?;
        let Some(file) = looked else { return Ok(There::Nothing) };
        Ok(match file.kind {
            LayerFileKind::Directory => There::Directory(self.known_directory(parent, path, file)),
            LayerFileKind::Symlink { target } => There::Link(target),
            LayerFileKind::File { size } => There::File(size),
            LayerFileKind::Other => There::Other,
        })
    }

    /// Makes a directory in another, where nothing stands.
    pub(crate) fn add_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        (attributes, xattrs): (Attributes, Xattrs),
    ) -> NodeId {
        let path = self.join(parent, name);
        let matter = Matter::Directory(Standing::Made, xattrs);
        self.add(Node { path, attributes, matter, parent, is_written: true })
    }

    /// Makes a directory that leads to something else.
    fn add_leading(&mut self, parent: NodeId, name: &[u8], owner: Owner) -> NodeId {
        let known = match self.below {
            Below::Leading(Leading(known)) => known.get(&self.join(parent, name)).cloned(),
            Below::Files(_) => None,
        };
        let (mode, owner, xattrs) = known.unwrap_or((0o755, owner, Vec::new()));
        self.add_directory(parent, name, (Attributes { mode, owner, modified: self.made }, xattrs))
    }

    /// Gives a directory that was found or made other attributes; so it is in the layer.
    ///
    /// Extended attributes of the same names are replaced, others stay.
    pub(crate) fn set_attributes(&mut self, directory: NodeId, (attributes, xattrs): (Attributes, &Xattrs)) {
        let node = &mut self.nodes[directory.0];
        node.attributes = attributes;
        if let Matter::Directory(_, held) = &mut node.matter {
            held.retain(|(name, _)| !xattrs.iter().any(|(new, _)| new == name));
            held.extend_from_slice(xattrs);
            held.sort();
        }
        self.write_with_parents(directory);
    }

    /// Puts a file at a place; a directory that stands there stays, and is an error.
    pub(crate) fn put(
        &mut self,
        parent: NodeId,
        name: &[u8],
        matter: Matter<'a>,
        attributes: Attributes,
    ) -> Result<(), WriteError> {
        let path = self.join(parent, name);
        if let There::Directory(_) = self.look(parent, name)? {
            return Err(WriteError::IsADirectory { path: Path::new("/").join(path) });
        }
        self.add(Node { path, attributes, matter, parent, is_written: true });
        Ok(())
    }

    /// Puts a file at a place; a directory that stands there goes, with all that is in it.
    pub(crate) fn replace(
        &mut self,
        parent: NodeId,
        name: &[u8],
        matter: Matter<'a>,
        attributes: Attributes,
    ) -> Result<(), WriteError> {
        let path = self.join(parent, name);
        if let There::Directory(directory) = self.look(parent, name)? {
            let nodes = &mut self.nodes;
            self.ids.retain(|_, id| {
                let node = &mut nodes[id.0];
                let goes = *id != directory && node.path.starts_with(&path);
                node.is_written &= !goes;
                !goes
            });
        }
        self.add(Node { path, attributes, matter, parent, is_written: true });
        Ok(())
    }

    /// Returns the path of a node.
    pub(crate) fn path(&self, id: NodeId) -> &Path {
        &self.nodes[id.0].path
    }

    /// Returns what is to be written, parents first, in the order of a layer's tar.
    pub(crate) fn into_entries(self) -> Vec<Node<'a>> {
        let mut nodes = self.nodes;
        nodes.retain(|node| node.is_written && !node.path.as_os_str().is_empty());
        nodes.sort_by(tar_order);
        nodes
    }

    fn drafted(&self, id: NodeId) -> Result<There, WriteError> {
        match &self.nodes[id.0].matter {
            Matter::Directory(..) => Ok(There::Directory(id)),
            Matter::Text(text) => Ok(There::File(text.len() as u64)),
            Matter::Source(source) => match source.entry.kind() {
                FileType::RegularFile => Ok(There::File(source.entry.size())),
                FileType::Symlink => {
                    let target = source.tree.link_target(&source.entry.path);
                    let failed = |source| WriteError::Write { path: self.nodes[id.0].path.clone(), source };
                    Ok(There::Link(target.map_err(failed)?.0))
                }
                _ => Ok(There::Other),
            },
        }
    }

    fn standing(&self, directory: NodeId) -> Standing {
        match self.nodes[directory.0].matter {
            Matter::Directory(standing, _) => standing,
            _ => Standing::Made,
        }
    }

    fn known_directory(&mut self, parent: NodeId, path: PathBuf, file: LayerFile) -> NodeId {
        let attributes = Attributes { mode: file.mode, owner: (file.uid, file.gid), modified: file.mtime };
        let matter = Matter::Directory(Standing::Below, file.xattrs);
        self.add(Node { path, attributes, matter, parent, is_written: false })
    }

    fn add(&mut self, node: Node<'a>) -> NodeId {
        if node.is_written {
            self.write_with_parents(node.parent);
        }
        let next = NodeId(self.nodes.len());
        let id = *self.ids.entry(node.path.as_os_str().as_bytes().to_vec()).or_insert(next);
        if id == next {
            self.nodes.push(node);
        } else {
            self.nodes[id.0] = node;
        }
        id
    }

    /// Puts a directory into the layer, and the directories above it.
    fn write_with_parents(&mut self, mut directory: NodeId) {
        while !self.nodes[directory.0].is_written {
            self.nodes[directory.0].is_written = true;
            directory = self.nodes[directory.0].parent;
        }
    }

    fn join(&self, parent: NodeId, name: &[u8]) -> PathBuf {
        let mut path = self.nodes[parent.0].path.clone();
        path.push(OsStr::from_bytes(name));
        path
    }

    /// Goes one step down, back, or along a link; makes a directory where nothing stands.
    fn enter(&mut self, walk: &mut Walk<'_>, name: &[u8]) -> Result<(), WriteError> {
        if name == b".." {
            walk.directories.pop();
            return Ok(());
        }
        let directory = match self.look(walk.top(), name)? {
            There::Link(target) => return walk.follow(&target),
            There::Directory(id) => id,
            There::File(_) | There::Other => return Err(WriteError::NotADirectory { path: walk.path.to_owned() }),
            There::Nothing => {
                walk.standing = Standing::Made;
                self.add_leading(walk.top(), name, walk.owner)
            }
        };
        walk.directories.push(directory);
        Ok(())
    }
}

/// A walk down from the root, one component at a time.
struct Walk<'p> {
    path: &'p Path,
    owner: Owner,
    queue: VecDeque<Vec<u8>>,
    /// The directories below the root that were entered.
    directories: Vec<NodeId>,
    links: usize,
    standing: Standing,
}

impl<'p> Walk<'p> {
    fn new(path: &'p Path, owner: Owner) -> Self {
        let queue = names(path).collect();
        Self { path, owner, queue, directories: Vec::new(), links: 0, standing: Standing::Below }
    }

    fn top(&self) -> NodeId {
        self.directories.last().copied().unwrap_or(ROOT)
    }

    fn follow(&mut self, target: &Path) -> Result<(), WriteError> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(WriteError::TooManyLinks { path: self.path.to_owned() });
        }
        if target.is_absolute() {
            self.directories.clear();
        }
        for name in names(target).collect::<Vec<_>>().into_iter().rev() {
            self.queue.push_front(name);
        }
        Ok(())
    }
}

fn names(path: &Path) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        _ => None,
    })
}

/// Compares entries bytewise by path, where a directory's path ends in a slash.
fn tar_order(a: &Node<'_>, b: &Node<'_>) -> Ordering {
    let (a_path, b_path) = (a.path.as_os_str().as_bytes(), b.path.as_os_str().as_bytes());
    let common = a_path.len().min(b_path.len());
    let rest = |node: &Node<'_>, path: &[u8]| match path.get(common) {
        None if matches!(node.matter, Matter::Directory(..)) => Some(b'/'),
        next => next.copied(),
    };
    let by_bytes = a_path[..common].cmp(&b_path[..common]).then_with(|| rest(a, a_path).cmp(&rest(b, b_path)));
    by_bytes.then(a_path.len().cmp(&b_path.len()))
}

#[cfg(test)]
mod tests {
    use layer_store::{Store, TarEntry, TarKind};

    use super::*;

    /// The files below: directories `usr/lib` and `d`, a file, and links.
    fn check(body: impl Fn(&mut Draft<'_>)) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut layer = store.begin_tar().unwrap();
        let link = |target: &'static str| TarKind::Symlink { target: Path::new(target) };
        for (path, kind) in [
            ("d", TarKind::Directory),
            ("file", TarKind::File { size: 0 }),
            ("lib", link("/usr/lib")),
            ("loop", link("loop")),
            ("new-link", link("/new/x")),
            ("out", link("../../../../escape")),
            ("to-file", link("file")),
            ("usr", TarKind::Directory),
            ("usr/lib", TarKind::Directory),
        ] {
            let entry =
                TarEntry { path: Path::new(path), kind, mode: 0o711, uid: 3, gid: 4, mtime: (5, 6), xattrs: &[] };
            let mut nothing = std::io::empty();
            let is_file = matches!(kind, TarKind::File { .. });
            layer.entry(&entry, is_file.then_some(&mut nothing as &mut dyn std::io::Read)).unwrap();
        }
        let layer = layer_store::Lower::Layer(layer.finish().unwrap().diff_id);
        body(&mut Draft::new(Below::Files(&store.files(&[layer]).unwrap())));
    }

    fn shown(draft: &mut Draft<'_>) -> Vec<String> {
        let entries = std::mem::replace(draft, Draft::new(draft.below)).into_entries();
        let show = |node: Node<'_>| {
            let Attributes { mode, owner, modified } = node.attributes;
            format!("{} {mode:o} {}:{} {}", node.path.display(), owner.0, owner.1, modified.0)
        };
        entries.into_iter().map(show).collect()
    }

    #[test]
    fn links_and_dots_stay_inside_the_root() {
        let made = "755 8:9 315619200";
        let cases: [(&str, &[&str]); 7] = [
            ("lib/a", &["usr 711 3:4 5", "usr/lib 711 3:4 5", "usr/lib/a"]),
            ("/out/b", &["escape", "escape/b"]),
            ("../../c", &["c"]),
            ("lib/../d", &["usr 711 3:4 5", "usr/d"]),
            ("new-link/e", &["new", "new/x", "new/x/e"]),
            ("/usr/lib", &[]),
            ("/", &[]),
        ];
        check(|draft| {
            for (path, expected) in cases {
                let (_, standing) = draft.make_directory(Path::new(path), (8, 9)).unwrap();
                assert_eq!(standing == Standing::Below, expected.is_empty(), "{path}");
                let whole =
                    |entry: &&str| if entry.contains(' ') { (*entry).to_owned() } else { format!("{entry} {made}") };
                assert_eq!(shown(draft), expected.iter().map(whole).collect::<Vec<_>>(), "{path}");
            }
        });
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        check(|draft| {
            let mut make = |path: &str| draft.make_directory(Path::new(path), (0, 0));
            assert!(matches!(make("file/x"), Err(WriteError::NotADirectory { .. })));
            assert!(matches!(make("to-file"), Err(WriteError::NotADirectory { .. })));
            assert!(matches!(make("loop/x"), Err(WriteError::TooManyLinks { .. })));
        });
    }

    #[test]
    fn a_place_is_found_after_its_links() {
        check(|draft| {
            let mut place = |path: &str| {
                let place = draft.place(Path::new(path), (0, 0)).unwrap();
                format!("{} {} {:?}", draft.path(place.parent).display(), place.name.escape_ascii(), place.there)
            };
            assert_eq!(place("to-file"), " file File(0)");
            assert!(place("lib").starts_with("usr lib Directory"));
            assert_eq!(place("new-link"), "new x Nothing");
            assert!(place("/").starts_with(" . Directory"));
        });
    }

    #[test]
    fn entries_are_in_the_order_of_a_tar_with_their_parents() {
        check(|draft| {
            let attributes = Attributes { mode: 0o644, owner: (0, 0), modified: MADE };
            for path in ["/n/a.txt", "/n/a/z", "/n/a-b", "/n/B", "/d/x"] {
                let place = draft.place(Path::new(path), (0, 0)).unwrap();
                draft.put(place.parent, &place.name, Matter::Text("t"), attributes).unwrap();
            }
            let paths: Vec<_> = shown(draft).iter().map(|entry| entry.split(' ').next().unwrap().to_owned()).collect();
            assert_eq!(paths, ["d", "d/x", "n", "n/B", "n/a-b", "n/a.txt", "n/a", "n/a/z"]);
        });
    }
}
