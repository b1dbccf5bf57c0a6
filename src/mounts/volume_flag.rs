//! Reads `--volume [SOURCE:]TARGET[:OPTIONS]`.
//!
//! | option | means |
//! |---|---|
//! | `ro`, `rw` | who may write |
//! | `nocopy` | a volume starts empty |
//! | `z`, `Z` | labels of SELinux, which are docker's too only on hosts that have it |
//! | `private`, `rprivate` | what every mount is here |
//! | `cached`, `delegated`, `consistent` | nothing on Linux, as with docker |
//!
//! Spec: docker's `-v`.

use std::collections::BTreeMap;

use runtime::Access;

use super::spec::{Filling, IfMissing, MountSpec, MountSpecError, Source, is_path, propagation, target};

const KNOWN: &str = "ro, rw, nocopy, z, Z, private, rprivate, cached, delegated, consistent";

/// What the last part says.
#[derive(Default)]
struct Options {
    access: Option<Access>,
    filling: Option<Filling>,
}

/// Reads the value of the flag.
pub(super) fn parse(text: &str) -> Result<MountSpec, MountSpecError> {
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(MountSpecError::Parts);
    }
    let (source, to, options) = match parts[..] {
        [to] => return Ok(MountSpec { target: target(to)?, source: Source::anonymous() }),
        [source, to] => (source, to, ""),
        [source, to, options] => (source, to, options),
        _ => return Err(MountSpecError::Parts),
    };
    let target = target(to)?;
    let options = Options::read(options)?;
    let access = options.access.unwrap_or(Access::ReadWrite);
    if !is_path(source) {
        let (name, labels) = (Some(source.parse()?), BTreeMap::new());
        let filling = options.filling.unwrap_or(Filling::FromImage);
        return Ok(MountSpec { target, source: Source::Volume { name, labels, filling, access } });
    }
    if options.filling.is_some() {
        return Err(MountSpecError::NotForType { option: "nocopy".to_owned(), kind: "bind" });
    }
    Ok(MountSpec { target, source: Source::Bind { path: source.into(), access, if_missing: IfMissing::MakeDirectory } })
}

impl Options {
    fn read(text: &str) -> Result<Self, MountSpecError> {
        let mut options = Self::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "rw" => {
                    let access = if option == "ro" { Access::ReadOnly } else { Access::ReadWrite };
                    if options.access.replace(access).is_some() {
                        return Err(MountSpecError::Contradiction { option: option.to_owned() });
                    }
                }
                "nocopy" => options.filling = Some(Filling::Nothing),
                "z" | "Z" | "cached" | "delegated" | "consistent" => {}
                "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => propagation(option)?,
                _ => return Err(MountSpecError::Option { option: option.to_owned(), known: KNOWN }),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match parse(text) {
            Ok(MountSpec { target, source: Source::Bind { path, access, if_missing } }) => {
                assert_eq!(if_missing, IfMissing::MakeDirectory);
                format!("bind {} {target} {access:?}", path.display())
            }
            Ok(MountSpec { target, source: Source::Volume { name, filling, access, .. } }) => {
                let name = name.map_or("-".to_owned(), |name| name.to_string());
                format!("volume {name} {target} {filling:?} {access:?}")
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn sources_are_told_apart_as_docker_does() {
        check("/a:/b", "bind /a /b ReadWrite");
        check("./a:/b/:ro", "bind ./a /b ReadOnly");
        check("../a:/b:rw,z", "bind ../a /b ReadWrite");
        check(".:/b:cached,rprivate,Z", "bind . /b ReadWrite");
        check("/b", "volume - /b FromImage ReadWrite");
        check("data:/b", "volume data /b FromImage ReadWrite");
        check("data:/b:ro,nocopy", "volume data /b Nothing ReadOnly");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let parts = "want `[SOURCE:]TARGET[:OPTIONS]`, with something in each part";
        for text in ["", ":", "a::/b", "/a:", "a:/b:ro:x", "/a:/b:"] {
            check(text, parts);
        }
        check("b", "target `b` is not an absolute path");
        check("/a:b", "target `b` is not an absolute path");
        check("/a:/", "target `/` is the root directory");
        check("/a:/b:nocopy", "`nocopy` is not for a mount of type bind");
        check("/a:/b:ro,rw", "`rw` contradicts an option before it");
        check("/a:/b:rslave", "`rslave` is not built: mounts made later are not seen on the other side");
        check(
            "/a:/b:rx",
            "`rx` is not an option here (there are ro, rw, nocopy, z, Z, private, rprivate, cached, delegated, consistent)",
        );
        check("x:/b", "volume name `x` is too short: names have at least two characters");
        assert!(parse("~/a:/b").unwrap_err().to_string().starts_with("`~/a` is not a volume name"));
    }
}
