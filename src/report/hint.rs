//! What to do about an error: the only texts that name verbs and flags.

use std::error::Error;

use builder::{
    BuildError, CopyError, ImageArchiveError, LoadError, PlanError, PlanProblem, ResolveProblem, SandboxError,
    SelectError, StepError,
};
use http_transport::{At, ExchangeError};
use layer_store::{
    ApplyError, ArchiveError, FindError, OpenError, RemoveError, SealError, TarLayerError, TreeTarError, VolumeError,
};
use registry_client::{LoginError, RequestError};
use runtime::network::PublishError;
use runtime::{CgroupError, CommandProblem, EnterError, ExitStatus, LimitHit, Obstacle, RunError};
use rustix::io::Errno;

use super::{BuildFailure, find};
use crate::commands::{NoDockerfile, NoSuchObject, SeveralNames};
use crate::config::ConfigError;
use crate::shown::shown;

/// Returns one hint for an error, if there is one worth giving.
pub(super) fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let hints: [fn(&(dyn Error + 'static)) -> Option<String>; 7] =
        [full_disk, of_build, of_select, of_store, of_registry, of_runtime, of_configuration];
    hints.iter().find_map(|hint| hint(error))
}

fn full_disk(error: &(dyn Error + 'static)) -> Option<String> {
    let is_full = |code| code == Some(Errno::NOSPC.raw_os_error()) || code == Some(Errno::DQUOT.raw_os_error());
    let code = find::<std::io::Error>(error).and_then(std::io::Error::raw_os_error);
    let code = code.or_else(|| find::<Errno>(error).map(|errno| errno.raw_os_error()));
    let advice = "the disk is full: `wharf image prune -a` and `wharf builder prune` free what is unused, `--root DIR` uses another disk";
    is_full(code).then(|| advice.to_owned())
}

fn of_build(error: &(dyn Error + 'static)) -> Option<String> {
    match &find::<BuildFailure>(error)?.error {
        BuildError::Resolve(error) => match &error.error {
            ResolveProblem::UnknownTarget { stages, .. } if stages.is_empty() => {
                Some("no stage of this Dockerfile has a name: use its number, from 0".to_owned())
            }
            ResolveProblem::UnknownTarget { stages, .. } => {
                Some(format!("the stages are {}", shown(&stages.join(", "))))
            }
            ResolveProblem::Image { similar: Some(stage), .. } => {
                Some(format!("did you mean the stage `{}`?", shown(stage)))
            }
            ResolveProblem::OtherPlatform { .. } => Some("leave the platform out".to_owned()),
            _ => None,
        },
        BuildError::Plan { errors } => {
            if let Some(PlanProblem::NotAllowed { entitlement, .. }) = errors.first().map(|error| &error.error) {
                return Some(format!("if you trust the Dockerfile with it, add `--allow {entitlement}`"));
            }
            let is_not_built = |error: &PlanError| matches!(error.error, PlanProblem::NotBuilt { .. });
            let advice = "without it the Dockerfile can be built; README.md lists what is not built yet";
            errors.iter().all(is_not_built).then(|| advice.to_owned())
        }
        BuildError::Solve(error) => match &error.source {
            StepError::Exit { limit_hit: Some(hit), .. } => Some(of_limit(*hit).to_owned()),
            StepError::Exit { status, .. } => Some(of_exit(*status, error.line)),
            StepError::Sandbox { source: SandboxError::Run(error), .. } => of_run(error),
            StepError::Owner { .. } | StepError::Sandbox { source: SandboxError::User { .. }, .. } => {
                Some("users are those of the image's /etc/passwd: add one in a step before, or use a number".to_owned())
            }
            StepError::NoSecret { id } => Some(format!("`--secret id={},src=FILE` gives it", shown(id))),
            StepError::NoAgent { id } => Some(format!("`--ssh {}` lends one", shown(id))),
            StepError::NoContext => Some(
                "standard input was the Dockerfile and nothing else: `--file - PATH` takes it from there and has a context"
                    .to_owned(),
            ),
            StepError::Copy { source: CopyError::Layer(TarLayerError::ReservedName { .. }), .. }
            | StepError::Seal { source: SealError::Tree(TreeTarError::ReservedName { .. }) } => {
                Some("leave the file out with a line in .dockerignore, or give it another name".to_owned())
            }
            _ => None,
        },
        _ => None,
    }
}

/// What the exit codes that shells give by themselves mean, and how to go on after all others.
fn of_exit(status: ExitStatus, line: Option<usize>) -> String {
    match status {
        ExitStatus::Code(127) => {
            "127 says that a command is not in the image: check its name, or install it in a step before".to_owned()
        }
        ExitStatus::Code(126) => "126 says that a command cannot be run: check its mode and its first line".to_owned(),
        ExitStatus::Code(137) | ExitStatus::Signal(9) => {
            "it was killed from outside, as a machine without free memory does: try it with less at a time".to_owned()
        }
        _ => {
            let place = line.map_or_else(|| "the Dockerfile".to_owned(), |line| format!("line {line}"));
            format!("the steps before it are kept: correct {place} and run the same command again")
        }
    }
}

fn of_limit(hit: LimitHit) -> &'static str {
    match hit {
        LimitHit::Memory { .. } => "give the steps more with `--memory SIZE`, or leave it out",
        LimitHit::Pids { .. } => "allow more with `--pids-limit NUMBER`, or any number with -1",
    }
}

fn of_select(error: &(dyn Error + 'static)) -> Option<String> {
    match find::<SelectError>(error)? {
        SelectError::NotFound { similar: Some(similar), .. } => Some(format!("did you mean `{}`?", shown(similar))),
        SelectError::NotFound { .. } => {
            Some("sources are looked up in the build context, the directory after `wharf build`".to_owned())
        }
        SelectError::Ignored { pattern, place, .. } => {
            Some(format!("remove the line {}, or add `!{}` after it", shown(place), shown(pattern)))
        }
        _ => None,
    }
}

fn of_store(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(NoSuchObject { is_swapped_verb, .. }) = find(error) {
        let hint = if *is_swapped_verb { "did you mean `wharf image inspect`?" } else { LIST };
        return Some(hint.to_owned());
    }
    if find::<SeveralNames>(error).is_some() {
        return Some("name the one to remove, or use `--force` to remove all".to_owned());
    }
    let is_used = matches!(find(error), Some(RemoveError::InUse { .. }));
    if is_used || matches!(find(error), Some(VolumeError::InUse { .. })) {
        return Some("wait until the other `wharf` command has ended".to_owned());
    }
    if let Some(VolumeError::NotFound { .. }) = find(error) {
        return Some("`wharf volume ls` lists the volumes that are there".to_owned());
    }
    use ImageArchiveError::{Archive, NotImages};
    if let Some(LoadError::Archive(NotImages | Archive(ArchiveError::TooManyEntries))) = find(error) {
        return Some("if it is a root file system, `wharf import` makes an image of it".to_owned());
    }
    match find::<FindError>(error)? {
        FindError::NotFound { .. } => Some(LIST.to_owned()),
        FindError::Ambiguous { .. } => Some("give more digits".to_owned()),
        _ => None,
    }
}

const LIST: &str = "`wharf images` lists the names that are there";

fn of_registry(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(LoginError::Refused { .. }) = find(error) {
        return Some("check the user name and the password; some registries want an access token instead".to_owned());
    }
    if let Some(ExchangeError::Tls { .. }) = exchange(error) {
        return Some("if its certificate is your own, name its CA bundle in `SSL_CERT_FILE`".to_owned());
    }
    let request = find::<RequestError>(error)?;
    let host = host_of(request);
    if let RequestError::Credentials { .. } = request {
        return Some("`wharf logout` and `wharf login` write the entry anew".to_owned());
    }
    let url = |host: &str| format!("to see whether the registry answers, run `curl {host}/v2/`");
    if request.is_unreachable() {
        return host.map(|host| url(&host));
    }
    let registry = host.as_deref().map(registry_of)?;
    if request.is_spoilt() {
        return Some(
            "`wharf system check` tells whether a blob here has been damaged, and with `--repair` mends it".to_owned(),
        );
    }
    if request.is_denied() && request.tried().is_some_and(|tried| tried.account.is_some()) {
        return Some(format!("to use another account, run `wharf login {registry}`"));
    }
    if request.is_denied() {
        return Some(format!("check the name; if the repository is private, run `wharf login {registry}`"));
    }
    request.is_not_found().then(|| format!("check the name and the tag; {registry} has nothing under it"))
}

/// Finds why a server could not be talked to, be it a registry or another.
fn exchange<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e ExchangeError> {
    let of_registry = || match find(error)? {
        RequestError::Exchange(error) => Some(error),
        _ => None,
    };
    find(error).or_else(of_registry)
}

/// Returns scheme and host of the request that failed.
fn host_of(request: &RequestError) -> Option<String> {
    let at = at_of(request)?;
    let (scheme, rest) = at.url().split_once("://")?;
    Some(format!("{scheme}://{}", rest.split('/').next()?))
}

fn at_of(request: &RequestError) -> Option<&At> {
    match request {
        RequestError::Exchange(error) => Some(error.at()),
        RequestError::Status(refusal) => Some(&refusal.at),
        _ => None,
    }
}

fn registry_of(host: &str) -> &str {
    match host.split_once("://").map_or(host, |(_, host)| host) {
        "registry-1.docker.io" | "auth.docker.io" | "index.docker.io" => "docker.io",
        other => other,
    }
}

fn of_runtime(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(EnterError::UserNamespace { obstacle, .. } | EnterError::Private { obstacle, .. }) = find(error) {
        return Some(self::obstacle(*obstacle).to_owned());
    }
    if let Some(ApplyError::Owner { .. }) = find(error) {
        return Some(
            "you have too few ids: install the package `uidmap` and add your user to /etc/subuid and /etc/subgid"
                .to_owned(),
        );
    }
    if let Some(EnterError::Helper { .. }) = find(error) {
        return Some(
            "check your lines in /etc/subuid and /etc/subgid, and that `newuidmap` is set-uid root".to_owned(),
        );
    }
    if let Some(error) = find::<PublishError>(error) {
        return of_publish(error);
    }
    match find::<RunError>(error)? {
        RunError::Command { problem: CommandProblem::NotFound, .. } => {
            Some("the command is looked up inside the image; options of `wharf run` stand before the image".to_owned())
        }
        error => of_run(error),
    }
}

fn of_publish(error: &PublishError) -> Option<String> {
    let port = error.address.port();
    match error.source.kind() {
        std::io::ErrorKind::AddrInUse => {
            Some("another program listens there: take another port of this machine, or none, for a free one".to_owned())
        }
        std::io::ErrorKind::PermissionDenied => Some(format!(
            "ports below 1024 are root's: take a higher one, or run `sysctl -w net.ipv4.ip_unprivileged_port_start={port}` as root"
        )),
        _ => None,
    }
}

fn of_run(error: &RunError) -> Option<String> {
    match error {
        RunError::Command { problem: CommandProblem::NotFound, .. } => {
            Some("the command is looked up inside the image: check its name, or install it in a step before".to_owned())
        }
        RunError::UnmappedUser { .. } | RunError::UnmappedGroup { .. } => {
            Some("subordinate ids are missing: add your user to /etc/subuid and /etc/subgid".to_owned())
        }
        RunError::Limit { source, .. } => of_cgroup(source),
        _ => None,
    }
}

/// Who may not make cgroups is helped by one that is theirs.
fn of_cgroup(error: &CgroupError) -> Option<String> {
    let is_forbidden = match error {
        CgroupError::Shared { .. } => true,
        CgroupError::Make { source, .. } | CgroupError::Write { source, .. } => {
            matches!(Errno::from_io_error(source), Some(Errno::ACCESS | Errno::PERM | Errno::ROFS))
        }
        _ => false,
    };
    let advice = "limits need root, or, with cgroups v2, a cgroup of your own: `systemd-run --user --scope -p Delegate=yes wharf …`";
    is_forbidden.then(|| advice.to_owned())
}

/// Returns what removes an obstacle to user namespaces.
pub(crate) fn obstacle(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::UnprivilegedClone => {
            "run `sysctl -w kernel.unprivileged_userns_clone=1` as root, or run wharf as root"
        }
        Obstacle::AppArmor => {
            "run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root, or run wharf as root"
        }
        Obstacle::Limit => "run `sysctl -w user.max_user_namespaces=15000` as root, or run wharf as root",
        Obstacle::Unknown => "run wharf as root, or allow user namespaces to the container it runs in",
    }
}

fn of_configuration(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(NoDockerfile { similar, archive, .. }) = find(error) {
        return Some(match (similar, archive) {
            (Some(similar), _) => format!("did you mean `--file {}`?", shown(&similar.display().to_string())),
            (None, Some(_)) => "name the Dockerfile with `--file FILE`, by its path in the archive".to_owned(),
            (None, None) => "name the Dockerfile with `--file FILE`, `-` for standard input".to_owned(),
        });
    }
    if let Some(OpenError::Newer { .. }) = find(error) {
        return Some("use the newer wharf that made it, or another store with `--root DIR`".to_owned());
    }
    let denied = find::<std::io::Error>(error).filter(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    if find::<OpenError>(error).is_some() && denied.is_some() {
        return Some("the store may belong to another user: name one of your own with `--root DIR`".to_owned());
    }
    let ConfigError::NoHome = find(error)? else { return None };
    Some("name the directory of the store with `--root DIR`".to_owned())
}
