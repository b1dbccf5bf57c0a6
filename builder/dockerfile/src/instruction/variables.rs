//! ARG, ENV and LABEL: names and values.
//!
//! Words end at blanks outside of quotes; quotes and escapes stay in them, for expansion to remove. A word without `=` at the
//! start of ENV or LABEL is the old form: one name, and all the rest is its value.

use super::{Keyword, Statement, missing};
use crate::flags::Flags;
use crate::lines::{Fragment, is_blank};
use crate::parse::Context;
use crate::{Diagnostic, Span, Word};

/// Build arguments that a stage, or the part before the first stage, declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The arguments, in order; a default may refer to those before it.
    pub declarations: Vec<ArgDeclaration>,
}

/// One argument of an ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name; never expanded.
    pub name: String,
    /// The default; expanded only when the command line gives no value. `None` without `=`, which in a stage takes over the
    /// global argument of that name.
    pub default: Option<Word>,
    /// Where the declaration stands.
    pub span: Span,
    /// Where the name stands.
    pub name_span: Span,
}

/// Environment variables that are set. All values are expanded with what was set before this instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// The variables, in order.
    pub pairs: Vec<KeyValue>,
    /// How they were written.
    pub form: Form,
}

/// Labels that are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The labels, in order.
    pub pairs: Vec<KeyValue>,
    /// How they were written.
    pub form: Form,
}

/// A name and its value; docker expands both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The name.
    pub key: Word,
    /// The value.
    pub value: Word,
}

/// How names and values were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `name=value …`
    Pairs,
    /// `name value`, one of them.
    Legacy,
}

impl Arg {
    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        Flags::ignore("ARG", &statement.flags, context);
        let words = quoted_words(statement.arguments, context.escape);
        if words.is_empty() {
            context.report(missing(statement, Keyword::Arg, "a name"));
            return None;
        }
        let declarations = words.into_iter().filter_map(|word| {
            let (name, default) = match word.text().find('=') {
                Some(equals) => (&word.text()[..equals], Some(context.argument(word.from(equals + 1)))),
                None => (word.text(), None),
            };
            if name.is_empty() {
                context.report(blank_name(word, Keyword::Arg));
                return None;
            }
            let name_span = word.slice(0..name.len()).span();
            Some(ArgDeclaration { name: name.to_owned(), default, span: word.span(), name_span })
        });
        let declarations: Vec<_> = declarations.collect();
        (!declarations.is_empty()).then_some(Self { declarations })
    }
}

pub(super) fn read_env(statement: &Statement<'_>, context: &mut Context) -> Option<Env> {
    pairs(statement, Keyword::Env, context).map(|(pairs, form)| Env { pairs, form })
}

pub(super) fn read_label(statement: &Statement<'_>, context: &mut Context) -> Option<Label> {
    pairs(statement, Keyword::Label, context).map(|(pairs, form)| Label { pairs, form })
}

fn pairs(statement: &Statement<'_>, keyword: Keyword, context: &mut Context) -> Option<(Vec<KeyValue>, Form)> {
    Flags::check(keyword.name(), &statement.flags, &[], context);
    let words = quoted_words(statement.arguments, context.escape);
    let Some(first) = words.first() else {
        context.report(missing(statement, keyword, "a name and a value"));
        return None;
    };
    if !first.text().contains('=') {
        return legacy(statement.arguments, keyword, context).map(|pair| (vec![pair], Form::Legacy));
    }
    let pairs: Vec<_> = words.into_iter().filter_map(|word| pair(word, keyword, context)).collect();
    (!pairs.is_empty()).then_some((pairs, Form::Pairs))
}

fn legacy(arguments: Fragment<'_>, keyword: Keyword, context: &mut Context) -> Option<KeyValue> {
    let (key, value) = arguments.split_word();
    if key.text().len() == arguments.text().trim_end_matches(is_blank).len() {
        let name = keyword.name();
        let error = Diagnostic::error(key.span(), format!("{name} needs a value for `{}`", shortened(key.text())));
        context.report(error.label("want `name=value`"));
        return None;
    }
    Some(KeyValue { key: context.argument(key), value: context.argument(value) })
}

fn pair(word: Fragment<'_>, keyword: Keyword, context: &mut Context) -> Option<KeyValue> {
    let Some(equals) = word.text().find('=') else {
        let error = Diagnostic::error(word.span(), format!("`{}` lacks its `=`", shortened(word.text())));
        context.report(error.label("want `name=value`").note("a value with blanks needs quotes"));
        return None;
    };
    if equals == 0 {
        context.report(blank_name(word, keyword));
        return None;
    }
    let (key, value) = (word.slice(0..equals), word.from(equals + 1));
    Some(KeyValue { key: context.argument(key), value: context.argument(value) })
}

fn blank_name(word: Fragment<'_>, keyword: Keyword) -> Diagnostic {
    Diagnostic::error(word.span(), format!("{} needs a name before `=`", keyword.name()))
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Splits at blanks outside of quotes. An escape character at the very end is dropped.
fn quoted_words<'a>(arguments: Fragment<'a>, escape: char) -> Vec<Fragment<'a>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut characters = arguments.text().char_indices();
    let mut end = 0;
    while let Some((index, c)) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|start| arguments.slice(start..index)));
            continue;
        }
        start.get_or_insert(index);
        end = index + c.len_utf8();
        if c == escape && quote != Some('\'') {
            match characters.next() {
                Some((at, escaped)) => end = at + escaped.len_utf8(),
                None => end = index,
            }
            continue;
        }
        match quote {
            Some(open) if open == c => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            _ => {}
        }
    }
    words.extend(start.filter(|start| *start < end).map(|start| arguments.slice(start..end)));
    words
}
