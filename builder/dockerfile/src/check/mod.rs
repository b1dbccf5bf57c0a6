//! Checks a parsed Dockerfile: everything that reading single lines cannot tell.
//!
//! ```text
//! Parsed ─┬─ names: which stage, which image                    (`stages.rs`)
//!         ├─ values: ports, signals, modes, once they are known  (`values.rs`, along `walk.rs`)
//!         └─ rules: docker's 22 lint rules                       (one file for those of a kind)
//!                └─▶ skipped, kept, or made errors, as `# check=` says (`switches.rs`, `report.rs`)
//! ```
//!
//! | rule | in | stages |
//! |---|---|---|
//! | NoEmptyContinuation, DuplicateStageName, MaintainerDeprecated | the parser; skipped here | all |
//! | ConsistentInstructionCasing, StageNameCasing, FromAsCasing | `casing.rs` | all |
//! | ReservedStageName, InvalidDefinitionDescription | `definitions.rs` | all |
//! | UndefinedArgInFrom, InvalidDefaultArgInFrom, RedundantTargetPlatform, FromPlatformFlagConstDisallowed | `from.rs` | all |
//! | InvalidBaseImagePlatform | `from.rs` | needed |
//! | UndefinedVar, LegacyKeyValueFormat, SecretsUsedInArgOrEnv | `variables.rs` | needed |
//! | JSONArgsRecommended, MultipleInstructionsDisallowed | `commands.rs` | needed |
//! | WorkdirRelativePath, CopyIgnoredFile | `paths.rs` | needed |
//! | ExposeProtoCasing, ExposeInvalidFormat | `ports.rs` | needed |
//!
//! - Pure: what a base image or `.dockerignore` says comes in as data. What is not known is not judged.
//! - Without a target all stages are needed.
//! - Bounded in time and memory, whatever the file: by the number of findings, the steps of the walk, and the bytes of values.
//!
//! Spec: Dockerfile reference, "Build checks"; `# check=` directive; BuildKit's frontend 1.26 where they differ.

mod casing;
mod commands;
mod definitions;
mod environment;
mod from;
mod image_name;
mod paths;
mod platform;
mod ports;
mod report;
mod switches;
mod values;
mod variables;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::report::Report;
use self::walk::{Triggers, Walk};
use crate::{BuildArguments, Diagnostic, Dockerfile, GlobalScope, Meaning, Parsed, Stages};

/// Says which line of which file leaves a path out.
type IgnoredBy<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What a check knows besides the file.
#[derive(Default)]
pub struct CheckOptions<'a> {
    /// The arguments of the build.
    pub arguments: BuildArguments,
    /// The stage that is built, by name or number; `None` checks all stages.
    pub target: Option<&'a str>,
    /// The names that the command line gives contexts.
    pub contexts: BTreeSet<String>,
    /// The base images that are known, by their names after expansion.
    pub bases: BTreeMap<String, BaseFacts>,
    /// Says which line of which file leaves a path of the build context out, as in `.dockerignore:3`; `None` when nothing does.
    ///
    /// Paths are cleaned and relative; `.` is all of the build context, and may be a pattern. As in docker, the answer should be
    /// `None` when a `!` line may take the path, or something below it, in again, and for `.` unless a line leaves everything out.
    pub ignored_by: Option<&'a IgnoredBy<'a>>,
}

impl fmt::Debug for CheckOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("CheckOptions");
        shown.field("arguments", &self.arguments).field("target", &self.target).field("bases", &self.bases);
        shown.finish_non_exhaustive()
    }
}

/// What checks want to know of a base image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseFacts {
    /// Its environment, as `NAME=value`.
    pub env: Vec<String>,
    /// Its platform, as in `linux/arm64`.
    pub platform: String,
    /// Its shell; `None` is docker's default.
    pub shell: Option<Vec<String>>,
    /// Its ONBUILD triggers.
    pub triggers: Vec<String>,
}

/// Checks a file: the mistakes of parsing, and what this module adds to them, in the order of the file.
///
/// A target that does not exist is not reported: that is no fault of the file.
pub fn check(parsed: &Parsed, options: &CheckOptions<'_>) -> Vec<Diagnostic> {
    let dockerfile = &parsed.dockerfile;
    let mut report = Report::new(parsed, &options.arguments);
    let (global, mistakes) = GlobalScope::read(&dockerfile.global_args, options.arguments.clone());
    report.mistakes(mistakes);
    let (stages, mistakes) = Stages::read_all(dockerfile, &global, &options.contexts);
    report.mistakes(mistakes);
    of_the_file(dockerfile, &global, &mut report);
    let triggers = walk::triggers(options);
    let needed = needed(&stages, options.target, &triggers, &mut report);
    Walk::new(&stages, &global, options, &mut report).run(&needed, &triggers);
    report.finish()
}

/// Checks what does not depend on which stages are needed.
fn of_the_file(dockerfile: &Dockerfile, global: &GlobalScope, report: &mut Report<'_>) {
    casing::consistent_instruction_casing(dockerfile, report);
    from::invalid_default_arg(dockerfile, global.arguments(), report);
    values::source_date_epoch(dockerfile, global, report);
    for arg in &dockerfile.global_args {
        definitions::arg_description(arg, report);
    }
    for stage in &dockerfile.stages {
        casing::stage_name_casing(&stage.from, report);
        casing::from_as_casing(&stage.from, report);
        definitions::reserved_stage_name(&stage.from, report);
        definitions::stage_description(&stage.from, report);
        from::undefined_arg(&stage.from, global, report);
        from::redundant_target_platform(&stage.from, global, report);
        from::const_platform(&stage.from, report);
        for located in &stage.instructions {
            definitions::instruction_description(located, report);
        }
    }
}

/// Returns the stages that are needed, and reports what their names mean wrongly.
fn needed(stages: &Stages<'_>, target: Option<&str>, triggers: &Triggers, report: &mut Report<'_>) -> BTreeSet<usize> {
    let of_image = |index: usize| match &stages.base(index).meaning {
        Meaning::Image(name) => triggers.get(name).map_or(&[][..], Vec::as_slice),
        Meaning::Scratch | Meaning::Stage(_) | Meaning::Context(_) => &[],
    };
    let mut open: Vec<_> = match target {
        Some(_) => stages.target(target).into_iter().collect(),
        None => (0..stages.count()).collect(),
    };
    let mut needed = BTreeSet::new();
    let mut steps = 0;
    while let Some(index) = open.pop() {
        if !needed.insert(index) || steps > walk::MOST_STEPS || report.is_full() {
            continue;
        }
        open.extend(stages.base(index).meaning.stage());
        for meaning in stages.sources(index, of_image(index)) {
            steps += 1;
            if steps > walk::MOST_STEPS || report.is_full() {
                break;
            }
            match meaning {
                Ok(meaning) => open.extend(meaning.stage()),
                Err(mistake) => report.mistakes([mistake]),
            }
        }
    }
    needed
}
