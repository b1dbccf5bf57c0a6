//! RUN becomes an exec op.

use std::collections::BTreeMap;

use dockerfile::{Invocation, NetworkMode, Run, Security, Span};

use super::stage::StageState;
use super::{PlanError, PlanProblem, PlannedOp};
use crate::graph::{Exec, InlineFile, Op, RunNetwork};
use crate::spanned::Spanned;

/// Arguments that need no declaration and whose values are in no cache key and no history.
///
/// Spec: Dockerfile reference, "Predefined ARGs".
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

pub(super) fn run(
    state: &StageState,
    run: &Run,
    span: Span,
    (network, given): (RunNetwork, &BTreeMap<String, String>),
) -> Result<PlannedOp, PlanError> {
    refuse(run, span)?;
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
        return Err(Spanned::new(span, PlanProblem::Blank { instruction: "RUN" }));
    }
    let (env, unkeyed_env) = environment(state, given);
    let network = match run.network {
        NetworkMode::Default => network,
        NetworkMode::None => RunNetwork::None,
        NetworkMode::Host => return Err(not_built(span, "`RUN --network=host`")),
    };
    let created_by = created_by(state, &args);
    let user = state.config.config.user.clone();
    let exec = Exec { args, script, env, unkeyed_env, cwd: state.directory().to_owned(), user, network };
    Ok(PlannedOp { op: Op::Exec(exec), from: None, created_by })
}

fn refuse(run: &Run, span: Span) -> Result<(), PlanError> {
    if let Some(mount) = run.mounts.first() {
        return Err(not_built(mount.text.span, "`RUN --mount`"));
    }
    if let Some(device) = run.devices.first() {
        return Err(not_built(device.text.span, "`RUN --device`"));
    }
    match run.security {
        Security::Sandbox => Ok(()),
        Security::Insecure => Err(not_built(span, "`RUN --security=insecure`")),
    }
}

pub(super) fn not_built(span: Span, what: &str) -> PlanError {
    Spanned::new(span, PlanProblem::NotBuilt { what: what.to_owned() })
}

/// Returns the environment of the process, and the names in it that are not part of its cache key.
fn environment(state: &StageState, given: &BTreeMap<String, String>) -> (Vec<String>, Vec<String>) {
    let mut env = state.environment();
    let mut unkeyed = Vec::new();
    for name in PROXIES.into_iter().filter(|name| !state.scope.is_declared(name)) {
        if let Some(value) = given.get(name) {
            env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
            env.push(format!("{name}={value}"));
            unkeyed.push(name.to_owned());
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
