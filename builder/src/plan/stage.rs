//! What a stage has come to while its instructions are planned.

use dockerfile::{ArgDeclaration, GlobalScope, Scope, Word, Workdir};
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
    /// What instructions expand and RUN sees.
    pub(super) scope: Scope,
    /// Whether this stage has a CMD of its own, which an ENTRYPOINT does not clear.
    pub(super) has_cmd: bool,
}

impl StageState {
    /// Begins with no files.
    pub(super) fn scratch(top: NodeId, platform: &Platform) -> Self {
        let mut config = ImageConfig::empty(platform.clone());
        "/".clone_into(&mut config.config.working_dir);
        Self::new(top, config)
    }

    /// Begins with an image, whose triggers are used up.
    ///
    /// One without a PATH gets docker's default; commands of no words are none.
    pub(super) fn new(top: NodeId, mut config: ImageConfig) -> Self {
        config.config.on_build.clear();
        for words in [&mut config.config.cmd, &mut config.config.entrypoint, &mut config.config.shell] {
            words.take_if(|words| words.is_empty());
        }
        if !config.config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            config.config.env.push(DEFAULT_PATH.to_owned());
        }
        Self::of_config(top, config)
    }

    /// Begins with a config as it is.
    pub(super) fn of_config(top: NodeId, config: ImageConfig) -> Self {
        let mut state = Self { top, config, history: Vec::new(), scope: Scope::default(), has_cmd: false };
        state.enter_environment();
        state
    }

    /// Begins where this stage ends.
    ///
    /// Its ARGs are declared still; where an ENV has their name, that counts again, as with docker.
    pub(super) fn child(&self) -> Self {
        let mut child = Self { has_cmd: false, ..self.clone() };
        child.config.config.on_build.clear();
        child.enter_environment();
        child
    }

    /// Sets the variables of the image.
    fn enter_environment(&mut self) {
        for (name, value) in self.config.config.env.iter().filter_map(|entry| entry.split_once('=')) {
            self.scope.set(name, value);
        }
    }

    pub(super) fn expand(&self, word: &Word) -> Result<String, PlanError> {
        word.expand(&self.scope).map_err(|source| expansion(word, source))
    }

    pub(super) fn expand_words(&self, word: &Word) -> Result<Vec<String>, PlanError> {
        word.expand_words(&self.scope).map_err(|source| expansion(word, source))
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
        self.scope.set(name, value);
    }

    /// Declares a build argument and returns its value.
    pub(super) fn declare(
        &mut self,
        declaration: &ArgDeclaration,
        global: &GlobalScope,
    ) -> Result<Option<String>, PlanError> {
        self.scope.declare(declaration, global).map_err(|source| match &declaration.default {
            Some(default) => expansion(default, source),
            None => Spanned::new(declaration.span, PlanProblem::Expand { text: declaration.name.clone(), source }),
        })
    }

    /// Returns the environment of a process of this stage.
    pub(super) fn environment(&self) -> Vec<String> {
        self.scope.variables().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Returns the arguments as `NAME=value`, in the order of their declaration; one without a value is empty.
    pub(super) fn declared_args(&self) -> Vec<String> {
        self.scope.args().map(|(name, value)| format!("{name}={value}")).collect()
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
