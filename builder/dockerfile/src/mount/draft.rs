//! Makes a mount of its options' values.
//!
//! Options come in any order, the type among them, so that most of them can be judged only when all are known.

use super::{BindMount, CacheMount, Key, MOUNT_TYPES, Mount, MountError, SecretMount, Sharing, SshMount, TmpfsMount};
use crate::flags::boolean;

/// The options of a mount whose type is not known before all of them are.
#[derive(Default)]
pub(super) struct Draft {
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

    pub(super) fn set(&mut self, key: Key, value: Option<String>) -> Result<(), MountError> {
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
            Key::Mode => self.mode = Some(number(&text, 8).ok_or_else(wrong)?),
            Key::Uid => self.uid = Some(number(&text, 10).ok_or_else(wrong)?),
            Key::Gid => self.gid = Some(number(&text, 10).ok_or_else(wrong)?),
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

    pub(super) fn finish(self) -> Result<Mount, (MountError, Option<Key>)> {
        let kind = self.kind();
        let has_owner = matches!(kind, "cache" | "secret" | "ssh");
        let misplaced = [
            (Key::Mode, self.mode.is_some() && !has_owner),
            (Key::Uid, self.uid.is_some() && !has_owner),
            (Key::Gid, self.gid.is_some() && !has_owner),
            (Key::Sharing, self.sharing.is_some() && kind != "cache"),
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

/// Reads digits of `radix`: no sign.
fn number(text: &str, radix: u32) -> Option<u32> {
    let is_digits = text.chars().all(|c| c.is_digit(radix));
    u32::from_str_radix(text, radix).ok().filter(|_| is_digits)
}

/// Reads a size such as `64m`, `1.5g`, `100kb`, `10 KiB` or `1024`; units are powers of 1024, and the number is a decimal one, be
/// it with an exponent.
fn size(text: &str) -> Option<u64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))?;
    let (number, unit) = text.split_at(last + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let unit = unit.to_ascii_lowercase();
    let shift = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" if unit != "ib" => 0,
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
    let has_digits = number.contains(|c: char| c.is_ascii_digit());
    let number = number.parse::<f64>().ok().filter(|_| has_digits)?;
    let bytes = number * f64::from(1_u32 << (shift / 2)) * f64::from(1_u32 << (shift / 2));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size in whole bytes, checked to be one"
    )]
    (0.0..9e18).contains(&bytes).then_some(bytes as u64)
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
            ("64 m", Some(64 << 20)),
            ("64  m", None),
            (" 64m", None),
            ("1e3", Some(1000)),
            ("+5k", Some(5 << 10)),
            ("5b", Some(5)),
            ("5ib", None),
            ("5kbb", None),
            ("inf", None),
            ("m", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text), expected, "{text}");
        }
    }
}
