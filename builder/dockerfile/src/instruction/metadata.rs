//! Instructions that only change the image's config, and WORKDIR.

use super::{Keyword, Statement, missing, other_array};
use crate::flags::Flags;
use crate::json::{self, Json};
use crate::parse::Context;
use crate::{Diagnostic, Literal, Rule, Word};

/// EXPOSE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// The ports as written: docker sorts these texts, then expands each with [`Word::expand_words`], so that one may become
    /// several.
    pub ports: Vec<Word>,
}

/// MAINTAINER, deprecated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintainer {
    /// The name; never expanded.
    pub name: Literal,
}

/// SHELL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shell {
    /// The words before the text of a shell form; at least one, never expanded.
    pub words: Vec<String>,
}

/// STOPSIGNAL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopsignal {
    /// A signal's name or number, which docker checks after expansion.
    pub signal: Word,
}

/// USER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User and perhaps group: `user[:group]`.
    pub user: Word,
}

/// VOLUME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The paths. Each expands to one path; only docker's classic builder splits the result at blanks.
    pub paths: Vec<Word>,
}

/// WORKDIR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workdir {
    /// The directory; relative to the one before it.
    pub path: Word,
}

impl Expose {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::check("EXPOSE", &statement.flags, &[], context);
        let words = statement.arguments.words();
        if words.is_empty() {
            context.report(missing(statement, Keyword::Expose, "a port"));
            return None;
        }
        Some(Self { ports: words.into_iter().map(|word| context.argument(word)).collect() })
    }
}

impl Maintainer {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::check("MAINTAINER", &statement.flags, &[], context);
        if statement.arguments.is_empty() {
            context.report(missing(statement, Keyword::Maintainer, "a name"));
            return None;
        }
        let warning = Diagnostic::warning(statement.keyword.span(), "MAINTAINER is deprecated");
        let warning = warning.note("use `LABEL org.opencontainers.image.authors=…`");
        context.report(warning.rule(Rule::MaintainerDeprecated));
        let name = Literal { text: statement.arguments.text().to_owned(), span: statement.arguments.span() };
        Some(Self { name })
    }
}

impl Shell {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::check("SHELL", &statement.flags, &[], context);
        match json::read(statement.arguments.text()) {
            Json::Strings(words) if !words.is_empty() => {
                return Some(Self { words: words.into_iter().map(|(word, _)| word).collect() });
            }
            Json::OtherArray => context.report(other_array(statement.arguments)),
            Json::Not if !statement.arguments.is_empty() => {
                let error = Diagnostic::error(statement.arguments.span(), "SHELL needs its words as a JSON array");
                context.report(error.label("want `[\"/bin/sh\", \"-c\"]`"));
            }
            Json::Strings(_) | Json::Not => context.report(missing(statement, Keyword::Shell, "a shell")),
        }
        None
    }
}

impl Stopsignal {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::ignore("STOPSIGNAL", &statement.flags, context);
        rest_of_line(statement, Keyword::Stopsignal, "a signal", context).map(|signal| Self { signal })
    }
}

impl User {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::check("USER", &statement.flags, &[], context);
        rest_of_line(statement, Keyword::User, "a user", context).map(|user| Self { user })
    }
}

impl Workdir {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::check("WORKDIR", &statement.flags, &[], context);
        rest_of_line(statement, Keyword::Workdir, "a directory", context).map(|path| Self { path })
    }
}

fn rest_of_line(statement: &Statement<'_>, keyword: Keyword, what: &str, context: &mut Context) -> Option<Word> {
    if statement.arguments.is_empty() {
        context.report(missing(statement, keyword, what));
        return None;
    }
    Some(context.argument(statement.arguments))
}

impl Volume {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::check("VOLUME", &statement.flags, &[], context);
        let line = statement.arguments;
        let paths: Vec<_> = match json::read(line.text()) {
            Json::Strings(strings) => {
                let words = strings.into_iter().map(|(text, range)| (text, line.slice(range).span()));
                words.map(|(text, span)| context.word(text.trim(), span)).collect()
            }
            Json::OtherArray => {
                context.report(other_array(line));
                return None;
            }
            Json::Not => line.words().into_iter().map(|word| context.path_argument(word.trim())).collect(),
        };
        if paths.is_empty() {
            context.report(missing(statement, Keyword::Volume, "a path"));
            return None;
        }
        if let Some(empty) = paths.iter().find(|path| path.text().is_empty()) {
            context.report(Diagnostic::error(empty.span(), "a volume's path cannot be empty"));
            return None;
        }
        Some(Self { paths })
    }
}
