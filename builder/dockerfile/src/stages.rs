//! What the names of a Dockerfile mean: which stage begins with which, and which takes files from which.
//!
//! ```text
//! any name            a context that the command line gives this name, before all else
//! FROM name           an earlier stage │ `scratch` │ an image, be there a later stage of that name or not
//! COPY --from=name    an earlier stage, by name or number │ an image; a later stage is a mistake
//! RUN --mount=from=…  the same, without numbers
//! ```
//!
//! - A stage of the name of a context is that context, wherever it is used.
//! - Names of stages ignore case. Of two earlier stages of one name the later one is meant.
//! - A stage that the target does not need may hold mistakes of this kind: nobody looks.
//!
//! Not here: whether an image exists.
//!
//! Spec: Dockerfile reference, "FROM", "COPY --from", "Stop at a specific build stage".

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::MOST;
use crate::{Copy, Diagnostic, Dockerfile, GlobalScope, Instruction, Located, Run, Span, Stage};

/// The stages of a Dockerfile with their names settled.
#[derive(Debug)]
pub struct Stages<'a> {
    dockerfile: &'a Dockerfile,
    bases: Vec<StageBase>,
    /// The places of the stages of a name in lower case, in order.
    by_name: BTreeMap<String, Vec<usize>>,
    /// The names that contexts were given, by their short forms.
    contexts: BTreeMap<String, String>,
}

/// What a stage begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageBase {
    /// The name after expansion.
    pub name: String,
    /// What it means.
    pub meaning: Meaning,
}

/// What a name means within a Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// No files.
    Scratch,
    /// The stage at this place.
    Stage(usize),
    /// The context that the command line gives this name.
    Context(String),
    /// Something outside of the file: an image.
    Image(String),
}

/// A name that an instruction takes files from.
#[derive(Clone, Copy, Debug)]
pub struct SourceName<'a> {
    /// The name as written; it is never expanded.
    pub text: &'a str,
    /// Where it stands.
    pub span: Span,
    /// Whether a number means a stage.
    may_be_number: bool,
}

/// Triggers that stages get from base images, by the place of the stage.
pub type ImageTriggers = BTreeMap<usize, Vec<Located<Instruction>>>;

impl<'a> Stages<'a> {
    /// Settles what the stages of `dockerfile` begin with, where these names are those of contexts.
    ///
    /// # Errors
    ///
    /// Every base whose name cannot be expanded or is blank afterwards.
    pub fn read(
        dockerfile: &'a Dockerfile,
        global: &GlobalScope,
        contexts: &BTreeSet<String>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (stages, diagnostics) = Self::read_all(dockerfile, global, contexts);
        if diagnostics.is_empty() { Ok(stages) } else { Err(diagnostics) }
    }

    /// Settles what the stages begin with as far as that is possible: a base with a mistake is an image without a name.
    pub(crate) fn read_all(
        dockerfile: &'a Dockerfile,
        global: &GlobalScope,
        contexts: &BTreeSet<String>,
    ) -> (Self, Vec<Diagnostic>) {
        let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            if let Some(name) = stage.name() {
                by_name.entry(name).or_default().push(index);
            }
        }
        let contexts = contexts.iter().map(|name| (short(name), name.clone())).collect();
        let mut stages = Self { dockerfile, bases: Vec::new(), by_name, contexts };
        let mut diagnostics = Vec::new();
        for (index, stage) in dockerfile.stages.iter().enumerate() {
            let name = base_name(stage, global).unwrap_or_else(|diagnostic| {
                diagnostics.push(diagnostic);
                String::new()
            });
            let meaning = stages.base_meaning(&name, index);
            stages.bases.push(StageBase { name, meaning });
        }
        (stages, diagnostics)
    }

    /// Returns how many stages there are.
    pub fn count(&self) -> usize {
        self.bases.len()
    }

    /// Returns the stage at a place.
    pub fn stage(&self, index: usize) -> &'a Stage {
        &self.dockerfile.stages[index]
    }

    /// Returns what the stage at a place begins with.
    pub fn base(&self, index: usize) -> &StageBase {
        &self.bases[index]
    }

    /// Returns the name of a stage in lower case, or `stage-N`.
    pub fn label(&self, index: usize) -> String {
        self.stage(index).name().unwrap_or_else(|| format!("stage-{index}"))
    }

    /// Returns the stage to build: the one of that name or number, or the last; `None` when there is none.
    pub fn target(&self, name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return self.count().checked_sub(1) };
        let number = || name.parse().ok().filter(|number| *number < self.count());
        self.named_before(name, self.count()).or_else(number)
    }

    /// Returns the instructions of a stage, behind the triggers of a base that is a stage.
    pub fn instructions(&self, index: usize) -> impl Iterator<Item = &'a Located<Instruction>> {
        let base = match self.bases[index].meaning {
            Meaning::Stage(base) => self.stage(base).instructions.as_slice(),
            Meaning::Scratch | Meaning::Context(_) | Meaning::Image(_) => &[],
        };
        let triggers = base.iter().filter_map(|located| match &located.value {
            Instruction::Onbuild(onbuild) => Some(onbuild.instruction.as_ref()),
            _ => None,
        });
        triggers.chain(&self.stage(index).instructions)
    }

    /// Returns what `source`, of an instruction of the stage at `index`, means.
    ///
    /// # Errors
    ///
    /// A stage that does not exist, or that stands no earlier.
    pub fn source(&self, index: usize, source: SourceName<'_>) -> Result<Meaning, Diagnostic> {
        if source.may_be_number
            && let Ok(number) = source.text.parse::<i64>()
        {
            let stage = self.numbered(index, number, source.span)?;
            let context = self.stage(stage).name().and_then(|name| self.context(&name));
            return Ok(context.unwrap_or(Meaning::Stage(stage)));
        }
        if let Some(context) = self.context(source.text) {
            return Ok(context);
        }
        if let Some(earlier) = self.named_before(source.text, index) {
            return Ok(Meaning::Stage(earlier));
        }
        match self.named_before(source.text, self.count()) {
            Some(later) => Err(self.too_late(index, later, source.span)),
            None if source.text == SCRATCH => Ok(Meaning::Scratch),
            None => Ok(Meaning::Image(source.text.to_owned())),
        }
    }

    /// Returns the stages that `target` needs, itself included. `triggers` holds those of base images, as far as they are known.
    ///
    /// # Errors
    ///
    /// Every name in these stages that means no earlier stage and cannot be an image.
    pub fn needed(&self, target: usize, triggers: &ImageTriggers) -> Result<BTreeSet<usize>, Vec<Diagnostic>> {
        let mut needed = BTreeSet::new();
        let mut diagnostics = Vec::new();
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            if !needed.insert(index) {
                continue;
            }
            open.extend(self.bases[index].meaning.stage());
            for meaning in self.sources(index, triggers.get(&index).map_or(&[], Vec::as_slice)) {
                match meaning {
                    Ok(meaning) => open.extend(meaning.stage()),
                    Err(diagnostic) if diagnostics.len() < MOST => diagnostics.push(diagnostic),
                    Err(_) => return Err(diagnostics),
                }
            }
        }
        if diagnostics.is_empty() { Ok(needed) } else { Err(diagnostics) }
    }

    /// Returns what the names mean that the stage at `index` takes files from; `triggers` are those of its base image.
    pub(crate) fn sources<'s>(
        &'s self,
        index: usize,
        triggers: &'s [Located<Instruction>],
    ) -> impl Iterator<Item = Result<Meaning, Diagnostic>> + 's {
        // The parts of a trigger stand in its own text, not in this file.
        let of_trigger = |located: &'s Located<Instruction>| {
            sources(located).into_iter().map(move |source| SourceName { span: located.span, ..source })
        };
        let named = triggers.iter().flat_map(of_trigger).chain(self.instructions(index).flat_map(sources));
        named.map(move |source| self.source(index, source))
    }

    fn base_meaning(&self, name: &str, index: usize) -> Meaning {
        if let Some(context) = self.context(name) {
            return context;
        }
        match self.named_before(name, index) {
            Some(stage) => Meaning::Stage(stage),
            None if name == SCRATCH => Meaning::Scratch,
            None => Meaning::Image(name.to_owned()),
        }
    }

    /// Returns the context of this name.
    fn context(&self, name: &str) -> Option<Meaning> {
        self.contexts.get(&short(name)).cloned().map(Meaning::Context)
    }

    /// Returns the last stage of this name before stage `before`.
    fn named_before(&self, name: &str, before: usize) -> Option<usize> {
        let places = self.by_name.get(&name.to_lowercase())?;
        let earlier = places.partition_point(|place| *place < before);
        places[..earlier].last().copied()
    }

    fn numbered(&self, index: usize, number: i64, span: Span) -> Result<usize, Diagnostic> {
        match usize::try_from(number).ok().filter(|stage| *stage < self.count()) {
            Some(earlier) if earlier < index => Ok(earlier),
            Some(later) => Err(self.too_late(index, later, span)),
            None => Err(Diagnostic::error(span, format!("there is no stage {number}")).label("stages count from 0")),
        }
    }

    /// Says why a stage cannot use another one that stands no earlier.
    fn too_late(&self, index: usize, later: usize, span: Span) -> Diagnostic {
        if index == later {
            return Diagnostic::error(span, format!("stage `{}` takes files from itself", self.label(index)));
        }
        if let Some(path) = self.path(later, index) {
            let names: Vec<_> =
                std::iter::once(index).chain(path).map(|stage| format!("`{}`", self.label(stage))).collect();
            let title = format!("stages that need each other: {}", names.join(" → "));
            return Diagnostic::error(span, title).label("closes the circle");
        }
        let error =
            Diagnostic::error(span, format!("stage `{}` stands after the line that uses it", self.label(later)));
        error.note("a stage can only use those before it: move this stage behind the other")
    }

    /// Returns the way from a stage to another that it needs, both included, if it is short enough to be read.
    fn path(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut came_from = BTreeMap::new();
        let mut open = vec![from];
        while let Some(index) = open.pop() {
            if index == to {
                let back = std::iter::successors(Some(to), |stage| came_from.get(stage).copied());
                let mut path: Vec<_> = back.collect();
                path.reverse();
                return Some(path);
            }
            if came_from.len() > LONGEST_CIRCLE {
                return None;
            }
            for next in self.mentioned(index) {
                if next != from && !came_from.contains_key(&next) {
                    came_from.insert(next, index);
                    open.push(next);
                }
            }
        }
        None
    }

    /// Returns the stages that a stage names, be they before or after it.
    fn mentioned(&self, index: usize) -> Vec<usize> {
        let named = self.instructions(index).flat_map(sources).filter_map(|source| {
            let number = || source.text.parse().ok().filter(|number| source.may_be_number && *number < self.count());
            let earlier = || self.named_before(source.text, index);
            number().or_else(earlier).or_else(|| self.named_before(source.text, self.count()))
        });
        self.bases[index].meaning.stage().into_iter().chain(named).collect()
    }
}

/// Returns the shortest form of a name, in lower case: `docker.io/library/alpine:latest` is `alpine`.
fn short(name: &str) -> String {
    let name = name.to_lowercase();
    let familiar = name.strip_prefix("docker.io/").map(|path| path.strip_prefix("library/").unwrap_or(path));
    let familiar = familiar.unwrap_or(&name);
    familiar.strip_suffix(":latest").unwrap_or(familiar).to_owned()
}

const SCRATCH: &str = "scratch";

/// How many stages are looked at in search of a circle: a hostile file must not take time in proportion to the product of its
/// stages and its mistakes, of which no more than [`MOST`] are looked for.
const LONGEST_CIRCLE: usize = 100;

impl Meaning {
    pub(crate) fn stage(&self) -> Option<usize> {
        match self {
            Self::Stage(index) => Some(*index),
            Self::Scratch | Self::Context(_) | Self::Image(_) => None,
        }
    }
}

/// Returns the names that an instruction takes files from.
pub fn sources(located: &Located<Instruction>) -> Vec<SourceName<'_>> {
    match &located.value {
        Instruction::Copy(Copy { from: Some(from), .. }) => {
            vec![SourceName { text: &from.text, span: from.span, may_be_number: true }]
        }
        Instruction::Run(Run { mounts, .. }) => {
            let named = mounts.iter().filter_map(|mount| Some((mount.from()?, mount.text.span)));
            named.map(|(text, span)| SourceName { text, span, may_be_number: false }).collect()
        }
        _ => Vec::new(),
    }
}

fn base_name(stage: &Stage, global: &GlobalScope) -> Result<String, Diagnostic> {
    let image = &stage.from.value.image;
    let name = image.expand(global).map_err(|error| Diagnostic::unexpandable(image, &error))?;
    if name.trim().is_empty() {
        let error =
            Diagnostic::error(image.span(), format!("the image name `{}` is blank after expansion", image.text()));
        return Err(error.note("FROM sees only ARGs before the first FROM, and the platform arguments"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildArguments, parse};

    /// Settles the names of a file and returns what the last stage needs, or the mistakes.
    fn check(source: &str) -> Result<Vec<usize>, Vec<String>> {
        let dockerfile = parse(source).dockerfile;
        let (global, _) = GlobalScope::read(&dockerfile.global_args, BuildArguments::default());
        let titles = |diagnostics: Vec<Diagnostic>| diagnostics.into_iter().map(|d| d.title).collect::<Vec<_>>();
        let stages = Stages::read(&dockerfile, &global, &BTreeSet::new()).map_err(titles)?;
        let target = stages.target(None).unwrap();
        stages.needed(target, &ImageTriggers::new()).map(|needed| needed.into_iter().collect()).map_err(titles)
    }

    fn fails(source: &str, titles: &[&str]) {
        assert_eq!(check(source), Err(titles.iter().map(|title| (*title).to_owned()).collect()), "{source}");
    }

    #[test]
    fn only_what_the_target_needs_is_needed() {
        assert_eq!(check("FROM a AS one\nFROM b\nFROM ONE\n"), Ok(vec![0, 2]));
        assert_eq!(check("FROM a AS one\nFROM b AS two\nFROM c\nCOPY --from=Two / /\n"), Ok(vec![1, 2]));
        assert_eq!(check("FROM a\nFROM b\nCOPY --from=0 / /\n"), Ok(vec![0, 1]));
        assert_eq!(check("FROM a AS m\nFROM b\nRUN --mount=from=m,target=/m ls\n"), Ok(vec![0, 1]));
        assert_eq!(check("FROM a AS m\nFROM b\nRUN --mount=from=0,target=/m ls\n"), Ok(vec![1]));
        assert_eq!(check("FROM x AS a\nFROM b AS t\nONBUILD COPY --from=a / /\nFROM t\n"), Ok(vec![0, 1, 2]));
        assert_eq!(check("FROM a\nCOPY --from=late / /\nFROM b AS late\n"), Ok(vec![1]));
    }

    #[test]
    fn of_two_stages_of_one_name_the_nearer_one_is_meant() {
        assert_eq!(check("FROM a AS n\nFROM b AS N\nFROM n\n"), Ok(vec![1, 2]));
        assert_eq!(check("FROM a AS n\nFROM n AS n\n"), Ok(vec![0, 1]));
    }

    #[test]
    fn a_later_stage_of_the_name_of_an_image_does_not_stand_in_its_way() {
        assert_eq!(check("FROM node AS build\nFROM alpine AS node\nCOPY --from=build / /\n"), Ok(vec![0, 1]));
    }

    #[test]
    fn a_context_stands_for_the_stage_and_the_image_of_its_name() {
        let meanings = |context: &str, source: &str| {
            let dockerfile = parse(source).dockerfile;
            let (global, _) = GlobalScope::read(&dockerfile.global_args, BuildArguments::default());
            let stages = Stages::read(&dockerfile, &global, &BTreeSet::from([context.to_owned()])).unwrap();
            let last = stages.count() - 1;
            let sources = stages.sources(last, &[]).map(Result::unwrap);
            std::iter::once(stages.base(last).meaning.clone()).chain(sources).collect::<Vec<_>>()
        };
        let context = |name: &str| Meaning::Context(name.to_owned());
        let image = |name: &str| Meaning::Image(name.to_owned());
        assert_eq!(meanings("alpine", "FROM alpine\n"), [context("alpine")]);
        assert_eq!(meanings("docker.io/library/alpine", "FROM alpine:latest\n"), [context("docker.io/library/alpine")]);
        assert_eq!(meanings("alpine", "FROM alpine:3\n"), [image("alpine:3")]);
        assert_eq!(meanings("scratch", "FROM scratch\n"), [context("scratch")]);
        let copies = "FROM a AS Base\nFROM b\nCOPY --from=0 / /\nCOPY --from=base / /\nCOPY --from=other / /\n";
        assert_eq!(meanings("base", copies), [image("b"), context("base"), context("base"), image("other")]);
        assert_eq!(meanings("late", "FROM a\nCOPY --from=late / /\nFROM b AS late\nFROM a\n"), [image("a")]);
    }

    #[test]
    fn what_is_no_earlier_stage_is_a_mistake() {
        fails("FROM a AS x\nCOPY --from=x / /\n", &["stage `x` takes files from itself"]);
        fails(
            "FROM a\nCOPY --from=0 / /\nCOPY --from=7 / /\n",
            &["stage `stage-0` takes files from itself", "there is no stage 7"],
        );
        fails(
            "FROM a AS x\nCOPY --from=y / /\nFROM b AS y\nFROM x\n",
            &["stage `y` stands after the line that uses it"],
        );
        fails(
            "FROM a AS x\nCOPY --from=z / /\nFROM a AS y\nCOPY --from=x / /\nFROM y AS z\n",
            &["stages that need each other: `x` → `z` → `y` → `x`"],
        );
    }

    #[test]
    fn a_blank_base_is_a_mistake_in_every_stage() {
        fails(
            "ARG E=\nFROM $E AS x\nFROM ${F:?want}\nFROM a\n",
            &["the image name `$E` is blank after expansion", "cannot expand `${F:?want}`: F: want"],
        );
    }
}
