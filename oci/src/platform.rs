//! Platforms: operating system, architecture and its variant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image runs on.
///
/// Spec: image-spec 1.1, image-index.md "platform".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the spec's own")]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{}` is not a platform (want `os/architecture` or `os/architecture/variant`)", .text.escape_debug())]
pub struct PlatformError {
    /// What was given.
    pub text: String,
}

impl Platform {
    /// Returns the platform this program was built for.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "x86" => ("386", None),
            "arm" => ("arm", Some("v7")),
            other => (other, None),
        };
        Self::linux(architecture, variant)
    }

    fn linux(architecture: &str, variant: Option<&str>) -> Self {
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            os_version: None,
            os_features: Vec::new(),
            variant: variant.map(str::to_owned),
        }
    }

    /// Returns the same platform under its usual names: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let (architecture, variant) = match (self.architecture.as_str(), self.variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("aarch64" | "arm64", None | Some("v8")) => ("arm64", None),
            ("i386" | "386", variant) => ("386", variant),
            ("armhf", None) | ("arm", None | Some("7" | "v7")) => ("arm", Some("v7")),
            ("armel", None) | ("arm", Some("6" | "v6")) => ("arm", Some("v6")),
            (architecture, variant) => (architecture, variant),
        };
        Self { architecture: architecture.to_owned(), variant: variant.map(str::to_owned), ..self.clone() }
    }

    /// Tells whether an image for `self` runs on `machine`: the same platform, or an older variant of `arm`.
    pub fn runs_on(&self, machine: &Self) -> bool {
        let (image, machine) = (self.normalised(), machine.normalised());
        let same_kind = image.os == machine.os && image.architecture == machine.architecture;
        same_kind && (image.variant == machine.variant || image.variant.is_none() || older(&image, &machine))
    }
}

fn older(image: &Platform, machine: &Platform) -> bool {
    image.architecture == "arm" && image.variant < machine.variant
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = || PlatformError { text: text.to_owned() };
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !parts.iter().all(is_word) {
            return Err(refuse());
        }
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return Err(refuse()),
        };
        let platform = Self::linux(&architecture.to_ascii_lowercase(), variant);
        Ok(Self { os: os.to_ascii_lowercase(), ..platform }.normalised())
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_docker_does() {
        let cases = [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/riscv64", "linux/riscv64"),
        ];
        for (given, expected) in cases {
            assert_eq!(given.parse::<Platform>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/../etc"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?} was accepted");
        }
    }
}
