//! Reads `--mount KEY=VALUE,…`: comma-separated values, in any order.
//!
//! | key | for | |
//! |---|---|---|
//! | `type` | | `bind`, `volume` (if none is named), `tmpfs` |
//! | `source`, `src` | bind, volume | |
//! | `target`, `dst`, `destination` | all | |
//! | `readonly`, `ro` | all | a truth value; alone it is true |
//! | `consistency` | all | nothing on Linux, as with docker |
//! | `bind-propagation` | bind | `private`, `rprivate`: what every mount is here |
//! | `bind-recursive` | bind | `enabled`: what is mounted below comes along, and is read-only too |
//! | `volume-nocopy`, `volume-label`, `volume-driver` | volume | the driver is `local` |
//! | `tmpfs-size`, `tmpfs-mode` | tmpfs | |
//!
//! Spec: docker's `--mount`.

use std::collections::BTreeMap;

use dockerfile::csv;
use runtime::{Access, Tmpfs};

use super::spec::{Filling, IfMissing, MountSpec, MountSpecError, Source, is_path, propagation, target};
use super::tmpfs_options;
use crate::args::truth_value;
use crate::size;

const KNOWN: &str = "type, source, target, readonly, consistency, bind-propagation, bind-recursive, volume-nocopy, \
                     volume-label, volume-driver, tmpfs-size, tmpfs-mode";

/// Reads the value of the flag.
pub(super) fn parse(text: &str) -> Result<MountSpec, MountSpecError> {
    let fields = csv::fields(text).map_err(|problem| MountSpecError::Csv { problem })?;
    let mut draft = Draft::default();
    for (field, _) in fields {
        let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        draft.set(&key.to_ascii_lowercase(), value)?;
    }
    draft.finish()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    Bind,
    #[default]
    Volume,
    Tmpfs,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// What has been said so far.
#[derive(Default)]
struct Draft {
    kind: Kind,
    source: Option<String>,
    target: Option<String>,
    is_read_only: bool,
    labels: BTreeMap<String, String>,
    is_not_filled: bool,
    tmpfs_size: Option<u64>,
    tmpfs_mode: Option<u32>,
    /// Keys that are for one type only.
    special: Vec<(Kind, String)>,
}

impl Draft {
    fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), MountSpecError> {
        let text = value.unwrap_or_default();
        let wrong = || MountSpecError::Value { option: key.to_owned(), value: text.to_owned() };
        let switch = || value.map_or(Ok(true), truth_value).map_err(|_| wrong());
        let is_switch = matches!(key, "readonly" | "ro" | "volume-nocopy");
        if value.is_none() && !is_switch {
            return Err(MountSpecError::NoValue { option: key.to_owned() });
        }
        for kind in [Kind::Bind, Kind::Volume, Kind::Tmpfs] {
            if key.starts_with(&format!("{}-", kind.name())) {
                self.special.push((kind, key.to_owned()));
            }
        }
        match key {
            "type" => self.kind = kind(text)?,
            "source" | "src" => self.source = Some(text.to_owned()).filter(|text| !text.is_empty()),
            "target" | "dst" | "destination" => self.target = Some(target(text)?),
            "readonly" | "ro" => self.is_read_only = switch()?,
            "consistency" if matches!(text, "default" | "consistent" | "cached" | "delegated") => {}
            "consistency" => return Err(wrong()),
            "bind-propagation" => propagation(text)?,
            "bind-recursive" if text == "enabled" => {}
            "bind-recursive" | "bind-nonrecursive" | "volume-subpath" | "volume-opt" | "bind-create-src" => {
                return Err(not_built(key, text));
            }
            "volume-nocopy" => self.is_not_filled = switch()?,
            "volume-label" => {
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                self.labels.insert(key.to_owned(), value.to_owned());
            }
            "volume-driver" if text == "local" => {}
            "volume-driver" => return Err(not_built(key, text)),
            "tmpfs-size" => self.tmpfs_size = Some(size::binary(text).map_err(|_| wrong())?),
            "tmpfs-mode" => self.tmpfs_mode = Some(tmpfs_options::mode(text).ok_or_else(wrong)?),
            _ => return Err(MountSpecError::Option { option: key.to_owned(), known: KNOWN }),
        }
        Ok(())
    }

    fn finish(self) -> Result<MountSpec, MountSpecError> {
        let target = self.target.ok_or(MountSpecError::NoTarget)?;
        let kind = self.kind.name();
        if let Some((_, option)) = self.special.into_iter().find(|(of, _)| *of != self.kind) {
            return Err(MountSpecError::NotForType { option, kind });
        }
        let access = if self.is_read_only { Access::ReadOnly } else { Access::ReadWrite };
        let source = match self.kind {
            Kind::Bind => {
                let path = self.source.ok_or(MountSpecError::NoSource)?;
                if !is_path(&path) {
                    return Err(MountSpecError::RelativeSource { path });
                }
                Source::Bind { path: path.into(), access, if_missing: IfMissing::Refuse }
            }
            Kind::Volume => {
                let name = self.source.map(|source| source.parse()).transpose()?;
                let filling = if self.is_not_filled { Filling::Nothing } else { Filling::FromImage };
                Source::Volume { name, labels: self.labels, filling, access }
            }
            Kind::Tmpfs if self.source.is_some() => {
                return Err(MountSpecError::NotForType { option: "source".to_owned(), kind });
            }
            Kind::Tmpfs => {
                let default = tmpfs_options::default();
                let mode = self.tmpfs_mode.unwrap_or(default.mode);
                Source::Tmpfs(Tmpfs { size: self.tmpfs_size, mode, access, ..default })
            }
        };
        Ok(MountSpec { target, source })
    }
}

fn kind(text: &str) -> Result<Kind, MountSpecError> {
    match text.to_ascii_lowercase().as_str() {
        "bind" => Ok(Kind::Bind),
        "volume" => Ok(Kind::Volume),
        "tmpfs" => Ok(Kind::Tmpfs),
        "image" | "cluster" | "npipe" => Err(not_built("type", text)),
        _ => Err(MountSpecError::Value { option: "type".to_owned(), value: text.to_owned() }),
    }
}

fn not_built(key: &str, value: &str) -> MountSpecError {
    let instead = match key {
        "type" => "there are bind, volume and tmpfs",
        "volume-driver" | "volume-opt" => "volumes are directories of the store",
        "volume-subpath" => "the whole volume is mounted",
        "bind-create-src" => "the source has to be there",
        _ => "what is mounted below the source comes along",
    };
    MountSpecError::NotBuilt { option: format!("{key}={value}"), instead }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse(text).map(|spec| (spec.target, spec.source)) {
            Ok((target, Source::Bind { path, access, if_missing })) => {
                format!("bind {} {target} {access:?} {if_missing:?}", path.display())
            }
            Ok((target, Source::Volume { name, labels, filling, access })) => {
                let name = name.map_or("-".to_owned(), |name| name.to_string());
                format!("volume {name} {target} {labels:?} {filling:?} {access:?}")
            }
            Ok((target, Source::Tmpfs(tmpfs))) => {
                assert_eq!(tmpfs.programs, runtime::Programs::None);
                format!("tmpfs {target} {:?} {:o} {:?}", tmpfs.size, tmpfs.mode, tmpfs.access)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn every_type_has_its_options() {
        check("type=bind,source=/a,target=/b", "bind /a /b ReadWrite Refuse");
        check("readonly,dst=/b/,src=./a,TYPE=bind", "bind ./a /b ReadOnly Refuse");
        check("type=bind,src=/a,destination=/b,ro=false,bind-propagation=rprivate", "bind /a /b ReadWrite Refuse");
        check("\"type=bind\",\"src=/a,1\",dst=/b,bind-recursive=enabled", "bind /a,1 /b ReadWrite Refuse");
        check("target=/b", "volume - /b {} FromImage ReadWrite");
        check(
            "type=volume,src=vol,target=/b,volume-nocopy,volume-label=a=1,volume-label=b,volume-driver=local,ro=1",
            "volume vol /b {\"a\": \"1\", \"b\": \"\"} Nothing ReadOnly",
        );
        check("type=tmpfs,target=/b", "tmpfs /b None 1777 ReadWrite");
        check("type=tmpfs,target=/b,tmpfs-size=1m,tmpfs-mode=0700,ro", "tmpfs /b Some(1048576) 700 ReadOnly");
        check("type=tmpfs,target=/b,consistency=cached", "tmpfs /b None 1777 ReadWrite");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        check("", "options are separated by commas: it is empty");
        check("type=bind,target=/b", "no source is named");
        check("type=bind,source=/a", "no target is named");
        check("type=bind,source=a,target=/b", "source `a` is neither an absolute path nor one that begins with `.`");
        check("type=tmpfs,source=a,target=/b", "`source` is not for a mount of type tmpfs");
        check("type=bind,source=/a,target=/b,volume-nocopy", "`volume-nocopy` is not for a mount of type bind");
        check("target=/b,tmpfs-size=1", "`tmpfs-size` is not for a mount of type volume");
        check("type=tmpfs,target=/b,tmpfs-mode=8", "`8` is not a value of `tmpfs-mode`");
        check("type=bind,source=/a,target=/b,ro=maybe", "`maybe` is not a value of `ro`");
        check("type=volume,target", "`target` has no value");
        check("type=volume,target=", "target `` is not an absolute path");
        check("type=nfs,target=/b", "`nfs` is not a value of `type`");
        check("type=image,target=/b", "`type=image` is not built: there are bind, volume and tmpfs");
        check(
            "type=volume,target=/b,volume-driver=nfs",
            "`volume-driver=nfs` is not built: volumes are directories of the store",
        );
        check(
            "type=bind,src=/a,dst=/b,bind-recursive=disabled",
            "`bind-recursive=disabled` is not built: what is mounted below the source comes along",
        );
        let known = parse("type=bind,colour=red").unwrap_err().to_string();
        assert_eq!(known, format!("`colour` is not an option here (there are {KNOWN})"));
    }
}
