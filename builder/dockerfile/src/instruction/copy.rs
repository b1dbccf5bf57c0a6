//! ADD and COPY: files into the image.

use super::{Keyword, Statement, other_array};
use crate::flags::{Flags, Known, Takes};
use crate::heredoc;
use crate::json::{self, Json};
use crate::lines::Fragment;
use crate::parse::Context;
use crate::{Diagnostic, Heredoc, Literal, Span, Word};

/// What ADD and COPY share: sources and a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySources {
    /// The sources, in order; at least one.
    pub sources: Vec<CopySource>,
    /// The destination.
    pub destination: Word,
}

/// A source of ADD or COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path or pattern; with ADD also a URL.
    Path(Word),
    /// A file named for the delimiter, mode 0644. Its body is expanded if [`Heredoc::expands`] says so, by
    /// [`Heredoc::body_word`].
    Heredoc(Heredoc),
}

/// COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Sources and destination.
    pub files: CopySources,
    /// The stage (by name or number), image or named context that is copied from; `None`, also of an empty
    /// `--from=`, is the build context. Never expanded.
    pub from: Option<Literal>,
    /// Owner and group.
    pub chown: Option<Word>,
    /// The mode, octal or symbolic.
    pub chmod: Option<Word>,
    /// Whether the files make a layer of their own (`--link`).
    pub is_linked: bool,
    /// Whether sources keep their parent directories (`--parents`).
    pub keeps_parents: bool,
    /// Patterns of files that are left out; never expanded.
    pub exclude: Vec<Literal>,
}

/// ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// Sources and destination.
    pub files: CopySources,
    /// Owner and group.
    pub chown: Option<Word>,
    /// The mode, octal or symbolic.
    pub chmod: Option<Word>,
    /// Whether the files make a layer of their own (`--link`).
    pub is_linked: bool,
    /// Patterns of files that are left out; never expanded.
    pub exclude: Vec<Literal>,
    /// The digest of the one remote source, or the commit of a git source.
    pub checksum: Option<Word>,
    /// Whether a git source keeps its `.git`; `None` leaves it to the source's own query.
    pub keep_git_dir: Option<bool>,
    /// Whether archives are unpacked; `None` means local ones are and remote ones are not.
    pub unpack: Option<bool>,
}

const COPY_FLAGS: Known = &[
    ("from", Takes::Value),
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("parents", Takes::Switch),
    ("exclude", Takes::List),
];

const ADD_FLAGS: Known = &[
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("exclude", Takes::List),
    ("checksum", Takes::Value),
    ("keep-git-dir", Takes::Switch),
    ("unpack", Takes::Switch),
];

impl Copy {
    pub(super) fn read(statement: &Statement<'_>, heredocs: Vec<Heredoc>, context: &mut Context) -> Option<Self> {
        let flags = Flags::check("COPY", &statement.flags, COPY_FLAGS, context);
        let from = flags.literal("from").filter(|from| !from.text.is_empty());
        if let Some(from) = from.as_ref().filter(|from| from.text.contains('$')) {
            let error = Diagnostic::error(from.span, "`--from` takes no variables");
            context.report(
                error.note("name a stage with `FROM … AS name`, whose image may hold them, and copy from that"),
            );
        }
        Some(Self {
            files: files(statement, Keyword::Copy, heredocs, context)?,
            from,
            chown: flags.word("chown", context),
            chmod: flags.word("chmod", context),
            is_linked: flags.switch("link").unwrap_or(false),
            keeps_parents: flags.switch("parents").unwrap_or(false),
            exclude: flags.list("exclude").into_iter().cloned().map(crate::flags::FlagValue::into_literal).collect(),
        })
    }
}

impl Add {
    pub(super) fn read(statement: &Statement<'_>, heredocs: Vec<Heredoc>, context: &mut Context) -> Option<Self> {
        let flags = Flags::check("ADD", &statement.flags, ADD_FLAGS, context);
        let files = files(statement, Keyword::Add, heredocs, context)?;
        let checksum = flags.word("checksum", context);
        if let Some(checksum) = &checksum
            && files.sources.len() != 1
        {
            let error = Diagnostic::error(checksum.span(), "`--checksum` is for exactly one source");
            context.report(error.label(format!("there are {} sources", files.sources.len())));
        }
        Some(Self {
            files,
            chown: flags.word("chown", context),
            chmod: flags.word("chmod", context),
            is_linked: flags.switch("link").unwrap_or(false),
            exclude: flags.list("exclude").into_iter().cloned().map(crate::flags::FlagValue::into_literal).collect(),
            checksum,
            keep_git_dir: flags.switch("keep-git-dir"),
            unpack: flags.switch("unpack"),
        })
    }
}

/// An argument before it is known to be source or destination.
enum Argument<'a> {
    Word(Word),
    Heredoc(Fragment<'a>),
}

fn files(
    statement: &Statement<'_>,
    keyword: Keyword,
    heredocs: Vec<Heredoc>,
    context: &mut Context,
) -> Option<CopySources> {
    let name = keyword.name();
    let mut arguments = arguments(statement, context)?;
    let last = arguments.pop();
    let destination = match last {
        Some(Argument::Word(word)) if !arguments.is_empty() => word,
        Some(Argument::Heredoc(fragment)) => {
            context.report(Diagnostic::error(fragment.span(), format!("{name} cannot write to a heredoc")));
            return None;
        }
        only => {
            let error = Diagnostic::error(statement.keyword.span(), format!("{name} needs a source and a destination"));
            context.report(if only.is_some() { error.label("there is only one argument") } else { error });
            return None;
        }
    };
    // An unterminated heredoc was reported where it was read; without it there is nothing to copy.
    let mut heredocs = heredocs.into_iter();
    let sources = arguments.into_iter().map(|argument| match argument {
        Argument::Word(word) => Some(CopySource::Path(word)),
        Argument::Heredoc(_) => heredocs.next().map(CopySource::Heredoc),
    });
    Some(CopySources { sources: sources.collect::<Option<_>>()?, destination })
}

fn arguments<'a>(statement: &Statement<'a>, context: &mut Context) -> Option<Vec<Argument<'a>>> {
    let line = statement.arguments;
    match json::read(line.text()) {
        Json::Strings(strings) => {
            let words: Vec<_> = strings.into_iter().map(|(text, range)| (text, line.slice(range).span())).collect();
            if let Some((_, span)) = words.iter().find(|(text, _)| heredoc::is_opener(text)) {
                context.report(without_body(*span).note("a JSON array has no heredocs"));
                return None;
            }
            return Some(words.iter().map(|(text, span)| Argument::Word(context.word(text, *span))).collect());
        }
        Json::OtherArray => {
            context.report(other_array(line));
            return None;
        }
        Json::Not => {}
    }
    let mut openers = heredoc::openers(line).into_iter().map(|opener| opener.fragment).peekable();
    let mut arguments = Vec::new();
    for word in line.words() {
        match openers.next_if(|opener| line.offset_of(opener) == line.offset_of(&word)) {
            Some(opener) if opener.text() == word.text() => arguments.push(Argument::Heredoc(opener)),
            // Docker reads the body of such a one, and then looks for files with the names of the words.
            Some(opener) => {
                let error = Diagnostic::error(opener.span(), "a heredoc that is copied has no blanks in its name");
                context.report(error.label("want `<<NAME`, one word"));
                return None;
            }
            None if heredoc::is_opener(word.text()) => {
                let error = without_body(word.span());
                context.report(error.note("a quote or an escaped blank before it keeps it from being one"));
                return None;
            }
            None => arguments.push(Argument::Word(context.path_argument(word))),
        }
    }
    Some(arguments)
}

/// Refuses a word that is a heredoc in a place that has none: docker takes it for an empty file, or for a destination that cannot
/// be.
fn without_body(span: Span) -> Diagnostic {
    Diagnostic::error(span, "a heredoc without its body")
}
