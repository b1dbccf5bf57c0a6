//! Checks a Dockerfile for a build, without building anything.
//!
//! ```text
//! check with what the file says ─▶ ask for the base images ─▶ check again with what they say
//! ```
//!
//! A base that cannot be asked for is no mistake of the file: what depends on it is not judged, and the caller is told.
//!
//! Spec: Dockerfile reference, "Build checks".

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::{
    BaseFacts, BuildArguments, CheckOptions, Diagnostic, GlobalScope, Meaning, Parsed, Severity, Stages, parse,
};
use futures_util::future::join_all;
use oci::{Platform, Reference};

use crate::dockerignore::Dockerignore;
use crate::images::{BaseImage, ImageError, ImageSource, Pull};
use crate::resolve::{Base, Resolved, build_arguments};

/// What is to be checked.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the flags of `wharf build`")]
pub struct CheckRequest<'a> {
    pub dockerfile: &'a str,
    pub ignore: &'a Dockerignore,
    pub build_args: BTreeMap<String, String>,
    pub target: Option<&'a str>,
    pub platform: &'a Platform,
    pub pull: Pull,
}

/// What was found.
#[derive(Debug)]
pub struct Checked {
    /// What is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// The base images that could not be asked for, and why: what depends on them was not judged.
    pub unknown: Vec<(Reference, ImageError)>,
}

/// Checks a Dockerfile with everything that can be known of its base images.
///
/// When the file has errors by itself, no image is asked for.
pub async fn check(request: &CheckRequest<'_>, images: &dyn ImageSource) -> Checked {
    let parsed = parse(request.dockerfile);
    let arguments = build_arguments(request.build_args.clone(), request.platform, &parsed.dockerfile, request.target);
    let checking = Checking { parsed: &parsed, arguments, target: request.target, ignore: request.ignore };
    let diagnostics = checking.run(BTreeMap::new());
    if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
        return Checked { diagnostics, unknown: Vec::new() };
    }
    let names = checking.base_names();
    let asked = names.into_iter().map(|(text, name)| async move {
        let answer = images.resolve(&name, request.platform, request.pull).await;
        (text, name, answer)
    });
    let (mut bases, mut unknown) = (BTreeMap::new(), Vec::new());
    for (text, name, answer) in join_all(asked).await {
        match answer {
            Ok(image) => drop(bases.insert(text, facts(&image))),
            Err(error) => unknown.push((name, error)),
        }
    }
    Checked { diagnostics: checking.run(bases), unknown }
}

/// A parsed file on its way through the checks.
pub(crate) struct Checking<'a> {
    pub(crate) parsed: &'a Parsed,
    pub(crate) arguments: BuildArguments,
    pub(crate) target: Option<&'a str>,
    pub(crate) ignore: &'a Dockerignore,
}

impl Checking<'_> {
    /// Checks the file with these bases known, by their names in it.
    pub(crate) fn run(&self, bases: BTreeMap<String, BaseFacts>) -> Vec<Diagnostic> {
        let ignored_by = |path: &str| self.ignore.ignored_by(path);
        let options = CheckOptions {
            arguments: self.arguments.clone(),
            target: self.target,
            bases,
            ignored_by: Some(&ignored_by),
        };
        dockerfile::check(self.parsed, &options)
    }

    /// Returns the images that the needed stages begin with, as far as their names are right.
    fn base_names(&self) -> BTreeMap<String, Reference> {
        let (global, _) = GlobalScope::read(&self.parsed.dockerfile.global_args, self.arguments.clone());
        let Ok(stages) = Stages::read(&self.parsed.dockerfile, &global) else { return BTreeMap::new() };
        let needed = match self.target {
            None => (0..stages.count()).collect::<BTreeSet<_>>(),
            Some(_) => {
                let target = stages.target(self.target);
                target.and_then(|target| stages.needed(target, &BTreeMap::new()).ok()).unwrap_or_default()
            }
        };
        let named = needed.into_iter().filter_map(|index| match &stages.base(index).meaning {
            Meaning::Image(name) => Some((name.clone(), name.parse::<Reference>().ok()?.or_latest())),
            Meaning::Scratch | Meaning::Stage(_) => None,
        });
        named.collect()
    }
}

/// Returns what is known of the images that the stages of `resolved` begin with.
pub(crate) fn known_bases(resolved: &Resolved) -> BTreeMap<String, BaseFacts> {
    let images = resolved.stages.iter().filter_map(|stage| match &stage.base {
        Base::Image(image) => Some((stage.base_name.clone(), facts(image))),
        Base::Scratch | Base::Stage(_) => None,
    });
    images.collect()
}

fn facts(image: &BaseImage) -> BaseFacts {
    let config = &image.config.config;
    BaseFacts {
        env: config.env.clone(),
        platform: image.config.platform.to_string(),
        working_dir: config.working_dir.clone(),
        shell: config.shell.clone(),
        triggers: config.on_build.clone(),
    }
}
