//! Text from the other side, made safe to show.

use std::fmt;

use url::Url;

/// Characters of a foreign text that are shown at most.
const MAX_SHOWN: usize = 300;

/// Returns `text` on one line, at most 300 characters of it, with control and direction characters escaped.
pub fn shown(text: &str) -> String {
    let mut line = String::new();
    for (count, c) in text.split_whitespace().collect::<Vec<_>>().join(" ").chars().enumerate() {
        if count == MAX_SHOWN {
            line.push('…');
            break;
        }
        if is_unsafe(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

fn is_unsafe(c: char) -> bool {
    let is_direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_direction || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

/// Returns `url` without user, password, query and fragment.
pub fn shown_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    shown(&format!("{}://{host}{port}{}", url.scheme(), url.path()))
}

/// Where a request went: its method, and its URL without user, password and query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    method: String,
    url: String,
}

impl At {
    /// Describes a request.
    pub fn new(method: &reqwest::Method, url: &Url) -> Self {
        Self { method: method.to_string(), url: shown_url(url) }
    }

    /// Returns the method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the URL without user, password and query.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(shown("a\u{1b}[31m\nb\u{202e}c\u{9b}"), "a\\u{1b}[31m b\\u{202e}c\\u{9b}");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), MAX_SHOWN + 1);
    }

    #[test]
    fn secrets_in_urls_are_not_shown() {
        let check = |url: &str, expected: &str| assert_eq!(shown_url(&Url::parse(url).unwrap()), expected);
        check("https://user:password@example.com:444/v2/a?token=secret#x", "https://example.com:444/v2/a");
        check("https://[::1]:443/a", "https://[::1]/a");
        check("file:///etc/passwd", "file:///etc/passwd");
        check("gopher://user:password@example.com:70/x", "gopher://example.com:70/x");
    }
}
