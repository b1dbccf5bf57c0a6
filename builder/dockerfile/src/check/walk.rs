//! The way through the stages: from each base to the stages that begin with it, with the variables that hold there.
//!
//! ```text
//! image or scratch ─▶ stage ─▶ stages that begin with it ─▶ …      what a stage set is taken back behind them
//!                     │ triggers of its base, then its instructions (`values.rs`)
//! ```
//!
//! The steps have a number: triggers multiply, so that a small file can ask for very many.

use std::collections::{BTreeMap, BTreeSet};

use super::CheckOptions;
use super::commands::Once;
use super::environment::Environment;
use super::from;
use super::report::{Report, Site};
use crate::instruction::{Instruction, Located};
use crate::{BaseFacts, GlobalScope, Meaning, Span, Stages, parse_trigger};

/// How many instructions are looked at.
pub(super) const MOST_STEPS: usize = 500_000;

/// A walk over stages.
pub(super) struct Walk<'a, 'r> {
    pub(super) stages: &'a Stages<'a>,
    pub(super) global: &'a GlobalScope,
    pub(super) options: &'a CheckOptions<'a>,
    pub(super) report: &'r mut Report<'a>,
    pub(super) environment: Environment,
    pub(super) state: State,
    steps: usize,
}

/// What a stage takes over from its base, besides variables.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Whether a WORKDIR of this file has been met.
    pub(super) has_workdir: bool,
    /// Whether a SHELL says what shell form means.
    pub(super) has_shell: bool,
}

/// Parsed triggers of the images that are known, by the images' names.
pub(super) type Triggers = BTreeMap<String, Vec<Located<Instruction>>>;

/// Parses the triggers of the images that are known; what is wrong with one is said when the image is used.
pub(super) fn triggers(options: &CheckOptions<'_>) -> Triggers {
    let parsed = |facts: &BaseFacts| facts.triggers.iter().flat_map(|text| parse_trigger(text)).collect();
    options.bases.iter().map(|(name, facts)| (name.clone(), parsed(facts))).collect()
}

enum Step {
    Enter(usize, State),
    Leave(usize),
}

impl<'a, 'r> Walk<'a, 'r> {
    pub(super) fn new(
        stages: &'a Stages<'a>,
        global: &'a GlobalScope,
        options: &'a CheckOptions<'a>,
        report: &'r mut Report<'a>,
    ) -> Self {
        let (environment, state) = (Environment::new(), State::default());
        Self { stages, global, options, report, environment, state, steps: 0 }
    }

    /// Visits the stages at the places in `needed`, which has the bases of all of them.
    pub(super) fn run(mut self, needed: &BTreeSet<usize>, triggers: &'a Triggers) {
        let mut begin_with: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for index in needed {
            let base = self.stages.base(*index).meaning.stage();
            begin_with.entry(base).or_default().push(*index);
        }
        let enter = |base, state| {
            begin_with.get(&base).into_iter().flatten().rev().map(move |index| Step::Enter(*index, state))
        };
        let mut open: Vec<Step> = enter(None, State::default()).collect();
        while let Some(step) = open.pop() {
            match step {
                Step::Leave(mark) => self.environment.take_back(mark),
                Step::Enter(index, state) => {
                    open.push(Step::Leave(self.environment.mark()));
                    self.state = state;
                    self.stage(index, triggers);
                    open.extend(enter(Some(index), self.state));
                }
            }
            if self.steps > MOST_STEPS || self.report.is_full() {
                return;
            }
        }
    }

    fn stage(&mut self, index: usize, triggers: &'a Triggers) {
        let (stage, base) = (self.stages.stage(index), self.stages.base(index));
        let place = stage.from.value.image.span();
        let mut once = Once::default();
        match &base.meaning {
            Meaning::Stage(_) => {}
            Meaning::Scratch => self.environment.begin(Some(&[])),
            Meaning::Context(_) => self.environment.begin(None),
            Meaning::Image(name) => {
                let facts = self.options.bases.get(name);
                self.environment.begin(facts.map(|facts| facts.env.as_slice()));
                if let Some(facts) = facts {
                    self.state.has_shell = facts.shell.as_ref().is_some_and(|shell| !shell.is_empty());
                    from::invalid_base_platform(&stage.from, (name, facts), self.global, self.report);
                }
                for trigger in triggers.get(name).into_iter().flatten() {
                    self.step(trigger, Site::of_trigger(trigger, place), &mut once);
                }
            }
        }
        for located in self.stages.instructions(index) {
            self.step(located, self.site(located, index, place), &mut once);
        }
    }

    /// Returns the site of an instruction that a stage runs: those of its base's triggers stand elsewhere in the file.
    fn site(&self, located: &'a Located<Instruction>, index: usize, from: Span) -> Site<'a> {
        let is_own = located.span.start > self.stages.stage(index).from.span.start;
        if is_own { Site::of(located) } else { Site::of_trigger(located, from) }
    }

    fn step(&mut self, located: &'a Located<Instruction>, site: Site<'a>, once: &mut Once<'a>) {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return;
        }
        once.see(located, site, self.report);
        self.instruction(located, site);
    }
}
