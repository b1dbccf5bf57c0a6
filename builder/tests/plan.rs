//! Golden plans: a case is a folder of `testdata/plan/` with a Dockerfile and the plan it must give.
//!
//! `args.txt`, if there is one, holds build arguments, one a line. `SNAPSHOTS=overwrite` writes the plans anew.

#![cfg(test)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use builder::{
    BaseImage, Graph, ImageError, ImageSource, Op, PlanOptions, PlannedImage, Progress, Pull, ResolveError,
    ResolveOptions, RunNetwork, build_arguments, plan, resolve,
};
use dockerfile::{GlobalScope, Stages};
use oci::{DiffId, Digest, ImageConfig, Platform, Reference};
use tokio_util::sync::CancellationToken;

/// Knows every image: one layer, and what its name asks for.
struct ToyImages;

type Answer<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, ImageError>> + Send + 'a>>;

impl ImageSource for ToyImages {
    fn resolve<'a>(&'a self, name: &'a Reference, platform: &'a Platform, _: Pull) -> Answer<'a, BaseImage> {
        let mut config = ImageConfig::empty(platform.clone());
        config.config.env.push("PATH=/bin".to_owned());
        config.config.cmd = Some(vec!["sh".to_owned()]);
        config.rootfs.diff_ids.push(DiffId(Digest::of(name.path().as_bytes())));
        if name.path().ends_with("onbuild") {
            config.config.on_build = vec!["COPY . /src".to_owned(), "RUN make".to_owned()];
        }
        let id = Digest::of(name.to_string().as_bytes());
        Box::pin(std::future::ready(Ok(BaseImage { name: name.clone(), id, config, remote: None })))
    }

    fn fetch<'a>(&'a self, _: &'a BaseImage, _: &'a Arc<dyn Progress>, _: &'a CancellationToken) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn planned(dockerfile: &str, build_args: &BTreeMap<String, String>) -> String {
    let parsed = dockerfile::parse(dockerfile);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let platform: Platform = "linux/amd64".parse().unwrap();
    let arguments = build_arguments(build_args.clone(), &platform, None);
    let (global, _) = GlobalScope::read(&parsed.dockerfile.global_args, arguments);
    let stages = Stages::read(&parsed.dockerfile, &global).unwrap();
    let options = ResolveOptions { target: None, platform: &platform, pull: Pull::Missing };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let resolved = match runtime.block_on(resolve(dockerfile, (&stages, &global), &options, &ToyImages)) {
        Ok(resolved) => resolved,
        Err(ResolveError::Dockerfile { diagnostics }) => {
            return diagnostics.iter().map(|diagnostic| format!("error: {}\n", diagnostic.title)).collect();
        }
        Err(error) => return format!("error: {error}\n"),
    };
    let labels = BTreeMap::new();
    let options = PlanOptions { labels: &labels, platform: &platform, network: RunNetwork::Default };
    match plan(&resolved, &options) {
        Ok(plan) => shown(&plan.graph, &plan.image),
        Err(errors) => errors.iter().map(|error| format!("error: {error}\n")).collect(),
    }
}

fn shown(graph: &Graph, image: &PlannedImage) -> String {
    let mut text = String::new();
    for (id, node) in graph.nodes() {
        let inputs: Vec<_> = node.inputs.iter().map(|input| format!("#{}", input.index())).collect();
        let line = node.line.map(|line| format!(" line {line}")).unwrap_or_default();
        writeln!(text, "#{} {} <- [{}]{line}", id.index(), node.label, inputs.join(" ")).unwrap();
        let Op::Source(_) = &node.op else {
            writeln!(text, "    {}", serde_json::to_string(&node.op).unwrap()).unwrap();
            continue;
        };
    }
    writeln!(text, "image #{}", image.top.index()).unwrap();
    writeln!(text, "    {}", serde_json::to_string(&image.config.config).unwrap()).unwrap();
    for entry in &image.history {
        let node = entry.node.map(|node| format!("#{} ", node.index())).unwrap_or_default();
        writeln!(text, "    {node}{}", entry.created_by).unwrap();
    }
    text
}

fn build_args(case: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(case.join("args.txt")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn every_dockerfile_gives_its_plan() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/plan");
    let mut count = 0;
    for case in std::fs::read_dir(cases).unwrap() {
        let case = case.unwrap().path();
        let dockerfile = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        let actual = planned(&dockerfile, &build_args(&case));
        snapbox::assert_data_eq!(actual, snapbox::Data::read_from(&case.join("plan.txt"), None).raw());
        count += 1;
    }
    assert!(count >= 12, "only {count} cases were found");
}
