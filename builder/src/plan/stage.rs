//! What a stage has come to while its instructions are planned.

use std::borrow::Cow;

use dockerfile::{Variables, Word, Workdir};
use oci::{ImageConfig, Platform};

use super::{PlanError, PlanProblem};
use crate::export::PlannedEntry;
use crate::graph::NodeId;
use crate::spanned::Spanned;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The files, the config and the variables of a stage.
#[derive(Clone, Debug)]
pub(super) struct StageState {
    pub(super) top: NodeId,
    pub(super) config: ImageConfig,
    pub(super) history: Vec<PlannedEntry>,
    /// ENV and ARG in one: what instructions expand and RUN sees. The later of two declarations wins.
    variables: Vec<(String, String)>,
    /// Names of ARGs that have a value, in the order of their declaration.
    args: Vec<String>,
    /// Whether this stage has a CMD of its own, which an ENTRYPOINT does not clear.
    pub(super) has_cmd: bool,
}

impl Variables for StageState {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| Cow::Borrowed(value.as_str()))
    }
}

impl StageState {
    /// Begins with no files; the image has docker's default PATH.
    pub(super) fn scratch(top: NodeId, platform: &Platform) -> Self {
        let mut config = ImageConfig::empty(platform.clone());
        config.config.env.push(DEFAULT_PATH.to_owned());
        Self::new(top, config)
    }

    /// Begins with an image, whose triggers are used up.
    pub(super) fn new(top: NodeId, mut config: ImageConfig) -> Self {
        config.config.on_build.clear();
        let pairs = config.config.env.iter().filter_map(|entry| entry.split_once('='));
        let mut variables: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        if !variables.iter().any(|(name, _)| name == "PATH") {
            let path = DEFAULT_PATH.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            variables.extend(path);
        }
        Self { top, config, history: Vec::new(), variables, args: Vec::new(), has_cmd: false }
    }

    /// Begins where this stage ends.
    pub(super) fn child(&self) -> Self {
        let mut child = Self { has_cmd: false, ..self.clone() };
        child.config.config.on_build.clear();
        child
    }

    pub(super) fn expand(&self, word: &Word) -> Result<String, PlanError> {
        word.expand(self).map_err(|source| expansion(word, source))
    }

    pub(super) fn expand_words(&self, word: &Word) -> Result<Vec<String>, PlanError> {
        word.expand_words(self).map_err(|source| expansion(word, source))
    }

    /// Sets a variable of the image and of what follows.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let env = &mut self.config.config.env;
        let is_it = |entry: &&mut String| entry.split_once('=').is_some_and(|(known, _)| known == name);
        match env.iter_mut().find(is_it) {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
        self.set(name, value);
    }

    /// Declares a build argument; without a value it stays what it was.
    pub(super) fn declare(&mut self, name: &str, value: Option<String>) {
        let Some(value) = value else { return };
        self.set(name, &value);
        if !self.args.iter().any(|known| known == name) {
            self.args.push(name.to_owned());
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Returns the environment of a process of this stage.
    pub(super) fn environment(&self) -> Vec<String> {
        self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Returns the arguments that have a value, as `NAME=value`, in the order of their declaration.
    pub(super) fn declared_args(&self) -> Vec<String> {
        self.args.iter().filter_map(|name| self.lookup(name).map(|value| format!("{name}={value}"))).collect()
    }

    pub(super) fn is_declared(&self, name: &str) -> bool {
        self.args.iter().any(|known| known == name)
    }

    /// Returns the words before the text of a shell form.
    pub(super) fn shell(&self) -> Vec<String> {
        self.config.config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
    }

    /// Returns the directory that relative paths begin at.
    pub(super) fn directory(&self) -> &str {
        if self.config.config.working_dir.is_empty() { "/" } else { &self.config.config.working_dir }
    }

    /// Applies a WORKDIR; returns the directory and the text for the history.
    pub(super) fn enter_directory(&mut self, workdir: &Workdir) -> Result<(String, String), PlanError> {
        let path = self.expand(&workdir.path)?;
        if path.is_empty() {
            return Err(Spanned::new(workdir.path.span(), PlanProblem::Blank { instruction: "WORKDIR" }));
        }
        let path = absolute(self.directory(), &path);
        self.config.config.working_dir.clone_from(&path);
        Ok((path.clone(), format!("WORKDIR {path}")))
    }
}

fn expansion(word: &Word, source: dockerfile::ExpandError) -> PlanError {
    Spanned::new(word.span(), PlanProblem::Expand { text: word.text().to_owned(), source })
}

/// Returns `path`, from `directory` if it is relative, without `.`, `..` and double slashes.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { directory };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_stay_below_the_root() {
        for (directory, path, expected) in [
            ("/", "a", "/a"),
            ("/a/b", "../c/", "/a/c"),
            ("/a", "/x//y/.", "/x/y"),
            ("/a", "../../..", "/"),
            ("/", ".", "/"),
        ] {
            assert_eq!(absolute(directory, path), expected);
        }
    }
}
