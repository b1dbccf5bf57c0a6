//! `wharf context ls`: what a build can see of its context, and which line of the ignore file decides about a path.
//!
//! | asked | standard output | standard error | exit code |
//! |---|---|---|---|
//! | without `--why` | what a COPY of everything takes, parents first | one line with the sums | 0 |
//! | `--why PATH` | a sentence for each path | nothing | 1 when a path is not there |

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use builder::{FileEntry, FileTree, LeftOut, SurveyError, survey};
use dockerfile::nearest;
use rustix::fs::FileType;

use remote_files::GitDir;

use super::build::{Access, BuildContext, Kind, Opening, dockerfile_path, read_ignore};
use crate::listing::{Field, Format, Listing};
use crate::session::{Interrupt, Session};
use crate::shown::shown;
use crate::{output, size};

const FIELDS: [Field; 4] = [("Size", "SIZE"), ("Bytes", "BYTES"), ("Type", "TYPE"), ("Path", "PATH")];

#[derive(Debug, clap::Args)]
pub(crate) struct ContextLsArgs {
    /// The build context: a directory, a tar archive, a URL, a git repository, or `-`: an archive on standard input
    #[arg(value_name = "PATH|URL|-", default_value = ".")]
    context: String,
    /// The Dockerfile, whose own ignore file comes before that of the context [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Say whether this path is seen, and which line decides; may be given several times
    #[arg(long, value_name = "PATH", conflicts_with_all = ["format", "quiet"])]
    why: Vec<String>,
    /// Only show paths
    #[arg(short, long)]
    quiet: bool,
    /// Format: `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// Lists a build context.
pub(crate) fn context_ls(args: &ContextLsArgs, session: &Session) -> anyhow::Result<u8> {
    let format = Format::parse(args.format.as_deref())?;
    let kind = Kind::of(&args.context)?;
    session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let answer = answer(args, &format, session, (kind, &interrupt));
        // what was stopped failed because of it
        interrupt.ending().map_or(answer, |ending| Err(ending.into()))
    })
}

fn answer(
    args: &ContextLsArgs,
    format: &Format,
    session: &Session,
    (kind, interrupt): (Kind<'_>, &Interrupt),
) -> anyhow::Result<u8> {
    let access = Access::default();
    let opening = Opening { session, access: &access, git_dir: GitDir::Drop };
    let context = BuildContext::open_kind(kind, &opening, interrupt.stop())?;
    let dockerfile = dockerfile_path(args.file.as_deref(), &context);
    let ignore = read_ignore(dockerfile.as_deref(), &context)?;
    let Some(tree) = context.into_tree(ignore) else {
        bail!("standard input is a Dockerfile, not a tar archive: there is no build context to list");
    };
    if args.why.is_empty() { list(args, format, &tree, interrupt) } else { explain_all(&args.why, &tree) }
}

fn list(args: &ContextLsArgs, format: &Format, tree: &FileTree, interrupt: &Interrupt) -> anyhow::Result<u8> {
    let survey = survey(tree, &|| interrupt.stop().is_cancelled()).map_err(|error| match error {
        SurveyError::List { .. } => anyhow!(error).context("a build could not read all of the context"),
        _ => anyhow!(error),
    })?;
    if args.quiet && args.format.is_none() {
        output::print(&survey.seen.iter().map(|entry| shown(&path_of(entry)) + "\n").collect::<String>())?;
        return Ok(0);
    }
    let mut listing = Listing::new(&FIELDS, &["Size", "Path"]);
    survey.seen.iter().for_each(|entry| listing.row(row(entry)));
    output::print(&listing.render(format)?)?;
    output::notice(&sums(&survey.seen, survey.left_out, tree.ignore().name()));
    Ok(0)
}

fn row(entry: &FileEntry) -> Vec<String> {
    let (kind, bytes) = match entry.kind() {
        FileType::RegularFile => ("file", Some(entry.size())),
        FileType::Directory => ("directory", None),
        FileType::Symlink => ("link", None),
        _ => ("other", None),
    };
    let size = bytes.map_or_else(|| "-".to_owned(), size::listed);
    vec![size, bytes.unwrap_or(0).to_string(), kind.to_owned(), path_of(entry)]
}

/// The path of an entry; that of a directory ends in a slash.
fn path_of(entry: &FileEntry) -> String {
    let slash = if entry.kind() == FileType::Directory { "/" } else { "" };
    format!("{}{slash}", entry.path.display())
}

/// Says how much is seen, and how much is not.
fn sums(seen: &[FileEntry], left_out: LeftOut, ignore: Option<&str>) -> String {
    let count = |count: u64, one: &str, several: &str| format!("{count} {}", if count == 1 { one } else { several });
    let files = |files: u64, bytes: u64| format!("{} ({})", count(files, "file", "files"), size::summed(bytes));
    let of_kind = |is: fn(FileType) -> bool| seen.iter().filter(move |entry| is(entry.kind()));
    let bytes = of_kind(|kind| kind == FileType::RegularFile).map(FileEntry::size).sum();
    let seen = files(of_kind(|kind| kind != FileType::Directory).count() as u64, bytes);
    let Some(ignore) = ignore else { return format!("seen: {seen}; there is no ignore file") };
    let mut text = format!("seen: {seen}; left out by {}: {}", shown(ignore), files(left_out.files, left_out.bytes));
    if left_out.unreadable > 0 {
        let directories = count(left_out.unreadable, "directory", "directories");
        text.push_str(&format!(", and {directories} that cannot be read"));
    }
    text
}

fn explain_all(paths: &[String], tree: &FileTree) -> anyhow::Result<u8> {
    let mut code = 0;
    for path in paths {
        let explained = explain(path, tree).with_context(|| format!("cannot look at `{}`", shown(path)))?;
        if matches!(explained, Explained::NotThere(_)) {
            code = 1;
        }
        let (Explained::There(text) | Explained::NotThere(text)) = explained;
        output::line(&shown(&text))?;
    }
    Ok(code)
}

/// What is to be said of a path.
#[derive(Debug, PartialEq)]
enum Explained {
    There(String),
    NotThere(String),
}

fn explain(given: &str, tree: &FileTree) -> std::io::Result<Explained> {
    let path = clean(given);
    let Some(name) = path.file_name() else {
        return Ok(Explained::There("`.` is the build context itself".to_owned()));
    };
    let parent = path.parent().unwrap_or(Path::new(""));
    let parent = tree.find_any(parent)?.filter(|parent| parent.kind() == FileType::Directory);
    let siblings = parent.map(|parent| tree.list_all(&parent.path)).transpose()?.unwrap_or_default();
    let Some(entry) = siblings.iter().find(|entry| entry.path.file_name() == Some(name)) else {
        let names = siblings.iter().filter_map(|entry| entry.path.file_name()?.to_str());
        let meant = nearest(&name.to_string_lossy(), names);
        let meant = meant.map(|meant| path.with_file_name(meant).display().to_string());
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        return Ok(Explained::NotThere(format!("`{}` is not there{meant}", path.display())));
    };
    let mut named = entry.clone();
    named.path.clone_from(&path);
    let named = path_of(&named);
    let is_elsewhere = entry.path != path;
    let subject = if is_elsewhere { format!("`{named}` is `{}`, which", path_of(entry)) } else { format!("`{named}`") };
    Ok(Explained::There(format!("{subject} {}", verdict(entry, tree)?)))
}

/// Says whether an entry is seen, and why.
fn verdict(entry: &FileEntry, tree: &FileTree) -> std::io::Result<String> {
    let ignore = tree.ignore();
    let decision = ignore.decide(entry.path.as_os_str().as_encoded_bytes());
    let Some(decision) = decision else {
        return Ok(match ignore.name() {
            None => "is seen: there is no ignore file".to_owned(),
            Some(name) => format!("is seen: no line of {name} leaves it out"),
        });
    };
    let line = format!("{} (`{}`)", ignore.place(decision.line), decision.pattern);
    if !decision.is_ignored {
        return Ok(format!("is seen: {line} brings it back"));
    }
    let has_exceptions = entry.kind() == FileType::Directory && sees_anything(&entry.path, tree)?;
    let but = if has_exceptions { ", but not all of what is in it" } else { "" };
    Ok(format!("is left out by {line}{but}"))
}

/// Tells whether a build sees something below a directory that is left out.
fn sees_anything(directory: &Path, tree: &FileTree) -> std::io::Result<bool> {
    if !tree.ignore().has_exceptions() {
        return Ok(false);
    }
    for entry in tree.list(directory)? {
        if !tree.is_ignored(&entry) || (entry.kind() == FileType::Directory && sees_anything(&entry.path, tree)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a path as COPY does: from the root of the context, and never out of it.
fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in Path::new(path) {
        match part.to_str() {
            Some("." | "/") => {}
            Some("..") => drop(clean.pop()),
            _ => clean.push::<&OsStr>(part),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use builder::{Dockerignore, Owners};

    fn tree(directory: &Path, ignore: &str) -> FileTree {
        for path in ["a.txt", "d/x", "d/e/y", "t/o"] {
            let path = directory.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "text").unwrap();
        }
        std::os::unix::fs::symlink("d", directory.join("l")).unwrap();
        let ignore = if ignore.is_empty() { Dockerignore::default() } else { Dockerignore::parse(ignore).unwrap() };
        FileTree::open(directory, ignore, Owners::Root).unwrap()
    }

    #[test]
    fn a_path_is_explained_by_the_line_that_decides() {
        let cases = [
            ("", "a.txt", "`a.txt` is seen: there is no ignore file"),
            ("# c\nt/\n", "./t/o", "`t/o` is left out by .dockerignore:2 (`t/`)"),
            ("t/", "/a.txt", "`a.txt` is seen: no line of .dockerignore leaves it out"),
            ("d\n!d/e", "d/e/y", "`d/e/y` is seen: .dockerignore:2 (`!d/e`) brings it back"),
            ("d\n!d/e", "d", "`d/` is left out by .dockerignore:1 (`d`), but not all of what is in it"),
            ("d\n!a.txt", "d/", "`d/` is left out by .dockerignore:1 (`d`)"),
            ("d/x", "l/x", "`l/x` is `d/x`, which is left out by .dockerignore:1 (`d/x`)"),
            ("d/x", "l", "`l` is seen: no line of .dockerignore leaves it out"),
            ("d/x", "../..", "`.` is the build context itself"),
        ];
        for (ignore, path, expected) in cases {
            let directory = tempfile::tempdir().unwrap();
            let explained = explain(path, &tree(directory.path(), ignore)).unwrap();
            assert_eq!(explained, Explained::There(expected.to_owned()));
        }
    }

    #[test]
    fn a_path_that_is_not_there_comes_with_the_nearest_name() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree(directory.path(), "");
        let cases = [
            ("a.tx", "`a.tx` is not there; did you mean `a.txt`?"),
            ("nowhere/x", "`nowhere/x` is not there"),
            ("a.txt/x", "`a.txt/x` is not there"),
        ];
        for (path, expected) in cases {
            assert_eq!(explain(path, &tree).unwrap(), Explained::NotThere(expected.to_owned()));
        }
    }

    #[test]
    fn sums_tell_what_is_left_out_and_by_which_file() {
        let directory = tempfile::tempdir().unwrap();
        let tree = tree(directory.path(), "");
        let survey = survey(&tree, &|| false).unwrap();
        let left_out = LeftOut { files: 1, bytes: 1000, unreadable: 2 };
        let text = sums(&survey.seen, left_out, Some("x.dockerignore"));
        let expected = "seen: 5 files (16B); left out by x.dockerignore: 1 file (1kB)";
        assert_eq!(text, format!("{expected}, and 2 directories that cannot be read"));
        assert_eq!(sums(&survey.seen, left_out, None), "seen: 5 files (16B); there is no ignore file");
    }
}
