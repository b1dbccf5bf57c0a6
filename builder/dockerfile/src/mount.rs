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
//! | env | no | no | no | yes | no |
//!
//! Docker ignores some options where they mean nothing (`id` of a bind mount); they are accepted here as there. A flag that
//! holds no variable is checked when the file is parsed.

use std::ops::Range;

use crate::expand::ExpandError;
use crate::flags::{FlagValue, boolean};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    #[error("mount option `{option}` is given twice")]
    Duplicate { option: &'static str },
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
        let fields = match fields(&value.text) {
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
        for (index, option) in self.options.iter().enumerate() {
            let at = |error| (error, Some(option.span));
            if self.options[..index].iter().any(|earlier| earlier.key == option.key) {
                return Err(at(MountError::Duplicate { option: option.key.name() }));
            }
            let value = option.value.as_ref().map(|value| value.expand(variables)).transpose();
            let value = value.map_err(|source| at(MountError::Expand { option: option.key.name(), source }))?;
            draft.set(option.key, value).map_err(at)?;
        }
        let span_of = |key| self.options.iter().find(|option| option.key == key).map(|option| option.span);
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

/// Splits comma-separated values as CSV has them: a field may be quoted as a whole, and `""` is a quote inside of it.
pub(crate) fn fields(text: &str) -> Result<Vec<(String, Range<usize>)>, &'static str> {
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let rest = &text[start..];
        let (field, length) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err("a quote inside of an option");
                }
                (rest[..end].to_owned(), end)
            }
        };
        let end = start + length;
        fields.push((field, start..end));
        match text.get(end..end + 1) {
            Some(_) => start = end + 1,
            None => return Ok(fields),
        }
    }
}

fn quoted_field(quoted: &str) -> Result<(String, usize), &'static str> {
    let mut field = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((index, c)) = characters.next() {
        match c {
            '"' if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted[index + 1..].is_empty() || quoted[index + 1..].starts_with(',') => {
                return Ok((field, index + 2));
            }
            '"' => return Err("text after a quoted option"),
            other => field.push(other),
        }
    }
    Err("an unterminated quote")
}

/// The options of a mount whose type is not known before all of them are.
#[derive(Default)]
struct Draft {
    kind: Option<&'static str>,
    from: Option<String>,
    source: String,
    target: String,
    read_only: Option<bool>,
    id: Option<String>,
    sharing: Option<Sharing>,
    is_required: bool,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl Draft {
    fn kind(&self) -> &'static str {
        self.kind.unwrap_or("bind")
    }

    fn set(&mut self, key: Key, value: Option<String>) -> Result<(), MountError> {
        let option = key.name();
        let text = value.clone().unwrap_or_default();
        let wrong = || MountError::Value { option, value: text.clone() };
        let switch = || value.as_deref().map_or(Some(true), boolean).ok_or_else(wrong);
        match key {
            Key::Type => self.kind = Some(kind(&text)?),
            Key::From => self.from = Some(text).filter(|from| !from.is_empty()),
            Key::Source => self.source = text,
            Key::Target => self.target = text,
            Key::ReadOnly => self.read_only = Some(switch()?),
            Key::ReadWrite => self.read_only = Some(!switch()?),
            Key::Id => self.id = Some(text).filter(|id| !id.is_empty()),
            Key::Sharing => self.sharing = Some(sharing(&text)?),
            Key::Required => self.is_required = switch()?,
            Key::Size => self.size = Some(size(&text).ok_or_else(wrong)?),
            Key::Mode => self.mode = Some(u32::from_str_radix(&text, 8).map_err(|_| wrong())?),
            Key::Uid => self.uid = Some(text.parse().map_err(|_| wrong())?),
            Key::Gid => self.gid = Some(text.parse().map_err(|_| wrong())?),
            Key::Env => self.env = Some(text),
        }
        // Docker reads options in order: these two are refused when the type that takes them was not named before them.
        let kind = self.kind();
        match key {
            Key::Required if !matches!(kind, "secret" | "ssh") => Err(MountError::NotForType { option, kind }),
            Key::Size if kind != "tmpfs" => Err(MountError::NotForType { option, kind }),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Mount, (MountError, Option<Key>)> {
        let kind = self.kind();
        let has_owner = matches!(kind, "cache" | "secret" | "ssh");
        let misplaced = [
            (Key::Mode, self.mode.is_some() && !has_owner),
            (Key::Uid, self.uid.is_some() && !has_owner),
            (Key::Gid, self.gid.is_some() && !has_owner),
            (Key::Sharing, self.sharing.is_some() && kind != "cache"),
            (Key::Env, self.env.is_some() && kind != "secret"),
            (Key::From, self.from.is_some() && kind == "secret"),
        ];
        if let Some((key, _)) = misplaced.iter().find(|(_, is_misplaced)| *is_misplaced) {
            return Err((MountError::NotForType { option: key.name(), kind }, Some(*key)));
        }
        Ok(match kind {
            "cache" => Mount::Cache(self.cache()),
            "tmpfs" => Mount::Tmpfs(TmpfsMount { target: self.target, size: self.size }),
            "secret" => Mount::Secret(self.secret()?),
            "ssh" => Mount::Ssh(self.ssh()),
            _ => Mount::Bind(BindMount {
                target: self.target,
                from: self.from,
                source: self.source,
                is_read_only: self.read_only.unwrap_or(true),
            }),
        })
    }

    fn cache(self) -> CacheMount {
        CacheMount {
            target: self.target,
            id: self.id,
            sharing: self.sharing.unwrap_or_default(),
            from: self.from,
            source: self.source,
            is_read_only: self.read_only.unwrap_or(false),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
        }
    }

    fn secret(self) -> Result<SecretMount, (MountError, Option<Key>)> {
        if self.id.is_some() && !self.source.is_empty() {
            return Err((MountError::TwoSecrets, Some(Key::Source)));
        }
        let given = self.id.or_else(|| Some(self.source).filter(|source| !source.is_empty()));
        let Some(id) = given.or_else(|| Some(base_name(&self.target)).filter(|name| !name.is_empty())) else {
            return Err((MountError::NoSecret, None));
        };
        let target = match (self.target.is_empty(), &self.env) {
            (false, _) => Some(self.target),
            (true, None) => Some(format!("/run/secrets/{}", base_name(&id))),
            (true, Some(_)) => None,
        };
        let (is_required, mode, uid, gid) = (self.is_required, self.mode, self.uid, self.gid);
        Ok(SecretMount { id, target, env: self.env, is_required, mode, uid, gid })
    }

    fn ssh(self) -> SshMount {
        let id = if self.source.is_empty() { self.id } else { Some(self.source) };
        SshMount {
            id: id.unwrap_or_else(|| "default".to_owned()),
            target: Some(self.target).filter(|target| !target.is_empty()),
            is_required: self.is_required,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
        }
    }
}

fn kind(text: &str) -> Result<&'static str, MountError> {
    let lower = text.to_lowercase();
    MOUNT_TYPES.into_iter().find(|kind| *kind == lower).ok_or_else(|| MountError::Type { value: text.to_owned() })
}

fn sharing(text: &str) -> Result<Sharing, MountError> {
    match text.to_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(MountError::Sharing { value: text.to_owned() }),
    }
}

fn base_name(path: &str) -> String {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

/// Reads a size such as `64m`, `1.5g`, `100kb` or `1024`; units are powers of 1024.
fn size(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = unit.trim().to_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit).to_owned();
    let shift = match unit.as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(number) = number.parse::<u64>() {
        return number.checked_mul(1 << shift);
    }
    let bytes = number.parse::<f64>().ok()? * f64::from(1_u32 << (shift / 2)) * f64::from(1_u32 << (shift / 2));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size in whole bytes, checked to be one"
    )]
    (bytes.is_finite() && (0.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        let cases = [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64m", Some(64 << 20)),
            ("1.5G", Some(3 << 29)),
            ("10KiB", Some(10 << 10)),
            ("1tb", Some(1 << 40)),
            ("", None),
            ("-1", None),
            ("1x", None),
            ("1.2.3m", None),
            ("99999999999p", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn fields_are_separated_as_in_csv() {
        let texts = |text| fields(text).map(|fields| fields.into_iter().map(|(field, _)| field).collect::<Vec<_>>());
        assert_eq!(texts("a=1,b"), Ok(vec!["a=1".into(), "b".into()]));
        assert_eq!(texts("\"a=1,2\",b"), Ok(vec!["a=1,2".into(), "b".into()]));
        assert_eq!(texts("\"a=\"\"x\"\"\""), Ok(vec!["a=\"x\"".into()]));
        assert_eq!(texts("a,"), Ok(vec!["a".into(), String::new()]));
        assert!(texts("a\"b").is_err() && texts("\"a").is_err() && texts("\"a\"b,c").is_err());
        assert_eq!(fields("ab,cd").unwrap()[1].1, 3..5);
    }
}
