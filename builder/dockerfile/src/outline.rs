//! Outlines a target: what a build of it can be given.
//!
//! - Arguments are those that the stages of the target declare, and those before the first FROM that these stages use, be it in
//!   FROM or by declaring them again. What the builder sets by itself is left out.
//! - Values are those of this build: given, else the default. What a default takes from a base image is empty.
//! - Of several ARGs of one name the last of a stage counts, and the target's before its base's, as in docker; an ARG that takes
//!   over one from before the first FROM is shown as that one, also when it is given.
//!
//! Spec: BuildKit, subrequest `frontend.outline`; the JSON is docker's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::instruction::{ArgDeclaration, Located};
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
    /// Where it is declared.
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
    /// Where it is mounted first: in the target, else in a stage that it needs.
    pub location: Location,
}

/// Outlines the stage `target` of `stages`, which are those of `dockerfile` with the text `source`.
///
/// # Errors
///
/// What the names of the needed stages mean wrongly, or that the stages have more variables than are looked at.
pub fn outline(
    (dockerfile, source): (&Dockerfile, &Source<'_>),
    (stages, global): (&Stages<'_>, &GlobalScope),
    target: usize,
) -> Result<Outline, Vec<Diagnostic>> {
    let needed = stages.needed(target, &ImageTriggers::new())?;
    let outlining = Outlining { source, stages, global, globals: globals((dockerfile, source), global) };
    let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
    let mut of_stages: BTreeMap<usize, Found> = BTreeMap::new();
    let mut variables = 0;
    for index in needed {
        let base = stages.base(index).meaning.stage().and_then(|base| scopes.get(&base)).cloned();
        let (scope, found) = outlining.stage(index, base.unwrap_or_default());
        variables += scope.variables().count();
        if variables > MOST_VARIABLES {
            let span = stages.stage(index).from.keyword_span;
            return Err(vec![Diagnostic::error(span, format!("more than {MOST_VARIABLES} variables in all stages"))]);
        }
        scopes.insert(index, scope);
        of_stages.insert(index, found);
    }
    let Found { args, secrets, ssh } = outlining.merged(target, of_stages);
    let name = stages.stage(target).name();
    let from = &stages.stage(target).from;
    let description = name.as_ref().and_then(|name| description(from, name));
    Ok(Outline { name, description, args: sorted(args), secrets: sorted(secrets), ssh: sorted(ssh) })
}

/// How many variables all stages together may have, each with those of its bases: stages that begin with one of many variables
/// multiply them.
const MOST_VARIABLES: usize = 1_000_000;

/// What was found, by name, with its place in the file.
#[derive(Default)]
struct Found {
    args: BTreeMap<String, (Span, OutlineArg)>,
    secrets: BTreeMap<String, (Span, OutlineMount)>,
    ssh: BTreeMap<String, (Span, OutlineMount)>,
}

impl Found {
    /// Adds what another stage has: of an argument that both have, this one's counts.
    fn add(&mut self, other: Self) {
        for (name, arg) in other.args {
            self.args.entry(name).or_insert(arg);
        }
        for (mine, others) in [(&mut self.secrets, other.secrets), (&mut self.ssh, other.ssh)] {
            others.into_values().for_each(|(span, mount)| add_mount(mine, span, mount));
        }
    }
}

fn add_mount(mounts: &mut BTreeMap<String, (Span, OutlineMount)>, span: Span, mount: OutlineMount) {
    let is_required = mount.is_required;
    let name = mount.name.clone();
    mounts.entry(name).or_insert((span, mount)).1.is_required |= is_required;
}

fn sorted<T>(found: BTreeMap<String, (Span, T)>) -> Vec<T> {
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|(span, _)| *span);
    found.into_iter().map(|(_, item)| item).collect()
}

/// An argument before the first FROM.
struct GlobalArg {
    span: Span,
    arg: OutlineArg,
    /// The names that its defaults use.
    uses: BTreeSet<String>,
}

/// Returns the arguments before the first FROM, each as its last ARG says; what is given does not use its default.
fn globals((dockerfile, source): (&Dockerfile, &Source<'_>), global: &GlobalScope) -> BTreeMap<String, GlobalArg> {
    let mut globals: BTreeMap<String, GlobalArg> = BTreeMap::new();
    for located in &dockerfile.global_args {
        for ArgDeclaration { name, default, span, .. } in &located.value.declarations {
            let value = global.lookup(name).map(std::borrow::Cow::into_owned);
            let arg = outline_arg((located, source), name, *span, value);
            let mut uses = globals.remove(name).map(|earlier| earlier.uses).unwrap_or_default();
            if !global.arguments().given.contains_key(name) {
                uses.extend(default.iter().flat_map(crate::Word::references));
            }
            globals.insert(name.clone(), GlobalArg { span: *span, arg, uses });
        }
    }
    globals
}

fn outline_arg<T>(
    (located, source): (&Located<T>, &Source<'_>),
    name: &str,
    span: Span,
    value: Option<String>,
) -> OutlineArg {
    let value = value.filter(|value| !value.is_empty());
    let location = Location::of(source, span);
    OutlineArg { name: name.to_owned(), description: description(located, name), value, location }
}

struct Outlining<'a> {
    source: &'a Source<'a>,
    stages: &'a Stages<'a>,
    global: &'a GlobalScope,
    globals: BTreeMap<String, GlobalArg>,
}

impl Outlining<'_> {
    /// Looks at a stage and returns what its variables have come to, and what it takes.
    fn stage(&self, index: usize, mut scope: Scope) -> (Scope, Found) {
        let from = &self.stages.stage(index).from.value;
        let mut found = Found::default();
        let mut used: BTreeSet<String> = from.image.references().into_iter().collect();
        used.extend(from.platform.iter().flat_map(crate::Word::references));
        for located in self.stages.instructions(index) {
            match &located.value {
                Instruction::Arg(arg) => {
                    for declaration in &arg.declarations {
                        let value = scope.declare(declaration, self.global).ok().flatten();
                        if self.is_inherited(declaration) {
                            used.insert(declaration.name.clone());
                        } else {
                            let (name, span) = (&declaration.name, declaration.span);
                            let arg = outline_arg((located, self.source), name, span, value);
                            found.args.insert(name.clone(), (span, arg));
                        }
                    }
                }
                Instruction::Env(env) => {
                    let pairs: Vec<_> = env
                        .pairs
                        .iter()
                        .map(|pair| (expanded(&pair.key, &scope), expanded(&pair.value, &scope)))
                        .collect();
                    pairs.iter().for_each(|(name, value)| scope.set(name, value));
                }
                Instruction::Run(run) => self.mounts(located.span, run, &scope, &mut found),
                _ => {}
            }
        }
        self.add_globals(used, &mut found);
        (scope, found)
    }

    /// Returns whether an ARG of a stage only says that one from outside of it counts here too.
    fn is_inherited(&self, declaration: &ArgDeclaration) -> bool {
        let name = &declaration.name;
        let is_builtin = || self.global.lookup(name).is_some() && !self.global.arguments().given.contains_key(name);
        declaration.default.is_none() && (self.globals.contains_key(name) || is_builtin())
    }

    /// Adds the arguments before the first FROM that a stage uses, and those that their defaults use.
    fn add_globals(&self, used: BTreeSet<String>, found: &mut Found) {
        let mut open: Vec<&str> = used.iter().map(String::as_str).collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(global) = self.globals.get(name).filter(|_| seen.insert(name)) else { continue };
            found.args.entry(name.to_owned()).or_insert_with(|| (global.span, global.arg.clone()));
            open.extend(global.uses.iter().map(String::as_str));
        }
    }

    fn mounts(&self, span: Span, run: &Run, scope: &Scope, found: &mut Found) {
        for mount in run.mounts.iter().filter_map(|mount| mount.expand(scope).ok()) {
            let (mounts, name, is_required) = match mount {
                Mount::Secret(secret) => (&mut found.secrets, secret.id, secret.is_required),
                Mount::Ssh(ssh) => (&mut found.ssh, ssh.id, ssh.is_required),
                Mount::Bind(_) | Mount::Cache(_) | Mount::Tmpfs(_) => continue,
            };
            let location = Location::of(self.source, span);
            add_mount(mounts, span, OutlineMount { name, is_required, location });
        }
    }

    /// Puts together what the stages take: the target's own first, then its bases', then that of the stages they copy from.
    fn merged(&self, target: usize, mut of_stages: BTreeMap<usize, Found>) -> Found {
        let mut found = Found::default();
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            let Some(of_stage) = of_stages.remove(&index) else { continue };
            found.add(of_stage);
            let sources: Vec<_> =
                self.stages.sources(index, &[]).flatten().filter_map(|meaning| meaning.stage()).collect();
            open.extend(sources.into_iter().rev());
            open.extend(self.stages.base(index).meaning.stage());
        }
        found
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
        let stages = Stages::read(&dockerfile, &global, &BTreeSet::new()).unwrap();
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
                        FLAGS -fast for the compiler 15|UNSET - - 16|key true 17|default false 17";
        check(FILE, None, &[], expected);
        check(FILE, Some("other"), &[], "other|is not needed|OTHER 1 - 10|no false 11");
    }

    #[test]
    fn what_is_given_stands_in_for_a_default() {
        let given = [("VERSION", "2"), ("MODE", "slow"), ("UNSET", "set")];
        let expected = "last|is what is built|VERSION 2 of the base 2|TAG 2-slim - 3|MODE slow - 6|\
                        FLAGS -slow for the compiler 15|UNSET set - 16|key true 17|default false 17";
        check(FILE, None, &given, expected);
    }

    #[test]
    fn an_argument_before_the_first_from_counts_where_it_is_declared_again() {
        check("ARG A=1\nFROM scratch\nARG A\n", None, &[], "A 1 - 1");
        check("ARG A=1\nFROM scratch\nARG A=2\n", None, &[], "A 2 - 3");
        check("ARG A\nFROM scratch\nARG A\n", None, &[("A", "x")], "A x - 1");
        check("FROM scratch\nARG TARGETARCH\n", None, &[("TARGETARCH", "x")], "TARGETARCH x - 2");
    }

    #[test]
    fn of_several_arguments_of_a_name_the_last_counts_and_the_targets_own_first() {
        let globals = "ARG A=1\nARG B=$A.\n# A is last\nARG A=$A$B\nARG C=$NO\n";
        check(&format!("{globals}FROM scratch\nARG A\n"), None, &[], "B 1. - 2|A 11. is last 4");
        check(&format!("{globals}FROM scratch\nARG A\n"), None, &[("A", "x")], "A x is last 4");
        check("FROM scratch\nARG A=1\nARG B=$A\nARG A=2$B\n", None, &[], "B 1 - 3|A 21 - 4");
        let stages = "FROM a AS dep\nARG M=dep D=1\nFROM a AS base\nARG M=base N=1\n";
        let target = format!("{stages}FROM base\nARG N=2\nCOPY --from=dep /x /\n");
        check(&target, None, &[], "D 1 - 2|M base - 4|N 2 - 6");
    }
}
