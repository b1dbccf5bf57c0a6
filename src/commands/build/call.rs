//! `wharf build --check` and `--call`: tells about a Dockerfile instead of building it.
//!
//! | method | text | JSON | exit code |
//! |---|---|---|---|
//! | `check` | every warning and mistake with its excerpt | BuildKit's `frontend.lint` | 1 when a rule is broken |
//! | `outline` | what the target can be given | `frontend.outline` | 0 |
//! | `targets` | the stages | `frontend.targets` | 0 |
//!
//! The answer goes to standard output. Nothing is built, fetched or kept.
//!
//! Spec: docker build reference, "--call" and "--check".

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use builder::{BuildError, CheckRequest, Checked, Dockerignore, NamedContexts, Pull, RegistryImages, target_index};
use dockerfile::{
    Diagnostic, GlobalScope, Location, Outline, OutlineMount, Parsed, Severity, Source, Stages, Target, outline,
    targets,
};
use oci::Platform;
use serde_json::{Value, json};

use crate::args::truth_value;
use crate::output;
use crate::report::{self, BuildFailure, DockerfileText, Seen};
use crate::session::{Interrupt, Session};
use crate::shown::shown;
use crate::table::Table;

/// What `--call` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) method: Method,
    format: Format,
    /// Whether a check that finds something is a success all the same.
    ignores_status: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Build,
    Check,
    Outline,
    Targets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// What a call is about.
pub(super) struct CallRequest {
    pub(super) dockerfile: DockerfileText,
    pub(super) ignore: Dockerignore,
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) contexts: NamedContexts,
    pub(super) target: Option<String>,
    pub(super) platform: Platform,
    pub(super) pull: Pull,
}

impl Call {
    /// What `--check` is short for.
    pub(super) const CHECK: Self = Self { method: Method::Check, format: Format::Text, ignores_status: false };
}

impl FromStr for Call {
    type Err = String;

    /// Reads a method and options, in any order.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut call = Self { method: Method::Build, ..Self::CHECK };
        let mut method = None;
        for word in text.split(',') {
            match word.split_once('=') {
                Some(("format", "json")) => call.format = Format::Json,
                Some(("format", "text")) => call.format = Format::Text,
                Some(("ignorestatus", value)) => call.ignores_status = truth_value(value)?,
                None if method.is_none() => method = Some(method_of(word)?),
                _ => return Err(format!("unknown option `{word}`, want format=json or ignorestatus=true")),
            }
        }
        call.method = method.ok_or(METHODS)?;
        Ok(call)
    }
}

const METHODS: &str = "want build, check, outline or targets";

fn method_of(word: &str) -> Result<Method, String> {
    match word {
        "build" => Ok(Method::Build),
        "check" | "lint" => Ok(Method::Check),
        "outline" => Ok(Method::Outline),
        "targets" => Ok(Method::Targets),
        _ => Err(METHODS.to_owned()),
    }
}

/// Answers a call on standard output and returns the exit code.
pub(super) fn answer(call: Call, request: CallRequest, session: &Session) -> anyhow::Result<u8> {
    match call.method {
        Method::Check => check(call, &request, session),
        Method::Targets => {
            let parsed = parsed(&request)?;
            let source = Source::new(&request.dockerfile.text);
            let targets = targets(&parsed.dockerfile, &source);
            let sources = [BASE64_STANDARD.encode(&request.dockerfile.text)];
            print(call.format, || targets_text(&targets), || json!({ "targets": targets, "sources": sources }))?;
            Ok(0)
        }
        Method::Outline => {
            let outline = outlined(&request)?;
            let sources = [BASE64_STANDARD.encode(&request.dockerfile.text)];
            let json = || {
                let mut value = serde_json::to_value(&outline).expect("an outline has string keys");
                value["sources"] = json!(sources);
                value
            };
            print(call.format, || outline_text(&outline), json)?;
            Ok(0)
        }
        Method::Build => unreachable!("a build is no call"),
    }
}

fn print(format: Format, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> anyhow::Result<()> {
    Ok(match format {
        Format::Text => output::print(&text()),
        Format::Json => output::line(&format!("{:#}", json())),
    }?)
}

/// Parses a Dockerfile that has to be right.
fn parsed(request: &CallRequest) -> anyhow::Result<Parsed> {
    let parsed = dockerfile::parse(&request.dockerfile.text);
    if parsed.has_errors() {
        return Err(mistakes(request, parsed.diagnostics));
    }
    Ok(parsed)
}

fn mistakes(request: &CallRequest, diagnostics: Vec<Diagnostic>) -> anyhow::Error {
    failure(request, BuildError::Dockerfile { diagnostics })
}

fn failure(request: &CallRequest, error: BuildError) -> anyhow::Error {
    BuildFailure { dockerfile: request.dockerfile.clone(), error, output: Seen::Whole }.into()
}

fn outlined(request: &CallRequest) -> anyhow::Result<Outline> {
    let parsed = parsed(request)?;
    let target = request.target.as_deref();
    let arguments = builder::build_arguments(request.build_args.clone(), &request.platform, &parsed.dockerfile, target);
    let (global, diagnostics) = GlobalScope::read(&parsed.dockerfile.global_args, arguments);
    if !diagnostics.is_empty() {
        return Err(mistakes(request, diagnostics));
    }
    let stages = Stages::read(&parsed.dockerfile, &global, &request.contexts.keys().cloned().collect());
    let stages = stages.map_err(|diagnostics| mistakes(request, diagnostics))?;
    let target = target_index(&stages, target).map_err(|error| failure(request, error.into()))?;
    let source = Source::new(&request.dockerfile.text);
    let outline = outline((&parsed.dockerfile, &source), (&stages, &global), target);
    outline.map_err(|diagnostics| mistakes(request, diagnostics))
}

fn check(call: Call, request: &CallRequest, session: &Session) -> anyhow::Result<u8> {
    let checked = ask(request, session)?;
    for (name, error) in &checked.unknown {
        report::note(
            &format!("UndefinedVar and InvalidBaseImagePlatform are not checked for {}", name.familiar()),
            error,
        );
    }
    let text = || check_text(request, &checked.diagnostics, session);
    print(call.format, text, || check_json(request, &checked.diagnostics))?;
    let is_broken = |found: &Diagnostic| found.rule.is_some() || found.severity == Severity::Error;
    Ok(u8::from(!call.ignores_status && checked.diagnostics.iter().any(is_broken)))
}

fn ask(request: &CallRequest, session: &Session) -> anyhow::Result<Checked> {
    let images = RegistryImages::new(session.store()?, Arc::new(session.client()?));
    let check = CheckRequest {
        dockerfile: &request.dockerfile.text,
        ignore: &request.ignore,
        build_args: request.build_args.clone(),
        contexts: &request.contexts,
        target: request.target.as_deref(),
        platform: &request.platform,
        pull: request.pull,
    };
    session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let checked = interrupt.or_stop(async { Ok(builder::check(&check, &images).await) }).await?;
        checked.map_err(|error| failure(request, error.into()))
    })
}

fn check_text(request: &CallRequest, diagnostics: &[Diagnostic], session: &Session) -> String {
    let count = |severity, word: &str| {
        let count = diagnostics.iter().filter(|found| found.severity == severity).count();
        (count > 0).then(|| format!("{count} {word}{}", if count == 1 { "" } else { "s" }))
    };
    let counts: Vec<_> =
        [count(Severity::Error, "error"), count(Severity::Warning, "warning")].into_iter().flatten().collect();
    if counts.is_empty() {
        return "Check complete, no warnings found.\n".to_owned();
    }
    let all = report::diagnostics(&request.dockerfile, diagnostics, session.config.stdout);
    format!("Check complete, found {}.\n\n{}\n", counts.join(" and "), all.trim_end())
}

/// Writes what was found as docker's clients know it: one `buildError`, though `errors` has them all.
fn check_json(request: &CallRequest, diagnostics: &[Diagnostic]) -> Value {
    let source = Source::new(&request.dockerfile.text);
    let (of_rules, errors): (Vec<_>, Vec<_>) =
        diagnostics.iter().partition(|found| found.rule.is_some() || found.severity == Severity::Warning);
    let warnings: Vec<_> = of_rules.iter().map(|found| warning_json(found, &source)).collect();
    let errors: Vec<_> = errors
        .iter()
        .map(|error| json!({ "message": error.title, "location": Location::of(&source, error.span) }))
        .collect();
    let mut value = json!({
        "warnings": warnings,
        "sources": [{
            "filename": request.dockerfile.name,
            "language": "Dockerfile",
            "data": BASE64_STANDARD.encode(&request.dockerfile.text),
        }],
    });
    if let Some(first) = errors.first() {
        value["buildError"] = first.clone();
        value["errors"] = json!(errors);
    }
    value
}

fn warning_json(found: &Diagnostic, source: &Source<'_>) -> Value {
    let location = Location::of(source, found.span);
    match found.rule {
        Some(rule) => json!({
            "ruleName": rule.name(),
            "description": rule.description(),
            "url": rule.url(),
            "detail": found.title,
            "location": location,
        }),
        None => json!({ "ruleName": "", "detail": found.title, "location": location }),
    }
}

fn targets_text(targets: &[Target]) -> String {
    let mut table = Table::new(&["TARGET", "DESCRIPTION"]);
    for target in targets {
        let name = match (&target.name, target.is_default) {
            (None, true) => "(default)".to_owned(),
            (None, false) => String::new(),
            (Some(name), true) => format!("{} (default)", shown(name)),
            (Some(name), false) => shown(name),
        };
        table.row(vec![name, shown(target.description.as_deref().unwrap_or_default())]);
    }
    table.render()
}

fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    let infallible = "writing to a String does not fail";
    writeln!(text, "TARGET:      {}", shown(outline.name.as_deref().unwrap_or("(default)"))).expect(infallible);
    if let Some(description) = &outline.description {
        writeln!(text, "DESCRIPTION: {}", shown(description)).expect(infallible);
    }
    if !outline.args.is_empty() {
        let mut table = Table::new(&["BUILD ARG", "VALUE", "DESCRIPTION"]);
        for arg in &outline.args {
            let cell = |text: &Option<String>| shown(text.as_deref().unwrap_or_default());
            table.row(vec![shown(&arg.name), cell(&arg.value), cell(&arg.description)]);
        }
        text.push('\n');
        text.push_str(&table.render());
    }
    for (title, mounts) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        if !mounts.is_empty() {
            text.push('\n');
            text.push_str(&mounts_text(title, mounts));
        }
    }
    text
}

fn mounts_text(title: &str, mounts: &[OutlineMount]) -> String {
    let mut table = Table::new(&[title, "REQUIRED"]);
    for mount in mounts {
        let required = if mount.is_required { "true" } else { "" };
        table.row(vec![shown(&mount.name), required.to_owned()]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_a_method_with_options() {
        let json = Call { method: Method::Outline, format: Format::Json, ignores_status: false };
        assert_eq!("outline,format=json".parse(), Ok(json));
        assert_eq!("check".parse(), Ok(Call::CHECK));
        assert_eq!("lint,ignorestatus=true".parse(), Ok(Call { ignores_status: true, ..Call::CHECK }));
        assert_eq!("format=text,check,ignorestatus=0".parse(), Ok(Call::CHECK));
        for text in ["", "x", "check,format=xml", "check,json", "targets,", "format=json", "check,ignorestatus=2"] {
            assert!(text.parse::<Call>().is_err(), "{text}");
        }
    }
}
