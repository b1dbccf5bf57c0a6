//! Settles every name of a Dockerfile: which stages are needed, and what each begins with.
//!
//! ```text
//! global ARGs ─▶ FROM names ─▶ stages that the target needs ─▶ images, all asked at once ─▶ ONBUILD triggers put in front
//! ```
//!
//! - A stage that the target does not need is neither built nor asked for.
//! - Every image is pinned: nothing later asks a registry for a name.
//!
//! Spec: Dockerfile reference, "FROM", "ARG", "ONBUILD", "COPY --from".

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dockerfile::{Diagnostic, Dockerfile, ExpandError, Instruction, Located, Span, Stage, Variables, parse_trigger};
use futures_util::future::try_join_all;
use oci::{Platform, PlatformError, Reference, ReferenceError};

use crate::images::{BaseImage, ImageError, ImageSource, Pull};
use crate::spanned::Spanned;

/// What decides about names.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are the flags of `wharf build`")]
pub struct ResolveOptions<'a> {
    pub build_args: &'a BTreeMap<String, String>,
    pub target: Option<&'a str>,
    pub platform: &'a Platform,
    pub pull: Pull,
}

/// A Dockerfile with every name settled.
#[derive(Debug)]
pub struct Resolved {
    /// The stages that are needed, in their order; the last one is the target.
    pub stages: Vec<ResolvedStage>,
    /// The arguments that were declared before the first FROM, with their values.
    pub global_args: BTreeMap<String, String>,
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

/// An instruction with what its `--from` means.
#[derive(Clone, Debug)]
pub struct ResolvedInstruction {
    /// The instruction.
    pub instruction: Instruction,
    /// Its line as written.
    pub text: String,
    /// Where it stands; for a trigger of a base image, where the FROM does.
    pub span: Span,
    /// What it copies from; `None` is the build context.
    pub from: Option<Base>,
}

/// Files that something begins with or copies from.
#[derive(Clone, Debug)]
pub enum Base {
    /// No files.
    Scratch,
    /// A stage, by its place in [`Resolved::stages`].
    Stage(usize),
    /// A pinned image.
    Image(Arc<BaseImage>),
}

/// Why names could not be settled.
pub type ResolveError = Spanned<ResolveProblem>;

/// What is wrong with a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ResolveProblem {
    #[error("there is no stage `{target}` to build")]
    UnknownTarget { target: String, stages: Vec<String> },
    #[error("cannot expand `{text}`")]
    Expand { text: String, source: ExpandError },
    #[error("the image name `{text}` is blank after expansion")]
    Blank { text: String },
    #[error("stage `{name}` stands at or after the line that uses it")]
    Later { name: String },
    #[error("cannot use `{name}` as an image")]
    Reference { name: String, source: ReferenceError },
    #[error("cannot use `{text}` as a platform")]
    Platform { text: String, source: PlatformError },
    #[error("{name} is asked for {wanted}, but only images of {built} are built yet")]
    OtherPlatform { name: String, wanted: Platform, built: Platform },
    #[error("cannot get the base image {name}")]
    Image { name: String, source: ImageError },
    #[error("an ONBUILD trigger copies from stage `{name}`, which nothing else needs; that is not built yet")]
    TriggerStage { name: String },
    #[error("the image {name} has an ONBUILD trigger that is no instruction: `{trigger}`")]
    Trigger { name: String, trigger: String, diagnostics: Vec<Diagnostic> },
}

/// Settles the names of `dockerfile`, whose text is `source`.
///
/// # Errors
///
/// [`ResolveError`] with the place of the name; the first that is found.
pub async fn resolve(
    source: &str,
    dockerfile: &Dockerfile,
    options: &ResolveOptions<'_>,
    images: &dyn ImageSource,
) -> Result<Resolved, ResolveError> {
    let names = Names::new(dockerfile, options)?;
    let target = names.target(options.target)?;
    let needed = names.needed(target)?;
    let known = Images::ask(names.image_names(&needed)?, options, images).await?;
    let mut resolving =
        Resolving { names: &names, known, options, images, stages: Vec::new(), indices: BTreeMap::new() };
    for index in needed {
        resolving.stage(index).await?;
    }
    Ok(Resolved { stages: resolving.stages, global_args: names.global_args, source: source.to_owned() })
}

/// The arguments that a builder sets by itself.
pub(crate) fn platform_args(platform: &Platform) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", platform), ("BUILD", &Platform::host())] {
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), platform.variant.clone().unwrap_or_default());
    }
    args
}

/// Global arguments over the builder's own.
struct GlobalVariables<'a> {
    args: &'a BTreeMap<String, String>,
    platform: &'a BTreeMap<String, String>,
}

impl Variables for GlobalVariables<'_> {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        self.args.get(name).or_else(|| self.platform.get(name)).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// What the names of a Dockerfile mean before any image is known.
struct Names<'a> {
    dockerfile: &'a Dockerfile,
    global_args: BTreeMap<String, String>,
    platform_args: BTreeMap<String, String>,
}

/// What a name means within a Dockerfile.
enum Meaning {
    Scratch,
    Stage(usize),
    Image(Reference),
}

impl<'a> Names<'a> {
    fn new(dockerfile: &'a Dockerfile, options: &ResolveOptions<'_>) -> Result<Self, ResolveError> {
        let mut names =
            Self { dockerfile, global_args: BTreeMap::new(), platform_args: platform_args(options.platform) };
        for declaration in dockerfile.global_args.iter().flat_map(|arg| &arg.value.declarations) {
            let value = match (options.build_args.get(&declaration.name), &declaration.default) {
                (Some(value), _) => Some(value.clone()),
                (None, Some(default)) => Some(names.expand(default)?),
                (None, None) => names.platform_args.get(&declaration.name).cloned(),
            };
            if let Some(value) = value {
                names.global_args.insert(declaration.name.clone(), value);
            }
        }
        Ok(names)
    }

    fn expand(&self, word: &dockerfile::Word) -> Result<String, ResolveError> {
        let variables = GlobalVariables { args: &self.global_args, platform: &self.platform_args };
        word.expand(&variables).map_err(|source| {
            Spanned::new(word.span(), ResolveProblem::Expand { text: word.text().to_owned(), source })
        })
    }

    fn stage(&self, index: usize) -> &'a Stage {
        &self.dockerfile.stages[index]
    }

    fn target(&self, target: Option<&str>) -> Result<usize, ResolveError> {
        let stages = &self.dockerfile.stages;
        let Some(target) = target else { return Ok(stages.len() - 1) };
        let number = || target.parse().ok().filter(|number| *number < stages.len());
        self.earlier_stage(target, stages.len()).or_else(number).ok_or_else(|| {
            let stages = stages.iter().filter_map(Stage::name).collect();
            Spanned { span: None, error: ResolveProblem::UnknownTarget { target: target.to_owned(), stages } }
        })
    }

    /// Returns the last stage of this name before stage `before`.
    fn earlier_stage(&self, name: &str, before: usize) -> Option<usize> {
        let name = name.to_lowercase();
        self.dockerfile.stages[..before].iter().rposition(|stage| stage.name().as_deref() == Some(&name))
    }

    fn base_name(&self, index: usize) -> Result<String, ResolveError> {
        let image = &self.stage(index).from.value.image;
        let name = self.expand(image)?;
        if name.trim().is_empty() {
            return Err(Spanned::new(image.span(), ResolveProblem::Blank { text: image.text().to_owned() }));
        }
        Ok(name)
    }

    /// Returns what `name` means in stage `index`.
    fn meaning(&self, name: &str, index: usize, span: Span) -> Result<Meaning, ResolveError> {
        if let Some(stage) = self.earlier_stage(name, index) {
            return Ok(Meaning::Stage(stage));
        }
        if name.eq_ignore_ascii_case("scratch") {
            return Ok(Meaning::Scratch);
        }
        let problem = |problem| Spanned::new(span, problem);
        if self.earlier_stage(name, self.dockerfile.stages.len()).is_some() {
            return Err(problem(ResolveProblem::Later { name: name.to_owned() }));
        }
        let reference = name
            .parse::<Reference>()
            .map_err(|source| problem(ResolveProblem::Reference { name: name.to_owned(), source }))?;
        Ok(Meaning::Image(reference.or_latest()))
    }

    fn base_meaning(&self, index: usize) -> Result<Meaning, ResolveError> {
        self.meaning(&self.base_name(index)?, index, self.stage(index).from.value.image.span())
    }

    /// Returns what `--from` of an instruction of stage `index` means; stages may also be numbered.
    fn copied_meaning(&self, instruction: &Instruction, index: usize) -> Result<Option<Meaning>, ResolveError> {
        let Instruction::Copy(dockerfile::Copy { from: Some(from), .. }) = instruction else { return Ok(None) };
        match from.text.parse::<usize>() {
            Ok(number) if number < index => Ok(Some(Meaning::Stage(number))),
            Ok(_) => Err(Spanned::new(from.span, ResolveProblem::Later { name: from.text.clone() })),
            Err(_) => self.meaning(&from.text, index, from.span).map(Some),
        }
    }

    /// Returns the stages that `target` needs, itself included, in their order.
    fn needed(&self, target: usize) -> Result<BTreeSet<usize>, ResolveError> {
        let mut needed = BTreeSet::new();
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            if !needed.insert(index) {
                continue;
            }
            if let Meaning::Stage(base) = self.base_meaning(index)? {
                open.push(base);
            }
            for located in self.instructions(index)? {
                if let Some(Meaning::Stage(stage)) = self.copied_meaning(&located.value, index)? {
                    open.push(stage);
                }
            }
        }
        Ok(needed)
    }

    /// Returns the instructions of a stage, behind the triggers of a base that is a stage.
    fn instructions(&self, index: usize) -> Result<Vec<&'a Located<Instruction>>, ResolveError> {
        let mut instructions = Vec::new();
        if let Meaning::Stage(base) = self.base_meaning(index)? {
            instructions.extend(self.stage(base).instructions.iter().filter_map(|located| match &located.value {
                Instruction::Onbuild(onbuild) => Some(onbuild.instruction.as_ref()),
                _ => None,
            }));
        }
        instructions.extend(&self.stage(index).instructions);
        Ok(instructions)
    }

    fn image_names(&self, stages: &BTreeSet<usize>) -> Result<BTreeMap<Reference, Span>, ResolveError> {
        let mut names = BTreeMap::new();
        for &index in stages {
            if let Meaning::Image(name) = self.base_meaning(index)? {
                names.entry(name).or_insert(self.stage(index).from.value.image.span());
            }
            for located in self.instructions(index)? {
                if let Some(Meaning::Image(name)) = self.copied_meaning(&located.value, index)? {
                    names.entry(name).or_insert(located.span);
                }
            }
        }
        Ok(names)
    }
}

/// The images that were asked for.
struct Images(BTreeMap<Reference, Arc<BaseImage>>);

impl Images {
    async fn ask(
        names: BTreeMap<Reference, Span>,
        options: &ResolveOptions<'_>,
        images: &dyn ImageSource,
    ) -> Result<Self, ResolveError> {
        let asked = names.iter().map(|(name, span)| ask(name, *span, options, images));
        let answers = try_join_all(asked).await?;
        Ok(Self(names.into_keys().zip(answers).collect()))
    }
}

async fn ask(
    name: &Reference,
    span: Span,
    options: &ResolveOptions<'_>,
    images: &dyn ImageSource,
) -> Result<Arc<BaseImage>, ResolveError> {
    let answer = images.resolve(name, options.platform, options.pull).await;
    answer.map(Arc::new).map_err(|source| Spanned::new(span, ResolveProblem::Image { name: name.familiar(), source }))
}

/// Stages on their way to being resolved.
struct Resolving<'a> {
    names: &'a Names<'a>,
    known: Images,
    options: &'a ResolveOptions<'a>,
    images: &'a dyn ImageSource,
    stages: Vec<ResolvedStage>,
    /// From the place in the Dockerfile to the place in `stages`.
    indices: BTreeMap<usize, usize>,
}

impl Resolving<'_> {
    async fn stage(&mut self, index: usize) -> Result<(), ResolveError> {
        let stage = self.names.stage(index);
        self.check_platform(index)?;
        let span = stage.from.value.image.span();
        let base = self.base(self.names.base_meaning(index)?, span).await?;
        let mut instructions = Vec::new();
        if let Base::Image(image) = &base {
            let image = Arc::clone(image);
            for trigger in &image.config.config.on_build {
                let located = parse_trigger(trigger).map_err(|diagnostics| {
                    let (name, trigger) = (image.name.familiar(), trigger.clone());
                    Spanned::new(span, ResolveProblem::Trigger { name, trigger, diagnostics })
                })?;
                let located = Located { span: stage.from.span, ..located };
                instructions.push(self.instruction(&located, index).await?);
            }
        }
        for located in self.names.instructions(index)? {
            instructions.push(self.instruction(located, index).await?);
        }
        self.indices.insert(index, self.stages.len());
        self.stages.push(ResolvedStage {
            name: stage.name().unwrap_or_else(|| format!("stage-{index}")),
            base_name: self.names.base_name(index)?,
            base,
            span: stage.from.span,
            instructions,
        });
        Ok(())
    }

    async fn instruction(
        &mut self,
        located: &Located<Instruction>,
        index: usize,
    ) -> Result<ResolvedInstruction, ResolveError> {
        let from = match self.names.copied_meaning(&located.value, index)? {
            Some(meaning) => Some(self.base(meaning, located.span).await?),
            None => None,
        };
        let (instruction, text) = (located.value.clone(), located.text.clone());
        Ok(ResolvedInstruction { instruction, text, span: located.span, from })
    }

    async fn base(&mut self, meaning: Meaning, span: Span) -> Result<Base, ResolveError> {
        match meaning {
            Meaning::Scratch => Ok(Base::Scratch),
            Meaning::Stage(index) => {
                let unneeded = || {
                    let name = self.names.stage(index).name().unwrap_or_else(|| index.to_string());
                    Spanned::new(span, ResolveProblem::TriggerStage { name })
                };
                self.indices.get(&index).map(|place| Base::Stage(*place)).ok_or_else(unneeded)
            }
            Meaning::Image(name) => {
                if let Some(image) = self.known.0.get(&name) {
                    return Ok(Base::Image(Arc::clone(image)));
                }
                // Only a trigger of an image can name an image that was not known before.
                let image = ask(&name, span, self.options, self.images).await?;
                self.known.0.insert(name, Arc::clone(&image));
                Ok(Base::Image(image))
            }
        }
    }

    fn check_platform(&self, index: usize) -> Result<(), ResolveError> {
        let from = &self.names.stage(index).from.value;
        let Some(word) = &from.platform else { return Ok(()) };
        let text = self.names.expand(word)?;
        let wanted = text
            .parse::<Platform>()
            .map_err(|source| Spanned::new(word.span(), ResolveProblem::Platform { text, source }))?;
        if wanted == self.options.platform.normalised() {
            return Ok(());
        }
        let (name, built) = (from.image.text().to_owned(), self.options.platform.clone());
        Err(Spanned::new(word.span(), ResolveProblem::OtherPlatform { name, wanted, built }))
    }
}
