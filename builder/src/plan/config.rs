//! Instructions that change only the config of the image, and the texts that history shows for them.
//!
//! Spec: Dockerfile reference; the `created_by` texts are those that docker writes.

use std::fmt::Write;
use std::time::Duration;

use dockerfile::{
    Command, Env, Expose, Healthcheck, Instruction, KeyValue, Label, Ports, Signal, Span, Stopsignal, User, Volume,
};
use oci::{Empty, Healthcheck as HealthcheckConfig};

use super::stage::StageState;
use super::{PlanError, PlanProblem};
use crate::spanned::Spanned;

/// Applies `instruction`, which stands at `span`, and returns the text for the history; docker shows no ONBUILD there.
pub(super) fn change(
    state: &mut StageState,
    instruction: &Instruction,
    span: Span,
) -> Result<Option<String>, PlanError> {
    let created_by = match instruction {
        Instruction::Onbuild(onbuild) => {
            state.config.config.on_build.push(onbuild.trigger.clone());
            return Ok(None);
        }
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
    };
    created_by.map(Some)
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

fn cmd(state: &mut StageState, command: &Command) -> String {
    let words = words(state, command);
    let text = format!("CMD {}", quoted(&words));
    state.has_cmd = true;
    state.config.config.cmd = (!words.is_empty()).then_some(words);
    // Docker says so of every image with a CMD, though it means something on Windows only.
    state.config.config.args_escaped = Some(true);
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

/// Docker sorts the words before it expands them.
fn set_ports(state: &mut StageState, expose: &Expose) -> Result<String, PlanError> {
    let mut words: Vec<_> = expose.ports.iter().collect();
    words.sort_by(|a, b| a.text().cmp(b.text()));
    let mut names = Vec::new();
    for word in words {
        for text in state.expand_words(word)? {
            match text.parse::<Ports>() {
                Ok(ports) => names.extend(ports.names()),
                Err(source) => return Err(Spanned::new(word.span(), PlanProblem::Port { text, source })),
            }
        }
    }
    let text = format!("EXPOSE [{}]", names.join(" "));
    state.config.config.exposed_ports.extend(names.into_iter().map(|name| (name, Empty {})));
    Ok(text)
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
    let text = state.expand(&stopsignal.signal)?;
    match text.parse::<Signal>() {
        Ok(signal) => state.config.config.stop_signal = Some(signal.to_string()),
        Err(source) => return Err(Spanned::new(stopsignal.signal.span(), PlanProblem::Signal { text, source })),
    }
    Ok(format!("STOPSIGNAL {text}"))
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
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        config.test.join(" "),
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

/// Writes nanoseconds as Go's `Duration` does, from a millisecond on: `1m30s`, `0s`, `500ms`, `1.5s`.
fn go_duration(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    if (1..SECOND).contains(&nanoseconds) {
        return format!("{}ms", decimal(nanoseconds, SECOND / 1000));
    }
    let (hours, minutes) = (nanoseconds / (3600 * SECOND), nanoseconds / (60 * SECOND) % 60);
    let seconds = decimal(nanoseconds % (60 * SECOND), SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Writes `number` in units of `unit`, a power of ten, without trailing zeros.
fn decimal(number: u64, unit: u64) -> String {
    let (whole, rest) = (number / unit, number % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = (unit + rest).to_string();
    format!("{whole}.{}", digits[1..].trim_end_matches('0'))
}

/// Writes words as Go's `%q` does.
fn quoted(words: &[String]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| go_quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => quoted.extend(format!("\\x{:02x}", u32::from(c)).chars()),
            c if c == '\'' || is_printable(c) => quoted.push(c),
            c if c <= '\u{ffff}' => quoted.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => quoted.extend(format!("\\U{:08x}", u32::from(c)).chars()),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns whether Go prints `c` as it is; a mark that joins the character before it counts, which Rust says only behind one.
fn is_printable(c: char) -> bool {
    let behind_another = format!("x{c}");
    behind_another.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (microseconds, text) in [
            (0, "0s"),
            (1_000, "1ms"),
            (1_500, "1.5ms"),
            (500_000, "500ms"),
            (30_000_000, "30s"),
            (60_000_000, "1m0s"),
            (90_000_000, "1m30s"),
            (3_600_000_000, "1h0m0s"),
            (90_061_001_000, "25h1m1.001s"),
            (1_500_250, "1.50025s"),
        ] {
            assert_eq!(go_duration(microseconds * 1000), text);
        }
    }

    #[test]
    fn words_are_quoted_as_go_does() {
        for (text, expected) in [
            ("it's", r#""it's""#),
            (r#"a"\b"#, r#""a\"\\b""#),
            ("\n\t\r\u{7}\u{8}\u{b}\u{c}", r#""\n\t\r\a\b\v\f""#),
            ("\0\u{1b}\u{7f}", r#""\x00\x1b\x7f""#),
            ("é😀e\u{301}", "\"é😀e\u{301}\""),
            ("\u{a0}\u{200b}\u{e0001}", r#""\u00a0\u200b\U000e0001""#),
        ] {
            assert_eq!(go_quoted(text), expected);
        }
    }
}
