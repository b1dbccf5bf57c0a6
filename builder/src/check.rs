//! Checks a Dockerfile for a build, without building anything.
//!
//! ```text
//! check with what the file says ─▶ ask for the base images ─▶ check again with what they say
//! ```
//!
//! What only this crate knows is checked here: whether names can be those of images, and texts those of platforms.
//!
//! A base that cannot be asked for is no mistake of the file: what depends on it is not judged, and the caller is told.
//!
//! Spec: Dockerfile reference, "Build checks".

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use dockerfile::{
    BaseFacts, BuildArguments, CheckOptions, Diagnostic, GlobalScope, Meaning, Parsed, Severity, SourceName, Span,
    Stages, has_errors, parse, sources,
};
use futures_util::future::join_all;
use oci::{Platform, Reference};

use crate::dockerignore::Dockerignore;
use crate::images::{BaseImage, ImageError, ImageSource, Pull};
use crate::named_context::{NamedContexts, names};
use crate::resolve::{Base, ResolveError, Resolved, build_arguments, platform_of, reference, target_index};
use crate::spanned::Spanned;

/// What is to be checked.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the flags of `wharf build`")]
pub struct CheckRequest<'a> {
    pub dockerfile: &'a str,
    pub ignore: &'a Dockerignore,
    pub build_args: BTreeMap<String, String>,
    pub contexts: &'a NamedContexts,
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
/// Without a target all stages are checked. When the file has errors by itself, no image is asked for.
///
/// # Errors
///
/// [`ResolveProblem::UnknownTarget`], if the stages of the file are known.
pub async fn check(request: &CheckRequest<'_>, images: &dyn ImageSource) -> Result<Checked, ResolveError> {
    let parsed = parse(request.dockerfile);
    let arguments = build_arguments(request.build_args.clone(), request.platform, &parsed.dockerfile, request.target);
    let (global, _) = GlobalScope::read(&parsed.dockerfile.global_args, arguments.clone());
    let contexts = names(request.contexts);
    let stages = Stages::read(&parsed.dockerfile, &global, &contexts).ok();
    if let (Some(stages), Some(_), false) = (&stages, request.target, parsed.has_errors()) {
        target_index(stages, request.target)?;
    }
    let names = stages.map(|stages| Names { stages, global, target: request.target });
    let checking =
        Checking { parsed: &parsed, arguments, contexts: &contexts, target: request.target, ignore: request.ignore };
    let diagnostics = checking.run(BTreeMap::new(), names.as_ref());
    if has_errors(&diagnostics) {
        return Ok(Checked { diagnostics, unknown: Vec::new() });
    }
    let wanted = names.as_ref().map(|names| names.bases(request.platform)).unwrap_or_default();
    let asked = wanted.into_iter().map(|(text, wanted)| async move {
        let answer = images.resolve(&wanted.name, &wanted.platform, request.pull).await;
        (text, wanted, answer)
    });
    let (mut bases, mut unknown) = (BTreeMap::new(), Vec::new());
    for (text, wanted, answer) in join_all(asked).await {
        match answer {
            Ok(image) => drop(bases.insert(text, wanted.facts(&image))),
            Err(ImageError::Platform { image, .. }) => drop(bases.insert(text, wanted.facts(&image))),
            Err(error) => unknown.push((wanted.name, error)),
        }
    }
    Ok(Checked { diagnostics: checking.run(bases, None), unknown })
}

/// A parsed file on its way through the checks.
pub(crate) struct Checking<'a> {
    pub(crate) parsed: &'a Parsed,
    pub(crate) arguments: BuildArguments,
    pub(crate) contexts: &'a BTreeSet<String>,
    pub(crate) target: Option<&'a str>,
    pub(crate) ignore: &'a Dockerignore,
}

impl Checking<'_> {
    /// Checks the file with these bases known, by their names in it; `names` are its own, as far as they could be settled. Bases
    /// change nothing about those: who has checked them before leaves them out.
    pub(crate) fn run(&self, bases: BTreeMap<String, BaseFacts>, names: Option<&Names<'_>>) -> Vec<Diagnostic> {
        let ignored_by = |path: &str| self.ignore.ignored_by(path);
        let options = CheckOptions {
            arguments: self.arguments.clone(),
            contexts: self.contexts.clone(),
            target: self.target,
            bases,
            ignored_by: Some(&ignored_by),
        };
        let mut found = dockerfile::check(self.parsed, &options);
        found.extend(names.map(Names::mistakes).unwrap_or_default());
        found.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.severity));
        found.dedup();
        found
    }
}

/// The names of a file on their way through the checks.
pub(crate) struct Names<'a> {
    pub(crate) stages: Stages<'a>,
    pub(crate) global: GlobalScope,
    /// The stage that is built; `None` for all of them.
    pub(crate) target: Option<&'a str>,
}

/// A base image to ask for.
struct Wanted {
    name: Reference,
    /// The platform that the first stage wants it for.
    platform: Platform,
    /// Whether all stages want it for that one.
    is_only: bool,
}

impl Wanted {
    /// Returns what is known of `image`; of which platform it is says nothing about the stages when they want several.
    fn facts(&self, image: &BaseImage) -> BaseFacts {
        let facts = facts(image);
        if self.is_only { facts } else { BaseFacts { platform: String::new(), ..facts } }
    }
}

/// How many names that are none are reported.
const MOST: usize = 500;
/// How many instructions are looked at: the triggers of a stage count for every stage that begins with it.
const MOST_STEPS: usize = 500_000;

impl Names<'_> {
    fn needed(&self) -> BTreeSet<usize> {
        if self.target.is_none() {
            return (0..self.stages.count()).collect();
        }
        let target = self.stages.target(self.target);
        target.and_then(|target| self.stages.needed(target, &BTreeMap::new()).ok()).unwrap_or_default()
    }

    /// Returns the images that the needed stages begin with, as far as their names are right; `platform` is that of the build.
    fn bases(&self, platform: &Platform) -> BTreeMap<String, Wanted> {
        let mut bases: BTreeMap<String, Wanted> = BTreeMap::new();
        for index in self.needed() {
            let Meaning::Image(text) = &self.stages.base(index).meaning else { continue };
            let Ok(name) = text.parse::<Reference>() else { continue };
            let own = self.stages.stage(index).from.value.platform.as_ref();
            let platform =
                own.and_then(|word| platform_of(word, &self.global).ok()).unwrap_or_else(|| platform.clone());
            match bases.get_mut(text) {
                Some(wanted) => wanted.is_only &= wanted.platform.normalised() == platform.normalised(),
                None => drop(bases.insert(text.clone(), Wanted { name: name.or_latest(), platform, is_only: true })),
            }
        }
        bases
    }

    /// Returns the names in the needed stages that can be no image, and the texts that are no platform.
    fn mistakes(&self) -> Vec<Diagnostic> {
        let steps = self.needed().into_iter().flat_map(|index| {
            let instructions = self.stages.instructions(index);
            std::iter::once(self.mistakes_of_from(index)).chain(instructions.map(move |located| {
                let mistake =
                    |source: SourceName<'_>| mistake_of(&self.stages.source(index, source).ok()?, source.span);
                sources(located).into_iter().filter_map(mistake).flat_map(diagnostics).collect()
            }))
        });
        steps.take(MOST_STEPS).flatten().take(MOST).collect()
    }

    fn mistakes_of_from(&self, index: usize) -> Vec<Diagnostic> {
        let from = &self.stages.stage(index).from.value;
        let platform = from.platform.as_ref().and_then(|word| platform_of(word, &self.global).err());
        let image = mistake_of(&self.stages.base(index).meaning, from.image.span());
        platform.into_iter().chain(image).flat_map(diagnostics).collect()
    }
}

/// Returns why a name can be no image, if it means one.
fn mistake_of(meaning: &Meaning, span: Span) -> Option<ResolveError> {
    match meaning {
        Meaning::Image(name) => reference(name, span).err(),
        Meaning::Scratch | Meaning::Stage(_) | Meaning::Context(_) => None,
    }
}

/// Returns what is wrong with a name, as mistakes of the file.
fn diagnostics(error: ResolveError) -> Vec<Diagnostic> {
    match error {
        ResolveError::Dockerfile { diagnostics } => diagnostics,
        ResolveError::Name(error) => {
            let Spanned { span, error } = *error;
            let label = error.source().map(ToString::to_string);
            let (severity, span) = (Severity::Error, span.unwrap_or_default());
            vec![Diagnostic { severity, span, title: error.to_string(), label, help: None, rule: None }]
        }
    }
}

/// Returns what is known of the images that the stages of `resolved` begin with.
pub(crate) fn known_bases(resolved: &Resolved) -> BTreeMap<String, BaseFacts> {
    let images = resolved.stages.iter().filter_map(|stage| match &stage.base {
        Base::Image(image) => Some((stage.base_name.clone(), facts(image))),
        Base::Scratch | Base::Stage(_) | Base::Tree(_) => None,
    });
    images.collect()
}

fn facts(image: &BaseImage) -> BaseFacts {
    let config = &image.config.config;
    BaseFacts {
        env: config.env.clone(),
        platform: image.config.platform.to_string(),
        shell: config.shell.clone(),
        triggers: config.on_build.clone(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use oci::{Digest, ImageConfig};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::images::ImagePlace;
    use crate::progress::Progress;

    /// A registry where every image but `missing` is for `linux/arm64` and sets `SET`.
    struct Arm;

    impl ImageSource for Arm {
        fn resolve<'a>(
            &'a self,
            name: &'a Reference,
            wanted: &'a Platform,
            _: Pull,
        ) -> BoxFuture<'a, Result<BaseImage, ImageError>> {
            async move {
                if name.familiar().starts_with("missing") {
                    let missing = layer_store::FindError::NotFound { name: name.to_string() };
                    return Err(ImageError::Find { source: missing });
                }
                let mut config = ImageConfig::empty("linux/arm64".parse().unwrap());
                config.config.env = vec!["SET=1".to_owned()];
                let image = BaseImage { name: name.familiar(), id: Digest::of(b""), config, place: ImagePlace::Store };
                if image.config.platform.runs_on(wanted) {
                    return Ok(image);
                }
                Err(ImageError::Platform { wanted: wanted.clone(), image: Box::new(image) })
            }
            .boxed()
        }

        fn fetch<'a>(
            &'a self,
            _: &'a BaseImage,
            _: &'a std::sync::Arc<dyn Progress>,
            _: &'a CancellationToken,
        ) -> BoxFuture<'a, Result<(), ImageError>> {
            unreachable!("a check fetches nothing")
        }
    }

    /// Checks a file for `linux/amd64` and compares what is found, and then the bases that are not known.
    #[track_caller]
    fn finds(dockerfile: &str, target: Option<&str>, expected: &[&str]) {
        let (ignore, platform) = (Dockerignore::default(), "linux/amd64".parse().unwrap());
        let build_args = BTreeMap::new();
        let (contexts, pull) = (NamedContexts::new(), Pull::Missing);
        let platform = &platform;
        let request =
            CheckRequest { dockerfile, ignore: &ignore, build_args, contexts: &contexts, target, platform, pull };
        let found = match check(&request, &Arm).now_or_never().expect("nothing is waited for") {
            Ok(Checked { diagnostics, unknown }) => {
                let name = |found: &Diagnostic| found.rule.map_or_else(|| found.title.clone(), |rule| rule.to_string());
                let unknown = unknown.iter().map(|(name, _)| name.familiar());
                diagnostics.iter().map(name).chain(unknown).collect()
            }
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(found, expected, "{dockerfile}");
    }

    #[test]
    fn a_base_of_another_platform_is_a_warning_and_known_all_the_same() {
        finds("FROM a\nWORKDIR /$SET\n", None, &["InvalidBaseImagePlatform"]);
        finds("FROM --platform=linux/arm64 a AS arm64\nWORKDIR /$SET/$NO\n", None, &["UndefinedVar"]);
        finds("FROM --platform=linux/arm64 a AS arm64\nFROM a\nWORKDIR /$SET\n", None, &[]);
    }

    #[test]
    fn a_base_that_cannot_be_asked_is_told_once() {
        finds("FROM missing\nWORKDIR /$SET\nFROM missing\nFROM a AS x\nFROM x\n", Some("0"), &["missing:latest"]);
        finds("FROM missing\nRUNN\n", None, &["unknown instruction `RUNN`"]);
    }

    #[test]
    fn what_can_be_no_image_and_no_platform_is_a_mistake_in_every_stage_that_is_checked() {
        let file = "ARG NO\nFROM a:$NO\nFROM --platform=x/y/z/w scratch\nFROM scratch\nCOPY --from=B / /\n";
        let b = "cannot use `B` as an image";
        finds(file, None, &["cannot use `a:` as an image", "cannot use `x/y/z/w` as a platform", b]);
        finds(file, Some("2"), &[b]);
        finds(file, Some("0"), &["cannot use `a:` as an image"]);
    }

    #[test]
    fn a_target_that_does_not_exist_is_an_error_of_its_own() {
        finds("FROM scratch AS a\n", Some("b"), &["there is no stage `b` to build"]);
        finds("FROM scratch AS a\nRUNN\n", Some("b"), &["unknown instruction `RUNN`"]);
    }
}
