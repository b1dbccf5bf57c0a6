//! A tree of a git repository: which commit, which directory of it, and what comes along.
//!
//! | fragment | query | means |
//! |---|---|---|
//! | `#ref` | `ref=`, `branch=`, `tag=` | the ref; none is `HEAD` |
//! | `#ref:subdir` | `subdir=` | the directory that becomes the root |
//! | | `checksum=`, `commit=` | the id of the commit, or its first digits, to be compared with what the ref is |
//! | | `fetch-by-commit=` | the ref is not asked for: `checksum` is the commit |
//! | | `keep-git-dir=` | whether `.git` comes along |
//! | | `submodules=` | whether submodules come along; they do |
//! | | `mtime=` | read and checked only: files always have the time of the commit, so that a commit is always the same layer |
//!
//! Fragment and query may be used together as long as they do not contradict each other, as in BuildKit.

use std::fmt;
use std::str::FromStr;

use http_transport::shown;
use url::form_urlencoded;

use super::ref_name::is_ref_name;
use super::remote::GitRemote;
use super::{SourceFault, decoded};

const MIN_COMMIT_DIGITS: usize = 7;
const BOOLEANS: &str = "`true` or `false`";

/// A tree of a git repository. Two that are equal name the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    remote: GitRemote,
    reference: Option<String>,
    subdir: Option<String>,
    checksum: Option<String>,
    git_dir: Option<GitDir>,
    submodules: Submodules,
    is_fetched_by_commit: bool,
}

/// Whether the repository itself comes along, as the directory `.git`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitDir {
    /// It does.
    Keep,
    /// Only the files do.
    Drop,
}

/// Whether submodules come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submodules {
    /// They do, and theirs too.
    Recursive,
    /// Their directories stay empty.
    None,
}

impl GitSource {
    /// Reads a URL, or `user@host:path`, with query and fragment.
    pub(super) fn parse(text: &str) -> Result<Self, SourceFault> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let fragment = decoded(fragment);
        let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
        let mut source = Self {
            remote: GitRemote::parse(text)?,
            reference: Some(reference.to_owned()).filter(|reference| !reference.is_empty()),
            subdir: clean(subdir)?,
            checksum: None,
            git_dir: None,
            submodules: Submodules::Recursive,
            is_fetched_by_commit: false,
        };
        source.read_query(query)?;
        if let Some(name) = source.reference.as_deref().filter(|name| !is_ref_name(name)) {
            return Err(SourceFault::RefName { name: shown(name) });
        }
        if source.is_fetched_by_commit && !source.checksum.as_deref().is_some_and(is_commit_id) {
            return Err(SourceFault::NoCommitToFetch);
        }
        Ok(source)
    }

    fn read_query(&mut self, query: &str) -> Result<(), SourceFault> {
        let mut seen = Vec::new();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if seen.contains(&key) {
                return Err(SourceFault::RepeatedKey { key: shown(&key) });
            }
            self.read_pair(&key, &value)?;
            seen.push(key);
        }
        Ok(())
    }

    fn read_pair(&mut self, key: &str, value: &str) -> Result<(), SourceFault> {
        let wants_value = !matches!(key, "keep-git-dir" | "submodules" | "fetch-by-commit");
        let is_known = matches!(key, "ref" | "tag" | "branch" | "subdir" | "checksum" | "commit" | "mtime");
        if wants_value && is_known && value.is_empty() {
            return Err(SourceFault::NoValue { key: key.to_owned() });
        }
        match key {
            "ref" => set("refs", &mut self.reference, value.to_owned()),
            "tag" => set("refs", &mut self.reference, full_name("refs/tags/", value)),
            "branch" => set("refs", &mut self.reference, full_name("refs/heads/", value)),
            "subdir" => match clean(value)? {
                Some(subdir) => set("directories", &mut self.subdir, subdir),
                None => Ok(()),
            },
            "checksum" | "commit" => self.set_checksum(value),
            "keep-git-dir" => {
                self.git_dir = Some(if boolean(key, value)? { GitDir::Keep } else { GitDir::Drop });
                Ok(())
            }
            "submodules" => {
                self.submodules = if boolean(key, value)? { Submodules::Recursive } else { Submodules::None };
                Ok(())
            }
            "fetch-by-commit" => {
                self.is_fetched_by_commit = boolean(key, value)?;
                Ok(())
            }
            "mtime" if matches!(value, "checkout" | "commit") => Ok(()),
            "mtime" => Err(bad_value(key, value, "`checkout` or `commit`")),
            _ => Err(SourceFault::UnknownKey { key: shown(key) }),
        }
    }

    /// Demands a commit, as `ADD --checksum` does; saying the same twice is fine.
    ///
    /// # Errors
    ///
    /// [`SourceFault::CommitId`], [`SourceFault::Conflict`] when the URL demands another one.
    pub fn with_checksum(mut self, checksum: &str) -> Result<Self, SourceFault> {
        self.set_checksum(checksum)?;
        Ok(self)
    }

    fn set_checksum(&mut self, text: &str) -> Result<(), SourceFault> {
        if !starts_commit_id(text) {
            return Err(SourceFault::CommitId { text: shown(text) });
        }
        set("commits", &mut self.checksum, text.to_owned())
    }

    /// Returns the repository's URL without user and password.
    pub fn url(&self) -> &str {
        self.remote.url()
    }

    /// Returns the last part of the repository's path, without `.git`.
    pub fn name(&self) -> &str {
        self.remote.name()
    }

    /// Returns the ref as it was named; `None` is `HEAD`.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }

    /// Returns the directory that becomes the root: relative, without `.` and `..`. `None` is all of the tree.
    pub fn subdir(&self) -> Option<&str> {
        self.subdir.as_deref()
    }

    /// Returns the commit that was demanded, or its first digits.
    pub fn checksum(&self) -> Option<&str> {
        self.checksum.as_deref()
    }

    /// Returns what the URL says about `.git`, if it says something.
    pub fn git_dir(&self) -> Option<GitDir> {
        self.git_dir
    }

    /// Returns whether submodules come along.
    pub fn submodules(&self) -> Submodules {
        self.submodules
    }

    pub(crate) fn is_fetched_by_commit(&self) -> bool {
        self.is_fetched_by_commit
    }

    pub(crate) fn remote(&self) -> &GitRemote {
        &self.remote
    }
}

fn set(what: &'static str, held: &mut Option<String>, value: String) -> Result<(), SourceFault> {
    match held {
        Some(held) if *held != value => Err(SourceFault::Conflict { what, one: shown(held), other: shown(&value) }),
        _ => {
            *held = Some(value);
            Ok(())
        }
    }
}

fn full_name(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Resolves `.` and `..` by text; nothing leads above the root.
fn clean(subdir: &str) -> Result<Option<String>, SourceFault> {
    if subdir.contains('\0') {
        return Err(bad_value("subdir", subdir, "a path"));
    }
    let mut parts = Vec::new();
    for part in subdir.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Ok(Some(parts.join("/")).filter(|subdir| !subdir.is_empty()))
}

/// Reads a boolean as Go does; no value is true.
fn boolean(key: &str, value: &str) -> Result<bool, SourceFault> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(bad_value(key, value, BOOLEANS)),
    }
}

fn bad_value(key: &str, value: &str, wanted: &'static str) -> SourceFault {
    SourceFault::Value { key: key.to_owned(), value: shown(value), wanted }
}

/// Tells whether `text` is the whole id of a commit: 40 digits, or 64 in a repository that uses SHA-256.
pub(crate) fn is_commit_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && starts_commit_id(text)
}

/// Tells whether `text` is the id of a commit or enough of its beginning.
fn starts_commit_id(text: &str) -> bool {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_hex && (MIN_COMMIT_DIGITS..=64).contains(&text.len())
}

impl FromStr for GitDir {
    type Err = SourceFault;

    /// Reads the value of `--keep-git-dir`.
    fn from_str(text: &str) -> Result<Self, SourceFault> {
        boolean("keep-git-dir", text).map(|keep| if keep { Self::Keep } else { Self::Drop })
    }
}

/// As a URL with a fragment, without user and password.
impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        match (self.reference.as_deref(), self.subdir.as_deref()) {
            (None, None) => Ok(()),
            (reference, None) => write!(f, "#{}", shown(reference.unwrap_or_default())),
            (reference, Some(subdir)) => write!(f, "#{}:{}", reference.unwrap_or_default(), shown(subdir)),
        }
    }
}
