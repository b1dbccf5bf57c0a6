//! Prints an AST as a Dockerfile that parses to the same AST.
//!
//! Each instruction takes one line, and its heredocs their bodies. Comments, blank lines and continuations are not kept. Words
//! are printed as they were written; a list of words with one that could not stand unquoted is printed as a JSON array.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::Duration;

use crate::instruction::{
    Add, Arg, Copy, CopySource, CopySources, Env, Form, From, Healthcheck, Instruction, KeyValue, Label, NetworkMode,
    Run, Security, Volume,
};
use crate::lines::is_blank;
use crate::{Command, Dockerfile, Heredoc, Word};

impl Display for Dockerfile {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.directives.syntax {
            writeln!(f, "# syntax={}", syntax.text)?;
        }
        if self.directives.escape != '\\' {
            writeln!(f, "# escape={}", self.directives.escape)?;
        }
        if let Some(check) = &self.directives.check {
            writeln!(f, "# check={}", check.text.text)?;
        }
        for arg in &self.global_args {
            writeln!(f, "{}", arg.value)?;
        }
        for stage in &self.stages {
            writeln!(f, "{}", stage.from.value)?;
            for instruction in &stage.instructions {
                writeln!(f, "{}", instruction.value)?;
            }
        }
        Ok(())
    }
}

impl Display for From {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new("FROM");
        line.flag("platform", self.platform.as_ref().map(Word::text));
        line.arguments(self.image.text());
        if let Some(name) = &self.name {
            line.arguments(&format!("AS {}", name.text));
        }
        f.write_str(&line.finish())
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new("ARG");
        for declaration in &self.declarations {
            line.arguments(&match &declaration.default {
                Some(default) => format!("{}={}", declaration.name, default.text()),
                None => declaration.name.clone(),
            });
        }
        f.write_str(&line.finish())
    }
}

impl Display for Instruction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = Line::new(self.keyword());
        match self {
            Self::Arg(arg) => return arg.fmt(f),
            Self::Onbuild(onbuild) => return write!(f, "ONBUILD {}", onbuild.trigger),
            Self::Add(add) => line.add(add),
            Self::Copy(copy) => line.copy(copy),
            Self::Run(run) => line.run(run),
            Self::Cmd(command) | Self::Entrypoint(command) => line.command(command),
            Self::Env(Env { pairs, form }) | Self::Label(Label { pairs, form }) => line.pairs(pairs, *form),
            Self::Expose(expose) => expose.ports.iter().for_each(|port| line.arguments(port.text())),
            Self::Healthcheck(healthcheck) => line.healthcheck(healthcheck),
            Self::Maintainer(maintainer) => line.arguments(&maintainer.name.text),
            Self::Shell(shell) => line.arguments(&json(&shell.words)),
            Self::Stopsignal(stopsignal) => line.arguments(stopsignal.signal.text()),
            Self::User(user) => line.arguments(user.user.text()),
            Self::Volume(Volume { paths }) => line.words(&paths.iter().map(Word::text).collect::<Vec<_>>()),
            Self::Workdir(workdir) => line.arguments(workdir.path.text()),
        }
        f.write_str(&line.finish())?;
        for heredoc in self.heredocs() {
            write!(f, "\n{}{}", heredoc.content, heredoc.name)?;
        }
        Ok(())
    }
}

impl Instruction {
    /// Returns the heredocs, in the order of their bodies; those of an ONBUILD are in its trigger.
    fn heredocs(&self) -> Vec<&Heredoc> {
        match self {
            Self::Run(Run { command: Command::Shell { heredocs, .. }, .. }) => heredocs.iter().collect(),
            Self::Copy(Copy { files, .. }) | Self::Add(Add { files, .. }) => files.heredocs().collect(),
            _ => Vec::new(),
        }
    }
}

impl CopySources {
    fn heredocs(&self) -> impl Iterator<Item = &Heredoc> {
        self.sources.iter().filter_map(|source| match source {
            CopySource::Heredoc(heredoc) => Some(heredoc),
            CopySource::Path(_) => None,
        })
    }
}

/// The line of an instruction, while it is written.
struct Line {
    text: String,
    has_arguments: bool,
}

impl Line {
    fn new(keyword: &str) -> Self {
        Self { text: keyword.to_owned(), has_arguments: false }
    }

    /// Returns the line; if it ends in an escape character, something follows that docker trims, so that it is not continued.
    fn finish(mut self) -> String {
        for escape in ["\\", "`"] {
            if self.text.strip_suffix(escape).is_some_and(|rest| !rest.ends_with(escape)) {
                self.text.push('\u{b}');
            }
        }
        self.text
    }

    fn flag(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        let _ = write!(self.text, " --{name}=");
        if value.chars().all(|c| c.is_ascii_alphanumeric() || "/=,:._-+$@".contains(c)) {
            return self.text.push_str(value);
        }
        self.text.push('"');
        for c in value.chars() {
            if matches!(c, '"' | '\\') {
                self.text.push('\\');
            }
            self.text.push(c);
        }
        self.text.push('"');
    }

    fn switch(&mut self, name: &str, value: Option<bool>) {
        self.flag(name, value.map(|value| if value { "true" } else { "false" }));
    }

    /// Writes arguments as they are; ones that look like a flag stand behind `--`.
    fn arguments(&mut self, text: &str) {
        if !self.has_arguments && text.starts_with("--") {
            self.text.push_str(" --");
        }
        self.has_arguments = true;
        self.text.push(' ');
        self.text.push_str(text);
    }

    fn words(&mut self, words: &[&str]) {
        let is_plain = |word: &&str| !word.is_empty() && !word.chars().any(|c| is_blank(c) || c.is_whitespace());
        let is_list = words.first().is_some_and(|word| word.starts_with('['));
        if words.iter().all(is_plain)
            && !is_list
            && !words.iter().any(|word| word.contains("<<") || word.ends_with(['\\', '`']))
        {
            words.iter().for_each(|word| self.arguments(word));
        } else {
            self.arguments(&json(words));
        }
    }

    fn pairs(&mut self, pairs: &[KeyValue], form: Form) {
        for KeyValue { key, value } in pairs {
            let separator = match form {
                Form::Pairs => "=",
                Form::Legacy if key.text().ends_with(['\\', '`']) => "  ",
                Form::Legacy => " ",
            };
            self.arguments(&format!("{}{separator}{}", key.text(), value.text()));
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Shell { text, .. } if text.is_empty() => {}
            Command::Shell { text, .. } => self.arguments(text),
            Command::Exec(arguments) => self.arguments(&json(arguments)),
        }
    }

    fn run(&mut self, run: &Run) {
        run.mounts.iter().for_each(|mount| self.flag("mount", Some(&mount.text.text)));
        let network = match run.network {
            NetworkMode::Default => None,
            NetworkMode::None => Some("none"),
            NetworkMode::Host => Some("host"),
        };
        self.flag("network", network);
        self.flag("security", (run.security == Security::Insecure).then_some("insecure"));
        run.devices.iter().for_each(|device| self.flag("device", Some(&device.text.text)));
        self.command(&run.command);
    }

    fn copy(&mut self, copy: &Copy) {
        self.flag("from", copy.from.as_ref().map(|from| from.text.as_str()));
        self.flag("chown", copy.chown.as_ref().map(Word::text));
        self.flag("chmod", copy.chmod.as_ref().map(Word::text));
        self.switch("link", copy.is_linked.then_some(true));
        self.switch("parents", copy.keeps_parents.then_some(true));
        copy.exclude.iter().for_each(|pattern| self.flag("exclude", Some(&pattern.text)));
        self.files(&copy.files);
    }

    fn add(&mut self, add: &Add) {
        self.flag("chown", add.chown.as_ref().map(Word::text));
        self.flag("chmod", add.chmod.as_ref().map(Word::text));
        self.switch("link", add.is_linked.then_some(true));
        add.exclude.iter().for_each(|pattern| self.flag("exclude", Some(&pattern.text)));
        self.flag("checksum", add.checksum.as_ref().map(Word::text));
        self.switch("keep-git-dir", add.keep_git_dir);
        self.switch("unpack", add.unpack);
        self.files(&add.files);
    }

    fn files(&mut self, files: &CopySources) {
        let mut words: Vec<&str> = Vec::new();
        for source in &files.sources {
            words.push(match source {
                CopySource::Path(word) => word.text(),
                CopySource::Heredoc(heredoc) => &heredoc.opener,
            });
        }
        words.push(files.destination.text());
        if files.heredocs().next().is_some() {
            words.iter().for_each(|word| self.arguments(word));
        } else {
            self.words(&words);
        }
    }

    fn healthcheck(&mut self, healthcheck: &Healthcheck) {
        let Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } = healthcheck
        else {
            return self.arguments("NONE");
        };
        let nanoseconds = |duration: &Duration| format!("{}ns", duration.as_nanos());
        self.flag("interval", interval.as_ref().map(nanoseconds).as_deref());
        self.flag("timeout", timeout.as_ref().map(nanoseconds).as_deref());
        self.flag("start-period", start_period.as_ref().map(nanoseconds).as_deref());
        self.flag("start-interval", start_interval.as_ref().map(nanoseconds).as_deref());
        self.flag("retries", retries.map(|retries| retries.to_string()).as_deref());
        self.arguments("CMD");
        self.command(command);
    }
}

fn json<S: serde::Serialize>(words: &[S]) -> String {
    serde_json::to_string(words).expect("a list of strings is JSON")
}
