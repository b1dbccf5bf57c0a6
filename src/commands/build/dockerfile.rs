//! Finds and reads the Dockerfile of a build, and the ignore file that goes with it.
//!
//! | context | `--file` | without it | ignore file |
//! |---|---|---|---|
//! | a directory | any file, from the working directory | in the context | beside the Dockerfile, else in the context |
//! | an archive | in the archive | in the archive | in the archive |
//!
//! What is looked for without being named must not be a pipe: nothing waits for one that happens to have the name. In an archive
//! only regular files are read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use builder::{BuildError, Dockerignore, FileTree};
use rustix::fs::{FileType, OFlags};

use super::context::{BuildContext, Ignoring};
use crate::ending::Ending;
use crate::report::{self, BuildFailure, DockerfileText};

/// The names that are looked for, in this order.
const NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];

/// There is no file where a Dockerfile was looked for.
#[derive(Debug, thiserror::Error)]
#[error("there is no Dockerfile `{}`{}", .path.display(), within(.archive.as_deref()))]
pub(crate) struct NoDockerfile {
    /// Where it was looked for.
    path: PathBuf,
    /// The archive that it is not in; `None` when it is not on this machine.
    pub(crate) archive: Option<String>,
    /// A file of another name that is probably meant.
    pub(crate) similar: Option<PathBuf>,
}

/// Names an archive at the end of a sentence.
fn within(archive: Option<&str>) -> String {
    archive.map(|name| format!(" in {name}")).unwrap_or_default()
}

/// A Dockerfile and where it was found.
#[derive(Debug)]
pub(super) struct FoundDockerfile {
    pub(super) dockerfile: DockerfileText,
    /// `None` for standard input.
    pub(super) path: Option<PathBuf>,
}

/// What the command line says of the Dockerfile.
#[derive(Debug)]
pub(super) enum GivenDockerfile<'a> {
    Nothing,
    Path(&'a Path),
    /// It came on standard input.
    Piped(Vec<u8>),
}

/// Where names are looked up.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// This machine; names without a directory are those of the context.
    Machine { context: &'a Path },
    /// The files of an archive, and nothing else.
    Archive { tree: &'a FileTree, name: &'a str },
}

impl<'a> Place<'a> {
    fn of(context: &'a BuildContext) -> Option<Self> {
        match context {
            BuildContext::Directory { path, .. } => Some(Self::Machine { context: path }),
            BuildContext::Archive { tree, name, .. } => Some(Self::Archive { tree, name }),
            BuildContext::Dockerfile { .. } => None,
        }
    }

    /// Returns the path of a file that stands in the context itself.
    fn in_context(self, name: &str) -> PathBuf {
        match self {
            Self::Machine { context } => context.join(name),
            Self::Archive { .. } => PathBuf::from(name),
        }
    }

    fn has(self, path: &Path) -> bool {
        match self {
            Self::Machine { .. } => path.exists(),
            Self::Archive { tree, .. } => tree.find_any(path).is_ok_and(|found| found.is_some()),
        }
    }

    /// Opens a file that nobody named.
    fn open(self, path: &Path) -> io::Result<File> {
        let file = match self {
            Self::Machine { .. } => {
                let flags = OFlags::NONBLOCK.bits().cast_signed();
                OpenOptions::new().read(true).custom_flags(flags).open(path)?
            }
            Self::Archive { tree, .. } => {
                let entry = tree.find_any(path)?.ok_or(io::ErrorKind::NotFound)?;
                match entry.kind() {
                    FileType::RegularFile => tree.open_file(&entry.path)?,
                    FileType::Directory => return Err(io::ErrorKind::IsADirectory.into()),
                    _ => return Err(io::Error::other("it is not a regular file")),
                }
            }
        };
        if file.metadata()?.file_type().is_fifo() {
            return Err(io::Error::other("it is a pipe"));
        }
        Ok(file)
    }

    fn names_in(self, directory: &Path) -> Vec<String> {
        match self {
            Self::Machine { .. } => {
                let here = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
                let entries = fs::read_dir(here).into_iter().flatten().flatten();
                entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Self::Archive { tree, .. } => {
                let entries = tree.list_all(directory).unwrap_or_default();
                let names = entries.iter().filter_map(|entry| entry.path.file_name()?.to_str().map(str::to_owned));
                names.collect()
            }
        }
    }

    fn no_dockerfile(self, path: &Path) -> NoDockerfile {
        let is_similar = |name: &str| {
            let name = name.to_ascii_lowercase();
            name == "containerfile"
                || name == "dockerfile"
                || name.ends_with(".dockerfile")
                || name.starts_with("dockerfile.")
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        let names = self.names_in(directory).into_iter();
        let similar = names.filter(|name| is_similar(name) && !name.ends_with(".dockerignore")).min();
        let archive = match self {
            Self::Machine { .. } => None,
            Self::Archive { name, .. } => Some(name.to_owned()),
        };
        NoDockerfile { path: path.to_owned(), archive, similar: similar.map(|name| directory.join(name)) }
    }
}

/// Returns where the Dockerfile `file` is, else where that of `context` is or should be; `None` for standard input.
pub(crate) fn dockerfile_path(file: Option<&Path>, context: &BuildContext) -> Option<PathBuf> {
    let place = Place::of(context)?;
    match file {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.to_owned()),
        None => {
            let paths = NAMES.map(|name| place.in_context(name));
            let found = paths.iter().find(|path| place.has(path)).unwrap_or(&paths[0]);
            Some(found.clone())
        }
    }
}

/// Reads the value of `--file`, and standard input if that is it.
///
/// Comes before the context is opened: whoever ends the waiting for standard input leaves nothing unpacked.
pub(super) fn given_dockerfile(file: Option<&Path>) -> anyhow::Result<GivenDockerfile<'_>> {
    Ok(match file {
        None => GivenDockerfile::Nothing,
        Some(path) if path == Path::new("-") => {
            let read = read_limited(io::stdin().lock());
            GivenDockerfile::Piped(read.context("cannot read the Dockerfile from standard input")?)
        }
        Some(path) => GivenDockerfile::Path(path),
    })
}

/// Reads the Dockerfile that is given, else the one of `context`.
pub(super) fn read_dockerfile(given: &GivenDockerfile<'_>, context: &BuildContext) -> anyhow::Result<FoundDockerfile> {
    let file = match given {
        GivenDockerfile::Nothing => None,
        GivenDockerfile::Path(path) => Some(*path),
        GivenDockerfile::Piped(bytes) => return decoded("-".to_owned(), None, bytes),
    };
    match (context, Place::of(context), dockerfile_path(file, context)) {
        (BuildContext::Dockerfile { bytes }, ..) if file.is_none() => decoded("-".to_owned(), None, bytes),
        (_, Some(place), Some(path)) => {
            let bytes = read_file(&path, file, place)?;
            let name = if file.is_some() { path.as_os_str() } else { path.file_name().unwrap_or_default() };
            decoded(name.to_string_lossy().into_owned(), Some(path), &bytes)
        }
        _ => {
            let message = "two Dockerfiles are given: standard input is one, and `--file` names one";
            Err(Ending::usage(message).into())
        }
    }
}

/// Makes text of a Dockerfile's bytes.
fn decoded(name: String, path: Option<PathBuf>, bytes: &[u8]) -> anyhow::Result<FoundDockerfile> {
    let (text, diagnostics) = dockerfile::decode(bytes);
    let dockerfile = DockerfileText { name, text: text.into_owned() };
    if dockerfile::has_errors(&diagnostics) {
        let error = BuildError::Dockerfile { diagnostics };
        return Err(BuildFailure { dockerfile, error, output: report::Seen::Whole }.into());
    }
    Ok(FoundDockerfile { dockerfile, path })
}

fn read_file(path: &Path, named: Option<&Path>, place: Place<'_>) -> anyhow::Result<Vec<u8>> {
    let opened = match (place, named) {
        // who names a pipe wants it read
        (Place::Machine { .. }, Some(_)) => File::open(path),
        _ => place.open(path),
    };
    match opened.and_then(read_limited) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(place.no_dockerfile(path).into()),
        read => read.with_context(|| format!("cannot read the Dockerfile `{}`", path.display())),
    }
}

/// Reads a little more than a Dockerfile may have, so that the parser sees that it is too much.
pub(super) fn read_limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(dockerfile::MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the ignore file of the Dockerfile, else that of the context.
pub(crate) fn read_ignore(dockerfile: Option<&Path>, context: &BuildContext) -> anyhow::Result<Dockerignore> {
    if matches!(context, BuildContext::Archive { ignoring: Ignoring::Nothing, .. }) {
        return Ok(Dockerignore::default());
    }
    let Some(place) = Place::of(context) else { return Ok(Dockerignore::default()) };
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([place.in_context(".dockerignore")]) {
        match place.open(&path).and_then(read_limited) {
            Ok(bytes) if bytes.len() > dockerfile::MAX_SIZE => {
                let (path, most) = (path.display(), dockerfile::MAX_SIZE);
                anyhow::bail!("the ignore file `{path}` is larger than the {most} bytes that are read");
            }
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let ignore = Dockerignore::parse(&text).with_context(|| format!("cannot use `{}`", path.display()))?;
                let name = path.file_name().unwrap_or(path.as_os_str());
                return Ok(ignore.named(&name.to_string_lossy()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }
    Ok(Dockerignore::default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use builder::Owners;

    fn directory(path: &Path) -> BuildContext {
        let tree = FileTree::open(path, Dockerignore::default(), Owners::Root).unwrap();
        BuildContext::Directory { path: path.to_owned(), tree }
    }

    #[test]
    fn the_dockerfiles_own_ignore_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let is_ignored = |path: Option<&str>| {
            let path = path.map(|path| dir.path().join(path));
            let ignore = read_ignore(path.as_deref(), &directory(dir.path())).unwrap();
            let place = ignore.decide(b"a").or(ignore.decide(b"b")).map(|decision| ignore.place(decision.line));
            (ignore.is_ignored(b"a"), ignore.is_ignored(b"b"), place.unwrap_or_default())
        };
        assert_eq!(is_ignored(Some("Dockerfile")), (false, false, String::new()));
        write(".dockerignore", "a\n");
        write("x.Dockerfile.dockerignore", "\nb\n");
        assert_eq!(is_ignored(Some("Dockerfile")), (true, false, ".dockerignore:1".to_owned()));
        assert_eq!(is_ignored(None), (true, false, ".dockerignore:1".to_owned()));
        assert_eq!(is_ignored(Some("x.Dockerfile")), (false, true, "x.Dockerfile.dockerignore:2".to_owned()));
    }

    #[test]
    fn what_is_not_named_must_be_no_pipe() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["Dockerfile", ".dockerignore"] {
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, dir.path().join(name), kind, rustix::fs::Mode::RUSR, 0).unwrap();
        }
        let context = directory(dir.path());
        assert!(read_dockerfile(&GivenDockerfile::Nothing, &context).is_err());
        assert!(read_ignore(None, &context).is_err());
    }

    #[test]
    fn nothing_outside_of_an_archive_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("archive");
        fs::create_dir(&inside).unwrap();
        fs::write(dir.path().join("secret"), "FROM secret").unwrap();
        symlink(dir.path().join("secret"), inside.join("Dockerfile")).unwrap();
        symlink("../secret", inside.join(".dockerignore")).unwrap();
        fs::write(inside.join("other"), "FROM scratch").unwrap();
        symlink("/other", inside.join("link")).unwrap();
        let tree = FileTree::open(&inside, Dockerignore::default(), Owners::Root).unwrap();
        let place = Place::Archive { tree: &tree, name: "standard input" };
        for name in ["Dockerfile", ".dockerignore", "../secret"] {
            assert_eq!(place.open(Path::new(name)).unwrap_err().kind(), io::ErrorKind::NotFound, "{name}");
        }
        assert!(place.open(Path::new("link")).is_ok());
        assert!(place.open(Path::new("/other")).is_ok());
        assert_eq!(place.open(Path::new("")).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }
}
