//! `RUN --mount`: what is mounted while a command runs.
//!
//! A [`MountFlag`] is what the file says; nearly every value may hold variables, even the type. [`MountFlag::expand`] makes a
//! [`Mount`] of it, whose options are typed and belong to its type:
//!
//! | option | bind | cache | tmpfs | secret | ssh |
//! |---|---|---|---|---|---|
//! | target, dst, destination | yes | yes | yes | yes | yes |
//! | from | yes | yes | no | no | no |
//! | source, src | yes | yes | no | as id | as id |
//! | readonly, ro; readwrite, rw | yes, read-only | yes, writable | no | ignored by docker | ignored by docker |
//! | id | no | yes | no | yes | yes |
//! | sharing | no | yes | no | no | no |
//! | mode, uid, gid | no | yes | no | yes | yes |
//! | size | no | no | yes | no | no |
//! | required | no | no | no | yes | yes |
//! | env | ignored by docker | ignored by docker | ignored by docker | yes | ignored by docker |
//!
//! Docker ignores some options where they mean nothing (`id` of a bind mount); they are accepted here as there. Of an option
//! that is given twice, the last counts. A flag that holds no variable is checked when the file is parsed.

mod draft;

use self::draft::Draft;
use crate::csv;
use crate::expand::ExpandError;
use crate::flags::FlagValue;
use crate::parse::Context;
use crate::word::{NoVariables, Variables};
use crate::{Diagnostic, Literal, Span, Word};

/// A `--mount` as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value, quotes removed.
    pub text: Literal,
    options: Vec<MountOption>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct MountOption {
    key: Key,
    value: Option<Word>,
    span: Span,
}

/// A mount with its options' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// Files of the build context, a stage or an image. What is written is discarded.
    Bind(BindMount),
    /// A directory that stays between builds.
    Cache(CacheMount),
    /// An empty file system in memory.
    Tmpfs(TmpfsMount),
    /// A secret, as a file or as an environment variable.
    Secret(SecretMount),
    /// The socket of an SSH agent.
    Ssh(SshMount),
}

/// A mount of type `bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// Where it is mounted, relative to the working directory; empty means the working directory.
    pub target: String,
    /// The stage, image or named context; `None` means the build context.
    pub from: Option<String>,
    /// The path below the root of `from`; empty means the root.
    pub source: String,
    /// Whether it is mounted read-only (the default).
    pub is_read_only: bool,
}

/// A mount of type `cache`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Where it is mounted, relative to the working directory; empty means the working directory.
    pub target: String,
    /// What names the cache; `None` means its cleaned target does.
    pub id: Option<String>,
    /// Who may use it at the same time.
    pub sharing: Sharing,
    /// What a new cache starts with: stage, image or named context; `None` means nothing.
    pub from: Option<String>,
    /// The path below the root of `from`; empty means the root.
    pub source: String,
    /// Whether it is mounted read-only.
    pub is_read_only: bool,
    /// Mode of a new cache directory (docker's default is 0755).
    pub mode: Option<u32>,
    /// Owner of a new cache directory.
    pub uid: Option<u32>,
    /// Group of a new cache directory.
    pub gid: Option<u32>,
}

/// A mount of type `tmpfs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsMount {
    /// Where it is mounted, relative to the working directory; empty means the working directory.
    pub target: String,
    /// Its limit in bytes; `None` means the kernel's.
    pub size: Option<u64>,
}

/// A mount of type `secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// What names the secret.
    pub id: String,
    /// Where its file is mounted; `None` when it is only an environment variable.
    pub target: Option<String>,
    /// The environment variable that gets it.
    pub env: Option<String>,
    /// Whether the build fails without it; else it is left out.
    pub is_required: bool,
    /// Mode of the file (default 0400).
    pub mode: Option<u32>,
    /// Owner of the file.
    pub uid: Option<u32>,
    /// Group of the file.
    pub gid: Option<u32>,
}

/// A mount of type `ssh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshMount {
    /// What names the agent (default `default`).
    pub id: String,
    /// Where its socket is mounted; `None` means `/run/buildkit/ssh_agent.N`.
    pub target: Option<String>,
    /// Whether the build fails without it; else it is left out.
    pub is_required: bool,
    /// Mode of the socket (default 0600).
    pub mode: Option<u32>,
    /// Owner of the socket.
    pub uid: Option<u32>,
    /// Group of the socket.
    pub gid: Option<u32>,
}

/// Who may use a cache mount at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Each user at a time has a cache of its own.
    Private,
    /// One after the other.
    Locked,
}

impl Mount {
    /// Returns where it is mounted, if it is mounted anywhere that the flag says.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Bind(BindMount { target, .. })
            | Self::Cache(CacheMount { target, .. })
            | Self::Tmpfs(TmpfsMount { target, .. }) => Some(target),
            Self::Secret(SecretMount { target, .. }) | Self::Ssh(SshMount { target, .. }) => target.as_deref(),
        }
    }
}

/// Why a `--mount` is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum MountError {
    #[error("cannot expand mount option `{option}`")]
    Expand { option: &'static str, source: ExpandError },
    #[error("unknown mount type `{value}`")]
    Type { value: String },
    #[error("unknown sharing mode `{value}`")]
    Sharing { value: String },
    #[error("`{value}` cannot be the {option} of a mount")]
    Value { option: &'static str, value: String },
    #[error("mount option `{option}` has no value")]
    NoValue { option: &'static str },
    #[error("mount option `{option}` is not for type {kind}")]
    NotForType { option: &'static str, kind: &'static str },
    #[error("a secret mount needs an `id`, a `source` or a `target`")]
    NoSecret,
    #[error("a secret mount takes an `id` or a `source`, not both")]
    TwoSecrets,
}

macro_rules! keys {
    ($($key:ident = $($name:literal)|+;)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Key { $($key,)+ }

        const KEY_NAMES: &[&str] = &[$($($name,)+)+];

        impl Key {
            fn named(name: &str) -> Option<Self> {
                match name { $($($name)|+ => Some(Self::$key),)+ _ => None }
            }

            fn name(self) -> &'static str {
                match self { $(Self::$key => keys!(@first $($name)|+),)+ }
            }
        }
    };
    (@first $first:literal $(| $other:literal)*) => { $first };
}

keys! {
    Type = "type";
    From = "from";
    Source = "source" | "src";
    Target = "target" | "dst" | "destination";
    ReadOnly = "readonly" | "ro";
    ReadWrite = "readwrite" | "rw";
    Id = "id";
    Sharing = "sharing";
    Required = "required";
    Size = "size";
    Mode = "mode";
    Uid = "uid";
    Gid = "gid";
    Env = "env";
}

pub(crate) const MOUNT_TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
const SHARING_MODES: [&str; 3] = ["shared", "private", "locked"];

impl MountFlag {
    /// Reads a flag's value and reports what is wrong with it, as far as that does not depend on variables.
    pub(crate) fn read(value: &FlagValue, context: &mut Context) -> Option<Self> {
        let fields = match csv::fields(&value.text) {
            Ok(fields) => fields,
            Err(reason) => {
                context.report(Diagnostic::error(value.span, format!("`--mount` is no list of options: {reason}")));
                return None;
            }
        };
        let errors = context.errors();
        let mut options = Vec::new();
        for (field, range) in fields {
            match read_option(&field, value.span_of(range.clone()), context) {
                Ok(option) => options.push(option),
                Err(error) => {
                    context.report(error);
                    return None;
                }
            }
        }
        let flag = Self { text: value.clone().into_literal(), options };
        flag.repeated().for_each(|warning| context.report(warning));
        if context.errors() > errors {
            return None;
        }
        let is_constant = flag.options.iter().flat_map(|option| &option.value).all(|value| !value.has_variables());
        if is_constant && let Err((error, span)) = flag.build(&NoVariables) {
            context.report(flag.diagnose(error, span));
            return None;
        }
        Some(flag)
    }

    /// Warns of the options that do not count, since docker takes the last of those of one meaning.
    fn repeated(&self) -> impl Iterator<Item = Diagnostic> {
        self.options.iter().enumerate().filter_map(|(index, option)| {
            let is_last = self.options[index + 1..].iter().all(|later| later.key != option.key);
            let title = format!("mount option `{}` is given again", option.key.name());
            (!is_last).then(|| Diagnostic::warning(option.span, title).label("does not count"))
        })
    }

    fn diagnose(&self, error: MountError, span: Option<Span>) -> Diagnostic {
        let span = span.unwrap_or(self.text.span);
        match error {
            MountError::Type { ref value } => Diagnostic::error(span, error.to_string()).suggest(value, MOUNT_TYPES),
            MountError::Sharing { ref value } => {
                Diagnostic::error(span, error.to_string()).suggest(value, SHARING_MODES)
            }
            MountError::Expand { source, .. } => Diagnostic::error(span, source.to_string()),
            other => Diagnostic::error(span, other.to_string()),
        }
    }

    /// Returns the stage, image or context of `from`, which never holds variables.
    pub fn from(&self) -> Option<&str> {
        self.options.iter().rev().find(|option| option.key == Key::From)?.value.as_ref().map(Word::text)
    }

    /// Returns the names of all variables the flag refers to.
    pub fn references(&self) -> Vec<String> {
        self.options.iter().flat_map(|option| &option.value).flat_map(Word::references).collect()
    }

    /// Returns the values that are expanded.
    pub(crate) fn words(&self) -> impl Iterator<Item = &Word> {
        self.options.iter().filter_map(|option| option.value.as_ref())
    }

    /// Says what is wrong with the mount when its values are expanded.
    pub(crate) fn mistake(&self, variables: &dyn Variables) -> Option<Diagnostic> {
        self.build(variables).err().map(|(error, span)| self.diagnose(error, span))
    }

    /// Expands the options and makes the mount they describe.
    ///
    /// # Errors
    ///
    /// [`MountError`] says which option is wrong, and how.
    pub fn expand(&self, variables: &dyn Variables) -> Result<Mount, MountError> {
        self.build(variables).map_err(|(error, _)| error)
    }

    fn build(&self, variables: &dyn Variables) -> Result<Mount, (MountError, Option<Span>)> {
        let mut draft = Draft::default();
        for option in &self.options {
            let at = |error| (error, Some(option.span));
            let value = option.value.as_ref().map(|value| value.expand(variables)).transpose();
            let value = value.map_err(|source| at(MountError::Expand { option: option.key.name(), source }))?;
            draft.set(option.key, value).map_err(at)?;
        }
        let span_of = |key| self.options.iter().rev().find(|option| option.key == key).map(|option| option.span);
        draft.finish().map_err(|(error, key)| (error, key.and_then(span_of)))
    }
}

fn read_option(field: &str, span: Span, context: &mut Context) -> Result<MountOption, Diagnostic> {
    let (name, value) = match field.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (field, None),
    };
    if field.is_empty() {
        return Err(Diagnostic::error(span, "an empty mount option"));
    }
    let lower = name.to_lowercase();
    let Some(key) = Key::named(&lower) else {
        return Err(Diagnostic::error(span, format!("unknown mount option `{name}`"))
            .suggest(&lower, KEY_NAMES.iter().copied()));
    };
    let is_switch = matches!(key, Key::ReadOnly | Key::ReadWrite | Key::Required);
    if value.is_none() && !is_switch {
        return Err(
            Diagnostic::error(span, format!("mount option `{name}` has no value")).label(format!("want `{name}=…`"))
        );
    }
    if key == Key::From && value.is_some_and(|value| value.contains('$')) {
        let error = Diagnostic::error(span, "`from` of a mount takes no variables");
        return Err(error.note("name a stage with `FROM … AS name`, whose image may hold them, and mount from that"));
    }
    let value = value.map(|value| context.word(value, span));
    Ok(MountOption { key, value, span })
}
