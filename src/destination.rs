//! Where an archive is written: standard output, or what `--output` names.
//!
//! | `--output` | what happens |
//! |---|---|
//! | not given | standard output, unless that is a terminal |
//! | a file, or nothing yet | written beside it, then renamed: who is killed leaves the old file, or none |
//! | a pipe or a device | written to |
//! | a directory, for a format that is one | made beside it, then renamed; it may be there if it is empty |

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::ending::Ending;

/// A file or a stream that an archive is written to; dropped before it is finished, nothing of it stays.
#[derive(Debug)]
pub(crate) struct Destination {
    file: File,
    pending: Option<Pending>,
}

/// What is to be renamed once it is complete.
#[derive(Debug)]
struct Pending {
    from: PathBuf,
    to: PathBuf,
}

impl Destination {
    /// Opens what `--output` names, or standard output.
    pub(crate) fn open(output: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = output else { return Self::standard_output() };
        let cannot = || format!("cannot write `{}`", path.display());
        // a link's target is what is replaced, not the link
        let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => bail!("cannot write `{}`: it is a directory", path.display()),
            Ok(found) if !found.is_file() => {
                let file = OpenOptions::new().write(true).open(path).with_context(cannot)?;
                Ok(Self { file, pending: None })
            }
            _ => {
                let pending = Pending::beside(path);
                pending.clear();
                // never through a link that somebody else has put there
                let create = File::create_new(&pending.from);
                Ok(Self { file: create.with_context(cannot)?, pending: Some(pending) })
            }
        }
    }

    fn standard_output() -> anyhow::Result<Self> {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            let why = "an archive is not written to a terminal: use `--output FILE`, or redirect standard output";
            return Err(Ending::usage(why).into());
        }
        let file = stdout.as_fd().try_clone_to_owned().context("cannot write to standard output")?;
        Ok(Self { file: file.into(), pending: None })
    }

    /// Returns the file to write to.
    pub(crate) fn writer(&self) -> anyhow::Result<File> {
        self.file.try_clone().context("cannot write the archive")
    }

    /// Puts what was written where it belongs.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.pending.take().map_or(Ok(()), Pending::rename)
    }
}

/// Turns the failure to write to where nobody reads any more into the end that it means.
pub(crate) fn closed(error: anyhow::Error) -> anyhow::Error {
    let is_closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    let is_closed = error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_closed));
    if is_closed { Ending::OutputClosed.into() } else { error }
}

/// A directory that an archive is written to; dropped before it is finished, nothing of it stays.
#[derive(Debug)]
pub(crate) struct DestinationDirectory {
    pending: Pending,
}

impl DestinationDirectory {
    /// Makes an empty directory beside the one that is asked for.
    pub(crate) fn make(path: &Path) -> anyhow::Result<Self> {
        let is_free = match std::fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_free {
            bail!("cannot write `{}`: it is there, and no empty directory", path.display());
        }
        let pending = Pending::beside(path);
        pending.clear();
        std::fs::create_dir(&pending.from).with_context(|| format!("cannot make `{}`", path.display()))?;
        Ok(Self { pending })
    }

    /// Returns where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.pending.from
    }

    /// Puts what was written where it belongs.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.pending.rename()
    }
}

impl Pending {
    /// Returns a path in the same directory that only this process uses.
    fn beside(path: &Path) -> Self {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        Self { from: path.with_file_name(name), to: path.to_owned() }
    }

    /// Removes what a killed process of the same number left.
    fn clear(&self) {
        let _nothing = std::fs::remove_file(&self.from).or_else(|_| std::fs::remove_dir_all(&self.from));
    }

    fn rename(self) -> anyhow::Result<()> {
        std::fs::rename(&self.from, &self.to).with_context(|| format!("cannot write `{}`", self.to.display()))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // renamed, it is not there any more
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_there_whole_or_as_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.tar");
        for (content, is_finished, expected) in
            [("one", false, None), ("two", true, Some("two")), ("", false, Some("two"))]
        {
            let destination = Destination::open(Some(&path)).unwrap();
            destination.writer().unwrap().write_all(content.as_bytes()).unwrap();
            if is_finished {
                destination.finish().unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), expected);
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(Destination::open(Some(directory.path())).is_err());
    }

    #[test]
    fn a_link_stays_and_a_device_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("x.tar"), directory.path().join("link"));
        std::fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink("x.tar", &link).unwrap();
        let destination = Destination::open(Some(&link)).unwrap();
        destination.writer().unwrap().write_all(b"new").unwrap();
        destination.finish().unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        let partial = Pending::beside(&path).from.clone();
        std::os::unix::fs::symlink(&path, &partial).unwrap();
        drop(Destination::open(Some(&path)).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new", "nothing is written through a link");
        Destination::open(Some(Path::new("/dev/null"))).unwrap().finish().unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_directory_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layout");
        let made = DestinationDirectory::make(&path).unwrap();
        std::fs::write(made.path().join("f"), "x").unwrap();
        drop(made);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        std::fs::create_dir(&path).unwrap();
        let made = DestinationDirectory::make(&path).unwrap();
        std::fs::write(made.path().join("f"), "x").unwrap();
        made.finish().unwrap();
        assert!(path.join("f").exists());
        assert!(DestinationDirectory::make(&path).is_err(), "it is not empty");
    }
}
