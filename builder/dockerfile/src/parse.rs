//! The way from text to AST.
//!
//! ```text
//! text ─directives▶ lines ─join▶ logical line ─split▶ keyword, flags, arguments ─bodies▶ heredocs ─read▶ instruction ─▶ stage
//! ```
//!
//! - Nothing stops at a mistake: it is reported and the next line is read.
//! - Bounded: by the size of the file, its lines, the depth of nesting and the number of diagnostics.
//!
//! Not here: which stage a name means, whether a variable is declared, anything a registry or a file system knows.

use std::collections::BTreeSet;

use crate::diagnostic::Diagnostics;
use crate::directives;
use crate::dockerfile::{Dockerfile, Parsed, Stage};
use crate::heredoc;
use crate::instruction::{self, Instruction, Keyword, Located, Reading, Statement};
use crate::lines::{Cursor, Fragment, LogicalLine};
use crate::template::{self, Grammar};
use crate::{Diagnostic, Rule, Source, Span, Word};

/// How many bytes a Dockerfile may have.
pub const MAX_SIZE: usize = 4 << 20;

/// How many bytes a line may have; docker's limit.
pub const MAX_LINE: usize = (64 << 10) - 1;

/// How many instructions a Dockerfile may have.
pub const MAX_INSTRUCTIONS: usize = 100_000;

/// Parses a Dockerfile: what is right in it, and every mistake.
///
/// Never fails and never panics. A file over [`MAX_SIZE`] or with a NUL byte is not read at all; the one diagnostic says so.
/// Reading ends early after [`MAX_INSTRUCTIONS`], or after more errors than anybody reads.
pub fn parse(source: &str) -> Parsed {
    let mut context = Context { escape: '\\', diagnostics: Diagnostics::default() };
    if let Some(refusal) = refuse(source) {
        return Parsed { diagnostics: vec![refusal], ..Parsed::default() };
    }
    let (directives, start) = directives::read(source, &mut context.diagnostics);
    context.escape = directives.escape;
    let mut builder = Builder { dockerfile: Dockerfile { directives, ..Dockerfile::default() }, ..Builder::default() };
    let mut reader = Reader { source, cursor: Cursor::new(source, start), comments: Vec::new() };
    check_lines(source, &mut context);
    let mut count = 0;
    while !context.diagnostics.is_full()
        && let Some(line) = reader.next(&mut context)
    {
        count += 1;
        if count > MAX_INSTRUCTIONS {
            let title = format!("more than the {MAX_INSTRUCTIONS} instructions that are read");
            context.report(Diagnostic::error(line.located.keyword_span, title));
            break;
        }
        builder.add(line, &mut context);
    }
    let dockerfile = builder.finish(source, &mut context);
    let line_starts = Source::new(source).into_line_starts();
    Parsed { dockerfile, diagnostics: context.diagnostics.into_sorted(), line_starts }
}

/// Parses an ONBUILD trigger out of the config of a base image.
///
/// # Errors
///
/// What is wrong with it: its mistakes, or that it is not exactly one instruction, or one that cannot be a trigger.
pub fn parse_trigger(text: &str) -> Result<Located<Instruction>, Vec<Diagnostic>> {
    let mut context = Context { escape: '\\', diagnostics: Diagnostics::default() };
    if let Some(refusal) = refuse(text) {
        return Err(vec![refusal]);
    }
    let mut reader = Reader { source: text, cursor: Cursor::new(text, 0), comments: Vec::new() };
    let mut instructions = Vec::new();
    while !context.diagnostics.is_full()
        && let Some(line) = reader.next(&mut context)
    {
        match (line.keyword.is_some_and(instruction::is_trigger), line.reading) {
            (true, Some(Reading::Instruction(value))) => {
                let Located { span, keyword_span, text, comments, .. } = line.located;
                instructions.push(Located { value, span, keyword_span, text, comments });
            }
            (false, Some(_)) => {
                context.report(Diagnostic::error(line.located.span, "this instruction cannot be an ONBUILD trigger"));
            }
            (_, _) => {}
        }
    }
    if context.diagnostics.errors() == 0 && instructions.len() != 1 {
        let span = Span::new(0, text.len());
        context.report(Diagnostic::error(span, "an ONBUILD trigger is exactly one instruction"));
    }
    match (instructions.pop(), context.diagnostics.errors()) {
        (Some(instruction), 0) => Ok(instruction),
        _ => Err(context.diagnostics.into_sorted()),
    }
}

/// Refuses what is not even read.
fn refuse(source: &str) -> Option<Diagnostic> {
    if source.len() > MAX_SIZE {
        let title = format!("the file is larger than the {MAX_SIZE} bytes that are read");
        return Some(Diagnostic::error(Span::default(), title));
    }
    let nul = source.find('\0')?;
    let error = Diagnostic::error(Span::new(nul, nul + 1), "the file holds a NUL byte");
    Some(error.label("not text"))
}

fn check_lines(source: &str, context: &mut Context) {
    let mut cursor = Cursor::new(source, 0);
    while let Some(line) = cursor.next_line() {
        // Docker counts a carriage return before the line feed.
        let length = source[line.start..cursor.offset()].trim_end_matches('\n').len();
        if length > MAX_LINE {
            let title = format!("a line of {length} bytes, more than the {MAX_LINE} that docker reads");
            let first = source[line.clone()].chars().next().map_or(0, char::len_utf8);
            context.report(Diagnostic::error(Span::new(line.start, line.start + first), title));
        }
    }
}

/// What reading an instruction needs beside its line.
pub(crate) struct Context {
    pub(crate) escape: char,
    diagnostics: Diagnostics,
}

impl Context {
    pub(crate) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.add(diagnostic);
    }

    /// Returns how many errors were reported so far.
    pub(crate) fn errors(&self) -> usize {
        self.diagnostics.errors()
    }

    /// Makes a word of an argument and reports what is wrong with its syntax, where it is.
    pub(crate) fn argument(&mut self, fragment: Fragment<'_>) -> Word {
        if let Err(error) = self.check(fragment) {
            self.report(error);
        }
        self.unchecked_word(fragment.text(), fragment.span())
    }

    /// Makes a word of an argument that ends at a blank even inside of quotes.
    pub(crate) fn path_argument(&mut self, fragment: Fragment<'_>) -> Word {
        if let Err(error) = self.check(fragment) {
            let has_quotes = fragment.text().contains(['"', '\'']);
            self.report(if has_quotes {
                error.note("paths with blanks need a JSON array: `[\"a b\", …]`")
            } else {
                error
            });
        }
        self.unchecked_word(fragment.text(), fragment.span())
    }

    fn check(&self, fragment: Fragment<'_>) -> Result<(), Diagnostic> {
        match template::parse(fragment.text(), Grammar::Word { escape: self.escape }) {
            Ok(_) => Ok(()),
            Err(error) => Err(Diagnostic::error(fragment.from(error.at).span(), error.kind.to_string())),
        }
    }

    /// Makes a word of a text that is not byte for byte in the source.
    pub(crate) fn word(&mut self, text: &str, span: Span) -> Word {
        let word = self.unchecked_word(text, span);
        if let Err(error) = word.template() {
            self.report(Diagnostic::error(span, error.to_string()));
        }
        word
    }

    fn unchecked_word(&self, text: &str, span: Span) -> Word {
        Word::new(text, span, self.escape)
    }
}

/// Reads one instruction after the other.
struct Reader<'a> {
    source: &'a str,
    cursor: Cursor<'a>,
    comments: Vec<String>,
}

/// An instruction's line, read.
struct Line {
    keyword: Option<Keyword>,
    reading: Option<Reading>,
    located: Located<()>,
}

impl Reader<'_> {
    fn next(&mut self, context: &mut Context) -> Option<Line> {
        loop {
            let range = self.cursor.next_line()?;
            let text = self.source[range.clone()].trim_start();
            match text.strip_prefix('#') {
                // Docker lets a lone `#` end the comments that belong to the next instruction, and a blank line not.
                Some(comment) if comment.trim().is_empty() => self.comments.clear(),
                Some(comment) => self.comments.push(comment.trim().to_owned()),
                None if text.is_empty() => {}
                None => {
                    let line = LogicalLine::join(&mut self.cursor, range, context.escape);
                    return Some(self.read(&line, context));
                }
            }
        }
    }

    fn read(&mut self, line: &LogicalLine, context: &mut Context) -> Line {
        for empty in &line.empty_lines {
            let warning = Diagnostic::warning(*empty, "an empty line between continued ones");
            context.report(warning.rule(Rule::NoEmptyContinuation));
        }
        let whole = line.fragment().trim();
        let statement = Statement::split(whole);
        let mut heredocs = Vec::new();
        let mut is_complete = true;
        if statement.takes_heredocs() {
            let openers = heredoc::openers(line.fragment());
            heredocs = heredoc::read_bodies(self.source, &mut self.cursor, &openers, &mut context.diagnostics);
            is_complete = heredocs.len() == openers.len();
        }
        let reading = if is_complete { instruction::read(&statement, heredocs, context) } else { None };
        let comments = std::mem::take(&mut self.comments);
        Line {
            keyword: Keyword::named(statement.keyword.text()),
            reading,
            located: Located {
                value: (),
                span: whole.span(),
                keyword_span: statement.keyword.span(),
                text: whole.text().to_owned(),
                comments,
            },
        }
    }
}

/// Puts instructions into stages.
#[derive(Default)]
struct Builder {
    dockerfile: Dockerfile,
    /// Whether a FROM was met, be it a broken one.
    has_from: bool,
    /// Whether the FROM met last was broken: what follows belongs to no stage.
    is_broken: bool,
    /// The names of the stages so far.
    names: BTreeSet<String>,
}

impl Builder {
    fn add(&mut self, line: Line, context: &mut Context) {
        let Located { span, keyword_span, text, comments, .. } = line.located;
        if line.keyword == Some(Keyword::From) {
            self.has_from = true;
            self.is_broken = !matches!(line.reading, Some(Reading::From(_)));
        } else if !self.has_from && !matches!(line.keyword, None | Some(Keyword::Arg)) {
            let name = line.keyword.map_or("", Keyword::name);
            let error = Diagnostic::error(keyword_span, format!("{name} before the first FROM"));
            context.report(error.label("only ARG may stand here"));
            return;
        }
        match line.reading {
            Some(Reading::From(value)) => {
                self.check_name(&value, context);
                let from = Located { value, span, keyword_span, text, comments };
                self.dockerfile.stages.push(Stage { from, instructions: Vec::new() });
            }
            Some(Reading::Instruction(Instruction::Arg(value))) if !self.has_from => {
                self.dockerfile.global_args.push(Located { value, span, keyword_span, text, comments });
            }
            Some(Reading::Instruction(value)) if !self.is_broken => {
                if let Some(stage) = self.dockerfile.stages.last_mut() {
                    stage.instructions.push(Located { value, span, keyword_span, text, comments });
                }
            }
            _ => {}
        }
    }

    fn check_name(&mut self, from: &instruction::From, context: &mut Context) {
        let (Some(name), Some(key)) = (&from.name, from.stage_name()) else { return };
        if !self.names.insert(key) {
            let warning = Diagnostic::warning(name.span, format!("a second stage is named `{}`", name.text));
            let warning = warning.label("later lines mean this one");
            context.report(warning.rule(Rule::DuplicateStageName));
        }
    }

    fn finish(self, source: &str, context: &mut Context) -> Dockerfile {
        if !self.has_from && context.diagnostics.errors() == 0 {
            let is_empty = self.dockerfile.global_args.is_empty();
            let title = if is_empty { "the file has no instructions" } else { "the file has no FROM" };
            let end = source.trim_end().len();
            context.report(Diagnostic::error(Span::new(end, end), title));
        }
        self.dockerfile
    }
}
