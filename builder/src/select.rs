//! Chooses what a COPY or ADD takes out of a file tree, before anything is read.
//!
//! ```text
//! source pattern ─glob▶ named sources ─walk▶ entries, each with the name it gets below the destination
//! ```
//!
//! - A directory stands for what is in it; a link that is named is followed, a link found inside a directory stays a link.
//! - `..` and a leading `/` stay inside the tree.
//! - A wildcard may match nothing; a plain name may not. A link that leads nowhere, or to what is left out, is an error.
//! - A link that is left out itself leads nowhere.
//! - `--exclude` sees names below each source; a file that is named itself has its own name.
//! - `--parents` makes a source of the directory before `/./`, or of the root, in which only what matches is found.
//!
//! | file | what |
//! |---|---|
//! | `glob.rs` | which paths a pattern stands for |
//! | `parents.rs` | what `--parents` finds below a directory |
//! | `walk.rs` | what is in a directory |
//!
//! Not here: reading contents (`content_digest.rs`, `copy.rs`).
//!
//! Spec: Dockerfile reference, "COPY", "Source" and "Destination", "COPY --parents", "COPY --exclude".

mod glob;
mod parents;
mod walk;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dockerfile::edit_distance;
use rustix::fs::FileType;

use self::glob::{glob, is_wildcard, matches_many};
use self::parents::with_parents;
use self::walk::Walk;
use crate::dockerignore::Dockerignore;
use crate::file_tree::{FileEntry, FileTree};
use crate::graph::Parents;
use crate::source_file::Xattrs;

/// What is taken, beside the patterns.
#[derive(Debug, Default)]
pub struct SelectOptions {
    /// What is left out (`--exclude`), by names below each source.
    pub exclude: Dockerignore,
    /// What becomes of the directories above a source.
    pub parents: Parents,
}

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
    /// The place of its pattern among those of the instruction.
    pub pattern: usize,
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
        let named = |entry| (Path::new(OsStr::from_bytes(name_below(entry, &self.entry))), entry);
        itself.into_iter().chain(self.children.iter().map(named))
    }
}

/// The path of an entry from a directory above it on; empty for that directory.
fn name_below<'a>(entry: &'a FileEntry, root: &FileEntry) -> &'a [u8] {
    let path = &entry.path.as_os_str().as_bytes()[root.path.as_os_str().len()..];
    // the root's path is empty, and nothing separates it from what is in it
    path.strip_prefix(b"/").unwrap_or(path)
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
    #[error("`{}` is a link to `{}`, which is not there or is left out", .path.display(), .target.display())]
    LeadsNowhere { path: PathBuf, target: PathBuf },
    #[error("`{pattern}` is not a pattern")]
    Pattern { pattern: String, source: Box<regex::Error> },
    #[error("`{}` is a link in `{pattern}`, and with `--parents` names stay as they are", .path.display())]
    LinkedParent { pattern: String, path: PathBuf },
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: io::Error },
}

/// Finds what `patterns` stand for in `tree`.
///
/// # Errors
///
/// [`SelectError::NotFound`] or [`SelectError::Ignored`] for a plain name that is not there, [`SelectError::Pattern`] for a
/// malformed wildcard, [`SelectError::Read`] with the path inside the tree.
pub fn select(tree: &FileTree, patterns: &[String], options: &SelectOptions) -> Result<Selection, SelectError> {
    let walk = Walk { tree, exclude: &options.exclude };
    let mut sources = Vec::new();
    for (place, pattern) in patterns.iter().enumerate() {
        sources.extend(match options.parents {
            Parents::Kept => with_parents(&walk, (place, pattern))?,
            Parents::Dropped => contents(&walk, (place, pattern))?,
        });
    }
    let needs_directory = patterns.len() > 1 || (sources.len() > 1 && options.parents == Parents::Dropped);
    Ok(Selection { sources, needs_directory })
}

/// Returns the pattern that stands for `path` alone; for an empty one, for everything.
pub(crate) fn literal(path: &str) -> String {
    let mut pattern = String::from("/");
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Finds what a pattern stands for: files, and directories with what is in them.
fn contents(walk: &Walk<'_>, (place, pattern): (usize, &str)) -> Result<Vec<Selected>, SelectError> {
    let mut sources = Vec::new();
    for (name, entry) in find_sources(walk.tree, pattern)? {
        let mut children = Vec::new();
        if entry.kind() == FileType::Directory {
            walk.below(&entry, &entry, &mut children)?;
            if children.is_empty() && walk.tree.is_ignored(&entry) {
                // it was only looked into because something in it might have been brought back
                if matches_many(&clean(pattern)) {
                    continue;
                }
                return Err(absent(walk.tree, pattern, &entry.path));
            }
        } else if walk.is_excluded(name.as_os_str().as_bytes()) {
            continue;
        }
        sources.push(Selected { pattern: place, name, entry, children });
    }
    Ok(sources)
}

fn find_sources(tree: &FileTree, pattern: &str) -> Result<Vec<(PathBuf, FileEntry)>, SelectError> {
    let clean = clean(pattern);
    if is_wildcard(&clean) {
        let found = glob(tree, pattern, &clean)?;
        return if found.is_empty() && !matches_many(&clean) { Err(absent(tree, pattern, &clean)) } else { Ok(found) };
    }
    match find(tree, &clean)?.filter(|entry| entry.path == clean || !is_ignored(tree, &clean)) {
        Some(entry) => Ok(vec![(file_name(&clean), entry)]),
        None => Err(absent(tree, pattern, &clean)),
    }
}

fn is_ignored(tree: &FileTree, path: &Path) -> bool {
    tree.ignore().is_ignored(path.as_os_str().as_bytes())
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

fn find(tree: &FileTree, path: &Path) -> Result<Option<FileEntry>, SelectError> {
    tree.find(path).map_err(|source| unreadable(path, source))
}

/// Lists a directory, and returns its own attributes.
fn list(tree: &FileTree, path: &Path) -> Result<(Vec<FileEntry>, Xattrs), SelectError> {
    tree.list_with_xattrs(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> SelectError {
    // the root of the tree has an empty path
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    SelectError::Read { path: path.to_owned(), source }
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
    if let Ok((target, _)) = tree.link_target(path) {
        return SelectError::LeadsNowhere { path: path.to_owned(), target };
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
        check_with(ignore, patterns, &SelectOptions::default())
    }

    /// Selects with `--exclude`.
    fn check_without(exclude: &[&str], pattern: &str) -> Vec<String> {
        let exclude: Vec<String> = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        let exclude = Dockerignore::of_patterns(&exclude).unwrap();
        check_with("", &[pattern], &SelectOptions { exclude, ..SelectOptions::default() }).unwrap()
    }

    /// Selects with `--parents`.
    fn check_parents(ignore: &str, pattern: &str) -> Result<String, SelectError> {
        let options = SelectOptions { parents: Parents::Kept, ..SelectOptions::default() };
        Ok(check_with(ignore, &[pattern], &options)?.join(" "))
    }

    fn check_with(ignore: &str, patterns: &[&str], options: &SelectOptions) -> Result<Vec<String>, SelectError> {
        let directory = tempfile::tempdir().unwrap();
        for path in ["a.txt", "b.txt", "d/x", "d/e/y", "d/z.log", "arr[0].txt"] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("d", directory.path().join("l")).unwrap();
        let tree = FileTree::open(directory.path(), Dockerignore::parse(ignore).unwrap(), Owners::Root).unwrap();
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let selection = select(&tree, &patterns, options)?;
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
        assert_eq!(check("", &["nothing*", "a.txt"]).unwrap(), ["a.txt:"]);
        assert!(matches!(check("", &["["]), Err(SelectError::Pattern { .. })));
    }

    #[test]
    fn what_is_excluded_is_left_out_by_its_name_below_the_source() {
        assert_eq!(check_without(&["*.log"], "d"), ["d:e,e/y,x"]);
        assert_eq!(check_without(&["d/x", "y"], "d"), ["d:e,e/y,x,z.log"], "names begin below the source");
        assert_eq!(check_without(&["e"], "d"), ["d:x,z.log"], "a directory takes its contents along");
        assert_eq!(check_without(&["**/y"], "d"), ["d:e,x,z.log"]);
        assert_eq!(check_without(&["*", "!e/y"], "d"), ["d:e,e/y"]);
        assert_eq!(check_without(&["*"], "d"), ["d:"], "the source itself stays");
        assert_eq!(check_without(&["b.*"], "*.txt"), ["a.txt:", "arr[0].txt:"], "a file has its own name");
        assert_eq!(check_without(&["a.txt"], "a.txt"), [""; 0]);
        assert_eq!(check_without(&["x"], "*/x"), [""; 0]);
    }

    #[test]
    fn directories_above_a_source_are_kept_from_the_pivot_on() {
        let check = |pattern: &str| check_parents("", pattern).unwrap();
        assert_eq!(check("d/e/y"), ":d,d/e,d/e/y");
        assert_eq!(check("/d/./e/y"), ":e,e/y");
        assert_eq!(check("./d/e/."), ":d,d/e,d/e/y");
        assert_eq!(check("d/./e/./y"), ":e,e/y", "the first pivot counts");
        assert_eq!(check("d"), ":d,d/e,d/e/y,d/x,d/z.log");
        assert_eq!(check("d/./"), ":e,e/y,x,z.log");
        assert_eq!(check("l/./e"), ":e,e/y", "up to the pivot links are followed");
        assert_eq!(check("."), ":a.txt,arr[0].txt,b.txt,d,d/e,d/e/y,d/x,d/z.log,l");
        assert_eq!(check("l"), ":l", "a link stays a link");
    }

    #[test]
    fn wildcards_keep_only_the_directories_above_what_they_match() {
        let check = |pattern: &str| check_parents("", pattern).unwrap();
        assert_eq!(check("d/*.log"), ":d,d/z.log");
        assert_eq!(check("**/y"), ":d,d/e,d/e/y");
        assert_eq!(check("d/**/*"), ":d,d/e,d/e/y,d/x,d/z.log");
        assert_eq!(check("*/e"), ":d,d/e,d/e/y");
        assert_eq!(check("*/./**/y"), ":e,e/y :e,e/y", "both `d` and the link to it are pivots");
        assert_eq!(check("*/x/*"), ":");
        assert_eq!(check("**/nothing"), ":");
        assert_eq!(check("nothing*/./x"), "");
    }

    #[test]
    fn a_plain_name_with_parents_is_found_where_it_says_or_not_at_all() {
        assert!(matches!(check_parents("", "d/nothing"), Err(SelectError::NotFound { .. })));
        assert!(matches!(check_parents("", "nothing/./x"), Err(SelectError::NotFound { .. })));
        assert!(matches!(check_parents("", "a.txt/./x"), Err(SelectError::NotFound { .. })));
        let error = check_parents("", "l/e/y").unwrap_err();
        assert_eq!(error.to_string(), "`l` is a link in `l/e/y`, and with `--parents` names stay as they are");
        assert!(matches!(check_parents("**/y", "d/e/y"), Err(SelectError::Ignored { .. })));
        assert_eq!(check_parents("d\n!d/e/y", "**/y").unwrap(), ":d,d/e,d/e/y");
        let exclude = Dockerignore::of_patterns(&["**/y".to_owned()]).unwrap();
        let options = SelectOptions { exclude, parents: Parents::Kept };
        assert_eq!(check_with("", &["d/e/y"], &options).unwrap(), [":"]);
        assert_eq!(check_with("", &["d"], &options).unwrap(), [":d,d/e,d/x,d/z.log"]);
    }

    #[test]
    fn ignored_files_are_left_out_and_named_by_the_line_that_did_it() {
        assert_eq!(check("**/*.log", &["d"]).unwrap(), ["d:e,e/y,x"]);
        assert_eq!(check("d\n!d/e/y", &["d"]).unwrap(), ["d:e,e/y"]);
        assert_eq!(check("b.txt", &["*.txt"]).unwrap(), ["a.txt:", "arr[0].txt:"]);
        assert!(matches!(check("d\n!a.txt", &["d"]), Err(SelectError::Ignored { .. })));
        assert_eq!(check("*\n!a.txt", &["*"]).unwrap(), ["a.txt:"]);
        assert_eq!(check("d\n!a.txt", &["d*"]).unwrap(), [""; 0]);
        let error = check("x\nd", &["d/x"]).unwrap_err();
        assert_eq!(error.to_string(), "`d/x` is left out by .dockerignore:2 (`d`)");
        let error = check("d\n!a.txt", &["d"]).unwrap_err();
        assert_eq!(error.to_string(), "`d` is left out by .dockerignore:1 (`d`)");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_an_error_and_one_that_is_left_out_is_not_there() {
        for pattern in ["l", "l*", "[l]"] {
            let error = check("d", &[pattern]).unwrap_err();
            assert_eq!(error.to_string(), "`l` is a link to `d`, which is not there or is left out", "{pattern}");
        }
        for pattern in ["l", "l/x"] {
            assert!(matches!(check("l", &[pattern]), Err(SelectError::Ignored { .. })), "{pattern}");
        }
        assert_eq!(check("l", &["*"]).unwrap(), ["a.txt:", "arr[0].txt:", "b.txt:", "d:e,e/y,x,z.log"]);
    }

    #[test]
    fn a_context_that_is_gone_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let tree = FileTree::open(directory.path(), Dockerignore::default(), Owners::Root).unwrap();
        drop(directory);
        let error = select(&tree, &["*".to_owned()], &SelectOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), "cannot read `.`");
    }

    #[test]
    fn a_name_with_backslashes_is_a_plain_name() {
        assert_eq!(check("", &["arr\\[0\\].txt"]).unwrap(), ["arr[0].txt:"]);
        assert!(matches!(check("", &["no\\thing"]), Err(SelectError::NotFound { .. })));
    }

    #[test]
    fn a_name_that_is_not_there_is_an_error_with_the_nearest_name() {
        let Err(SelectError::NotFound { similar, .. }) = check("", &["A.tx"]) else { panic!("found it") };
        assert_eq!(similar.as_deref(), Some("a.txt"));
        let Err(SelectError::NotFound { similar, .. }) = check("", &["d/nowhere"]) else { panic!("found it") };
        assert_eq!(similar, None);
    }
}
