//! Which paths of a tree a pattern stands for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use regex::bytes::Regex;
use rustix::fs::FileType;

use super::{SelectError, absent, file_name, find, list};
use crate::dockerignore::pattern_regex;
use crate::file_tree::{FileEntry, FileTree};

/// Tells whether a path is a pattern: it may stand for several, or it has characters with a backslash before them.
pub(super) fn is_wildcard(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|byte| b"*?[\\".contains(byte))
}

/// Tells whether a pattern may stand for several paths, and so also for none.
pub(super) fn matches_many(path: &Path) -> bool {
    let mut bytes = path.as_os_str().as_bytes().iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

/// Matches one path component after the other, as Go's `filepath.Glob` does.
pub(super) fn glob(tree: &FileTree, pattern: &str, clean: &Path) -> Result<Vec<(PathBuf, FileEntry)>, SelectError> {
    let mut found = vec![PathBuf::new()];
    for part in clean {
        let regex = component_regex(pattern, part)?;
        let mut next = Vec::new();
        for directory in &found {
            let Some(entry) = find(tree, directory)?.filter(|entry| entry.kind() == FileType::Directory) else {
                continue;
            };
            for child in list(tree, &entry.path)?.0 {
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
        let entry = find(tree, &path)?.ok_or_else(|| absent(tree, pattern, &path))?;
        sources.push((file_name(&path), entry));
    }
    Ok(sources)
}

fn component_regex(pattern: &str, part: &OsStr) -> Result<Regex, SelectError> {
    compiled(pattern, &part.to_string_lossy().replace("**", "*"))
}

/// Returns what matches whole paths; `pattern` is the text that it is a part of.
pub(super) fn path_regex(pattern: &str, path: &Path) -> Result<Regex, SelectError> {
    compiled(pattern, &path.to_string_lossy())
}

fn compiled(pattern: &str, part: &str) -> Result<Regex, SelectError> {
    pattern_regex(part)
        .and_then(|regex| Regex::new(&regex))
        .map_err(|source| SelectError::Pattern { pattern: pattern.to_owned(), source: Box::new(source) })
}
