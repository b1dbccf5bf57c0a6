//! Whether a text can be the name of an image: the grammar of docker's references.
//!
//! Not here: what a name means, and everything a registry knows.

use regex::Regex;

/// Tells names of images from other texts.
#[derive(Debug)]
pub(super) struct ImageNames {
    pattern: Regex,
    identifier: Regex,
}

impl ImageNames {
    pub(super) fn new() -> Self {
        let domain = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?";
        let component = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
        let tag = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
        let digest = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}";
        let name = format!("^(?:{domain}/)?{component}(?:/{component})*(?::{tag})?(?:@{digest})?$");
        let compiled = |pattern: &str| Regex::new(pattern).expect("the pattern is a constant that the tests compile");
        Self { pattern: compiled(&name), identifier: compiled("^[a-f0-9]{64}$") }
    }

    /// Returns whether `text` can name an image.
    pub(super) fn holds(&self, text: &str) -> bool {
        text.len() <= 1024 && self.pattern.is_match(text) && !self.identifier.is_match(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_other_texts() {
        let names = ImageNames::new();
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for name in ["alpine", "a/b:1", "Reg.example/x/y__z--w", "host:5000/a:1", "[::1]:80/a", "a:_x", &digest] {
            assert!(names.holds(name), "{name}");
        }
        let identifier = "a".repeat(64);
        for text in ["", ":", "a:", "Alpine", "a//b", "a b", "-a", "a:-x", "a@sha256:00", "@bogus", &identifier] {
            assert!(!names.holds(text), "{text}");
        }
    }
}
