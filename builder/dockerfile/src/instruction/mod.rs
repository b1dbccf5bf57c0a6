//! Instructions: what each line of a Dockerfile says, typed.
//!
//! [`read`] takes an instruction's line, already split into keyword, flags and arguments, and reads its arguments by the rules
//! of its keyword. What is wrong is reported; an instruction comes back whenever enough of it was right.
//!
//! Which arguments docker expands shows in their types: a [`Word`](crate::Word) is expanded, a [`Literal`](crate::Literal) or a
//! `String` is not.

mod copy;
mod from;
mod healthcheck;
mod keyword;
mod metadata;
mod onbuild;
mod run;
mod variables;

pub use copy::{Add, Copy, CopySource, CopySources};
pub use from::From;
pub use healthcheck::Healthcheck;
pub(crate) use keyword::Keyword;
pub use metadata::{Expose, Maintainer, Shell, Stopsignal, User, Volume, Workdir};
pub use onbuild::Onbuild;
pub(crate) use onbuild::is_allowed as is_trigger;
pub use run::{Device, NetworkMode, Run, Security};
pub use variables::{Arg, ArgDeclaration, Env, Form, KeyValue, Label};

use crate::flags::{self, Flag, Flags};
use crate::json::{self, Json};
use crate::lines::Fragment;
use crate::parse::Context;
use crate::{Command, Diagnostic, Heredoc, Span};

/// An instruction of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the instruction of its name")]
pub enum Instruction {
    Add(Add),
    Arg(Arg),
    Cmd(Command),
    Copy(Copy),
    Entrypoint(Command),
    Env(Env),
    Expose(Expose),
    Healthcheck(Healthcheck),
    Label(Label),
    Maintainer(Maintainer),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Shell),
    Stopsignal(Stopsignal),
    User(User),
    Volume(Volume),
    Workdir(Workdir),
}

impl Instruction {
    /// Returns the keyword in upper case.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::Stopsignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// Something of a Dockerfile and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// What it is.
    pub value: T,
    /// Where its line stands, continued lines included, bodies of heredocs not.
    pub span: Span,
    /// Where its keyword stands.
    pub keyword_span: Span,
    /// Its line as written, continued lines joined, without the bodies of heredocs.
    pub text: String,
    /// The comments before it, without `#` and blanks around them.
    pub comments: Vec<String>,
}

/// An instruction's line, split.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) keyword: Fragment<'a>,
    pub(crate) flags: Vec<Flag<'a>>,
    pub(crate) arguments: Fragment<'a>,
}

impl<'a> Statement<'a> {
    pub(crate) fn split(line: Fragment<'a>) -> Self {
        let (keyword, rest) = line.trim().split_word();
        let (flags, arguments) = flags::split(rest);
        Self { keyword, flags, arguments }
    }

    /// Returns whether words of the form `<<NAME` are heredocs here.
    pub(crate) fn takes_heredocs(&self) -> bool {
        match Keyword::named(self.keyword.text()) {
            Some(Keyword::Add | Keyword::Copy | Keyword::Run) => {
                !matches!(json::read(self.arguments.text()), Json::Strings(_))
            }
            Some(Keyword::Onbuild) => {
                let inner = Self::split(self.arguments);
                Keyword::named(inner.keyword.text()) != Some(Keyword::Onbuild) && inner.takes_heredocs()
            }
            _ => false,
        }
    }
}

/// What a line turned out to be.
#[derive(Debug)]
pub(crate) enum Reading {
    From(From),
    Instruction(Instruction),
}

/// Reads an instruction; `None` when too little of it is right.
pub(crate) fn read(statement: &Statement<'_>, heredocs: Vec<Heredoc>, context: &mut Context) -> Option<Reading> {
    let Some(keyword) = Keyword::named(statement.keyword.text()) else {
        context.report(unknown(statement));
        return None;
    };
    if keyword == Keyword::From {
        return From::read(statement, context).map(Reading::From);
    }
    let instruction = match keyword {
        Keyword::Add => Add::read(statement, heredocs, context).map(Instruction::Add),
        Keyword::Arg => Arg::read(statement, context).map(Instruction::Arg),
        Keyword::Cmd => command(statement, keyword, context).map(Instruction::Cmd),
        Keyword::Copy => Copy::read(statement, heredocs, context).map(Instruction::Copy),
        Keyword::Entrypoint => command(statement, keyword, context).map(Instruction::Entrypoint),
        Keyword::Env => variables::read_env(statement, context).map(Instruction::Env),
        Keyword::Expose => Expose::read(statement, context).map(Instruction::Expose),
        Keyword::Healthcheck => Healthcheck::read(statement, context).map(Instruction::Healthcheck),
        Keyword::Label => variables::read_label(statement, context).map(Instruction::Label),
        Keyword::Maintainer => Maintainer::read(statement, context).map(Instruction::Maintainer),
        Keyword::Onbuild => Onbuild::read(statement, heredocs, context).map(Instruction::Onbuild),
        Keyword::Run => Run::read(statement, heredocs, context).map(Instruction::Run),
        Keyword::Shell => Shell::read(statement, context).map(Instruction::Shell),
        Keyword::Stopsignal => Stopsignal::read(statement, context).map(Instruction::Stopsignal),
        Keyword::User => User::read(statement, context).map(Instruction::User),
        Keyword::Volume => Volume::read(statement, context).map(Instruction::Volume),
        Keyword::From | Keyword::Workdir => Workdir::read(statement, context).map(Instruction::Workdir),
    };
    instruction.map(Reading::Instruction)
}

fn unknown(statement: &Statement<'_>) -> Diagnostic {
    let word = statement.keyword.text();
    if word.is_empty() {
        let error = Diagnostic::error(statement.keyword.span(), "an instruction is missing");
        return error.label("nothing continues this line");
    }
    let shown: String = word.chars().take(60).collect();
    let error = Diagnostic::error(statement.keyword.span(), format!("unknown instruction `{shown}`"));
    let error = error.suggest(word, Keyword::NAMES.iter().copied());
    if error.help.is_none() && matches!(word, "&&" | "||" | "|" | ";" | "then" | "fi" | "do" | "done") {
        return error.note("the line before it may lack the escape character at its end");
    }
    error
}

/// Reads CMD or ENTRYPOINT.
fn command(statement: &Statement<'_>, keyword: Keyword, context: &mut Context) -> Option<Command> {
    Flags::check(keyword.name(), &statement.flags, &[], context);
    shell_or_exec(statement.arguments, keyword, Vec::new(), context)
}

/// Reads exec form, or else shell form.
fn shell_or_exec(
    arguments: Fragment<'_>,
    keyword: Keyword,
    heredocs: Vec<Heredoc>,
    context: &mut Context,
) -> Option<Command> {
    if arguments.is_empty() {
        let name = keyword.name();
        context.report(Diagnostic::warning(arguments.span(), format!("{name} without a command")));
    }
    match json::read(arguments.text()) {
        Json::Strings(strings) => Some(Command::Exec(strings.into_iter().map(|(string, _)| string).collect())),
        Json::OtherArray => {
            context.report(other_array(arguments));
            None
        }
        Json::Not => Some(Command::Shell { text: arguments.text().to_owned(), heredocs }),
    }
}

fn other_array(arguments: Fragment<'_>) -> Diagnostic {
    Diagnostic::error(arguments.span(), "a JSON array may hold only strings here")
}

/// Reports that nothing stands where `keyword` needs arguments.
fn missing(statement: &Statement<'_>, keyword: Keyword, what: &str) -> Diagnostic {
    Diagnostic::error(statement.keyword.span(), format!("{} needs {what}", keyword.name()))
}
