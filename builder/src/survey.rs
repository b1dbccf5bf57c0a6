//! Surveys a build context: what a build sees of it, and what its ignore file leaves out.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::file_tree::{FileEntry, FileTree};

/// What a build can see of its context, and how much it cannot.
#[derive(Debug, Default)]
pub struct Survey {
    /// What a COPY of everything takes, parents before children.
    pub seen: Vec<FileEntry>,
    /// What the ignore file leaves out.
    pub left_out: LeftOut,
}

/// How much an ignore file leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Everything that is no directory.
    pub files: u64,
    /// The bytes of the regular files among them.
    pub bytes: u64,
    /// Directories that could not be looked into.
    pub unreadable: u64,
}

/// Why a context could not be surveyed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SurveyError {
    #[error("cannot list `{}`", .path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("stopped")]
    Stopped,
}

/// Walks all of `tree`; `is_stopped` is asked before each directory.
///
/// # Errors
///
/// [`SurveyError::List`] with a directory that a build would have to read and cannot, [`SurveyError::Stopped`].
pub fn survey(tree: &FileTree, is_stopped: &dyn Fn() -> bool) -> Result<Survey, SurveyError> {
    let mut survey = Survey::default();
    walk(tree, Path::new(""), &mut survey, is_stopped)?;
    Ok(survey)
}

/// Adds what is below `directory`; an ignored directory is seen only when something below it is.
fn walk(
    tree: &FileTree,
    directory: &Path,
    survey: &mut Survey,
    is_stopped: &dyn Fn() -> bool,
) -> Result<(), SurveyError> {
    if is_stopped() {
        return Err(SurveyError::Stopped);
    }
    let list = tree.list_all(directory);
    for entry in list.map_err(|source| SurveyError::List { path: directory.to_owned(), source })? {
        let is_ignored = tree.is_ignored(&entry);
        if entry.kind() != FileType::Directory {
            if is_ignored {
                survey.left_out.add(&entry)
            } else {
                survey.seen.push(entry)
            }
            continue;
        }
        let before = survey.seen.len();
        let path = entry.path.clone();
        survey.seen.push(entry);
        match walk(tree, &path, survey, is_stopped) {
            // a build does not look into it
            Err(SurveyError::List { .. }) if is_ignored && !tree.ignore().has_exceptions() => {
                survey.left_out.unreadable += 1;
            }
            walked => walked?,
        }
        if is_ignored && survey.seen.len() == before + 1 {
            survey.seen.pop();
        }
    }
    Ok(())
}

impl LeftOut {
    fn add(&mut self, entry: &FileEntry) {
        self.files += 1;
        if entry.kind() == FileType::RegularFile {
            self.bytes += entry.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerignore::Dockerignore;
    use crate::file_tree::Owners;

    fn check(ignore: &str, expected: &[&str], left_out: (u64, u64)) {
        let directory = tempfile::tempdir().unwrap();
        for path in ["a", "d/b", "d/e/c", "z"] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "12").unwrap();
        }
        std::os::unix::fs::symlink("a", directory.path().join("l")).unwrap();
        let tree = FileTree::open(directory.path(), Dockerignore::parse(ignore).unwrap(), Owners::Root).unwrap();
        let survey = survey(&tree, &|| false).unwrap();
        let seen: Vec<_> = survey.seen.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(seen, expected, "{ignore:?}");
        assert_eq!((survey.left_out.files, survey.left_out.bytes), left_out, "{ignore:?}");
        let taken = crate::select::select(&tree, &[".".to_owned()], &crate::select::SelectOptions::default()).unwrap();
        let taken: Vec<_> = taken.sources[0].children.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        assert_eq!(seen, taken, "a COPY takes what is seen");
    }

    #[test]
    fn what_is_seen_is_what_a_copy_takes() {
        check("", &["a", "d", "d/b", "d/e", "d/e/c", "l", "z"], (0, 0));
        check("d\nl", &["a", "z"], (3, 4));
        check("d\n!d/e/c", &["a", "d", "d/e", "d/e/c", "l", "z"], (1, 2));
        check("*", &[], (5, 8));
    }

    #[test]
    fn a_survey_can_be_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let tree = FileTree::open(directory.path(), Dockerignore::default(), Owners::Root).unwrap();
        assert!(matches!(survey(&tree, &|| true), Err(SurveyError::Stopped)));
    }
}
