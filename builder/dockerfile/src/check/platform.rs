//! Platforms as far as rules compare them: operating system and architecture.
//!
//! Not here: variants and versions, and what can be built (the builder's work).

/// An operating system and an architecture, by their usual names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Platform {
    pub(super) os: String,
    /// `None` when only the system was named.
    pub(super) architecture: Option<String>,
}

const SYSTEMS: [&str; 8] = ["linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasi"];
const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];

impl Platform {
    /// Reads `system/architecture`, with or without a variant, or one of the two; `None` when it is no platform.
    pub(super) fn read(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('/').map(str::to_lowercase).collect();
        if !(1..=3).contains(&parts.len()) || !parts.iter().all(|part| is_part(part)) {
            return None;
        }
        let system = |part: &str| match part.split('(').next().unwrap_or_default() {
            "macos" => "darwin".to_owned(),
            name => name.to_owned(),
        };
        if let [system_name, architecture_name, ..] = parts.as_slice() {
            return Some(Self { os: system(system_name), architecture: Some(architecture(architecture_name)) });
        }
        let (os, architecture) = (system(&parts[0]), architecture(&parts[0]));
        if SYSTEMS.contains(&os.as_str()) {
            return Some(Self { os, architecture: None });
        }
        let is_known = ARCHITECTURES.contains(&architecture.as_str());
        is_known.then(|| Self { os: "linux".to_owned(), architecture: Some(architecture) })
    }
}

fn is_part(part: &str) -> bool {
    !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '(' | ')'))
}

fn architecture(name: &str) -> String {
    match name {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "i386" => "386",
        "armhf" | "armel" => "arm",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_their_usual_names() {
        let read = |text: &str| Platform::read(text).map(|found| (found.os, found.architecture.unwrap_or_default()));
        let cases = [
            ("linux/amd64", Some(("linux", "amd64"))),
            ("Linux/x86_64", Some(("linux", "amd64"))),
            ("linux/arm/v7", Some(("linux", "arm"))),
            ("windows(10.0.1)/amd64", Some(("windows", "amd64"))),
            ("aarch64", Some(("linux", "arm64"))),
            ("linux", Some(("linux", ""))),
            ("teapot", None),
            ("linux/", None),
            ("linux/a/b/c", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), expected.map(|(os, arch)| (os.to_owned(), arch.to_owned())), "{text}");
        }
    }
}
