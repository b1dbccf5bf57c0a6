//! `wharf doctor`: what this machine lets wharf do, tried out, and which command lets it do more.
//!
//! | rung | what it is | what does not work there |
//! |---|---|---|
//! | root | root of the machine | – |
//! | rootless with subordinate ids | a user namespace with many ids | a file system of its own for layers, limits where no cgroup is delegated |
//! | rootless with one id | a user namespace with one | other owners of files: `chown`, `USER`, most package managers |
//!
//! Nothing is guessed: layers are mounted, a container is started up to its command, and the network is joined.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use builder::{ContainerSandbox, Exec, Lending, RunNetwork, RunSecurity, Sandbox, SandboxError};
use layer_store::{Skeleton, Store};
use runtime::{CommandProblem, EnterError, Limits, Missing, Privilege, RunError, Runtime};
use tokio_util::sync::CancellationToken;

use crate::listing::{Field, Format, Listing};
use crate::network::DnsArgs;
use crate::session::{Session, sandbox};
use crate::shown::shown;
use crate::{output, report};

const FIELDS: [Field; 4] = [("Check", "CHECK"), ("Status", "STATUS"), ("Detail", "DETAIL"), ("Fix", "FIX")];
/// `mount_setattr` came with it.
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// Where ranges of subordinate ids begin that nobody has yet, and how long one is.
const FIRST_RANGE: u32 = 100_000;
const RANGE: u32 = 65_536;

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Format: `table`, `json`, or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Ok,
    /// It works with less than there could be.
    Note,
    /// Nothing can be built or run.
    Broken,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Broken => "broken",
        })
    }
}

#[derive(Debug)]
struct Finding {
    check: &'static str,
    status: Status,
    detail: String,
    fix: Option<String>,
}

impl Finding {
    fn new(check: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { check, status, detail: detail.into(), fix: None }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self { fix: Some(fix.into()), ..self }
    }

    fn broken(check: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let detail: Vec<String> = causes.map(|cause| shown(&cause.to_string())).collect();
        Self::new(check, Status::Broken, detail.join(": "))
    }
}

/// Examines the machine; exit code 1 when something is broken.
pub(crate) fn doctor(args: &DoctorArgs, session: &Session) -> anyhow::Result<u8> {
    let format = Format::parse(args.format.as_deref())?;
    // first, before any thread is started
    let entered = runtime::enter();
    let mut findings = vec![kernel()];
    match entered {
        Ok(runtime) => {
            findings.push(ids(&runtime));
            findings.extend(examine(Arc::new(runtime), session));
        }
        Err(error) => findings.push(namespaces(&error)),
    }
    findings.push(git(session));
    output::print(&match &format {
        Format::Table if args.format.is_none() => text(&findings),
        format => listing(&findings).render(format)?,
    })?;
    Ok(u8::from(findings.iter().any(|finding| finding.status == Status::Broken)))
}

fn kernel() -> Finding {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let detail = format!("Linux {release}, {}", system.machine().to_string_lossy());
    if version < OLDEST_KERNEL {
        let (major, minor) = OLDEST_KERNEL;
        return Finding::new("kernel", Status::Broken, format!("{detail}: older than {major}.{minor}"));
    }
    Finding::new("kernel", Status::Ok, detail)
}

fn namespaces(error: &EnterError) -> Finding {
    let finding = Finding::broken("rung", error);
    match error {
        EnterError::UserNamespace { obstacle, .. } | EnterError::Private { obstacle, .. } => {
            finding.fix(report::obstacle(*obstacle))
        }
        EnterError::Helper { .. } => finding.fix(SET_UID),
        _ => finding,
    }
}

const SET_UID: &str = "sudo chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap";

/// Names the rung, and what keeps this user from the next.
fn ids(runtime: &Runtime) -> Finding {
    match (runtime.privilege(), runtime.missing()) {
        (Privilege::Root, _) => Finding::new("rung", Status::Ok, "root of the machine (3 of 3)"),
        (Privilege::SubordinateIds, _) => Finding::new(
            "rung",
            Status::Ok,
            "rootless with subordinate ids (2 of 3); the last is root, by `sudo wharf`",
        ),
        (Privilege::SingleId, missing) => {
            let why = missing.map_or_else(String::new, |missing| format!(": {missing}"));
            let what = "rootless with one id (1 of 3), so `chown`, `USER` and most package managers fail";
            let finding = Finding::new("rung", Status::Note, format!("{what}{why}"));
            match missing.and_then(fix_of) {
                Some(fix) => finding.fix(fix),
                None => finding,
            }
        }
    }
}

fn fix_of(missing: &Missing) -> Option<String> {
    match missing {
        Missing::Range { user, .. } => {
            let first = ["/etc/subuid", "/etc/subgid"].map(|file| first_free(Path::new(file))).into_iter().max()?;
            let range = format!("{first}-{}", first + (RANGE - 1));
            Some(format!("sudo usermod --add-subuids {range} --add-subgids {range} {}", shown(user)))
        }
        Missing::Helper { .. } => Some("sudo apt-get install uidmap".to_owned()),
        Missing::Refused { .. } => Some(SET_UID.to_owned()),
        _ => None,
    }
}

/// Returns the first id behind all ranges of a file.
fn first_free(file: &Path) -> u32 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let end = |line: &str| {
        let mut fields = line.split(':').skip(1).map(|field| field.trim().parse::<u32>().ok());
        fields.next()??.checked_add(fields.next()??)
    };
    text.lines().filter_map(end).max().unwrap_or(0).max(FIRST_RANGE)
}

/// Tries what every build needs, each on what worked before it.
fn examine(runtime: Arc<Runtime>, session: &Session) -> Vec<Finding> {
    let store = match session.store() {
        Ok(store) => store,
        Err(error) => {
            let finding = Finding::broken("store", error.as_ref());
            return vec![finding.fix("name a directory of your own with `--root DIR`")];
        }
    };
    let snapshot = match store.prepare(&[], Skeleton::MountPoints) {
        Ok(snapshot) => snapshot,
        Err(error) => return vec![unmountable(&store, &error)],
    };
    let mut findings = vec![Finding::new("store", Status::Ok, format!("overlay in {}", store.root().display()))];
    let sandbox = || sandbox(Arc::clone(&runtime), &DnsArgs::default());
    findings.push(container(&sandbox(), snapshot.path()));
    findings.push(limits(sandbox(), snapshot.path()));
    let sandbox = sandbox();
    findings.push(match sandbox.attach(RunNetwork::Default, Vec::new()) {
        Ok(_) => Finding::new("network", Status::Ok, "TCP and UDP over IPv4, through this process"),
        Err(error) => Finding::broken("network", &error).fix("`--network=none` and `--network=host` work without it"),
    });
    findings
}

fn unmountable(store: &Store, error: &layer_store::SnapshotError) -> Finding {
    let finding = Finding::broken("store", error);
    let detail = format!("{} cannot hold layers: {}", store.root().display(), finding.detail);
    Finding { detail, ..finding }.fix("name a directory on ext4, xfs or btrfs with `--root DIR`")
}

/// Starts a container up to its command, which is not there: so everything before it worked.
fn container(sandbox: &ContainerSandbox, rootfs: &Path) -> Finding {
    match start(sandbox, rootfs) {
        Ok(()) => Finding::new("container", Status::Ok, "namespaces, mounts, capabilities and system call filter"),
        Err(error) => Finding::broken("container", &error),
    }
}

/// Starts one with a limit of memory.
fn limits(sandbox: ContainerSandbox, rootfs: &Path) -> Finding {
    let limits = Limits { memory: Some(64 << 20), ..Limits::default() };
    match start(&sandbox.with_limits(limits), rootfs) {
        Ok(()) => Finding::new("limits", Status::Ok, "of memory, processors and processes, by cgroups"),
        Err(error) => {
            let finding = Finding::broken("limits", &error);
            Finding { status: Status::Note, ..finding }
                .fix("root, or with cgroups v2: systemd-run --user --scope -p Delegate=yes wharf …")
        }
    }
}

fn start(sandbox: &ContainerSandbox, rootfs: &Path) -> Result<(), SandboxError> {
    let exec = Exec {
        args: vec!["/wharf-doctor".to_owned()],
        script: None,
        env: Vec::new(),
        unkeyed_env: Vec::new(),
        cwd: "/".to_owned(),
        user: String::new(),
        network: RunNetwork::None,
        extra_hosts: Vec::new(),
        mounts: Vec::new(),
        security: RunSecurity::Sandbox,
    };
    let stop = CancellationToken::new();
    match sandbox.run((rootfs, &exec), &Lending::default(), &mut |_| {}, &stop) {
        Err(SandboxError::Run(RunError::Command { problem: CommandProblem::NotFound, .. })) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

fn git(session: &Session) -> Finding {
    let is_there = session.config.path.iter().any(|directory| directory.join("git").is_file());
    if is_there {
        return Finding::new("git", Status::Ok, "for ADD and build contexts");
    }
    let detail = "not installed: ADD and build contexts cannot name repositories";
    Finding::new("git", Status::Note, detail).fix("sudo apt-get install git")
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text.push_str(&format!("{:<7} {:<10} {}\n", finding.status, finding.check, finding.detail));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("{:<18} fix: {fix}\n", ""));
        }
    }
    text
}

fn listing(findings: &[Finding]) -> Listing {
    let mut listing = Listing::new(&FIELDS, &FIELDS.map(|(name, _)| name));
    for finding in findings {
        let fix = finding.fix.clone().unwrap_or_default();
        listing.row(vec![finding.check.to_owned(), finding.status.to_string(), finding.detail.clone(), fix]);
    }
    listing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_range_begins_behind_all_others() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("subuid");
        assert_eq!(first_free(&file), 100_000);
        std::fs::write(&file, "ana:100000:65536\n# x\nbob:165536:65536\neve:5:x\n").unwrap();
        assert_eq!(first_free(&file), 231_072);
    }

    #[test]
    fn what_is_missing_comes_with_the_command_that_gets_it() {
        let range = Missing::Range { file: "/etc/subuid".into(), user: "ana".to_owned() };
        let fix = fix_of(&range).unwrap();
        assert!(fix.starts_with("sudo usermod --add-subuids ") && fix.ends_with(" ana"), "{fix}");
        assert_eq!(fix_of(&Missing::Helper { name: "newuidmap" }).unwrap(), "sudo apt-get install uidmap");
        let findings = [
            Finding::new("rung", Status::Note, "rootless with one id").fix("sudo this"),
            Finding::new("network", Status::Ok, "fine"),
        ];
        let expected =
            "note    rung       rootless with one id\n                   fix: sudo this\nok      network    fine\n";
        assert_eq!(text(&findings), expected);
    }
}
