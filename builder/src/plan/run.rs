//! RUN becomes an exec op.

use std::collections::BTreeMap;

use dockerfile::{Invocation, NetworkMode, Run, Security, Span};

use super::mount::PlannedMounts;
use super::stage::StageState;
use super::{PlanError, PlanOptions, PlanProblem, PlannedOp};
use crate::entitlements::Entitlement;
use crate::graph::{Exec, InlineFile, Op, RunNetwork, RunSecurity};
use crate::spanned::Spanned;

/// Arguments that need no declaration, in any case, and whose values are in no cache key and no history.
///
/// Spec: Dockerfile reference, "Predefined ARGs".
const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// Returns whether `name` is such an argument.
pub(crate) fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}

pub(super) fn run(
    state: &StageState,
    run: &Run,
    (span, PlannedMounts { mounts, inputs }): (Span, PlannedMounts),
    (options, given): (&PlanOptions<'_>, &BTreeMap<String, String>),
) -> Result<PlannedOp, PlanError> {
    refuse(run)?;
    let mut script = None;
    let args = match run.command.invocation() {
        Invocation::Exec(args) => args.to_vec(),
        Invocation::Shell(text) => {
            let mut args = state.shell();
            args.push(text.into_owned());
            args
        }
        Invocation::Script { name, content } => {
            let file = InlineFile { name: name.to_owned(), content: content.into_owned() };
            vec![script.insert(file).program_path()]
        }
    };
    if args.is_empty() {
        return Err(Spanned::new(span, PlanProblem::NoCommand));
    }
    let (env, unkeyed_env) = environment(state, given);
    let network = network(run.network, span, options)?;
    let security = security(run.security, span, options)?;
    let created_by = created_by(state, &args);
    let user = state.config.config.user.clone();
    let extra_hosts = options.extra_hosts.to_vec();
    let cwd = state.directory().to_owned();
    let exec = Exec { args, script, env, unkeyed_env, cwd, user, network, extra_hosts, mounts, security };
    Ok(PlannedOp { op: Op::Exec(exec), further: inputs, created_by })
}

/// Returns the network of a step; the host's only where whoever builds has said that it may be used.
fn network(mode: NetworkMode, span: Span, options: &PlanOptions<'_>) -> Result<RunNetwork, PlanError> {
    let entitlement = Entitlement::NetworkHost;
    match mode {
        NetworkMode::Default => Ok(options.network),
        NetworkMode::None => Ok(RunNetwork::None),
        NetworkMode::Host if options.network == RunNetwork::Host || options.allowed.contains(&entitlement) => {
            Ok(RunNetwork::Host)
        }
        NetworkMode::Host => {
            Err(Spanned::new(span, PlanProblem::NotAllowed { what: "RUN --network=host", entitlement }))
        }
    }
}

fn refuse(run: &Run) -> Result<(), PlanError> {
    if let Some(device) = run.devices.first() {
        return Err(not_built(device.text.span, "`RUN --device`"));
    }
    Ok(())
}

/// Returns what a step may do; more than others only where whoever builds has said so.
fn security(security: Security, span: Span, options: &PlanOptions<'_>) -> Result<RunSecurity, PlanError> {
    let entitlement = Entitlement::SecurityInsecure;
    match security {
        Security::Sandbox => Ok(RunSecurity::Sandbox),
        Security::Insecure if options.allowed.contains(&entitlement) => Ok(RunSecurity::Insecure),
        Security::Insecure => {
            Err(Spanned::new(span, PlanProblem::NotAllowed { what: "RUN --security=insecure", entitlement }))
        }
    }
}

pub(super) fn not_built(span: Span, what: &str) -> PlanError {
    Spanned::new(span, PlanProblem::NotBuilt { what: what.to_owned() })
}

/// Returns the environment of the process, and the names in it that are not part of its cache key.
///
/// As with docker, a proxy is set in upper and in lower case, an empty one not at all. Where an ARG or ENV has set the same
/// value, that is in the key.
fn environment(state: &StageState, given: &BTreeMap<String, String>) -> (Vec<String>, Vec<String>) {
    let mut env = state.environment();
    let mut unkeyed = Vec::new();
    for proxy in PROXIES {
        let last = given.iter().rfind(|(name, _)| name.eq_ignore_ascii_case(proxy));
        let Some((_, value)) = last.filter(|(_, value)| !value.is_empty()) else { continue };
        for name in [proxy.to_owned(), proxy.to_ascii_lowercase()] {
            let entry = format!("{name}={value}");
            if !env.contains(&entry) {
                env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
                env.push(entry);
                unkeyed.push(name);
            }
        }
    }
    (env, unkeyed)
}

fn created_by(state: &StageState, args: &[String]) -> String {
    let declared = state.declared_args();
    let mut words = vec!["RUN".to_owned()];
    if !declared.is_empty() {
        words.push(format!("|{}", declared.len()));
        words.extend(declared);
    }
    words.extend_from_slice(args);
    words.push("# buildkit".to_owned());
    words.join(" ")
}
