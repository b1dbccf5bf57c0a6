//! Instructions that change only the config of the image, and the texts that history shows for them.
//!
//! Spec: Dockerfile reference; the `created_by` texts are those that docker writes.

use std::fmt::Write;
use std::time::Duration;

use dockerfile::{Command, Env, Expose, Healthcheck, Instruction, KeyValue, Label, Span, Stopsignal, User, Volume};
use oci::{Empty, Healthcheck as HealthcheckConfig};

use super::stage::StageState;
use super::{PlanError, PlanProblem};
use crate::spanned::Spanned;

/// Applies `instruction`, which stands at `span`, and returns the text for the history.
pub(super) fn change(state: &mut StageState, instruction: &Instruction, span: Span) -> Result<String, PlanError> {
    match instruction {
        Instruction::Cmd(command) => Ok(cmd(state, command)),
        Instruction::Entrypoint(command) => Ok(entrypoint(state, command)),
        Instruction::Env(env) => set_env(state, env),
        Instruction::Label(label) => set_labels(state, label),
        Instruction::Expose(expose) => set_ports(state, expose),
        Instruction::Volume(volume) => add_volumes(state, volume),
        Instruction::User(user) => set_user(state, user),
        Instruction::Stopsignal(signal) => set_stop_signal(state, signal),
        Instruction::Healthcheck(check) => Ok(set_healthcheck(state, check)),
        Instruction::Shell(shell) => {
            state.config.config.shell = Some(shell.words.clone());
            Ok(format!("SHELL [{}]", shell.words.join(" ")))
        }
        Instruction::Onbuild(onbuild) => {
            state.config.config.on_build.push(onbuild.trigger.clone());
            Ok(format!("ONBUILD {}", onbuild.trigger))
        }
        Instruction::Maintainer(maintainer) => {
            state.config.author = Some(maintainer.name.text.clone());
            Ok(format!("MAINTAINER {}", maintainer.name.text))
        }
        Instruction::Add(_)
        | Instruction::Arg(_)
        | Instruction::Copy(_)
        | Instruction::Run(_)
        | Instruction::Workdir(_) => {
            let what = format!("{} as a change of the config", instruction.keyword());
            Err(Spanned::new(span, PlanProblem::NotBuilt { what }))
        }
    }
}

fn words(state: &StageState, command: &Command) -> Vec<String> {
    match command {
        Command::Exec(args) => args.clone(),
        Command::Shell { text, .. } => {
            let mut args = state.shell();
            args.push(text.clone());
            args
        }
    }
}

fn quoted(words: &[String]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

fn cmd(state: &mut StageState, command: &Command) -> String {
    let words = words(state, command);
    let text = format!("CMD {}", quoted(&words));
    state.has_cmd = true;
    state.config.config.cmd = Some(words);
    text
}

/// An entry point makes a CMD of the base meaningless, but not one of this stage.
fn entrypoint(state: &mut StageState, command: &Command) -> String {
    let words = words(state, command);
    let text = format!("ENTRYPOINT {}", quoted(&words));
    state.config.config.entrypoint = (!words.is_empty()).then_some(words);
    if !state.has_cmd {
        state.config.config.cmd = None;
    }
    text
}

/// Expands names and values with what was set before the instruction.
fn pairs(
    state: &StageState,
    pairs: &[KeyValue],
    instruction: &'static str,
) -> Result<Vec<(String, String)>, PlanError> {
    let expand = |pair: &KeyValue| {
        let (name, value) = (state.expand(&pair.key)?, state.expand(&pair.value)?);
        if name.is_empty() {
            return Err(Spanned::new(pair.key.span(), PlanProblem::Blank { instruction }));
        }
        Ok((name, value))
    };
    pairs.iter().map(expand).collect()
}

fn shown(instruction: &str, pairs: &[(String, String)]) -> String {
    let mut text = instruction.to_owned();
    for (name, value) in pairs {
        write!(text, " {name}={value}").expect("writing to a String does not fail");
    }
    text
}

fn set_env(state: &mut StageState, env: &Env) -> Result<String, PlanError> {
    let pairs = pairs(state, &env.pairs, "ENV")?;
    for (name, value) in &pairs {
        state.set_env(name, value);
    }
    Ok(shown("ENV", &pairs))
}

fn set_labels(state: &mut StageState, label: &Label) -> Result<String, PlanError> {
    let pairs = pairs(state, &label.pairs, "LABEL")?;
    let text = shown("LABEL", &pairs);
    state.config.config.labels.extend(pairs);
    Ok(text)
}

fn set_ports(state: &mut StageState, expose: &Expose) -> Result<String, PlanError> {
    let mut words: Vec<_> = expose.ports.iter().collect();
    words.sort_by(|a, b| a.text().cmp(b.text()));
    let mut ports = Vec::new();
    for word in words {
        for text in state.expand_words(word)? {
            let parsed = parse_ports(&text).ok_or_else(|| Spanned::new(word.span(), PlanProblem::Port { text }))?;
            ports.extend(parsed);
        }
    }
    let text = format!("EXPOSE [{}]", ports.join(" "));
    state.config.config.exposed_ports.extend(ports.into_iter().map(|port| (port, Empty {})));
    Ok(text)
}

/// Reads `[[host:]published:]port[-port][/protocol]`; only the container's side counts.
fn parse_ports(text: &str) -> Option<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then(|| (first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn add_volumes(state: &mut StageState, volume: &Volume) -> Result<String, PlanError> {
    let mut paths = Vec::new();
    for word in &volume.paths {
        let path = state.expand(word)?;
        if path.is_empty() {
            return Err(Spanned::new(word.span(), PlanProblem::Blank { instruction: "VOLUME" }));
        }
        paths.push(path);
    }
    let text = format!("VOLUME [{}]", paths.join(" "));
    state.config.config.volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
    Ok(text)
}

fn set_user(state: &mut StageState, user: &User) -> Result<String, PlanError> {
    let name = state.expand(&user.user)?;
    if name.is_empty() {
        return Err(Spanned::new(user.user.span(), PlanProblem::Blank { instruction: "USER" }));
    }
    state.config.config.user.clone_from(&name);
    Ok(format!("USER {name}"))
}

fn set_stop_signal(state: &mut StageState, stopsignal: &Stopsignal) -> Result<String, PlanError> {
    let signal = state.expand(&stopsignal.signal)?;
    if !is_signal(&signal) {
        return Err(Spanned::new(stopsignal.signal.span(), PlanProblem::Signal { text: signal }));
    }
    let text = format!("STOPSIGNAL {signal}");
    state.config.config.stop_signal = Some(signal);
    Ok(text)
}

/// Names of signal(7) that Linux has on every architecture.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let offset = |prefix: &str| name.strip_prefix(prefix).is_some_and(is_offset);
    SIGNALS.contains(&name) || offset("RTMIN+") || offset("RTMAX-") || matches!(name, "RTMIN" | "RTMAX")
}

fn is_offset(text: &str) -> bool {
    text.parse::<u8>().is_ok_and(|offset| offset <= 15)
}

fn set_healthcheck(state: &mut StageState, check: &Healthcheck) -> String {
    let config = match check {
        Healthcheck::None => HealthcheckConfig { test: vec!["NONE".to_owned()], ..HealthcheckConfig::default() },
        Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => HealthcheckConfig {
            test: probe(command),
            interval: nanoseconds(*interval),
            timeout: nanoseconds(*timeout),
            start_period: nanoseconds(*start_period),
            start_interval: nanoseconds(*start_interval),
            retries: retries.unwrap_or_default().into(),
        },
    };
    let text = format!(
        "HEALTHCHECK &{{{} \"{}\" \"{}\" \"{}\" \"{}\" '\\x{:02x}'}}",
        quoted(&config.test),
        go_duration(config.interval),
        go_duration(config.timeout),
        go_duration(config.start_period),
        go_duration(config.start_interval),
        config.retries
    );
    state.config.config.healthcheck = Some(config);
    text
}

fn probe(command: &Command) -> Vec<String> {
    match command {
        Command::Shell { text, .. } => vec!["CMD-SHELL".to_owned(), text.clone()],
        Command::Exec(args) => std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect(),
    }
}

fn nanoseconds(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Writes nanoseconds as Go's `Duration` does, for whole milliseconds: `1m30s`, `0s`, `500ms`.
fn go_duration(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    let (hours, minutes) = (milliseconds / 3_600_000, milliseconds / 60_000 % 60);
    let seconds = format!("{}", Decimal(milliseconds % 60_000));
    match (hours, minutes) {
        (0, 0) if milliseconds > 0 && milliseconds < 1000 => format!("{milliseconds}ms"),
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Milliseconds as seconds without trailing zeros.
struct Decimal(u64);

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_normalised_and_ranges_written_out() {
        let ports = |text: &str| parse_ports(text).map(|ports| ports.join(" "));
        assert_eq!(ports("80").as_deref(), Some("80/tcp"));
        assert_eq!(ports("53/UDP").as_deref(), Some("53/udp"));
        assert_eq!(ports("8000-8002").as_deref(), Some("8000/tcp 8001/tcp 8002/tcp"));
        assert_eq!(ports("127.0.0.1:80:8080").as_deref(), Some("8080/tcp"));
        for text in ["", "x", "80/icmp", "9-8", "70000", "+80"] {
            assert_eq!(ports(text), None, "{text} was accepted");
        }
    }

    #[test]
    fn signals_are_names_or_numbers() {
        for text in ["9", "SIGTERM", "term", "SIGRTMIN+3", "RTMAX"] {
            assert!(is_signal(text), "{text} was refused");
        }
        for text in ["0", "65", "SIGNOPE", "", "RTMIN+99"] {
            assert!(!is_signal(text), "{text} was accepted");
        }
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (milliseconds, text) in
            [(0, "0s"), (500, "500ms"), (30_000, "30s"), (90_000, "1m30s"), (3_600_000, "1h0m0s"), (1_500, "1.5s")]
        {
            assert_eq!(go_duration(milliseconds * 1_000_000), text);
        }
    }
}
