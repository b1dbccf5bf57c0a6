//! FROM: the base of a stage.

use super::{Keyword, Statement, missing};
use crate::flags::{Flags, Takes};
use crate::parse::Context;
use crate::{Diagnostic, Literal, Word};

/// The beginning of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The platform of the base; expanded with global arguments and the platform arguments.
    pub platform: Option<Word>,
    /// The base: an image, an earlier stage, a named context or `scratch`. Expanded like `platform`; docker refuses a name that
    /// is blank afterwards.
    pub image: Word,
    /// The name of the stage as written; it is compared in lower case.
    pub name: Option<Literal>,
}

impl From {
    /// Returns the name of the stage in lower case.
    pub fn stage_name(&self) -> Option<String> {
        self.name.as_ref().map(|name| name.text.to_lowercase())
    }

    pub(super) fn read(statement: &Statement<'_>, context: &mut Context) -> Option<Self> {
        let flags = Flags::check("FROM", &statement.flags, &[("platform", Takes::Value)], context);
        let words = statement.arguments.words();
        let (image, name) = match words.as_slice() {
            [] => {
                context.report(missing(statement, Keyword::From, "an image"));
                return None;
            }
            [image] => (image, None),
            [image, r#as, name] if r#as.text().eq_ignore_ascii_case("as") => (image, Some(name)),
            [_, extra, ..] => {
                let error = Diagnostic::error(extra.span(), "FROM takes an image, or an image and `AS name`");
                context.report(error.label("want `AS name` or nothing"));
                return None;
            }
        };
        let name = name.map(|name| Literal { text: name.text().to_owned(), span: name.span() });
        if let Some(name) = name.as_ref().filter(|name| !is_stage_name(&name.text)) {
            let error = Diagnostic::error(name.span, format!("`{}` cannot name a stage", name.text));
            context.report(error.note("a name is a letter, then letters, digits, `-`, `_` and `.`"));
        }
        Some(Self { platform: flags.word("platform", context), image: context.argument(*image), name })
    }
}

fn is_stage_name(name: &str) -> bool {
    let name = name.to_lowercase();
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_inner)
}
