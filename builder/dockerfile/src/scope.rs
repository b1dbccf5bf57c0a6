//! The variables that words are expanded with: global arguments for FROM, and ENV and ARG of a stage for the rest.
//!
//! | name is | in FROM and global ARGs | in a stage |
//! |---|---|---|
//! | a global ARG | its value | after `ARG name` without a default |
//! | given by the builder (`TARGETARCH`, …) | its value | after `ARG name` without a default |
//! | an ARG of the stage, or of the stage it begins with | – | from its line on |
//! | an ENV of the stage or its base | – | from its line on; the later of ENV and ARG wins |
//!
//! A `--build-arg` stands in for every default, also for what the builder gives. It counts only where an ARG declares it.
//!
//! Spec: Dockerfile reference, "Scope" and "Using ARG variables"; where it and docker differ (an ARG after an ENV), docker.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::Diagnostic;
use crate::expand::ExpandError;
use crate::instruction::{Arg, ArgDeclaration, Located};
use crate::word::Variables;

/// The values that ARGs get from outside of the file.
#[derive(Clone, Debug, Default)]
pub struct BuildArguments {
    /// What the command line says.
    pub given: BTreeMap<String, String>,
    /// What the builder sets by itself, such as `TARGETARCH`.
    pub builtin: BTreeMap<String, String>,
}

impl BuildArguments {
    fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    fn builtin(&self, name: &str) -> Option<&str> {
        let builtin = self.builtin.get(name)?;
        Some(self.given(name).unwrap_or(builtin))
    }
}

/// What FROM lines see, and what stages inherit by declaring it again.
#[derive(Clone, Debug, Default)]
pub struct GlobalScope {
    arguments: BuildArguments,
    values: BTreeMap<String, String>,
    declared: BTreeSet<String>,
}

impl Variables for GlobalScope {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        let declared = self.values.get(name).map(String::as_str);
        declared.or_else(|| self.arguments.builtin(name)).map(Cow::Borrowed)
    }
}

impl GlobalScope {
    /// Declares the arguments before the first FROM; those that cannot be expanded are reported and stay unset.
    pub fn read(args: &[Located<Arg>], arguments: BuildArguments) -> (Self, Vec<Diagnostic>) {
        let mut scope = Self { arguments, ..Self::default() };
        let mut diagnostics = Vec::new();
        for declaration in args.iter().flat_map(|arg| &arg.value.declarations) {
            if let Err(diagnostic) = scope.declare(declaration) {
                diagnostics.push(diagnostic);
            }
        }
        (scope, diagnostics)
    }

    fn declare(&mut self, declaration: &ArgDeclaration) -> Result<(), Diagnostic> {
        let name = &declaration.name;
        self.declared.insert(name.clone());
        let value = match (self.arguments.given(name), &declaration.default) {
            (Some(given), _) => given.to_owned(),
            (None, Some(default)) => default.expand(self).map_err(|error| Diagnostic::unexpandable(default, &error))?,
            (None, None) => return Ok(()),
        };
        self.values.insert(name.clone(), value);
        Ok(())
    }

    /// Returns the arguments from outside of the file.
    pub fn arguments(&self) -> &BuildArguments {
        &self.arguments
    }

    /// Returns whether an ARG before the first FROM declares `name`.
    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.contains(name)
    }

    /// Returns the names that FROM lines may use: those that are declared and those the builder gives.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.declared.iter().chain(self.arguments.builtin.keys()).map(String::as_str)
    }
}

/// What the instructions of a stage see.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// ENV and ARG in one, in the order of their first setting.
    variables: Vec<(String, String)>,
    /// The arguments in the order of their declaration, also those without a value.
    args: Vec<String>,
    declared: BTreeSet<String>,
}

impl Variables for Scope {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| Cow::Borrowed(value.as_str()))
    }
}

impl Scope {
    /// Sets a variable of the environment.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Declares an argument and returns its value; one without a value leaves a variable of its name as it was.
    ///
    /// # Errors
    ///
    /// [`ExpandError`] of its default.
    pub fn declare(
        &mut self,
        declaration: &ArgDeclaration,
        global: &GlobalScope,
    ) -> Result<Option<String>, ExpandError> {
        let name = &declaration.name;
        let value = match (global.arguments.given(name), &declaration.default) {
            (Some(given), _) => Some(given.to_owned()),
            (None, Some(default)) => Some(default.expand(self)?),
            (None, None) => global.lookup(name).map(Cow::into_owned),
        };
        if self.declared.insert(name.clone()) {
            self.args.push(name.clone());
        }
        if let Some(value) = &value {
            self.set(name, value);
        }
        Ok(value)
    }

    /// Returns whether an ARG declares `name`, be it without a value.
    pub fn is_declared(&self, name: &str) -> bool {
        self.declared.contains(name)
    }

    /// Returns all variables, in the order of their first setting.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns the arguments in the order of their declaration; one without a value is empty, as docker's history shows it.
    pub fn args(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        self.args.iter().map(|name| (name.as_str(), self.lookup(name).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instruction, Word, parse};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Declares the ARGs and sets the ENVs of a file of one stage, then expands `word` in it.
    fn check(source: &str, given: &[(&str, &str)], word: &str, expected: &str) {
        let dockerfile = parse(source).dockerfile;
        let arguments = BuildArguments { given: map(given), builtin: map(&[("TARGETARCH", "amd64")]) };
        let (global, diagnostics) = GlobalScope::read(&dockerfile.global_args, arguments);
        assert_eq!(diagnostics, [], "{source}");
        let mut scope = Scope::default();
        scope.set("BASE", "b");
        for located in dockerfile.stages.iter().flat_map(|stage| &stage.instructions) {
            match &located.value {
                Instruction::Arg(arg) => {
                    for declaration in &arg.declarations {
                        scope.declare(declaration, &global).unwrap();
                    }
                }
                Instruction::Env(env) => {
                    for pair in &env.pairs {
                        scope.set(pair.key.text(), &pair.value.expand(&scope).unwrap());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        let word = Word::new(word, crate::Span::default(), '\\');
        assert_eq!(word.expand(&scope).unwrap(), expected, "{source} {given:?}");
    }

    #[test]
    fn the_later_of_two_settings_counts() {
        check("FROM a\nARG A=1\nENV A=2\n", &[], "$A", "2");
        check("FROM a\nENV A=2\nARG A=1\n", &[], "$A", "1");
        check("FROM a\nENV A=2\nARG A\n", &[], "$A", "2");
        check("FROM a\nENV A=2\nARG A\n", &[("A", "3")], "$A", "3");
        check("FROM a\nARG BASE\n", &[], "$BASE", "b");
    }

    #[test]
    fn a_global_argument_counts_in_a_stage_that_declares_it_without_a_default() {
        check("ARG A=1\nFROM a\n", &[], "<$A>", "<>");
        check("ARG A=1\nFROM a\nARG A\n", &[], "$A", "1");
        check("ARG A=1\nFROM a\nARG A=2\n", &[], "$A", "2");
        check("ARG A=1\nARG B=$A.$TARGETARCH\nFROM a\nARG B\n", &[], "$B", "1.amd64");
        check("ARG A=1\nFROM a\nARG A\n", &[("A", "")], "<$A>", "<>");
    }

    #[test]
    fn what_the_builder_gives_can_be_given_otherwise_and_is_declared_too() {
        check("FROM a\n", &[], "<$TARGETARCH>", "<>");
        check("FROM a\nARG TARGETARCH\n", &[], "$TARGETARCH", "amd64");
        check("FROM a\nARG TARGETARCH\n", &[("TARGETARCH", "x")], "$TARGETARCH", "x");
        check("ARG A=$TARGETARCH\nFROM a\nARG A\n", &[("TARGETARCH", "x")], "$A", "x");
        check("FROM a\nARG TARGETARCH=y\n", &[], "$TARGETARCH", "y");
    }
}
