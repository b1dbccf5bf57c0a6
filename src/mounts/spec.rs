//! One thing to mount, as a flag or an image says it, and what can be wrong with it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use layer_store::{VolumeName, VolumeNameError};
use runtime::{Access, Tmpfs};

/// Something to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountSpec {
    /// An absolute path without `.`, `..` and trailing slashes, and not the root.
    pub(crate) target: String,
    pub(crate) source: Source,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file or directory of the host.
    Bind { path: PathBuf, access: Access, if_missing: IfMissing },
    /// A volume; without a name, one of the container's own.
    Volume { name: Option<VolumeName>, labels: BTreeMap<String, String>, filling: Filling, access: Access },
    /// An empty directory in memory.
    Tmpfs(Tmpfs),
}

/// What happens when a path of the host is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IfMissing {
    MakeDirectory,
    Refuse,
}

/// What an empty volume starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filling {
    /// What the image has at the target.
    FromImage,
    Nothing,
}

/// Why something cannot be mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MountSpecError {
    #[error("want `[SOURCE:]TARGET[:OPTIONS]`, with something in each part")]
    Parts,
    #[error("target `{target}` is not an absolute path")]
    RelativeTarget { target: String },
    #[error("target `{target}` is the root directory")]
    RootTarget { target: String },
    #[error("no target is named")]
    NoTarget,
    #[error("no source is named")]
    NoSource,
    #[error("source `{path}` is neither an absolute path nor one that begins with `.`")]
    RelativeSource { path: String },
    #[error(transparent)]
    Name(#[from] VolumeNameError),
    #[error("`{option}` is not an option here (there are {known})")]
    Option { option: String, known: &'static str },
    #[error("`{option}` contradicts an option before it")]
    Contradiction { option: String },
    #[error("`{option}` is not built: {instead}")]
    NotBuilt { option: String, instead: &'static str },
    #[error("`{option}` is not for a mount of type {kind}")]
    NotForType { option: String, kind: &'static str },
    #[error("`{value}` is not a value of `{option}`")]
    Value { option: String, value: String },
    #[error("`{option}` has no value")]
    NoValue { option: String },
    #[error("options are separated by commas: {problem}")]
    Csv { problem: &'static str },
}

impl MountSpec {
    /// Returns the volume that an image declares at `path`.
    pub(crate) fn declared(path: &str) -> Self {
        // a path that cannot be a target is refused by the runtime, which has the last word
        Self { target: clean(&Path::new("/").join(path)), source: Source::anonymous() }
    }
}

impl Source {
    /// A volume of the container's own.
    pub(crate) fn anonymous() -> Self {
        let (filling, access) = (Filling::FromImage, Access::ReadWrite);
        Self::Volume { name: None, labels: BTreeMap::new(), filling, access }
    }
}

/// Reads a target.
pub(crate) fn target(text: &str) -> Result<String, MountSpecError> {
    if !text.starts_with('/') {
        return Err(MountSpecError::RelativeTarget { target: text.to_owned() });
    }
    let target = clean(Path::new(text));
    if target == "/" { Err(MountSpecError::RootTarget { target: text.to_owned() }) } else { Ok(target) }
}

/// Tells whether a source is a path of the host; if not it is a name.
pub(crate) fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.'])
}

/// Checks an option about what docker calls propagation: mounts that come later stay on their side here.
pub(crate) fn propagation(value: &str) -> Result<(), MountSpecError> {
    match value {
        "private" | "rprivate" => Ok(()),
        "shared" | "rshared" | "slave" | "rslave" => {
            let instead = "mounts made later are not seen on the other side";
            Err(MountSpecError::NotBuilt { option: value.to_owned(), instead })
        }
        _ => Err(MountSpecError::Value { option: "bind-propagation".to_owned(), value: value.to_owned() }),
    }
}

/// Writes an absolute path without `.`, `..` and repeated slashes, as docker does: by its text.
fn clean(path: &Path) -> String {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            _ => {}
        }
    }
    cleaned.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_absolute_and_cleaned() {
        for (text, expected) in [
            ("/a", Ok("/a")),
            ("//a/./b/", Ok("/a/b")),
            ("/a/../../b", Ok("/b")),
            ("a", Err("target `a` is not an absolute path")),
            ("", Err("target `` is not an absolute path")),
            ("/a/..", Err("target `/a/..` is the root directory")),
        ] {
            let found = target(text).map_err(|error| error.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected);
        }
        assert_eq!(MountSpec::declared("data/").target, "/data");
    }
}
