//! Rules about what FROM begins with: its arguments, its image, its platform.
//!
//! All but the last look at every stage, needed or not, as docker does.

use super::image_name::ImageNames;
use super::platform::Platform;
use super::report::{Report, Site};
use super::variables::nearby;
use crate::instruction::{From, Located};
use crate::{BaseFacts, BuildArguments, Diagnostic, Dockerfile, GlobalScope, Rule, Variables, Word};

/// Checks that FROM refers only to what is declared before the first FROM, or given by the builder.
///
/// What a form such as `${name:-default}` stands for has no part in that.
pub(super) fn undefined_arg(from: &Located<From>, global: &GlobalScope, report: &mut Report<'_>) {
    for word in std::iter::once(&from.value.image).chain(&from.value.platform) {
        for (name, span) in word.located_references() {
            if global.is_declared(&name) || global.lookup(&name).is_some() {
                continue;
            }
            report.rule(Rule::UndefinedArgInFrom, Site::of(from), || {
                let warning = Diagnostic::warning(span, format!("FROM uses `{name}`, which no ARG before it declares"));
                let warning = warning.label("is empty").note("FROM sees only ARGs before the first FROM");
                warning.suggest(&name, nearby(&name, global.names()))
            });
        }
    }
}

/// Checks that every FROM names an image when no build argument is given.
///
/// With a default that cannot be expanded nothing is checked: the build fails over that.
pub(super) fn invalid_default_arg(dockerfile: &Dockerfile, arguments: &BuildArguments, report: &mut Report<'_>) {
    let given = GlobalScope::read(&dockerfile.global_args, arguments.clone()).0;
    let defaults = BuildArguments { given: Default::default(), ..arguments.clone() };
    let (defaults, mistakes) = GlobalScope::read(&dockerfile.global_args, defaults);
    if !mistakes.is_empty() {
        return;
    }
    let names = ImageNames::new();
    let is_name = |word: &Word, scope: &GlobalScope| word.expand(scope).map(|name| names.holds(&name));
    for from in dockerfile.stages.iter().map(|stage| &stage.from) {
        let image = &from.value.image;
        let Ok(is_valid) = is_name(image, &defaults) else { return };
        // A name that is wrong with the arguments of this build is a mistake of its own.
        if is_valid || !image.has_variables() || is_name(image, &given) != Ok(true) {
            continue;
        }
        report.rule(Rule::InvalidDefaultArgInFrom, Site::of(from), || {
            let name = image.expand(&defaults).unwrap_or_default();
            let title = format!("`{}` names no image unless build arguments are given", image.text());
            let warning = Diagnostic::warning(image.span(), title);
            let label =
                if name.is_empty() { "is empty without them".to_owned() } else { format!("is `{name}` without them") };
            warning.label(label).note("give the ARGs defaults that name an image")
        });
    }
}

/// Checks that FROM does not ask for the platform that it gets anyway.
pub(super) fn redundant_target_platform(from: &Located<From>, global: &GlobalScope, report: &mut Report<'_>) {
    const NAME: &str = "TARGETPLATFORM";
    let Some(platform) = &from.value.platform else { return };
    let is_only = matches!(platform.located_references().as_slice(), [(name, _)] if name == NAME);
    let is_target = || platform.expand(global).ok().as_deref() == global.lookup(NAME).as_deref();
    if !is_only || global.lookup(NAME).is_none() || !is_target() {
        return;
    }
    report.rule(Rule::RedundantTargetPlatform, Site::of(from), || {
        let title = format!("`--platform={}` asks for what FROM does anyway", platform.text());
        Diagnostic::warning(platform.span(), title).label("is the default").note("leave the flag out")
    });
}

/// Checks that FROM is not tied to one platform, unless the name of its stage says so.
pub(super) fn const_platform(from: &Located<From>, report: &mut Report<'_>) {
    let Some(platform) = from.value.platform.as_ref().filter(|platform| !platform.has_variables()) else { return };
    let text = platform.expand(&crate::NoVariables).unwrap_or_default();
    let Some(Platform { os, architecture }) = Platform::read(&text) else { return };
    let name = from.value.stage_name().unwrap_or_default();
    if name.contains(&os) || architecture.is_some_and(|architecture| name.contains(&architecture)) {
        return;
    }
    report.rule(Rule::FromPlatformFlagConstDisallowed, Site::of(from), || {
        let warning = Diagnostic::warning(platform.span(), format!("FROM is tied to the platform `{text}`"));
        let warning = warning.label("a constant");
        warning.note("use `$BUILDPLATFORM`, leave the flag out, or name the stage for the platform")
    });
}

/// Checks that a base image which is known is of the platform that the stage wants.
pub(super) fn invalid_base_platform(
    from: &Located<From>,
    (name, facts): (&str, &BaseFacts),
    global: &GlobalScope,
    report: &mut Report<'_>,
) {
    let wanted = match &from.value.platform {
        Some(platform) => platform.expand(global).ok(),
        None => global.arguments().builtin.get("TARGETPLATFORM").cloned(),
    };
    let Some(wanted) = wanted else { return };
    let (Some(want), Some(is)) = (Platform::read(&wanted), Platform::read(&facts.platform)) else { return };
    let is_other_architecture = want.architecture.is_some() && want.architecture != is.architecture;
    if want.os == is.os && !is_other_architecture {
        return;
    }
    report.rule(Rule::InvalidBaseImagePlatform, Site::of(from), || {
        let title = format!("the base image `{name}` is of platform {}, and {wanted} is wanted", facts.platform);
        let warning = Diagnostic::warning(from.value.image.span(), title).label(format!("is {}", facts.platform));
        warning.note(format!("use an image that exists for {wanted}"))
    });
}
