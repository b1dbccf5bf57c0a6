//! The variables of a stage, as far as they are known without asking for images.
//!
//! | a name is | example | looked up | undefined |
//! |---|---|---|---|
//! | known | set by an ENV, or by an image that is known | its value | no |
//! | unknown | set to something unknown, or perhaps by an image that is not known | nothing is judged | no |
//! | declared | `ARG name` that nobody gives a value | unset | no |
//! | none of these | | unset | yes |
//!
//! Stages are visited along the tree of their bases: what a stage changes is taken back behind those that begin with it, so that
//! none of them needs a copy. Values and the work of expanding are bounded over the whole file; beyond that values are unknown.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::{Variables, Word};

/// How many bytes of values are looked at or kept.
const MAX_WORK: usize = 16 << 20;

/// What docker sets where nothing else does.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables at a place in a stage.
#[derive(Debug)]
pub(super) struct Environment {
    /// The variables that are set; `None` is an unknown value.
    variables: BTreeMap<String, Option<String>>,
    declared: BTreeSet<String>,
    /// Whether variables that are not listed are unset for sure.
    is_complete: bool,
    changes: Vec<Change>,
    work_left: usize,
}

/// How to take a change back.
#[derive(Debug)]
enum Change {
    Variable(String, Option<Option<String>>),
    Declared(String),
    Complete(bool),
}

impl Variables for Environment {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        self.variables.get(name)?.as_deref().map(Cow::Borrowed)
    }
}

impl Environment {
    pub(super) fn new() -> Self {
        Self {
            variables: BTreeMap::new(),
            declared: BTreeSet::new(),
            is_complete: true,
            changes: Vec::new(),
            work_left: MAX_WORK,
        }
    }

    /// Returns a mark to [`take_back`](Self::take_back) changes to.
    pub(super) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Takes back what was changed since `mark`.
    pub(super) fn take_back(&mut self, mark: usize) {
        for change in self.changes.drain(mark..).rev() {
            match change {
                Change::Variable(name, Some(value)) => drop(self.variables.insert(name, value)),
                Change::Variable(name, None) => drop(self.variables.remove(&name)),
                Change::Declared(name) => drop(self.declared.remove(&name)),
                Change::Complete(was_complete) => self.is_complete = was_complete,
            }
        }
    }

    /// Begins with the environment of an image; `None` is one that is not known.
    pub(super) fn begin(&mut self, env: Option<&[String]>) {
        match env {
            Some(env) => {
                self.set("PATH", Some(DEFAULT_PATH.to_owned()));
                for entry in env {
                    let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
                    self.set(name, Some(value.to_owned()));
                }
            }
            None => {
                self.set("PATH", None);
                self.forget();
            }
        }
    }

    /// Sets a variable; `None` is a value that is not known.
    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        let value = value.filter(|value| self.spend(name.len() + value.len()));
        let before = self.variables.insert(name.to_owned(), value);
        self.changes.push(Change::Variable(name.to_owned(), before));
    }

    /// Declares an argument.
    pub(super) fn declare(&mut self, name: &str) {
        if self.declared.insert(name.to_owned()) {
            self.changes.push(Change::Declared(name.to_owned()));
        }
    }

    /// Takes it that any variable may be set.
    pub(super) fn forget(&mut self) {
        self.changes.push(Change::Complete(self.is_complete));
        self.is_complete = false;
    }

    /// Returns whether nothing sets or declares `name`.
    pub(super) fn is_undefined(&self, name: &str) -> bool {
        self.is_complete && !self.variables.contains_key(name) && !self.declared.contains(name)
    }

    /// Returns whether it is known what `word`, which refers to `names`, expands to.
    pub(super) fn knows<'n>(&mut self, word: &Word, names: impl Iterator<Item = &'n str>) -> bool {
        let mut work = word.text().len();
        for name in names {
            match self.variables.get(name) {
                Some(Some(value)) => work += value.len(),
                Some(None) => return false,
                None if self.is_complete => {}
                None => return false,
            }
        }
        self.spend(work)
    }

    /// Returns the names of the variables that are set or declared.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().chain(&self.declared).map(String::as_str)
    }

    fn spend(&mut self, work: usize) -> bool {
        let left = self.work_left.checked_sub(work);
        self.work_left = left.unwrap_or(0);
        left.is_some()
    }
}
