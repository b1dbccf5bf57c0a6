//! Where a build context comes from, and how it becomes files that can be read.
//!
//! | given | context | Dockerfile |
//! |---|---|---|
//! | a directory | the directory | `--file`, from the working directory; else in the context |
//! | a file | the tar archive that it is, whatever its name | in the archive |
//! | `-` | the tar archive on standard input | in the archive |
//! | `-` | none | standard input, when it is no archive |
//! | a URL | the tar archive that is there; none, when it is a Dockerfile | in the archive, or the file itself |
//! | a git repository | the files of the commit, or a directory of them | in the commit |
//!
//! - Whether bytes are an archive is told by content (`builder::content`).
//! - An archive is unpacked into the store's `tmp/` with the limits of layers, and is gone when its [`FileTree`] is dropped.
//! - The ignore file of an archive of this machine counts as that of a directory does; BuildKit reads those of directories only,
//!   and so is it here with what is fetched.
//! - What is in an archive is only read through its [`FileTree`]: no link in it leads to a file of this machine.

use std::fs::{self, File};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use builder::{Bytes, Content, Dockerignore, FileTree, Owners, Remote, content};
use layer_store::Ownership;
use remote_files::{GitDir, RemoteSource, Use};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::dockerfile::read_limited;
use crate::ending::Ending;
use crate::input::{StandardInput, Stoppable};
use crate::session::{Interrupt, Session};
use crate::shown::shown;

/// What the word after the flags stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Directory(&'a Path),
    File(&'a Path),
    StandardInput,
    /// What has to be fetched.
    Remote(RemoteSource),
}

/// What opening a build context takes.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    pub(crate) session: &'a Session,
    pub(crate) access: &'a Access,
    /// Whether the `.git` of a repository is part of the context.
    pub(crate) git_dir: GitDir,
}

/// An opened build context, with nothing left out of it yet.
#[derive(Debug)]
pub(crate) enum BuildContext {
    /// A directory of the user's.
    Directory { path: PathBuf, tree: FileTree },
    /// What came from elsewhere, and what people know that by.
    Archive { name: String, tree: FileTree, ignoring: Ignoring },
    /// There is none, but a Dockerfile came in its place.
    Dockerfile { bytes: Vec<u8> },
}

/// Whether the ignore file of a context counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignoring {
    ByItsFile,
    Nothing,
}

impl<'a> Kind<'a> {
    /// Tells what `given` stands for.
    pub(crate) fn of(given: &'a str) -> Result<Self, Ending> {
        let path = Path::new(given);
        let is_here = path.is_dir();
        if let Some(source) = RemoteSource::parse(given, Use::BuildContext).filter(|_| !is_here) {
            let source = source.map_err(|error| Ending::usage(format!("{error}: {}", error.source)))?;
            return Ok(Self::Remote(source));
        }
        match given {
            "" => Err(Ending::usage("the build context has no name: use `.` for the working directory")),
            "-" => Ok(Self::StandardInput),
            given => match fs::metadata(path) {
                Ok(metadata) if metadata.is_dir() => Ok(Self::Directory(path)),
                Ok(metadata) if metadata.is_file() => Ok(Self::File(path)),
                Ok(_) => Err(no_context(path)),
                Err(error) => Err(Ending::usage(format!("cannot find the build context `{}`: {error}", shown(given)))),
            },
        }
    }
}

impl BuildContext {
    /// Opens the build context `kind`; a signal stops what takes long, and is the error then.
    pub(crate) fn open(kind: Kind<'_>, opening: &Opening<'_>) -> anyhow::Result<Self> {
        if let Kind::Directory(_) = kind {
            return Self::open_kind(kind, opening, &CancellationToken::new());
        }
        opening.session.block_on(async {
            let interrupt = Interrupt::watch()?;
            let context = Self::open_kind(kind, opening, interrupt.stop());
            interrupt.ending().map_or(context, |ending| Err(ending.into()))
        })
    }

    /// Opens the build context `kind` until `stop` is cancelled.
    pub(crate) fn open_kind(kind: Kind<'_>, opening: &Opening<'_>, stop: &CancellationToken) -> anyhow::Result<Self> {
        let session = opening.session;
        match kind {
            Kind::Directory(path) => {
                let tree = FileTree::open(path, Dockerignore::default(), Owners::Root);
                let tree = tree.with_context(|| format!("cannot open the build context `{}`", path.display()))?;
                Ok(Self::Directory { path: path.to_owned(), tree })
            }
            Kind::File(path) => {
                let file = File::open(path).and_then(content);
                match file.with_context(|| format!("cannot read the build context `{}`", path.display()))? {
                    Content::Tar(tar) => {
                        unpack(tar, (&format!("`{}`", path.display()), Ignoring::ByItsFile), session, stop)
                    }
                    Content::Compressed(_) | Content::Other(_) => Err(no_context(path).into()),
                }
            }
            Kind::StandardInput => standard_input(session, stop),
            Kind::Remote(source) => fetched(source, opening, stop),
        }
    }

    /// Gives the context its ignore file and returns its files; there are none beside a Dockerfile alone.
    pub(crate) fn into_tree(self, ignore: Dockerignore) -> Option<FileTree> {
        match self {
            Self::Directory { tree, .. } | Self::Archive { tree, .. } => Some(tree.with_ignore(ignore)),
            Self::Dockerfile { .. } => None,
        }
    }
}

fn no_context(path: &Path) -> Ending {
    let path = shown(&path.display().to_string());
    Ending::usage(format!(
        "the build context `{path}` is neither a directory nor a tar archive: a Dockerfile is named with `--file`"
    ))
}

fn standard_input(session: &Session, stop: &CancellationToken) -> anyhow::Result<BuildContext> {
    if std::io::stdin().is_terminal() {
        let advice = "give it a Dockerfile or a tar archive, as in `wharf build - < FILE`";
        return Err(Ending::usage(format!("standard input is a terminal: {advice}")).into());
    }
    let cannot_read = "cannot read the build context from standard input";
    let content = content(StandardInput { stop: stop.clone() }).context(cannot_read)?;
    archive_or_dockerfile(content, ("standard input", Ignoring::ByItsFile), session, stop)
}

/// Makes a context of bytes: an archive's files, or none beside the Dockerfile that they are.
fn archive_or_dockerfile(
    content: Content,
    (name, ignoring): (&str, Ignoring),
    session: &Session,
    stop: &CancellationToken,
) -> anyhow::Result<BuildContext> {
    let bytes = match content {
        Content::Tar(tar) => return unpack(tar, (name, ignoring), session, stop),
        Content::Compressed(method) => bail!("{name} is compressed with {method}, but no tar archive comes out of it"),
        Content::Other(bytes) => {
            read_limited(bytes).with_context(|| format!("cannot read the build context from {name}"))?
        }
    };
    match &bytes[..] {
        [] => bail!("{name} is empty: it has to be a Dockerfile or a tar archive"),
        [b'P', b'K', 3, 4, ..] => bail!("{name} is a zip archive: it has to be a Dockerfile or a tar archive"),
        bytes if bytes.contains(&0) => bail!("{name} is neither a Dockerfile nor a tar archive"),
        _ => Ok(BuildContext::Dockerfile { bytes }),
    }
}

fn unpack(
    tar: Bytes,
    (name, ignoring): (&str, Ignoring),
    session: &Session,
    stop: &CancellationToken,
) -> anyhow::Result<BuildContext> {
    let tar = Stoppable { bytes: tar, stop: stop.clone() };
    let unpacked = session.store()?.unpack(tar, Ownership::Caller);
    let unpacked = unpacked.with_context(|| format!("cannot unpack the build context from {name}"))?;
    let tree = FileTree::open(&unpacked.path(), Dockerignore::default(), Owners::Root);
    let tree = tree.with_context(|| format!("cannot open what was unpacked from {name}"))?.kept_by(unpacked);
    Ok(BuildContext::Archive { name: format!("the archive from {name}"), tree, ignoring })
}

/// Fetches a context; inside of a tokio runtime.
fn fetched(source: RemoteSource, opening: &Opening<'_>, stop: &CancellationToken) -> anyhow::Result<BuildContext> {
    let name = source.to_string();
    let remote = match source {
        RemoteSource::Http(source) => Remote::File { source, checksum: None },
        RemoteSource::Git(source) => {
            let git_dir = source.git_dir().unwrap_or(opening.git_dir);
            Remote::Tree { source, git_dir }
        }
    };
    let files = opening.session.network_files(opening.session.store()?, opening.access)?;
    let fetch = async {
        tokio::select! {
            fetched = files.get(&remote) => fetched.with_context(|| format!("cannot fetch the build context {name}")),
            () = stop.cancelled() => bail!("stopped"),
        }
    };
    let tree = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(fetch))?;
    match remote {
        Remote::Tree { .. } => {
            Ok(BuildContext::Archive { name: format!("the repository {name}"), tree, ignoring: Ignoring::Nothing })
        }
        Remote::File { .. } => fetched_file(&name, &tree, opening.session, stop),
    }
}

/// Opens the only file of `tree` as a context: an archive, or a Dockerfile alone.
fn fetched_file(
    name: &str,
    tree: &FileTree,
    session: &Session,
    stop: &CancellationToken,
) -> anyhow::Result<BuildContext> {
    let cannot_read = || format!("cannot read the build context {name}");
    let entries = tree.list(Path::new("")).with_context(cannot_read)?;
    let path = &entries.first().with_context(cannot_read)?.path;
    let content = tree.open_file(path).and_then(content).with_context(cannot_read)?;
    archive_or_dockerfile(content, (name, Ignoring::Nothing), session, stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_told_by_its_word_and_by_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        fs::write(&file, "").unwrap();
        assert_eq!(Kind::of("-").unwrap(), Kind::StandardInput);
        assert_eq!(Kind::of(".").unwrap(), Kind::Directory(Path::new(".")));
        assert_eq!(Kind::of(file.to_str().unwrap()).unwrap(), Kind::File(&file));
        for given in ["https://example.com/x.git", "git@example.com:x", "github.com/a/b"] {
            let source = RemoteSource::parse(given, Use::BuildContext).unwrap().unwrap();
            assert_eq!(Kind::of(given).unwrap(), Kind::Remote(source));
        }
        for given in ["", "/nonexistent", "/dev/null"] {
            assert!(Kind::of(given).is_err(), "{given}");
        }
    }
}
