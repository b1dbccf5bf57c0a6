//! `wharf build`: turns a Dockerfile and a build context into an image, or tells about the Dockerfile.
//!
//! | file | what |
//! |---|---|
//! | `context.rs`, `input.rs` | what the build context is, and how it is opened |
//! | `access.rs` | what servers are told: `--secret` and `--ssh` |
//! | `dockerfile.rs` | finds and reads the Dockerfile and its ignore file |
//! | `named_context.rs` | what `--build-context` names |
//! | `call.rs` | `--check` and `--call`: what is told instead of building |

mod access;
mod call;
mod context;
mod dockerfile;
mod named_context;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use builder::{
    Backend, BuildError, BuildRequest, Built, Cache, Failed, FileTree, Findings, ImageSource, NamedContexts, Progress,
    Pull, RegistryImages, RemoteFiles, STEP_PIDS, Sandbox,
};
use oci::{Platform, Reference};
use remote_files::GitDir;

pub(crate) use self::access::Access;
use self::call::{Call, CallRequest, Method};
pub(crate) use self::context::{BuildContext, Kind, Opening};
use self::dockerfile::{FoundDockerfile, given_dockerfile, read_dockerfile};
pub(crate) use self::dockerfile::{NoDockerfile, dockerfile_path, read_ignore};
use self::named_context::named_contexts;
use crate::args::truth_value;
use crate::config::caller_variable;
use crate::ending::Ending;
use crate::limit_flags::LimitArgs;
use crate::network::{BuildNetworkArgs, DnsArgs, host_entries};
use crate::progress::{self, Shown, Style};
use crate::report::{self, BuildFailure, DockerfileText};
use crate::session::{Interrupt, Session};
use crate::shown::shown;
use crate::{output, size};

#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// The build context: a directory, a tar archive, a URL, a git repository, or `-`: an archive or a Dockerfile on
    /// standard input
    #[arg(value_name = "PATH|URL|-")]
    context: String,
    /// Name of the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    tags: Vec<Reference>,
    /// The Dockerfile, `-` for standard input; of an archive, a file in it [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Set a build argument; without a value, to the caller's variable of that name
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Put a directory, an archive, a URL, a git repository, `docker-image://IMAGE` or `oci-layout://DIRECTORY` in the place
    /// of the stage or image NAME
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    build_contexts: Vec<String>,
    /// Secret for `RUN --mount=type=secret`, or for a server that files are fetched from (`id=HTTP_AUTH_TOKEN_<host>`):
    /// `id=ID,src=FILE`, or `id=ID,env=NAME`
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// SSH agent for `RUN --mount=type=ssh` and for git repositories: `default`, which is that of `SSH_AUTH_SOCK`,
    /// `ID=SOCKET`, or keys: `ID=FILE[,FILE]...`
    #[arg(long, value_name = "AGENT")]
    ssh: Vec<String>,
    /// Stage to build, by name or number [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Set a label of the image
    #[arg(long = "label", value_name = "NAME[=VALUE]")]
    labels: Vec<String>,
    /// Use no layer of earlier builds
    #[arg(long)]
    no_cache: bool,
    /// Before anything is built, remove the least recently used of the build cache until it takes no more than SIZE on disk
    /// (`10g`, `512MB`) [default: `WHARF_KEEP_STORAGE`, else no limit]
    #[arg(long, value_name = "SIZE", value_parser = size::binary)]
    keep_storage: Option<u64>,
    /// Ask registries for newer base images
    #[arg(long)]
    pull: bool,
    /// Platform of the image (only this machine's is built, yet)
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = Style::Auto)]
    progress: Style,
    /// Print nothing but the image ID
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    network: BuildNetworkArgs,
    /// Check the Dockerfile and build nothing; the same as `--call=check`
    #[arg(long, conflicts_with = "call")]
    check: bool,
    /// What to do: build, check, outline or targets; with `,format=json` for programs
    #[arg(long, value_name = "METHOD[,OPTION]", default_value = "build", hide_default_value = true)]
    call: Call,
    /// Write the image ID to this file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    #[command(flatten)]
    limits: LimitArgs,
}

impl BuildArgs {
    /// Tells whether an image is built, or only something told about the Dockerfile.
    pub(crate) fn builds(&self) -> bool {
        self.call().method == Method::Build
    }

    fn call(&self) -> Call {
        if self.check { Call::CHECK } else { self.call }
    }
}

/// Builds an image.
pub(crate) fn build(args: &BuildArgs, session: &Session) -> anyhow::Result<u8> {
    let platform = platform(args)?;
    let limits = args.limits.limits(STEP_PIDS)?;
    if args.context == "-" && args.file.as_deref() == Some(Path::new("-")) {
        return Err(Ending::usage("standard input cannot be both the build context and the Dockerfile").into());
    }
    let kind = Kind::of(&args.context)?;
    let given = given_dockerfile(args.file.as_deref())?;
    let access = Access::read(&args.secrets, &args.ssh)?;
    let build_args = build_args(&args.build_args)?;
    let opening = Opening { session, access: &access, git_dir: git_dir(&build_args) };
    let context = BuildContext::open(kind, &opening)?;
    let FoundDockerfile { dockerfile, path } = read_dockerfile(&given, &context)?;
    let ignore = read_ignore(path.as_deref(), &context)?;
    if !args.builds() {
        let request = CallRequest {
            dockerfile,
            ignore,
            build_args,
            contexts: named_contexts(&args.build_contexts, &platform, &opening)?,
            target: args.target.clone(),
            platform,
            pull: pull(args),
        };
        return call::answer(args.call(), request, session);
    }
    let contexts = named_contexts(&args.build_contexts, &platform, &opening)?;
    let request = request(args, (platform, build_args, contexts), &dockerfile, context.into_tree(ignore))?;
    let request = BuildRequest { keep_storage: request.keep_storage.or(session.config.keep_storage), ..request };
    let style = if args.quiet { Style::Quiet } else { args.progress };
    let shown = progress::start(style, session.config.stderr);
    let names = request.names.clone();
    let tell = |findings: &Findings| {
        if style != Style::Quiet {
            report::warnings(&dockerfile, findings);
        }
    };
    let sandbox = Arc::new(session.sandbox(&DnsArgs::default()).with_limits(limits));
    let built = solve((session, &access, sandbox), request, &shown);
    let built = built?.map_err(|Failed { error, findings }| {
        tell(&findings);
        BuildFailure { dockerfile: dockerfile.clone(), error, output: shown.seen() }
    })?;
    tell(&built.findings);
    if style != Style::Quiet {
        shown.say(&format!("built {}", built.id));
        names.iter().for_each(|name| shown.say(&format!("tagged {}", name.familiar())));
    }
    if let Some(path) = &args.iidfile {
        std::fs::write(path, built.id.to_string()).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    if args.quiet {
        output::line(&built.id.to_string())?;
    }
    Ok(0)
}

fn request(
    args: &BuildArgs,
    (platform, build_args, contexts): (Platform, BTreeMap<String, String>, NamedContexts),
    dockerfile: &DockerfileText,
    context: Option<FileTree>,
) -> anyhow::Result<BuildRequest> {
    Ok(BuildRequest {
        dockerfile: dockerfile.text.clone(),
        context,
        build_args,
        contexts,
        target: args.target.clone(),
        names: names(&args.tags)?,
        labels: args.labels.iter().map(|label| label_of(label)).collect::<Result<_, _>>()?,
        platform,
        pull: pull(args),
        cache: if args.no_cache { Cache::Ignored } else { Cache::Used },
        keep_storage: args.keep_storage,
        network: args.network.network.into(),
        extra_hosts: host_entries(&args.network.extra_hosts, args.network.network)?,
        allowed: args.network.allow.iter().copied().collect(),
    })
}

/// Runs a build; what stops it from outside of the build is the outer error.
fn solve(
    (session, access, sandbox): (&Session, &Access, Arc<dyn Sandbox>),
    request: BuildRequest,
    shown: &Arc<dyn Shown>,
) -> anyhow::Result<Result<Built, Failed>> {
    let store = session.store()?;
    let client = Arc::new(session.client()?);
    let images: Arc<dyn ImageSource> = Arc::new(RegistryImages::new(store.clone(), client));
    let progress: Arc<dyn Progress> = Arc::<dyn Shown>::clone(shown);
    let remote_files: Arc<dyn RemoteFiles> =
        Arc::new(session.network_files(store.clone(), access)?.telling(Arc::clone(&progress)));
    let lent = Arc::new(access.lent.clone());
    let backend = Backend { store, images, remote_files, sandbox, lent, progress };
    session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let built = builder::build(request, &backend, interrupt.stop()).await;
        shown.finish();
        match (&built, interrupt.ending()) {
            (Err(Failed { error: BuildError::Cancelled, .. }), Some(ending)) => Err(ending.into()),
            _ => Ok(built),
        }
    })
}

fn pull(args: &BuildArgs) -> Pull {
    if args.pull { Pull::Always } else { Pull::Missing }
}

/// Returns the platform to build for, or to tell about.
fn platform(args: &BuildArgs) -> Result<Platform, Ending> {
    let host = Platform::host();
    match &args.platform {
        Some(platform) if platform.normalised() == host.normalised() => Ok(host),
        Some(platform) if args.builds() => {
            Err(Ending::usage(format!("cannot build for {platform} yet, only for this machine's {host}")))
        }
        Some(platform) => Ok(platform.clone()),
        None => Ok(host),
    }
}

/// Returns whether the `.git` of a repository is part of the context, which a build argument says.
fn git_dir(build_args: &BTreeMap<String, String>) -> GitDir {
    let keeps = build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR").and_then(|text| truth_value(text).ok());
    if keeps == Some(true) { GitDir::Keep } else { GitDir::Drop }
}

fn build_args(given: &[String]) -> Result<BTreeMap<String, String>, Ending> {
    let mut build_args = BTreeMap::new();
    for word in given {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word.as_str(), caller_variable(word)),
        };
        if name.is_empty() {
            return Err(Ending::usage(format!("`{}` is not a build argument (want `NAME=VALUE`)", shown(word))));
        }
        build_args.extend(value.map(|value| (name.to_owned(), value)));
    }
    Ok(build_args)
}

fn label_of(given: &str) -> Result<(String, String), Ending> {
    let (name, value) = given.split_once('=').unwrap_or((given, ""));
    if name.is_empty() {
        return Err(Ending::usage(format!("`{}` is not a label (want `NAME=VALUE`)", shown(given))));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn names(given: &[Reference]) -> Result<Vec<Reference>, Ending> {
    let mut names: Vec<Reference> = Vec::new();
    for name in given {
        if name.digest().is_some() {
            return Err(Ending::usage(format!("`{}` has a digest: a new image gets a tag", name.familiar())));
        }
        let name = name.clone().or_latest();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_arguments_labels_and_names() {
        let given = ["A=1", "B=", "WHARF_SURELY_NOT_SET"].map(str::to_owned);
        let expected: BTreeMap<_, _> = [("A", "1"), ("B", "")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        assert_eq!(build_args(&given).unwrap(), expected);
        assert!(build_args(&["=x".to_owned()]).is_err());
        assert_eq!(label_of("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert_eq!(label_of("a").unwrap(), ("a".to_owned(), String::new()));
        assert!(label_of("=").is_err());
        let given: Vec<Reference> = ["app", "app:latest", "x/app:2"].map(|name| name.parse().unwrap()).into();
        let names: Vec<_> = names(&given).unwrap().iter().map(Reference::familiar).collect();
        assert_eq!(names, ["app:latest", "x/app:2"]);
    }
}
