//! What a check has found so far: the one place where rules are skipped, kept, or made errors.

use std::collections::HashMap;

use super::switches::{self, Switches};
use crate::diagnostic::Diagnostics;
use crate::instruction::Located;
use crate::{BuildArguments, Diagnostic, Instruction, Parsed, Rule, Severity, Span};

/// Collects what is found in a file.
pub(super) struct Report<'a> {
    parsed: &'a Parsed,
    switches: Switches,
    found: Diagnostics,
}

/// What a finding stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    /// The comments above the instruction.
    pub(super) comments: &'a [String],
    /// Where the FROM names its base, and what the line of the instruction is, if that is a trigger of the base.
    pub(super) trigger: Option<(Span, &'a str)>,
}

impl<'a> Site<'a> {
    /// Makes the site of an instruction of the file.
    pub(super) fn of<T>(located: &'a Located<T>) -> Self {
        Self { comments: &located.comments, trigger: None }
    }

    /// Makes the site of a trigger, of the base that is named at `from`.
    pub(super) fn of_trigger(located: &'a Located<Instruction>, from: Span) -> Self {
        Self { comments: &[], trigger: Some((from, &located.text)) }
    }

    fn place(self, diagnostic: Diagnostic) -> Diagnostic {
        let Some((span, text)) = self.trigger else { return diagnostic };
        let text: String = text.chars().take(60).collect();
        Diagnostic { span, ..diagnostic }.label(format!("in its trigger `ONBUILD {text}`"))
    }
}

impl<'a> Report<'a> {
    /// Begins with what the parser has found, and with what is wrong with the options of checks.
    pub(super) fn new(parsed: &'a Parsed, arguments: &BuildArguments) -> Self {
        let (switches, mistakes) = Switches::read(parsed, arguments);
        let mut report = Self { parsed, switches, found: Diagnostics::default() };
        let comments = report.comments();
        for diagnostic in &parsed.diagnostics {
            let comments = comments.get(&diagnostic.span.start).copied().unwrap_or_default();
            report.add_if_on(diagnostic.rule, comments, || diagnostic.clone());
        }
        report.mistakes(mistakes);
        report
    }

    /// Returns the comments with options, by where the instruction below them starts, and reports what is wrong with them.
    fn comments(&mut self) -> HashMap<usize, &'a [String]> {
        let dockerfile = &self.parsed.dockerfile;
        let mut comments = HashMap::new();
        for arg in &dockerfile.global_args {
            self.read_comments(arg, &mut comments);
        }
        for stage in &dockerfile.stages {
            self.read_comments(&stage.from, &mut comments);
            for instruction in &stage.instructions {
                self.read_comments(instruction, &mut comments);
            }
        }
        comments
    }

    fn read_comments<T>(&mut self, located: &'a Located<T>, comments: &mut HashMap<usize, &'a [String]>) {
        if located.comments.iter().any(|comment| switches::check_option(comment).is_some()) {
            comments.insert(located.span.start, &located.comments);
            self.mistakes(switches::mistakes_above(located));
        }
    }

    /// Adds what no rule asks for and nothing can skip.
    pub(super) fn mistakes(&mut self, mistakes: impl IntoIterator<Item = Diagnostic>) {
        mistakes.into_iter().for_each(|mistake| self.found.add(mistake));
    }

    /// Adds a mistake at a site.
    pub(super) fn mistake(&mut self, site: Site<'_>, mistake: Diagnostic) {
        self.found.add(site.place(mistake));
    }

    /// Adds what `rule` has found at a site, unless it is skipped there.
    pub(super) fn rule(&mut self, rule: Rule, site: Site<'_>, warning: impl FnOnce() -> Diagnostic) {
        self.add_if_on(Some(rule), site.comments, || site.place(warning()).rule(rule));
    }

    fn add_if_on(&mut self, rule: Option<Rule>, comments: &[String], make: impl FnOnce() -> Diagnostic) {
        let is_error = rule.is_some() && self.switches.are_errors();
        if is_error && !self.found.takes(Severity::Error) {
            return;
        }
        if rule.is_some() && !is_error && !self.found.takes(Severity::Warning) {
            return;
        }
        if rule.is_some_and(|rule| !self.switches.is_on(rule, comments)) {
            return;
        }
        let mut diagnostic = make();
        if is_error {
            diagnostic.severity = Severity::Error;
        }
        self.found.add(diagnostic);
    }

    /// Returns whether there are so many errors that looking for more is of no use.
    pub(super) fn is_full(&self) -> bool {
        self.found.is_full()
    }

    /// Returns how many errors were found so far.
    pub(super) fn errors(&self) -> usize {
        self.found.errors()
    }

    /// Returns the line, from 1, on which `span` starts.
    pub(super) fn line_of(&self, span: Span) -> usize {
        self.parsed.line_of(span)
    }

    /// Returns what was found, each once, in the order of the file.
    pub(super) fn finish(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_sorted();
        found.dedup();
        found
    }
}
