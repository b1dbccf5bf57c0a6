//! The values of instructions: expanded as far as they are known, and checked as the plan checks them.
//!
//! | | checked |
//! |---|---|
//! | every word that docker expands | its variables are set; `${name:?…}` and patterns are right |
//! | ENV, LABEL | names are not blank |
//! | VOLUME, WORKDIR, USER | are not blank |
//! | EXPOSE | ports |
//! | STOPSIGNAL | a signal |
//! | COPY, ADD | `--chmod`; COPY fetches nothing |
//! | RUN | `--mount`; is not an empty array |
//! | a global ARG SOURCE_DATE_EPOCH | seconds, `context`, or the name of a stage |
//!
//! The titles are those of `builder::PlanProblem`. A word with a variable that is not known is not judged.

use super::commands;
use super::paths;
use super::ports;
use super::report::{Report, Site};
use super::variables::{self, NEVER_SET};
use super::walk::Walk;
use crate::instruction::{Add, Arg, Copy, CopySource, CopySources, Env, Expose, KeyValue, Label, Located, Run};
use crate::{
    Command, Diagnostic, Dockerfile, ExpandError, GlobalScope, Instruction, Mode, Ports, Signal, Span, Variables, Word,
};

impl<'a> Walk<'a, '_> {
    /// Checks an instruction, and takes over what it sets.
    pub(super) fn instruction(&mut self, located: &'a Located<Instruction>, site: Site<'a>) {
        match &located.value {
            Instruction::Add(add) => self.add(add, site),
            Instruction::Arg(arg) => self.arg(arg, site),
            Instruction::Copy(copy) => self.copy(copy, site),
            Instruction::Env(env) => self.env(located, env, site),
            Instruction::Expose(expose) => self.expose(expose, site),
            Instruction::Label(Label { pairs, form }) => {
                variables::legacy_format(located, (pairs, *form), site, self.report);
                self.pairs("LABEL", pairs, site);
            }
            Instruction::Run(run) => self.run_options(located, run, site),
            Instruction::Shell(_) => self.state.has_shell = true,
            Instruction::Stopsignal(stopsignal) => self.signal(&stopsignal.signal, site),
            Instruction::User(user) => drop(self.not_blank("USER", &user.user, site)),
            Instruction::Volume(volume) => {
                volume.paths.iter().for_each(|path| drop(self.not_blank("VOLUME", path, site)));
            }
            Instruction::Workdir(workdir) => self.workdir(&workdir.path, site),
            Instruction::Cmd(command) | Instruction::Entrypoint(command) if !self.state.has_shell => {
                commands::json_args(located, command, site, self.report);
            }
            Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Healthcheck(_)
            | Instruction::Maintainer(_)
            | Instruction::Onbuild(_) => {}
        }
    }

    /// Expands a word; `None` when its value is not known, or wrong, which is reported.
    fn value(&mut self, word: &Word, site: Site<'_>) -> Option<String> {
        let names = word.located_references();
        if self.environment.knows(word, names.iter().map(|(name, _)| name.as_str())) {
            match word.expand(&self.environment) {
                Ok(value) => {
                    self.undefined(&names, site);
                    return Some(value);
                }
                // The parser has said so.
                Err(ExpandError::Syntax { .. }) => {}
                Err(error) => self.report.mistake(site, Diagnostic::unexpandable(word, &error)),
            }
            return None;
        }
        self.undefined(&names, site);
        None
    }

    fn undefined(&mut self, names: &[(String, Span)], site: Site<'_>) {
        for (name, span) in names {
            if self.environment.is_undefined(name) {
                variables::undefined_var((name, *span), &self.environment, site, self.report);
            }
        }
    }

    fn not_blank(&mut self, instruction: &str, word: &Word, site: Site<'_>) -> Option<String> {
        let value = self.value(word, site)?;
        if value.is_empty() {
            self.report.mistake(site, blank(instruction, word.span()));
            return None;
        }
        Some(value)
    }

    /// Expands names and values; a name or value that is not known is `None`.
    fn pairs(
        &mut self,
        instruction: &str,
        pairs: &[KeyValue],
        site: Site<'_>,
    ) -> Vec<(Option<String>, Option<String>)> {
        let pairs = pairs.iter();
        pairs.map(|pair| (self.not_blank(instruction, &pair.key, site), self.value(&pair.value, site))).collect()
    }

    fn env(&mut self, located: &Located<Instruction>, env: &Env, site: Site<'_>) {
        variables::legacy_format(located, (&env.pairs, env.form), site, self.report);
        let pairs = self.pairs("ENV", &env.pairs, site);
        for (pair, (name, value)) in env.pairs.iter().zip(pairs) {
            let Some(name) = name else {
                self.environment.forget();
                continue;
            };
            variables::secret_name(("ENV", &name), pair.key.span(), site, self.report);
            self.environment.set(&name, value);
        }
    }

    fn arg(&mut self, arg: &Arg, site: Site<'_>) {
        for declaration in &arg.declarations {
            let name = &declaration.name;
            variables::secret_name(("ARG", name), declaration.name_span, site, self.report);
            let value = match (self.global.arguments().given.get(name), &declaration.default) {
                (Some(given), _) => Some(Some(given.clone())),
                (None, Some(default)) => Some(self.value(default, site)),
                (None, None) => self.global.lookup(name).map(|value| Some(value.into_owned())),
            };
            self.environment.declare(name);
            if let Some(value) = value.filter(|_| !NEVER_SET.contains(&name.as_str())) {
                self.environment.set(name, value);
            }
        }
    }

    fn expose(&mut self, expose: &Expose, site: Site<'_>) {
        for word in &expose.ports {
            // Docker does not say which variables of EXPOSE are not set.
            let names = word.references();
            if !self.environment.knows(word, names.iter().map(String::as_str)) {
                continue;
            }
            match word.expand_words(&self.environment) {
                Ok(texts) => texts.iter().for_each(|text| self.port(text, word.span(), site)),
                Err(ExpandError::Syntax { .. }) => {}
                Err(error) => self.report.mistake(site, Diagnostic::unexpandable(word, &error)),
            }
        }
    }

    fn port(&mut self, text: &str, span: Span, site: Site<'_>) {
        match text.parse::<Ports>() {
            Ok(found) => ports::expose((text, span), found, site, self.report),
            Err(error) => {
                let want = "a port, a range of ports, or one of these with `/tcp`, `/udp` or `/sctp`";
                let mistake = Diagnostic::error(span, format!("`{text}` is not {want}"));
                self.report.mistake(site, mistake.label(error.to_string()));
            }
        }
    }

    fn signal(&mut self, word: &Word, site: Site<'_>) {
        let Some(text) = self.value(word, site) else { return };
        if let Err(error) = text.parse::<Signal>() {
            let mistake = Diagnostic::error(word.span(), format!("`{text}` is not a signal"));
            self.report.mistake(site, mistake.label(error.to_string()));
        }
    }

    fn workdir(&mut self, word: &Word, site: Site<'_>) {
        let path = self.not_blank("WORKDIR", word, site);
        if let Some(path) = path.filter(|_| !self.state.has_workdir) {
            paths::relative_workdir(word, &path, site, self.report);
        }
        self.state.has_workdir = true;
    }

    fn run_options(&mut self, located: &Located<Instruction>, run: &Run, site: Site<'_>) {
        if run.command == Command::Exec(Vec::new()) {
            self.report.mistake(site, Diagnostic::error(located.span, "RUN needs a command"));
        }
        for mount in &run.mounts {
            let errors = self.report.errors();
            let values: Vec<_> = mount.words().map(|word| self.value(word, site)).collect();
            // What holds no variable was checked when it was parsed.
            let has_variables = mount.words().any(Word::has_variables);
            if !has_variables || values.contains(&None) || self.report.errors() > errors {
                continue;
            }
            if let Some(mistake) = mount.mistake(&self.environment) {
                self.report.mistake(site, mistake);
            }
        }
    }

    fn copy(&mut self, copy: &Copy, site: Site<'_>) {
        self.flags([&copy.chown, &None], copy.chmod.as_ref(), site);
        for (path, span) in self.sources(&copy.files, site) {
            if paths::is_url(&path) {
                let mistake = Diagnostic::error(span, format!("COPY cannot fetch `{path}`"));
                self.report.mistake(site, mistake.label("a URL").note("use ADD, or `RUN curl …`"));
            } else if copy.from.is_none() {
                paths::ignored_file((&path, span), self.options, site, self.report);
            }
        }
    }

    fn add(&mut self, add: &Add, site: Site<'_>) {
        self.flags([&add.chown, &add.checksum], add.chmod.as_ref(), site);
        for (path, span) in self.sources(&add.files, site) {
            if !paths::is_url(&path) {
                paths::ignored_file((&path, span), self.options, site, self.report);
            }
        }
    }

    fn flags(&mut self, words: [&Option<Word>; 2], chmod: Option<&Word>, site: Site<'_>) {
        words.into_iter().flatten().for_each(|word| drop(self.value(word, site)));
        let Some(word) = chmod else { return };
        let Some(text) = self.value(word, site) else { return };
        // As with docker, an empty mode is none.
        if !text.is_empty()
            && let Err(error) = text.parse::<Mode>()
        {
            let mistake = Diagnostic::error(word.span(), format!("`{text}` is not a mode"));
            self.report.mistake(site, mistake.label(error.to_string()));
        }
    }

    /// Expands sources and destination, and returns the sources that are known.
    fn sources(&mut self, files: &CopySources, site: Site<'_>) -> Vec<(String, Span)> {
        let mut known = Vec::new();
        for source in &files.sources {
            match source {
                CopySource::Path(word) => known.extend(self.value(word, site).map(|path| (path, word.span()))),
                CopySource::Heredoc(heredoc) if heredoc.expands => drop(self.value(&heredoc.body_word(), site)),
                CopySource::Heredoc(_) => {}
            }
        }
        self.value(&files.destination, site);
        known
    }
}

fn blank(instruction: &str, span: Span) -> Diagnostic {
    Diagnostic::error(span, format!("{instruction} has a blank name or path"))
}

/// Checks what the file says about the time that images claim.
pub(super) fn source_date_epoch(dockerfile: &Dockerfile, global: &GlobalScope, report: &mut Report<'_>) {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let mut declarations = dockerfile.global_args.iter().flat_map(|arg| &arg.value.declarations).rev();
    let Some(declaration) = declarations.find(|declaration| declaration.name == NAME) else { return };
    let Some(value) = global.lookup(NAME) else { return };
    let is_stage = || dockerfile.stages.iter().any(|stage| stage.name() == Some(value.to_lowercase()));
    if value.is_empty() || value.parse::<i64>().is_ok() || value == "context" || is_stage() {
        return;
    }
    let mistake = Diagnostic::error(declaration.span, format!("`{value}` is no time for `{NAME}`"));
    report.mistakes([mistake.label("want seconds since 1970, `context`, or the name of a stage")]);
}
