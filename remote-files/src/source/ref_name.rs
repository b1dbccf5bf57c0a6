//! Whether a text can be the name of a git ref, by the rules of git-check-ref-format(1).
//!
//! The rules also keep options out: no name that passes begins with `-`.

/// Tells whether `name` is a ref's name, whole or abbreviated.
pub(super) fn is_ref_name(name: &str) -> bool {
    let is_forbidden = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let is_component = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let is_whole = !name.starts_with('-') && !name.ends_with('.') && name != "@";
    is_whole
        && !name.contains(is_forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && name.split('/').all(is_component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_git_allows() {
        for name in ["HEAD", "main", "refs/heads/main", "v1.2-rc3", "pull/42/head", "feature/ü@home", "a-b"] {
            assert!(is_ref_name(name), "{name}");
        }
        let refused = [
            "",
            "-",
            "--upload-pack=x",
            "a b",
            "a..b",
            "a\nb",
            "a\0b",
            "a\u{7f}b",
            "a~1",
            "a^{}",
            "a:b",
            "a?",
            "a*",
            "[a",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "@",
            "a@{1}",
        ];
        for name in refused {
            assert!(!is_ref_name(name), "{name:?}");
        }
    }
}
