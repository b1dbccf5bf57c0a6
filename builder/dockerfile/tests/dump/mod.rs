//! Writes an AST down for people to read: one line per thing, two blanks deeper per level.
//!
//! Texts are quoted as in Rust. `@2:6-2:9` says where a thing was written: from line and column to the ones after it. With
//! [`Spans::Hidden`], two ASTs that differ only in where things stand give the same text.

use std::fmt::{Display, Write as _};

use dockerfile::{
    Add, Arg, Command, Copy, CopySource, CopySources, Diagnostic, Dockerfile, Healthcheck, Help, Heredoc, Instruction,
    KeyValue, Literal, Located, MountFlag, NoVariables, Parsed, Rules, Run, Severity, Source, Span, Word,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spans {
    Shown,
    Hidden,
}

pub(crate) struct Dump<'a> {
    source: Source<'a>,
    spans: Spans,
    text: String,
    level: usize,
}

/// Writes down everything that came of parsing `source`.
#[allow(dead_code, reason = "not every test that dumps has whole files")]
pub(crate) fn parsed(source: &str, parsed: &Parsed) -> String {
    let mut dump = Dump::new(source, Spans::Shown);
    dump.dockerfile(&parsed.dockerfile);
    parsed.diagnostics.iter().for_each(|diagnostic| dump.diagnostic(diagnostic));
    dump.text
}

/// Writes down an AST without saying where its parts stand.
#[allow(dead_code, reason = "not every test that dumps compares ASTs")]
pub(crate) fn without_spans(dockerfile: &Dockerfile) -> String {
    let mut dump = Dump::new("", Spans::Hidden);
    dump.dockerfile(dockerfile);
    dump.text
}

/// Writes down one instruction of `source`.
#[allow(dead_code, reason = "not every test that dumps has single instructions")]
pub(crate) fn instruction(source: &str, instruction: &Located<Instruction>) -> String {
    let mut dump = Dump::new(source, Spans::Shown);
    dump.instruction(instruction);
    dump.text
}

/// Writes down one diagnostic about `source`.
#[allow(dead_code, reason = "not every test that dumps has single diagnostics")]
pub(crate) fn diagnostic(source: &str, diagnostic: &Diagnostic) -> String {
    let mut dump = Dump::new(source, Spans::Shown);
    dump.diagnostic(diagnostic);
    dump.text
}

impl<'a> Dump<'a> {
    fn new(source: &'a str, spans: Spans) -> Self {
        Self { source: Source::new(source), spans, text: String::new(), level: 0 }
    }

    fn line(&mut self, text: impl Display) {
        let indent = self.level * 2;
        writeln!(self.text, "{:indent$}{text}", "").expect("a string takes every text");
    }

    fn inside(&mut self, write: impl FnOnce(&mut Self)) {
        self.level += 1;
        write(self);
        self.level -= 1;
    }

    fn at(&self, span: Span) -> String {
        if self.spans == Spans::Hidden {
            return String::new();
        }
        let (start, end) = (self.source.position(span.start), self.source.position(span.end));
        format!(" @{}:{}-{}:{}", start.line, start.column, end.line, end.column)
    }

    fn dockerfile(&mut self, dockerfile: &Dockerfile) {
        let directives = &dockerfile.directives;
        if let Some(syntax) = &directives.syntax {
            self.literal("syntax", syntax);
        }
        if directives.escape != '\\' {
            self.line(format_args!("escape {}", directives.escape));
        }
        if let Some(check) = &directives.check {
            self.literal("check", &check.text);
            let error = if check.error { ", warnings are errors" } else { "" };
            let (skip, experimental) = (rules(&check.skip), rules(&check.experimental));
            self.inside(|dump| dump.line(format_args!("skip {skip}, experimental {experimental}{error}")));
        }
        for arg in &dockerfile.global_args {
            self.head("ARG", arg);
            self.inside(|dump| dump.arg(&arg.value));
        }
        for stage in &dockerfile.stages {
            self.head("FROM", &stage.from);
            let from = &stage.from.value;
            self.inside(|dump| {
                dump.optional_word("platform", from.platform.as_ref());
                dump.word("image", &from.image);
                from.name.iter().for_each(|name| dump.literal("name", name));
                stage.instructions.iter().for_each(|instruction| dump.instruction(instruction));
            });
        }
    }

    fn head<T>(&mut self, keyword: &str, located: &Located<T>) {
        let at = self.at(located.span);
        self.line(format_args!("{keyword}{at}"));
        if self.spans == Spans::Shown && !located.comments.is_empty() {
            self.inside(|dump| dump.line(format_args!("comments {:?}", located.comments)));
        }
    }

    fn instruction(&mut self, located: &Located<Instruction>) {
        self.head(located.value.keyword(), located);
        self.inside(|dump| dump.body(&located.value));
    }

    fn body(&mut self, instruction: &Instruction) {
        match instruction {
            Instruction::Add(add) => self.add(add),
            Instruction::Arg(arg) => self.arg(arg),
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => self.command(command),
            Instruction::Copy(copy) => self.copy(copy),
            Instruction::Env(env) => self.pairs(&env.pairs, &format!("{:?}", env.form)),
            Instruction::Label(label) => self.pairs(&label.pairs, &format!("{:?}", label.form)),
            Instruction::Expose(expose) => expose.ports.iter().for_each(|port| self.word("port", port)),
            Instruction::Healthcheck(healthcheck) => self.healthcheck(healthcheck),
            Instruction::Maintainer(maintainer) => self.literal("name", &maintainer.name),
            Instruction::Onbuild(onbuild) => {
                self.line(format_args!("trigger {:?}", onbuild.trigger));
                self.instruction(&onbuild.instruction);
            }
            Instruction::Run(run) => self.run(run),
            Instruction::Shell(shell) => self.line(format_args!("words {:?}", shell.words)),
            Instruction::Stopsignal(stopsignal) => self.word("signal", &stopsignal.signal),
            Instruction::User(user) => self.word("user", &user.user),
            Instruction::Volume(volume) => volume.paths.iter().for_each(|path| self.word("path", path)),
            Instruction::Workdir(workdir) => self.word("path", &workdir.path),
        }
    }

    fn arg(&mut self, arg: &Arg) {
        for declaration in &arg.declarations {
            let at = self.at(declaration.span);
            self.line(format_args!("name {:?}{at}", declaration.name));
            self.inside(|dump| dump.optional_word("default", declaration.default.as_ref()));
        }
    }

    fn pairs(&mut self, pairs: &[KeyValue], form: &str) {
        self.line(format_args!("form {form}"));
        for pair in pairs {
            self.word("key", &pair.key);
            self.inside(|dump| dump.word("value", &pair.value));
        }
    }

    fn run(&mut self, run: &Run) {
        run.mounts.iter().for_each(|mount| self.mount(mount));
        if run.network != dockerfile::NetworkMode::Default {
            self.line(format_args!("network {:?}", run.network));
        }
        if run.security != dockerfile::Security::Sandbox {
            self.line(format_args!("security {:?}", run.security));
        }
        for device in &run.devices {
            let required = if device.is_required { ", required" } else { "" };
            self.line(format_args!("device {:?}{required}", device.name));
        }
        self.command(&run.command);
    }

    fn mount(&mut self, mount: &MountFlag) {
        self.literal("mount", &mount.text);
        let references = mount.references();
        self.inside(|dump| match mount.expand(&NoVariables) {
            Ok(mount) if references.is_empty() => dump.line(format_args!("{mount:?}")),
            _ => dump.line(format_args!("from {:?}, variables {references:?}", mount.from())),
        });
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Exec(arguments) => self.line(format_args!("exec {arguments:?}")),
            Command::Shell { text, heredocs } => {
                self.line(format_args!("shell {text:?}"));
                heredocs.iter().for_each(|heredoc| self.heredoc(heredoc));
                if !heredocs.is_empty() {
                    self.line(format_args!("invocation {:?}", command.invocation()));
                }
            }
        }
    }

    fn heredoc(&mut self, heredoc: &Heredoc) {
        let at = self.at(heredoc.span);
        let expands = if heredoc.expands { ", expands" } else { "" };
        let tabs = if heredoc.strips_tabs { ", strips tabs" } else { "" };
        self.line(format_args!("heredoc {:?} {:?}{expands}{tabs}{at}", heredoc.name, heredoc.opener));
        let at = self.at(heredoc.body_span);
        self.inside(|dump| dump.line(format_args!("body {:?}{at}", heredoc.body())));
    }

    fn copy(&mut self, copy: &Copy) {
        copy.from.iter().for_each(|from| self.literal("from", from));
        self.optional_word("chown", copy.chown.as_ref());
        self.optional_word("chmod", copy.chmod.as_ref());
        if copy.is_linked {
            self.line("link");
        }
        if copy.keeps_parents {
            self.line("parents");
        }
        copy.exclude.iter().for_each(|pattern| self.literal("exclude", pattern));
        self.files(&copy.files);
    }

    fn add(&mut self, add: &Add) {
        self.optional_word("chown", add.chown.as_ref());
        self.optional_word("chmod", add.chmod.as_ref());
        self.optional_word("checksum", add.checksum.as_ref());
        if add.is_linked {
            self.line("link");
        }
        add.keep_git_dir.iter().for_each(|value| self.line(format_args!("keep-git-dir {value}")));
        add.unpack.iter().for_each(|value| self.line(format_args!("unpack {value}")));
        add.exclude.iter().for_each(|pattern| self.literal("exclude", pattern));
        self.files(&add.files);
    }

    fn files(&mut self, files: &CopySources) {
        for source in &files.sources {
            match source {
                CopySource::Path(path) => self.word("source", path),
                CopySource::Heredoc(heredoc) => self.heredoc(heredoc),
            }
        }
        self.word("destination", &files.destination);
    }

    fn healthcheck(&mut self, healthcheck: &Healthcheck) {
        match healthcheck {
            Healthcheck::None => self.line("none"),
            Healthcheck::Check { command, interval, timeout, start_period, start_interval, retries } => {
                let durations = [
                    ("interval", interval),
                    ("timeout", timeout),
                    ("start period", start_period),
                    ("start interval", start_interval),
                ];
                for (name, duration) in durations {
                    duration.iter().for_each(|duration| self.line(format_args!("{name} {duration:?}")));
                }
                retries.iter().for_each(|retries| self.line(format_args!("retries {retries}")));
                self.command(command);
            }
        }
    }

    fn word(&mut self, name: &str, word: &Word) {
        let (at, references) = (self.at(word.span()), word.references());
        let references = if references.is_empty() { String::new() } else { format!(" uses {}", references.join(" ")) };
        self.line(format_args!("{name} {:?}{references}{at}", word.text()));
    }

    fn optional_word(&mut self, name: &str, word: Option<&Word>) {
        word.iter().for_each(|word| self.word(name, word));
    }

    fn literal(&mut self, name: &str, literal: &Literal) {
        let at = self.at(literal.span);
        self.line(format_args!("{name} {:?}{at}", literal.text));
    }

    fn diagnostic(&mut self, diagnostic: &Diagnostic) {
        let at = self.at(diagnostic.span);
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let rule = diagnostic.rule.map(|rule| format!(" [{rule}]")).unwrap_or_default();
        self.line(format_args!("{severity}{rule}: {}{at}", diagnostic.title));
        self.inside(|dump| {
            diagnostic.label.iter().for_each(|label| dump.line(format_args!("marker: {label}")));
            match &diagnostic.help {
                None => {}
                Some(Help::DidYouMean(word)) => dump.line(format_args!("did you mean `{word}`?")),
                Some(Help::Note(note)) => dump.line(format_args!("note: {note}")),
            }
        });
    }
}

fn rules(rules: &Rules) -> String {
    match rules {
        Rules::All => "all".to_owned(),
        Rules::Named(names) => format!("{names:?}"),
    }
}
