//! ONBUILD: an instruction that runs in builds based on the image.
//!
//! Docker reads no more than the keyword of a trigger before somebody builds on the image; here its mistakes are errors at once.

use super::{Instruction, Keyword, Located, Reading, Statement, missing, read};
use crate::command::with_bodies;
use crate::flags::Flags;
use crate::parse::Context;
use crate::{Diagnostic, Heredoc};

/// ONBUILD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The text that goes into the image's config, blanks at the end of its line and bodies of heredocs included; never expanded.
    pub trigger: String,
    /// What the trigger says, for checks. To run it, read [`trigger`](Self::trigger) again with
    /// [`parse_trigger`](crate::parse_trigger), as docker does: `# escape=` does not hold there.
    pub instruction: Box<Located<Instruction>>,
}

impl Onbuild {
    pub(super) fn read(statement: &Statement<'_>, heredocs: Vec<Heredoc>, context: &mut Context) -> Option<Self> {
        Flags::check("ONBUILD", &statement.flags, &[], context);
        if statement.arguments.is_empty() {
            context.report(missing(statement, Keyword::Onbuild, "an instruction"));
            return None;
        }
        let inner = Statement::split(statement.arguments);
        if let Some(keyword) = Keyword::named(inner.keyword.text()).filter(|keyword| !is_allowed(*keyword)) {
            let title = format!("{} cannot be an ONBUILD trigger", keyword.name());
            context.report(Diagnostic::error(inner.keyword.span(), title));
            return None;
        }
        let text = statement.arguments.text().to_owned();
        let trigger = with_bodies(statement.arguments.to_line_end().text(), &heredocs);
        match read(&inner, heredocs, context)? {
            Reading::From(_) => None,
            Reading::Instruction(value) => {
                let (span, keyword_span) = (statement.arguments.span(), inner.keyword.span());
                let instruction = Box::new(Located { value, span, keyword_span, text, comments: Vec::new() });
                Some(Self { trigger, instruction })
            }
        }
    }
}

/// Returns whether an instruction may be a trigger.
pub(crate) fn is_allowed(keyword: Keyword) -> bool {
    !matches!(keyword, Keyword::Onbuild | Keyword::From | Keyword::Maintainer)
}
