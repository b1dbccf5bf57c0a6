//! Golden plans: a case is a folder of `testdata/plan/` with a Dockerfile and the plan it must give.
//!
//! | file of a case | holds |
//! |---|---|
//! | `Dockerfile`, `plan.txt` | what is planned, and the plan or every mistake with its line |
//! | `args.txt`, `labels.txt` | `NAME=value`, one a line, as of `--build-arg` and `--label` |
//! | `contexts.txt` | `NAME=image` or `NAME=` for a directory, one a line, as of `--build-context` |
//! | `target.txt` | the stage of `--target` |
//! | `allow.txt` | entitlements, one a line, as of `--allow` |
//!
//! The images of a case are known by the end of their names ([`ToyImages`]). `SNAPSHOTS=overwrite` writes the plans anew.

#![cfg(test)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use builder::{
    BaseImage, Dockerignore, Entitlements, FileTree, Graph, ImageError, ImagePlace, ImageSource, NamedContext,
    NamedContexts, Op, Owners, PlanOptions, PlannedImage, Progress, Pull, ResolveError, ResolveOptions, RunNetwork,
    build_arguments, plan, resolve,
};
use dockerfile::{Diagnostic, GlobalScope, Source, Span, Stages};
use oci::{DiffId, Digest, ImageConfig, Platform, Reference};
use tokio_util::sync::CancellationToken;

/// Knows every image: one layer, and what its name asks for.
struct ToyImages;

type Answer<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, ImageError>> + Send + 'a>>;

impl ImageSource for ToyImages {
    fn resolve<'a>(&'a self, name: &'a Reference, platform: &'a Platform, _: Pull) -> Answer<'a, BaseImage> {
        let mut config = toy_config(name.path().rsplit('/').next().unwrap_or_default(), platform);
        config.rootfs.diff_ids.push(DiffId(Digest::of(name.path().as_bytes())));
        let id = Digest::of(name.to_string().as_bytes());
        Box::pin(std::future::ready(Ok(BaseImage { name: name.familiar(), id, config, place: ImagePlace::Store })))
    }

    fn fetch<'a>(&'a self, _: &'a BaseImage, _: &'a Arc<dyn Progress>, _: &'a CancellationToken) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn toy_config(name: &str, platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig::empty(platform.clone());
    config.config.env.push("PATH=/bin".to_owned());
    config.config.cmd = Some(vec!["sh".to_owned()]);
    let triggers: &[&str] = match name {
        "onbuild" => &["COPY . /src", "RUN make"],
        "onbuild-heredoc" => &["COPY <<EOF /greeting\nhello $WHO\nEOF", "RUN <<EOF\necho $WHO\nEOF", "env WHO=you"],
        "onbuild-wrong" => &["EXPOSE ${PORT:-none}"],
        "onbuild-broken" => &["RUN fine", "NOPE x"],
        "onbuild-copies" => &["COPY --from=later / /"],
        "onbuild-shell" => &["CMD serve", "ENTRYPOINT run"],
        "nopath" => {
            config.config.env = vec!["A=1".to_owned()];
            &[]
        }
        "shell" => {
            config.config.shell = Some(vec!["/bin/ash".to_owned(), "-ec".to_owned()]);
            &[]
        }
        "shell-empty" => {
            config.config.shell = Some(Vec::new());
            &[]
        }
        "full" => {
            config = serde_json::from_str(FULL).unwrap();
            &[]
        }
        _ => &[],
    };
    config.config.on_build.extend(triggers.iter().map(|trigger| (*trigger).to_owned()));
    config
}

/// A base with everything that a config can hold.
const FULL: &str = r#"{"architecture":"amd64","os":"linux","author":"ana","created":"2001-01-01T00:00:00Z","config":{
    "User":"app","ExposedPorts":{"80/tcp":{}},"Env":["PATH=/bin","LANG=C","EMPTY="],"Entrypoint":["/entry"],"Cmd":["serve"],
    "Volumes":{"/data":{}},"WorkingDir":"/srv/app/","Labels":{"a":"base","b":"base"},"StopSignal":"SIGQUIT",
    "Healthcheck":{"Test":["CMD","probe"],"Interval":1000000000},"StopTimeout":5,"Hostname":"h"},
    "rootfs":{"type":"layers","diff_ids":[]},"docker_version":"20",
    "history":[{"created":"2001-01-01T00:00:00Z","created_by":"ADD rootfs"}]}"#;

/// What a case asks for, besides its Dockerfile.
struct Request {
    build_args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    target: Option<String>,
    /// `NAME=IMAGE`, or `NAME=` for a directory.
    contexts: NamedContexts,
    allowed: Entitlements,
}

impl Request {
    fn read(case: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap_or_default();
        let pairs = |name: &str| -> BTreeMap<String, String> {
            let text = read(name);
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let target = read("target.txt").lines().next().map(str::to_owned);
        let contexts = pairs("contexts.txt").into_iter().map(|(name, image)| {
            let tree = || FileTree::open(case, Dockerignore::default(), Owners::Root).unwrap();
            let image = image.parse().map(NamedContext::Image);
            (name, image.unwrap_or_else(|_| NamedContext::Tree(Arc::new(tree()))))
        });
        let allowed = read("allow.txt").lines().map(|word| word.parse().unwrap()).collect();
        let contexts = contexts.collect();
        Self { build_args: pairs("args.txt"), labels: pairs("labels.txt"), target, contexts, allowed }
    }
}

fn planned(dockerfile: &str, request: Request) -> String {
    let parsed = dockerfile::parse(dockerfile);
    let text = Source::new(dockerfile);
    if parsed.has_errors() {
        return mistakes(&text, &parsed.diagnostics);
    }
    let platform: Platform = "linux/amd64".parse().unwrap();
    let target = request.target.as_deref();
    let arguments = build_arguments(request.build_args, &platform, &parsed.dockerfile, target);
    let (global, diagnostics) = GlobalScope::read(&parsed.dockerfile.global_args, arguments);
    if !diagnostics.is_empty() {
        return mistakes(&text, &diagnostics);
    }
    let stages = match Stages::read(&parsed.dockerfile, &global, &request.contexts.keys().cloned().collect()) {
        Ok(stages) => stages,
        Err(diagnostics) => return mistakes(&text, &diagnostics),
    };
    let contexts = &request.contexts;
    let options = ResolveOptions { target, platform: &platform, pull: Pull::Missing, contexts };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let resolved = match runtime.block_on(resolve(dockerfile, (&stages, &global), &options, &ToyImages)) {
        Ok(resolved) => resolved,
        Err(ResolveError::Dockerfile { diagnostics }) => return mistakes(&text, &diagnostics),
        Err(ResolveError::Name(error)) => return mistake(&text, error.span, error.as_ref()),
        Err(error) => panic!("{error}"),
    };
    let options = PlanOptions {
        labels: &request.labels,
        platform: &platform,
        network: RunNetwork::Default,
        extra_hosts: &[],
        allowed: &request.allowed,
    };
    match plan(&resolved, &options) {
        Ok(plan) => shown(&plan.graph, &plan.image),
        Err(errors) => errors.iter().map(|error| mistake(&text, error.span, error)).collect(),
    }
}

fn mistakes(text: &Source<'_>, diagnostics: &[Diagnostic]) -> String {
    let line = |diagnostic: &Diagnostic| format!("line {}: {}\n", text.line_of(diagnostic.span), diagnostic.title);
    diagnostics.iter().map(line).collect()
}

fn mistake(text: &Source<'_>, span: Option<Span>, error: &dyn Error) -> String {
    let mut shown = span.map_or_else(String::new, |span| format!("line {}: ", text.line_of(span)));
    write!(shown, "{error}").unwrap();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(shown, ": {cause}").unwrap();
        source = cause.source();
    }
    shown + "\n"
}

fn shown(graph: &Graph, image: &PlannedImage) -> String {
    let mut text = String::new();
    for (id, node) in graph.nodes() {
        let inputs: Vec<_> = node.inputs.iter().map(|input| format!("#{}", input.index())).collect();
        let line = node.line.map(|line| format!(" line {line}")).unwrap_or_default();
        writeln!(text, "#{} {} <- [{}]{line}", id.index(), node.label, inputs.join(" ")).unwrap();
        if !matches!(node.op, Op::Source(_)) {
            writeln!(text, "    {}", serde_json::to_string(&node.op).unwrap()).unwrap();
        }
        if let Op::Exec(exec) = &node.op
            && !exec.unkeyed_env.is_empty()
        {
            writeln!(text, "    not in the key: {}", exec.unkeyed_env.join(" ")).unwrap();
        }
    }
    writeln!(text, "image #{}", image.top.index()).unwrap();
    text + &shown_image(image)
}

fn shown_image(image: &PlannedImage) -> String {
    let mut text = String::new();
    writeln!(text, "    {}", serde_json::to_string(&image.config.config).unwrap()).unwrap();
    if let Some(author) = &image.config.author {
        writeln!(text, "    author {author}").unwrap();
    }
    if let Some(epoch) = &image.epoch {
        writeln!(text, "    created {epoch}").unwrap();
    }
    for (name, value) in &image.config.extra {
        writeln!(text, "    {name} {value}").unwrap();
    }
    for entry in &image.config.history {
        writeln!(text, "    base: {}", entry.created_by.as_deref().unwrap_or_default()).unwrap();
    }
    for entry in &image.history {
        let node = entry.node.map(|node| format!("#{} ", node.index())).unwrap_or_default();
        writeln!(text, "    {node}{}", entry.created_by).unwrap();
    }
    text
}

#[test]
fn every_dockerfile_gives_its_plan() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/plan");
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in std::fs::read_dir(cases).unwrap() {
        let case = case.unwrap().path();
        let dockerfile = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        let actual = planned(&dockerfile, Request::read(&case));
        let expected = snapbox::Data::read_from(&case.join("plan.txt"), None).raw();
        if let Err(error) =
            snapbox::Assert::new().action_env("SNAPSHOTS").try_eq(Some(&case.display()), actual.into(), expected)
        {
            wrong.push(error.to_string());
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 70, "only {count} cases were found");
}
