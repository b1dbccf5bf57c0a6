//! Chooses what a COPY or ADD takes out of a file tree, before anything is read.
//!
//! ```text
//! source pattern ─glob▶ named sources ─walk▶ entries, each with the name it gets below the destination
//! ```
//!
//! - A directory stands for what is in it; a link that is named is followed, a link found inside a directory stays a link.
//! - `..` and a leading `/` stay inside the tree.
//! - A wildcard may match nothing; a plain name may not.
//!
//! Not here: reading contents (`content_digest.rs`, `copy.rs`).
//!
//! Spec: Dockerfile reference, "COPY", "Source" and "Destination".

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dockerfile::edit_distance;
use regex::bytes::Regex;
use rustix::fs::FileType;

use crate::dockerignore::pattern_regex;
use crate::file_tree::{FileEntry, FileTree};

/// What the source patterns of one instruction stand for, in their order.
#[derive(Debug)]
pub struct Selection {
    /// The sources that were found.
    pub sources: Vec<Selected>,
    /// Whether a destination must be a directory: several sources, or a wildcard.
    pub needs_directory: bool,
}

/// One source: a file, or a directory with all that is in it.
#[derive(Debug)]
pub struct Selected {
    /// The last part of the path it was named by; a file gets this name inside a destination directory.
    pub name: PathBuf,
    /// The source itself.
    pub entry: FileEntry,
    /// What is in a directory, parents first.
    pub children: Vec<FileEntry>,
}

impl Selected {
    /// Lists the entries that a copy writes, with their names below the destination.
    ///
    /// A directory itself is not written: it stands for its contents.
    pub fn named_entries(&self) -> impl Iterator<Item = (&Path, &FileEntry)> {
        let itself = (self.entry.kind() != FileType::Directory).then_some((self.name.as_path(), &self.entry));
        let length = self.entry.path.as_os_str().len();
        // the root's path is empty, and nothing separates it from what is in it
        let start = if length == 0 { 0 } else { length + 1 };
        itself.into_iter().chain(self.children.iter().map(move |entry| (relative_name(entry, start), entry)))
    }
}

/// The path of an entry without the first bytes of it.
fn relative_name(entry: &FileEntry, start: usize) -> &Path {
    Path::new(OsStr::from_bytes(&entry.path.as_os_str().as_bytes()[start..]))
}

/// Why the sources of an instruction cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SelectError {
    #[error("`{pattern}` is not there")]
    NotFound { pattern: String, similar: Option<String> },
    #[error("`{pattern}` is left out by {place} (`{rule}`)")]
    Ignored {
        pattern: String,
        rule: String,
        /// The line of the ignore file that has the rule, as in `.dockerignore:3`.
        place: String,
    },
    #[error("`{pattern}` is not a pattern")]
    Pattern { pattern: String, source: Box<regex::Error> },
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// Finds what `patterns` stand for in `tree`.
///
/// # Errors
///
/// [`SelectError::NotFound`] or [`SelectError::Ignored`] for a plain name that is not there, [`SelectError::Pattern`] for a
/// malformed wildcard, [`SelectError::Read`] with the path inside the tree.
pub fn select(tree: &FileTree, patterns: &[String]) -> Result<Selection, SelectError> {
    let mut sources = Vec::new();
    for pattern in patterns {
        for (name, entry) in find_sources(tree, pattern)? {
            let mut children = Vec::new();
            if entry.kind() == FileType::Directory {
                walk(tree, &entry.path, &mut children)?;
                if children.is_empty() && tree.is_ignored(&entry) {
                    return Err(absent(tree, pattern, &entry.path));
                }
            }
            sources.push(Selected { name, entry, children });
        }
    }
    let needs_directory = patterns.len() > 1 || sources.len() > 1;
    Ok(Selection { sources, needs_directory })
}

fn find_sources(tree: &FileTree, pattern: &str) -> Result<Vec<(PathBuf, FileEntry)>, SelectError> {
    let clean = clean(pattern);
    if clean.to_string_lossy().contains(['*', '?', '[', '\\']) {
        return glob(tree, pattern, &clean);
    }
    let read = |source| SelectError::Read { path: clean.clone(), source };
    match tree.find(&clean).map_err(read)? {
        Some(entry) => Ok(vec![(file_name(&clean), entry)]),
        None => Err(absent(tree, pattern, &clean)),
    }
}

/// Removes `.`, `..`, leading and trailing slashes; `..` above the root stays at the root.
fn clean(pattern: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path
}

fn file_name(path: &Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

/// Matches one path component after the other, as Go's `filepath.Glob` does.
fn glob(tree: &FileTree, pattern: &str, clean: &Path) -> Result<Vec<(PathBuf, FileEntry)>, SelectError> {
    let mut found = vec![PathBuf::new()];
    for part in clean {
        let regex = component_regex(pattern, part)?;
        let mut next = Vec::new();
        for directory in &found {
            let Some(entry) = find(tree, directory)?.filter(|entry| entry.kind() == FileType::Directory) else {
                continue;
            };
            for child in list(tree, &entry.path)? {
                let name = file_name(&child.path);
                if regex.is_match(name.as_os_str().as_bytes()) {
                    next.push(directory.join(name));
                }
            }
        }
        found = next;
    }
    let mut sources = Vec::new();
    for path in found {
        if let Some(entry) = find(tree, &path)?
            && !(tree.is_ignored(&entry) && entry.kind() != FileType::Directory)
        {
            sources.push((file_name(&path), entry));
        }
    }
    Ok(sources)
}

fn component_regex(pattern: &str, part: &OsStr) -> Result<Regex, SelectError> {
    let single = part.to_string_lossy().replace("**", "*");
    pattern_regex(&single)
        .and_then(|regex| Regex::new(&regex))
        .map_err(|source| SelectError::Pattern { pattern: pattern.to_owned(), source: Box::new(source) })
}

fn find(tree: &FileTree, path: &Path) -> Result<Option<FileEntry>, SelectError> {
    tree.find(path).map_err(|source| SelectError::Read { path: path.to_owned(), source })
}

fn list(tree: &FileTree, path: &Path) -> Result<Vec<FileEntry>, SelectError> {
    tree.list(path).map_err(|source| SelectError::Read { path: path.to_owned(), source })
}

/// Adds what is below `directory`; an ignored directory is added only when something below it is kept.
fn walk(tree: &FileTree, directory: &Path, children: &mut Vec<FileEntry>) -> Result<(), SelectError> {
    for entry in list(tree, directory)? {
        if entry.kind() != FileType::Directory {
            children.push(entry);
            continue;
        }
        let before = children.len();
        let (path, is_ignored) = (entry.path.clone(), tree.is_ignored(&entry));
        children.push(entry);
        walk(tree, &path, children)?;
        if is_ignored && children.len() == before + 1 {
            children.pop();
        }
    }
    Ok(())
}

fn absent(tree: &FileTree, pattern: &str, path: &Path) -> SelectError {
    if let Some(decision) = tree.ignore().decide(path.as_os_str().as_bytes())
        && decision.is_ignored
    {
        return SelectError::Ignored {
            pattern: pattern.to_owned(),
            rule: decision.pattern.to_owned(),
            place: tree.ignore().place(decision.line),
        };
    }
    SelectError::NotFound { pattern: pattern.to_owned(), similar: similar(tree, path) }
}

/// Finds a name beside `path` that differs in case or by a slip of the fingers.
fn similar(tree: &FileTree, path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_string_lossy().to_lowercase();
    let parent = path.parent().unwrap_or(Path::new(""));
    let names = tree.list(parent).ok()?;
    let distance = |entry: &FileEntry| edit_distance(&wanted, &file_name(&entry.path).to_string_lossy().to_lowercase());
    let nearest = names.iter().map(|entry| (distance(entry), entry)).min_by_key(|(distance, _)| *distance)?;
    (nearest.0 <= 1 + wanted.chars().count() / 4).then(|| nearest.1.path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerignore::Dockerignore;
    use crate::file_tree::Owners;

    fn check(ignore: &str, patterns: &[&str]) -> Result<Vec<String>, SelectError> {
        let directory = tempfile::tempdir().unwrap();
        for path in ["a.txt", "b.txt", "d/x", "d/e/y", "d/z.log", "arr[0].txt"] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("d", directory.path().join("l")).unwrap();
        let tree = FileTree::open(directory.path(), Dockerignore::parse(ignore).unwrap(), Owners::Root).unwrap();
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let selection = select(&tree, &patterns)?;
        let list = selection.sources.iter().map(|source| {
            let is_child = |(_, entry): &(&Path, &FileEntry)| entry.path != source.entry.path;
            let children = source.named_entries().filter(is_child).map(|(path, _)| path.display().to_string());
            format!("{}:{}", source.name.display(), children.collect::<Vec<_>>().join(","))
        });
        Ok(list.collect())
    }

    #[test]
    fn a_directory_stands_for_its_contents_and_a_named_link_is_followed() {
        assert_eq!(check("", &["d/"]).unwrap(), ["d:e,e/y,x,z.log"]);
        assert_eq!(check("", &["l"]).unwrap(), ["l:e,e/y,x,z.log"]);
        assert_eq!(check("", &["../../a.txt"]).unwrap(), ["a.txt:"]);
        assert_eq!(check("", &["d/e/../x"]).unwrap(), ["x:"]);
    }

    #[test]
    fn wildcards_match_within_a_component_and_may_match_nothing() {
        assert_eq!(check("", &["*.txt"]).unwrap(), ["a.txt:", "arr[0].txt:", "b.txt:"]);
        assert_eq!(check("", &["arr[[]0].txt"]).unwrap(), ["arr[0].txt:"]);
        assert_eq!(check("", &["*/x"]).unwrap(), ["x:", "x:"]);
        assert_eq!(check("", &["nothing*"]).unwrap(), [""; 0]);
        assert!(matches!(check("", &["["]), Err(SelectError::Pattern { .. })));
    }

    #[test]
    fn ignored_files_are_left_out_and_named_by_the_line_that_did_it() {
        assert_eq!(check("**/*.log", &["d"]).unwrap(), ["d:e,e/y,x"]);
        assert_eq!(check("d\n!d/e/y", &["d"]).unwrap(), ["d:e,e/y"]);
        assert_eq!(check("b.txt", &["*.txt"]).unwrap(), ["a.txt:", "arr[0].txt:"]);
        assert!(matches!(check("d\n!a.txt", &["d"]), Err(SelectError::Ignored { .. })));
        let error = check("x\nd", &["d/x"]).unwrap_err();
        assert_eq!(error.to_string(), "`d/x` is left out by .dockerignore:2 (`d`)");
        let error = check("d\n!a.txt", &["d"]).unwrap_err();
        assert_eq!(error.to_string(), "`d` is left out by .dockerignore:1 (`d`)");
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error_with_the_nearest_name() {
        let Err(SelectError::NotFound { similar, .. }) = check("", &["A.tx"]) else { panic!("found it") };
        assert_eq!(similar.as_deref(), Some("a.txt"));
        let Err(SelectError::NotFound { similar, .. }) = check("", &["d/nowhere"]) else { panic!("found it") };
        assert_eq!(similar, None);
    }
}
