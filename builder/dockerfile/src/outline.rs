//! Outlines a target: what a build of it can be given.
//!
//! - Arguments are those that the stages of the target declare, and those before the first FROM that these stages use, be it in
//!   FROM or by declaring them again. What the builder sets by itself is left out.
//! - Values are those of this build: given, else the default. What a default takes from a base image is empty.
//!
//! Spec: BuildKit, subrequest `frontend.outline`; the JSON is docker's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::instruction::{Arg, Located};
use crate::location::Location;
use crate::targets::description;
use crate::word::Variables;
use crate::{Diagnostic, Dockerfile, GlobalScope, ImageTriggers, Instruction, Mount, Run, Scope, Source, Span, Stages};

/// What a build of a target can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outline {
    /// The target's name, in lower case; `None` when it has only a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What a comment above its FROM says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Build arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<OutlineArg>,
    /// Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<OutlineMount>,
    /// SSH agents.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<OutlineMount>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// What a comment above its ARG says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its value in this build; `None` when it is unset or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where it is declared first.
    pub location: Location,
}

/// A secret or an SSH agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// Whether a build without it fails.
    #[serde(rename = "required", skip_serializing_if = "std::ops::Not::not")]
    pub is_required: bool,
    /// Where it is mounted first.
    pub location: Location,
}

/// Outlines the stage `target` of `stages`, which are those of `dockerfile` with the text `source`.
///
/// # Errors
///
/// What the names of the needed stages mean wrongly.
pub fn outline(
    (dockerfile, source): (&Dockerfile, &Source<'_>),
    (stages, global): (&Stages<'_>, &GlobalScope),
    target: usize,
) -> Result<Outline, Vec<Diagnostic>> {
    let needed = stages.needed(target, &ImageTriggers::new())?;
    let mut outlining = Outlining { source, stages, global, used: BTreeSet::new(), found: Found::default() };
    let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
    for index in needed {
        let base = stages.base(index).meaning.stage().and_then(|base| scopes.get(&base)).cloned();
        let scope = outlining.stage(index, base.unwrap_or_default());
        scopes.insert(index, scope);
    }
    outlining.globals(dockerfile);
    let name = stages.stage(target).name();
    let from = &stages.stage(target).from;
    let description = name.as_ref().and_then(|name| description(from, name));
    let Found { args, secrets, ssh } = outlining.found;
    Ok(Outline { name, description, args: sorted(args), secrets: sorted(secrets), ssh: sorted(ssh) })
}

/// What was found, by name, with its place in the file.
#[derive(Default)]
struct Found {
    args: BTreeMap<String, (Span, OutlineArg)>,
    secrets: BTreeMap<String, (Span, OutlineMount)>,
    ssh: BTreeMap<String, (Span, OutlineMount)>,
}

fn sorted<T>(found: BTreeMap<String, (Span, T)>) -> Vec<T> {
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|(span, _)| *span);
    found.into_iter().map(|(_, item)| item).collect()
}

struct Outlining<'a> {
    source: &'a Source<'a>,
    stages: &'a Stages<'a>,
    global: &'a GlobalScope,
    /// The arguments before the first FROM that are used.
    used: BTreeSet<String>,
    found: Found,
}

impl Outlining<'_> {
    /// Looks at a stage and returns what its variables have come to.
    fn stage(&mut self, index: usize, mut scope: Scope) -> Scope {
        let from = &self.stages.stage(index).from.value;
        self.used.extend(from.image.references());
        self.used.extend(from.platform.iter().flat_map(crate::Word::references));
        for located in self.stages.instructions(index) {
            match &located.value {
                Instruction::Arg(arg) => self.arg(located, arg, &mut scope),
                Instruction::Env(env) => {
                    let pairs: Vec<_> = env
                        .pairs
                        .iter()
                        .map(|pair| (expanded(&pair.key, &scope), expanded(&pair.value, &scope)))
                        .collect();
                    pairs.iter().for_each(|(name, value)| scope.set(name, value));
                }
                Instruction::Run(run) => self.mounts(located.span, run, &scope),
                _ => {}
            }
        }
        scope
    }

    fn arg<T>(&mut self, located: &Located<T>, arg: &Arg, scope: &mut Scope) {
        for declaration in &arg.declarations {
            let name = &declaration.name;
            let is_inherited = declaration.default.is_none() && self.global.lookup(name).is_some();
            let value = scope.declare(declaration, self.global).ok().flatten();
            if is_inherited {
                self.used.insert(name.clone());
            } else {
                self.add_arg(located, name, declaration.span, value);
            }
        }
    }

    fn add_arg<T>(&mut self, located: &Located<T>, name: &str, span: Span, value: Option<String>) {
        let location = Location::of(self.source, span);
        let value = value.filter(|value| !value.is_empty());
        let arg = OutlineArg { name: name.to_owned(), description: description(located, name), value, location };
        self.found.args.entry(name.to_owned()).or_insert((span, arg));
    }

    /// Adds the arguments before the first FROM that are used, and those that their defaults use.
    fn globals(&mut self, dockerfile: &Dockerfile) {
        for located in dockerfile.global_args.iter().rev() {
            for declaration in located.value.declarations.iter().rev() {
                if self.used.contains(&declaration.name) {
                    self.used.extend(declaration.default.iter().flat_map(crate::Word::references));
                    let value = self.global.lookup(&declaration.name).map(std::borrow::Cow::into_owned);
                    self.found.args.remove(&declaration.name);
                    self.add_arg(located, &declaration.name, declaration.span, value);
                }
            }
        }
    }

    fn mounts(&mut self, span: Span, run: &Run, scope: &Scope) {
        for mount in run.mounts.iter().filter_map(|mount| mount.expand(scope).ok()) {
            let (found, name, is_required) = match mount {
                Mount::Secret(secret) => (&mut self.found.secrets, secret.id, secret.is_required),
                Mount::Ssh(ssh) => (&mut self.found.ssh, ssh.id, ssh.is_required),
                Mount::Bind(_) | Mount::Cache(_) | Mount::Tmpfs(_) => continue,
            };
            let location = Location::of(self.source, span);
            let new = OutlineMount { name: name.clone(), is_required, location };
            found.entry(name).or_insert((span, new)).1.is_required |= is_required;
        }
    }
}

fn expanded(word: &crate::Word, scope: &Scope) -> String {
    word.expand(scope).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildArguments, parse};

    fn check(source: &str, target: Option<&str>, given: &[(&str, &str)], expected: &str) {
        let dockerfile = parse(source).dockerfile;
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let builtin = BTreeMap::from([("TARGETARCH".to_owned(), "amd64".to_owned())]);
        let (global, _) = GlobalScope::read(&dockerfile.global_args, BuildArguments { given, builtin });
        let stages = Stages::read(&dockerfile, &global).unwrap();
        let target = stages.target(target).unwrap();
        let outline = outline((&dockerfile, &Source::new(source)), (&stages, &global), target).unwrap();
        let line = |location: &Location| location.ranges[0].start.line;
        let mut shown: Vec<String> = outline.name.iter().cloned().collect();
        shown.extend(outline.description);
        for arg in &outline.args {
            let (value, description) = (arg.value.as_deref().unwrap_or("-"), arg.description.as_deref().unwrap_or("-"));
            shown.push(format!("{} {value} {description} {}", arg.name, line(&arg.location)));
        }
        for mount in outline.secrets.iter().chain(&outline.ssh) {
            shown.push(format!("{} {} {}", mount.name, mount.is_required, line(&mount.location)));
        }
        assert_eq!(shown.join("|"), expected);
    }

    const FILE: &str = "\
# VERSION of the base
ARG VERSION=1
ARG TAG=$VERSION-slim UNUSED=x
FROM a:$TAG AS base
ARG TARGETARCH
ARG MODE=fast
RUN --mount=type=secret,id=key true
# other is not needed
FROM b AS other
ARG OTHER=1
RUN --mount=type=secret,id=no true
# last is what is built
FROM base AS last
# FLAGS for the compiler
ARG FLAGS=-$MODE
ARG UNSET
RUN --mount=type=secret,id=key,required --mount=type=ssh true
";

    #[test]
    fn an_outline_has_what_the_target_and_its_bases_take() {
        let expected = "last|is what is built|VERSION 1 of the base 2|TAG 1-slim - 3|MODE fast - 6|\
                        FLAGS -fast for the compiler 15|UNSET - - 16|key true 7|default false 17";
        check(FILE, None, &[], expected);
        check(FILE, Some("other"), &[], "other|is not needed|OTHER 1 - 10|no false 11");
    }

    #[test]
    fn what_is_given_stands_in_for_a_default() {
        let given = [("VERSION", "2"), ("MODE", "slow"), ("UNSET", "set")];
        let expected = "last|is what is built|VERSION 2 of the base 2|TAG 2-slim - 3|MODE slow - 6|\
                        FLAGS -slow for the compiler 15|UNSET set - 16|key true 7|default false 17";
        check(FILE, None, &given, expected);
    }

    #[test]
    fn an_argument_before_the_first_from_counts_where_it_is_declared_again() {
        check("ARG A=1\nFROM scratch\nARG A\n", None, &[], "A 1 - 1");
        check("ARG A=1\nFROM scratch\nARG A=2\n", None, &[], "A 2 - 3");
        check("ARG A\nFROM scratch\nARG A\n", None, &[("A", "x")], "A x - 1");
    }
}
