//! Commands: what RUN, CMD, ENTRYPOINT and HEALTHCHECK start.

use std::borrow::Cow;

use crate::Heredoc;

/// A command in shell form or in exec form. Nothing in it is expanded by the builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Text for the stage's shell.
    Shell {
        /// The text as it is handed to the shell, continued lines joined, without heredoc bodies.
        text: String,
        /// The heredocs of a RUN; always empty elsewhere.
        heredocs: Vec<Heredoc>,
    },
    /// The program and its arguments; may be empty.
    Exec(Vec<String>),
}

/// How a RUN is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation<'a> {
    /// The shell (SHELL, else `/bin/sh -c`) gets this text as one argument.
    Shell(Cow<'a, str>),
    /// A file of this name and content is made executable in a read-only mount and started without a shell.
    Script {
        /// The name of the heredoc.
        name: &'a str,
        /// The content, beginning with `#!`.
        content: Cow<'a, str>,
    },
    /// The program is started as it is.
    Exec(&'a [String]),
}

impl Command {
    /// Returns how the command is started.
    ///
    /// A heredoc that is all of the text is the script itself: its body goes to the shell, or is run on its own when it begins
    /// with `#!` (after leading tabs were cut). With anything beside it, text and bodies are put together again for the shell to
    /// read.
    pub fn invocation(&self) -> Invocation<'_> {
        match self {
            Self::Exec(arguments) => Invocation::Exec(arguments),
            Self::Shell { text, heredocs } => match heredocs.as_slice() {
                [] => Invocation::Shell(Cow::Borrowed(text)),
                [only] if only.opener == *text => {
                    let content = only.body();
                    if content.starts_with("#!") {
                        Invocation::Script { name: &only.name, content }
                    } else {
                        Invocation::Shell(content)
                    }
                }
                several => Invocation::Shell(Cow::Owned(with_bodies(text, several))),
            },
        }
    }
}

/// Puts a line and the bodies of its heredocs together as they were written.
pub(crate) fn with_bodies(line: &str, heredocs: &[Heredoc]) -> String {
    let mut text = line.to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    text
}
