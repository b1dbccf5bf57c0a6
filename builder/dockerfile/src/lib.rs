//! Parses Dockerfiles: text becomes an AST with spans and every diagnostic.
//!
//! ```text
//! parse(text) ─▶ Parsed { dockerfile, diagnostics }        every mistake at once, nothing lost that was right
//! check(parsed, what is known) ─▶ every diagnostic          names, values, docker's lint rules
//! word.expand(variables) ─▶ String                         later, by whoever knows the variables
//! ```
//!
//! Pure: no I/O, no environment, no panic on any input. The language is that of Dockerfile frontend 1.26.
//!
//! Not here: asking registries for names, planning, drawing excerpts.
//!
//! ```
//! let parsed = dockerfile::parse("FROM alpine\nRNU true\n");
//! assert_eq!(parsed.dockerfile.stages.len(), 1);
//! assert_eq!(parsed.diagnostics[0].title, "unknown instruction `RNU`");
//! ```

mod check;
mod command;
pub mod csv;
mod diagnostic;
mod directives;
mod dockerfile;
mod expand;
mod flags;
mod heredoc;
mod instruction;
mod json;
mod lines;
mod location;
mod mode;
mod mount;
mod outline;
mod parse;
mod pattern;
mod port;
mod print;
mod rule;
mod scope;
mod signal;
mod source;
mod stages;
mod suggest;
mod targets;
mod template;
mod word;

pub use check::{BaseFacts, CheckOptions, check};
pub use command::{Command, Invocation};
pub use diagnostic::{Diagnostic, Help, Severity, has_errors};
pub use directives::{Check, Directives, LANGUAGE_VERSION, Rules};
pub use dockerfile::{Dockerfile, Parsed, Stage};
pub use expand::{ExpandError, MAX_OUTPUT};
pub use heredoc::Heredoc;
pub use instruction::{
    Add, Arg, ArgDeclaration, Copy, CopySource, CopySources, Device, Env, Expose, Form, From, Healthcheck, Instruction,
    KeyValue, Label, Located, Maintainer, NetworkMode, Onbuild, Run, Security, Shell, Stopsignal, User, Volume,
    Workdir,
};
pub use location::{Location, Place, Range};
pub use mode::{FileKind, Mode, ModeError};
pub use mount::{BindMount, CacheMount, Mount, MountError, MountFlag, SecretMount, Sharing, SshMount, TmpfsMount};
pub use outline::{Outline, OutlineArg, OutlineMount, outline};
pub use parse::{MAX_INSTRUCTIONS, MAX_LINE, MAX_SIZE, parse, parse_trigger};
pub use pattern::PatternError;
pub use port::{PortError, Ports, Protocol};
pub use rule::Rule;
pub use scope::{BuildArguments, GlobalScope, Scope};
pub use signal::{Signal, SignalError};
pub use source::{Position, Source, Span, decode};
pub use stages::{ImageTriggers, Meaning, SourceName, StageBase, Stages, sources};
pub use suggest::{edit_distance, nearest};
pub use targets::{Target, targets};
pub use template::SyntaxErrorKind;
pub use word::{Literal, NoVariables, Variables, Word};
