//! Finds and reads the Dockerfile of a build, and the ignore file that goes with it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use builder::{BuildError, Dockerignore};

use crate::report::{self, BuildFailure, DockerfileText};

/// The names that are looked for, in this order.
const NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];

/// There is no file where a Dockerfile was looked for.
#[derive(Debug, thiserror::Error)]
#[error("there is no Dockerfile `{}`", .path.display())]
pub(crate) struct NoDockerfile {
    /// Where it was looked for.
    path: PathBuf,
    /// A file of another name that is probably meant.
    pub(crate) similar: Option<PathBuf>,
}

impl NoDockerfile {
    fn new(path: &Path) -> Self {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_similar = |name: &str| {
            let name = name.to_ascii_lowercase();
            name == "containerfile"
                || name == "dockerfile"
                || name.ends_with(".dockerfile")
                || name.starts_with("dockerfile.")
        };
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let similar = names.filter(|name| is_similar(name) && !name.ends_with(".dockerignore")).min();
        Self { path: path.to_owned(), similar: similar.map(|name| directory.join(name)) }
    }
}

/// A Dockerfile and where it was found.
#[derive(Debug)]
pub(super) struct FoundDockerfile {
    pub(super) dockerfile: DockerfileText,
    /// `None` for standard input.
    pub(super) path: Option<PathBuf>,
}

/// Reads the Dockerfile `file`, else the one of the directory `context`; `-` is standard input.
pub(super) fn read_dockerfile(file: Option<&Path>, context: &Path) -> anyhow::Result<FoundDockerfile> {
    let (path, name) = match file {
        Some(path) if path == Path::new("-") => (None, "-".to_owned()),
        Some(path) => (Some(path.to_owned()), path.display().to_string()),
        None => {
            let name = NAMES.into_iter().find(|name| context.join(name).exists()).unwrap_or(NAMES[0]);
            (Some(context.join(name)), name.to_owned())
        }
    };
    let bytes = match &path {
        None => read_limited(io::stdin().lock()).context("cannot read the Dockerfile from standard input")?,
        Some(path) => read_file(path)?,
    };
    let (text, diagnostics) = dockerfile::decode(&bytes);
    let dockerfile = DockerfileText { name, text: text.into_owned() };
    if dockerfile::has_errors(&diagnostics) {
        let error = BuildError::Dockerfile { diagnostics };
        return Err(BuildFailure { dockerfile, error, output: report::Seen::Whole }.into());
    }
    Ok(FoundDockerfile { dockerfile, path })
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    match std::fs::File::open(path).and_then(read_limited) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NoDockerfile::new(path).into()),
        read => read.with_context(|| format!("cannot read the Dockerfile `{}`", path.display())),
    }
}

/// Reads a little more than a Dockerfile may have, so that the parser sees that it is too much.
fn read_limited(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(dockerfile::MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the ignore file of the Dockerfile, else that of the context.
pub(super) fn read_ignore(dockerfile: Option<&Path>, context: &Path) -> anyhow::Result<Dockerignore> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    for path in own.into_iter().chain([context.join(".dockerignore")]) {
        match std::fs::File::open(&path).and_then(read_limited) {
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
    use super::*;

    #[test]
    fn the_dockerfiles_own_ignore_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let is_ignored = |path: Option<&str>| {
            let path = path.map(|path| dir.path().join(path));
            let ignore = read_ignore(path.as_deref(), dir.path()).unwrap();
            (ignore.is_ignored(b"a"), ignore.is_ignored(b"b"))
        };
        assert_eq!(is_ignored(Some("Dockerfile")), (false, false));
        write(
            ".dockerignore",
            "a
",
        );
        write(
            "x.Dockerfile.dockerignore",
            "b
",
        );
        assert_eq!(is_ignored(Some("Dockerfile")), (true, false));
        assert_eq!(is_ignored(None), (true, false));
        assert_eq!(is_ignored(Some("x.Dockerfile")), (false, true));
    }
}
