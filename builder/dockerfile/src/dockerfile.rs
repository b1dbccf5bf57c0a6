//! A Dockerfile: directives, global arguments, stages.

use crate::instruction::{Arg, From, Instruction, Located};
use crate::{Diagnostic, Directives, Span, has_errors};

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// The parser directives at its top.
    pub directives: Directives,
    /// The ARGs before the first FROM: visible to FROM lines, and to stages that declare them again.
    pub global_args: Vec<Located<Arg>>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// A stage: a base and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its FROM.
    pub from: Located<From>,
    /// Its instructions, in order.
    pub instructions: Vec<Located<Instruction>>,
}

impl Stage {
    /// Returns the name in lower case, by which `--from`, `--target` and later FROM lines find it.
    pub fn name(&self) -> Option<String> {
        self.from.value.stage_name()
    }
}

/// What came of parsing: everything that is right, and everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What parsed.
    pub dockerfile: Dockerfile,
    /// What is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// Where the lines of the file start.
    pub(crate) line_starts: Vec<usize>,
}

impl Parsed {
    /// Returns the line, from 1, on which `span` starts.
    pub(crate) fn line_of(&self, span: Span) -> usize {
        self.line_starts.partition_point(|start| *start <= span.start)
    }

    /// Returns whether the file cannot be built.
    pub fn has_errors(&self) -> bool {
        has_errors(&self.diagnostics)
    }
}
