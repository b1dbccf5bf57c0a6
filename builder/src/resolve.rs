//! Settles every name of a Dockerfile: which stages are needed, and what each begins with.
//!
//! ```text
//! stages that the target needs ─▶ images, all asked at once ─▶ their ONBUILD triggers, which may need more of both ─▶ …
//! ```
//!
//! - A stage that the target does not need is neither built nor asked for.
//! - Every image is pinned: nothing later asks a registry for a name.
//!
//! Not here: what names mean within the file (`dockerfile::Stages`).
//!
//! Spec: Dockerfile reference, "FROM", "ONBUILD", "COPY --from".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dockerfile::{
    BuildArguments, Diagnostic, Dockerfile, GlobalScope, ImageTriggers, Instruction, Located, Meaning, Span, Stage,
    Stages, Word, nearest, parse_trigger, sources,
};
use futures_util::future::try_join_all;
use oci::{Platform, PlatformError, Reference, ReferenceError};

use crate::images::{BaseImage, ImageError, ImageSource, Pull};
use crate::named_context::{NamedContext, NamedContexts};
use crate::spanned::Spanned;

/// What decides about names.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are the flags of `wharf build`")]
pub struct ResolveOptions<'a> {
    pub target: Option<&'a str>,
    pub platform: &'a Platform,
    pub pull: Pull,
    pub contexts: &'a NamedContexts,
}

/// A Dockerfile with every name settled.
#[derive(Debug)]
pub struct Resolved {
    /// The stages that are needed, in their order; the last one is the target.
    pub stages: Vec<ResolvedStage>,
    /// What FROM lines saw, and stages may inherit.
    pub global: GlobalScope,
    /// The text of the Dockerfile, in which spans count bytes.
    pub source: String,
}

/// A stage that begins with something known.
#[derive(Debug)]
pub struct ResolvedStage {
    /// Its name, or `stage-N`.
    pub name: String,
    /// What it begins with, as written after expansion.
    pub base_name: String,
    /// What it begins with.
    pub base: Base,
    /// Where its FROM stands.
    pub span: Span,
    /// Triggers of the base first.
    pub instructions: Vec<ResolvedInstruction>,
}

/// An instruction with what its `--from` means, or those of its mounts.
#[derive(Clone, Debug)]
pub struct ResolvedInstruction {
    /// The instruction.
    pub instruction: Instruction,
    /// Its line as written.
    pub text: String,
    /// Where it stands; for a trigger of a base image, where the FROM does.
    pub span: Span,
    /// What it copies from or mounts, as far as it names that: one for `--from`, or for each mount with `from`.
    pub from: Vec<Base>,
    /// Where it was written.
    pub origin: Origin,
}

/// Where an instruction was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the Dockerfile.
    Dockerfile,
    /// In the config of the base image, as a trigger: the spans of its parts count in a text of its own.
    BaseImage,
}

/// Files that something begins with or copies from.
#[derive(Clone, Debug)]
pub enum Base {
    /// No files.
    Scratch,
    /// A stage, by its place in [`Resolved::stages`].
    Stage(usize),
    /// A named context that is no image.
    Tree(String),
    /// A pinned image.
    Image(Arc<BaseImage>),
}

/// Why names could not be settled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// What is wrong with the file itself.
    #[error("the Dockerfile has mistakes")]
    Dockerfile {
        /// All that was found.
        diagnostics: Vec<Diagnostic>,
    },
    /// What is wrong with one name.
    #[error(transparent)]
    Name(Box<Spanned<ResolveProblem>>),
}

impl From<Spanned<ResolveProblem>> for ResolveError {
    fn from(error: Spanned<ResolveProblem>) -> Self {
        Self::Name(Box::new(error))
    }
}

/// What is wrong with a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ResolveProblem {
    #[error("there is no stage `{target}` to build")]
    UnknownTarget { target: String, stages: Vec<String> },
    #[error("cannot use `{name}` as an image")]
    Reference { name: String, source: ReferenceError },
    #[error("cannot use `{text}` as a platform")]
    Platform { text: String, source: PlatformError },
    #[error("{name} is asked for {wanted}, but only images of {built} are built yet")]
    OtherPlatform { name: String, wanted: Platform, built: Platform },
    #[error("cannot get the base image {name}")]
    Image { name: String, similar: Option<String>, source: ImageError },
    #[error("the image {name} has an ONBUILD trigger that is no instruction: `{trigger}`")]
    Trigger { name: String, trigger: String, diagnostics: Vec<Diagnostic> },
}

/// Settles the names of `stages` of the file `source`, whose FROM lines see `global`.
///
/// # Errors
///
/// [`ResolveError`]: every mistake in what names mean, or the first name that cannot be used.
pub async fn resolve(
    source: &str,
    (stages, global): (&Stages<'_>, &GlobalScope),
    options: &ResolveOptions<'_>,
    images: &dyn ImageSource,
) -> Result<Resolved, ResolveError> {
    let target = target_index(stages, options.target)?;
    let mut resolving = Resolving { stages, global, options, known: BTreeMap::new(), triggers: ImageTriggers::new() };
    let needed = loop {
        let needed = resolving.needed(target)?;
        let unknown = resolving.unknown(&needed)?;
        if unknown.is_empty() {
            break needed;
        }
        resolving.ask(unknown, images).await?;
        resolving.read_triggers(&needed)?;
    };
    let stages = needed.iter().map(|index| resolving.stage(*index, &needed)).collect::<Result<_, _>>()?;
    Ok(Resolved { stages, global: global.clone(), source: source.to_owned() })
}

/// Returns the arguments of a build of `target`, or the last stage, of `dockerfile` for `platform`: those of the command line,
/// and those that a builder sets by itself.
pub fn build_arguments(
    given: BTreeMap<String, String>,
    platform: &Platform,
    dockerfile: &Dockerfile,
    target: Option<&str>,
) -> BuildArguments {
    let mut builtin = BTreeMap::new();
    for (prefix, platform) in [("TARGET", platform), ("BUILD", &Platform::host())] {
        builtin.insert(format!("{prefix}PLATFORM"), platform.to_string());
        builtin.insert(format!("{prefix}OS"), platform.os.clone());
        builtin.insert(format!("{prefix}OSVERSION"), platform.os_version.clone().unwrap_or_default());
        builtin.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        builtin.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    let last = || dockerfile.stages.last().and_then(Stage::name);
    let stage = target.map(str::to_owned).or_else(last).unwrap_or_else(|| "default".to_owned());
    builtin.insert("TARGETSTAGE".to_owned(), stage);
    BuildArguments { given, builtin }
}

/// Returns the place of the stage that is built: the one of that name or number, or the last.
///
/// # Errors
///
/// [`ResolveProblem::UnknownTarget`].
pub fn target_index(stages: &Stages<'_>, name: Option<&str>) -> Result<usize, ResolveError> {
    stages.target(name).ok_or_else(|| {
        let names = (0..stages.count()).filter_map(|index| stages.stage(index).name()).collect();
        let target = name.unwrap_or_default().to_owned();
        Spanned { span: None, error: ResolveProblem::UnknownTarget { target, stages: names } }.into()
    })
}

/// Names on their way to being settled.
struct Resolving<'a> {
    stages: &'a Stages<'a>,
    global: &'a GlobalScope,
    options: &'a ResolveOptions<'a>,
    known: BTreeMap<Reference, Arc<BaseImage>>,
    /// The triggers of the images that stages begin with, by the place of the stage.
    triggers: ImageTriggers,
}

impl Resolving<'_> {
    fn needed(&self, target: usize) -> Result<BTreeSet<usize>, ResolveError> {
        let needed = self.stages.needed(target, &self.triggers);
        needed.map_err(|diagnostics| ResolveError::Dockerfile { diagnostics })
    }

    /// Returns the instructions of a stage, behind the triggers of what it begins with.
    fn instructions(&self, index: usize) -> impl Iterator<Item = (Origin, &Located<Instruction>)> {
        let triggers = self.triggers.get(&index).into_iter().flatten().map(|located| (Origin::BaseImage, located));
        triggers.chain(self.stages.instructions(index).map(|located| (Origin::Dockerfile, located)))
    }

    /// Returns what an instruction copies from or mounts.
    fn copied(&self, index: usize, located: &Located<Instruction>) -> Result<Vec<Meaning>, ResolveError> {
        let meanings = sources(located).into_iter().map(|source| self.stages.source(index, source));
        let meanings = meanings.collect::<Result<_, _>>();
        meanings.map_err(|diagnostic| ResolveError::Dockerfile { diagnostics: vec![diagnostic] })
    }

    /// Returns the images that the stages name and nobody was asked for yet.
    fn unknown(&self, stages: &BTreeSet<usize>) -> Result<BTreeMap<Reference, Span>, ResolveError> {
        let mut names = BTreeMap::new();
        let mut add = |meaning: &Meaning, span| {
            if let Some(name) = self.image(meaning, span)? {
                names.entry(name).or_insert(span);
            }
            Ok::<_, ResolveError>(())
        };
        for &index in stages {
            add(&self.stages.base(index).meaning, self.stages.stage(index).from.value.image.span())?;
            for (_, located) in self.instructions(index) {
                for meaning in self.copied(index, located)? {
                    add(&meaning, located.span)?;
                }
            }
        }
        names.retain(|name, _| !self.known.contains_key(name));
        Ok(names)
    }

    async fn ask(&mut self, names: BTreeMap<Reference, Span>, images: &dyn ImageSource) -> Result<(), ResolveError> {
        let options = self.options;
        let stages = self.stages;
        let asked = names.iter().map(|(name, span)| async move {
            let answer = images.resolve(name, options.platform, options.pull).await;
            answer.map_err(|source| {
                let similar = similar_stage(stages, name);
                Spanned::new(*span, ResolveProblem::Image { name: name.familiar(), similar, source })
            })
        });
        let answers = try_join_all(asked).await?;
        self.known.extend(names.into_keys().zip(answers.into_iter().map(Arc::new)));
        Ok(())
    }

    fn read_triggers(&mut self, stages: &BTreeSet<usize>) -> Result<(), ResolveError> {
        for &index in stages {
            let from = &self.stages.stage(index).from;
            let image = self.pinned(&self.stages.base(index).meaning, from.value.image.span())?;
            if let Some(image) = image {
                self.triggers.insert(index, triggers(&image, from.span)?);
            }
        }
        Ok(())
    }

    /// Settles a stage; `needed` are the places of all stages that are.
    fn stage(&self, index: usize, needed: &BTreeSet<usize>) -> Result<ResolvedStage, ResolveError> {
        self.check_platform(index)?;
        let from = &self.stages.stage(index).from;
        let base = self.stages.base(index);
        let instructions = self.instructions(index).map(|(origin, located)| {
            let meanings = self.copied(index, located)?;
            let from = meanings.iter().map(|meaning| self.base(meaning, located.span, needed));
            let from = from.collect::<Result<_, _>>()?;
            let (instruction, text) = (located.value.clone(), located.text.clone());
            Ok(ResolvedInstruction { instruction, text, span: located.span, from, origin })
        });
        Ok(ResolvedStage {
            name: self.stages.label(index),
            base_name: base.name.clone(),
            base: self.base(&base.meaning, from.value.image.span(), needed)?,
            span: from.span,
            instructions: instructions.collect::<Result<_, ResolveError>>()?,
        })
    }

    fn base(&self, meaning: &Meaning, span: Span, needed: &BTreeSet<usize>) -> Result<Base, ResolveError> {
        Ok(match meaning {
            Meaning::Scratch => Base::Scratch,
            Meaning::Stage(index) => Base::Stage(needed.range(..index).count()),
            Meaning::Context(name) if matches!(self.options.contexts[name], NamedContext::Tree(_)) => {
                Base::Tree(name.clone())
            }
            Meaning::Context(_) | Meaning::Image(_) => {
                Base::Image(self.pinned(meaning, span)?.expect("all images of needed stages were asked for"))
            }
        })
    }

    /// Returns the image that a name means, if it means one that is known.
    fn pinned(&self, meaning: &Meaning, span: Span) -> Result<Option<Arc<BaseImage>>, ResolveError> {
        if let Meaning::Context(name) = meaning
            && let NamedContext::Pinned(image) = &self.options.contexts[name]
        {
            return Ok(Some(Arc::clone(image)));
        }
        Ok(self.image(meaning, span)?.and_then(|name| self.known.get(&name).cloned()))
    }

    /// Returns the name of an image that has to be asked for.
    fn image(&self, meaning: &Meaning, span: Span) -> Result<Option<Reference>, ResolveError> {
        match meaning {
            Meaning::Image(name) => reference(name, span).map(Some),
            Meaning::Context(name) => Ok(match &self.options.contexts[name] {
                NamedContext::Image(reference) => Some(reference.clone().or_latest()),
                NamedContext::Tree(_) | NamedContext::Pinned(_) => None,
            }),
            Meaning::Scratch | Meaning::Stage(_) => Ok(None),
        }
    }

    fn check_platform(&self, index: usize) -> Result<(), ResolveError> {
        let from = &self.stages.stage(index).from.value;
        let Some(word) = &from.platform else { return Ok(()) };
        let wanted = platform_of(word, self.global)?;
        if wanted == self.options.platform.normalised() {
            return Ok(());
        }
        let (name, built) = (from.image.text().to_owned(), self.options.platform.clone());
        Err(Spanned::new(word.span(), ResolveProblem::OtherPlatform { name, wanted, built }).into())
    }
}

/// Returns the stage whose name is near to that of an image, which may be a slip of the fingers.
fn similar_stage(stages: &Stages<'_>, image: &Reference) -> Option<String> {
    let familiar = image.familiar();
    let name = familiar.split(':').next().unwrap_or_default();
    let names: Vec<_> = (0..stages.count()).filter_map(|index| stages.stage(index).name()).collect();
    nearest(name, names.iter().map(String::as_str)).filter(|nearest| *nearest != name).map(str::to_owned)
}

/// Reads the platform that a FROM asks for.
pub(crate) fn platform_of(word: &Word, global: &GlobalScope) -> Result<Platform, ResolveError> {
    let text = word.expand(global).map_err(|error| {
        let diagnostics = vec![Diagnostic::unexpandable(word, &error)];
        ResolveError::Dockerfile { diagnostics }
    })?;
    let platform = text.parse::<Platform>();
    Ok(platform.map_err(|source| Spanned::new(word.span(), ResolveProblem::Platform { text, source }))?)
}

/// Reads the name of an image, which stands at `span`.
pub(crate) fn reference(name: &str, span: Span) -> Result<Reference, ResolveError> {
    let reference = name.parse::<Reference>();
    let reference =
        reference.map_err(|source| Spanned::new(span, ResolveProblem::Reference { name: name.to_owned(), source }))?;
    Ok(reference.or_latest())
}

/// Reads the triggers of an image that the FROM at `span` names.
fn triggers(image: &BaseImage, span: Span) -> Result<Vec<Located<Instruction>>, ResolveError> {
    let read = |trigger: &String| match parse_trigger(trigger) {
        Ok(located) => Ok(Located { span, ..located }),
        Err(diagnostics) => {
            let (name, trigger) = (image.name.clone(), trigger.clone());
            Err(Spanned::new(span, ResolveProblem::Trigger { name, trigger, diagnostics }).into())
        }
    };
    image.config.config.on_build.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_not_there_may_be_a_misspelt_stage() {
        let parsed = dockerfile::parse("FROM scratch AS build\nFROM scratch AS run-time\n");
        let stages = Stages::read(&parsed.dockerfile, &GlobalScope::default(), &BTreeSet::new()).unwrap();
        let similar = |image: &str| similar_stage(&stages, &image.parse().unwrap());
        assert_eq!(similar("biuld").as_deref(), Some("build"));
        assert_eq!(similar("runtime:latest").as_deref(), Some("run-time"));
        assert_eq!(similar("debian"), None);
        assert_eq!(similar("localhost:5000/build"), None);
    }
}
