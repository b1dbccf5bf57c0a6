//! What must hold for any Dockerfile, one function for each fuzz target.
//!
//! Each panics when something does not hold. `make fuzz` calls them with what libFuzzer invents;
//! `builder/dockerfile/tests/regressions.rs` calls them with what once went wrong (`fuzz/regressions/<target>/`).
//!
//! Not here: ignore files (`ignore.rs`), which belong to another crate.

#[path = "../../builder/dockerfile/tests/dump/mod.rs"]
mod dump;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use dockerfile::{
    BuildArguments, CheckOptions, CopySource, CopySources, Diagnostic, Dockerfile, GlobalScope, Heredoc, Instruction,
    MAX_OUTPUT, Outline, Parsed, Source, Span, Stages, Variables, Word, decode, outline, targets,
};

/// How many diagnostics one file may have: 500 errors, 500 warnings, and a line for each of the two that there are more.
const MOST_DIAGNOSTICS: usize = 1002;

/// A file is read without a panic, and everything that is said about it stands inside of it.
pub fn parse(bytes: &[u8]) {
    let (source, not_text) = decode(bytes);
    assert!(not_text.len() <= 2 && (std::str::from_utf8(bytes).is_err() || not_text.is_empty()), "{not_text:?}");
    let parsed = dockerfile::parse(&source);
    within(&source, &not_text);
    within(&source, &parsed.diagnostics);
    for stage in &parsed.dockerfile.stages {
        inside(&source, stage.from.span, "FROM");
        for instruction in &stage.instructions {
            inside(&source, instruction.span, instruction.value.keyword());
            inside(&source, instruction.keyword_span, instruction.value.keyword());
            heredocs(&instruction.value).for_each(|heredoc| expand_body(&source, heredoc));
        }
    }
}

fn heredocs(instruction: &Instruction) -> impl Iterator<Item = &Heredoc> {
    let sources: &[CopySource] = match instruction {
        Instruction::Copy(dockerfile::Copy { files: CopySources { sources, .. }, .. })
        | Instruction::Add(dockerfile::Add { files: CopySources { sources, .. }, .. }) => sources,
        _ => &[],
    };
    sources.iter().filter_map(|source| match source {
        CopySource::Heredoc(heredoc) => Some(heredoc),
        CopySource::Path(_) => None,
    })
}

fn expand_body(source: &str, heredoc: &Heredoc) {
    inside(source, heredoc.span, &heredoc.opener);
    inside(source, heredoc.body_span, &heredoc.name);
    let variables = BTreeMap::from([("A".to_owned(), "a b\n'".to_owned())]);
    expand_word(&heredoc.body_word(), &Watched { variables, asked: RefCell::default() }, &['\\']);
}

/// A file without errors prints as a file that means the same.
pub fn round_trip(bytes: &[u8]) {
    let (source, not_text) = decode(bytes);
    let parsed = dockerfile::parse(&source);
    if !parsed.has_errors() && not_text.is_empty() {
        survives_printing(&parsed.dockerfile);
    }
}

fn survives_printing(dockerfile: &Dockerfile) {
    let printed = dockerfile.to_string();
    let again = dockerfile::parse(&printed);
    assert!(!again.has_errors(), "printed as {printed:?}: {:?}", again.diagnostics);
    let (before, after) = (dump::without_spans(dockerfile), dump::without_spans(&again.dockerfile));
    assert_eq!(before, after, "printed as {printed:?}");
    assert_eq!(printed, again.dockerfile.to_string(), "what is printed is printed the same");
}

/// A word expands to something bounded or is an error, and looks up only what it says that it refers to.
///
/// The first character chooses what escapes, the first line is the word, each other one a variable as `NAME=value`.
pub fn expand(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut chars = text.chars();
    let Some(choice) = chars.next() else { return };
    let mut lines = chars.as_str().split('\n');
    let word = lines.next().unwrap_or_default();
    let variables = lines.filter_map(|line| line.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let escape = if choice == '`' { '`' } else { '\\' };
    let word = Word::new(word, Span::default(), escape);
    expand_word(&word, &Watched { variables, asked: RefCell::default() }, &['\'', '"', escape]);
}

/// `quotes` are the characters that keep others from their meaning.
fn expand_word(word: &Word, variables: &Watched, quotes: &[char]) {
    let expanded = word.expand(variables);
    let words = word.expand_words(variables);
    assert_eq!(expanded.is_ok(), words.is_ok(), "{expanded:?} {words:?}");
    let references = word.references();
    for name in variables.asked.borrow().iter() {
        assert!(references.contains(name), "`{name}` was looked up, but the word refers to {references:?}");
    }
    let (Ok(expanded), Ok(words)) = (expanded, words) else { return };
    assert!(expanded.len() <= MAX_OUTPUT, "{} bytes", expanded.len());
    let without_blanks = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    assert_eq!(without_blanks(&words.concat()), without_blanks(&expanded));
    if word.text().contains(quotes) {
        return;
    }
    assert_eq!(words, expanded.split_whitespace().collect::<Vec<_>>());
    if !word.text().contains('$') {
        assert_eq!(expanded, word.text());
    }
}

/// A trigger of a base image is one instruction that survives printing or is refused, with its mistakes inside of it.
pub fn trigger(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match dockerfile::parse_trigger(text) {
        Ok(instruction) => {
            inside(text, instruction.span, instruction.value.keyword());
            let mut file = dockerfile::parse("FROM scratch").dockerfile;
            file.stages[0].instructions.push(instruction);
            survives_printing(&file);
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            within(text, &diagnostics);
        }
    }
}

/// A file is checked without a panic, however little of it is right.
pub fn check(bytes: &[u8]) {
    let (source, _) = decode(bytes);
    let parsed = dockerfile::parse(&source);
    let ignored = |path: &str| path.ends_with('x').then(|| ".dockerignore:1".to_owned());
    let options = CheckOptions { ignored_by: Some(&ignored), ..CheckOptions::default() };
    within(&source, &dockerfile::check(&parsed, &options));
    tell(&source, &parsed);
}

/// What a file says of its targets stands inside of it.
fn tell(text: &str, parsed: &Parsed) {
    let source = Source::new(text);
    assert_eq!(targets(&parsed.dockerfile, &source).len(), parsed.dockerfile.stages.len());
    let (global, _) = GlobalScope::read(&parsed.dockerfile.global_args, BuildArguments::default());
    let Ok(stages) = Stages::read(&parsed.dockerfile, &global, &BTreeSet::new()) else { return };
    let Some(target) = stages.target(None) else { return };
    let names = |outline: Outline| outline.args.into_iter().map(|arg| arg.name).collect::<Vec<_>>();
    let outline = outline((&parsed.dockerfile, &source), (&stages, &global), target);
    for name in outline.map(names).unwrap_or_default() {
        assert!(text.contains(&name) || text.contains('\\') || text.contains('`'), "`{name}` is not in the file");
    }
}

fn within(source: &str, diagnostics: &[Diagnostic]) {
    assert!(diagnostics.len() <= MOST_DIAGNOSTICS, "{} diagnostics", diagnostics.len());
    diagnostics.iter().for_each(|diagnostic| inside(source, diagnostic.span, &diagnostic.title));
}

fn inside(source: &str, span: Span, what: &str) {
    assert!(source.get(span.range()).is_some(), "{span:?} of `{what}` is no part of the file");
}

/// Variables that remember which of them somebody looked up.
struct Watched {
    variables: BTreeMap<String, String>,
    asked: RefCell<Vec<String>>,
}

impl Variables for Watched {
    fn lookup(&self, name: &str) -> Option<Cow<'_, str>> {
        self.asked.borrow_mut().push(name.to_owned());
        self.variables.lookup(name)
    }
}
