//! Checks a parsed Dockerfile: everything that reading single lines cannot tell.
//!
//! ```text
//! Parsed ─┬─ names: which stage, which image                    (`stages.rs`)
//!         ├─ values: ports, signals, modes, once they are known  (`values.rs`)
//!         └─ rules: docker's 22 lint rules                       (one file for those of a kind)
//!                └─▶ skipped, kept, or made errors, as `# check=` says
//! ```
//!
//! - Pure: what a base image or `.dockerignore` says comes in as data. What is not known is not judged.
//! - Without a target all stages are checked, with one those it needs.
//!
//! Spec: Dockerfile reference, "Build checks"; `# check=` directive.

use std::collections::BTreeMap;
use std::fmt;

use crate::{BuildArguments, Diagnostic, GlobalScope, ImageTriggers, Parsed, Severity, Stages};

/// What a check knows besides the file.
#[derive(Default)]
pub struct CheckOptions<'a> {
    /// The arguments of the build.
    pub arguments: BuildArguments,
    /// The stage that is built, by name or number; `None` checks all stages.
    pub target: Option<&'a str>,
    /// The base images that are known, by their names after expansion.
    pub bases: BTreeMap<String, BaseFacts>,
    /// Says which line of which file leaves a path of the build context out, as in `.dockerignore:3`; `None` when nothing does.
    pub ignored_by: Option<&'a dyn Fn(&str) -> Option<String>>,
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
    /// Its working directory; empty when it has none.
    pub working_dir: String,
    /// Its shell; `None` is docker's default.
    pub shell: Option<Vec<String>>,
    /// Its ONBUILD triggers.
    pub triggers: Vec<String>,
}

/// Checks a file: the mistakes of parsing, and what this module adds to them, in the order of the file.
///
/// A target that does not exist is not reported: that is no fault of the file.
pub fn check(parsed: &Parsed, options: &CheckOptions<'_>) -> Vec<Diagnostic> {
    let mut diagnostics = parsed.diagnostics.clone();
    let (global, mistakes) = GlobalScope::read(&parsed.dockerfile.global_args, options.arguments.clone());
    diagnostics.extend(mistakes);
    match Stages::read(&parsed.dockerfile, &global) {
        Ok(stages) => diagnostics.extend(names(&stages, options.target)),
        Err(mistakes) => diagnostics.extend(mistakes),
    }
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.severity));
    diagnostics
}

fn names(stages: &Stages<'_>, target: Option<&str>) -> Vec<Diagnostic> {
    let targets = match target {
        Some(_) => stages.target(target).into_iter().collect(),
        None => (0..stages.count()).collect::<Vec<_>>(),
    };
    let needed = targets.into_iter().map(|target| stages.needed(target, &ImageTriggers::new()));
    let mut diagnostics: Vec<_> = needed.filter_map(Result::err).flatten().collect();
    diagnostics.sort_by_key(|diagnostic| diagnostic.span);
    diagnostics.dedup();
    debug_assert!(
        diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Error),
        "names are right or wrong"
    );
    diagnostics
}
