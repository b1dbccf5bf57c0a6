//! What a download is called: a single component of a path, whatever the server says.

use url::Url;

use crate::source::{HttpSource, decoded};

/// What is called so has no better name.
const UNNAMED: &str = "download";
/// The longest name that file systems take.
const MAX_BYTES: usize = 255;

/// Returns the name that a server gives by `Content-Disposition`, else the last part of the URL's path, else `download`.
pub(super) fn file_name(disposition: Option<&str>, url: &Url) -> String {
    let named = disposition.and_then(disposition_name).and_then(|name| safe(&name));
    named.or_else(|| safe(&decoded(url.path()))).unwrap_or_else(|| UNNAMED.to_owned())
}

impl HttpSource {
    /// Returns the last part of the URL's path, if it can be the name of a file; no server is asked for a better one.
    pub fn file_name(&self) -> Option<String> {
        safe(&decoded(self.parsed_url().path()))
    }
}

/// Returns the last component of `path`, if it can be the name of a file.
fn safe(path: &str) -> Option<String> {
    let name = path.trim_end_matches('/').rsplit(['/', '\\']).next()?.trim();
    let is_name = !matches!(name, "" | "." | "..") && name.len() <= MAX_BYTES && !name.contains(char::is_control);
    is_name.then(|| name.to_owned())
}

/// Reads the file's name out of a `Content-Disposition` header; RFC 6266: `filename*` before `filename`.
fn disposition_name(header: &str) -> Option<String> {
    let mut plain = None;
    for (name, value) in parameters(header) {
        if name.eq_ignore_ascii_case("filename*") {
            // charset'language'percent-encoded
            if let Some(encoded) = value.splitn(3, '\'').nth(2) {
                return Some(decoded(encoded).into_owned());
            }
        } else if name.eq_ignore_ascii_case("filename") {
            plain = plain.or(Some(value));
        }
    }
    plain
}

/// Returns the `name=value` parts after the first `;`, quotes removed.
fn parameters(header: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, end) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.push((name.trim_matches([' ', '\t', ';']), value));
        rest = end;
    }
    found
}

/// Reads up to the closing quote; returns also what follows.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(disposition: Option<&str>, url: &str, expected: &str) {
        assert_eq!(file_name(disposition, &Url::parse(url).unwrap()), expected, "{disposition:?} {url}");
    }

    #[test]
    fn the_url_names_the_file_unless_the_server_does() {
        check(None, "https://a.com/x/y.tar.gz?z=/w", "y.tar.gz");
        check(None, "https://a.com/x/y%20z/", "y z");
        check(None, "https://a.com/", "download");
        check(None, "https://a.com/%2e%2e%2f..%2fetc%2fpasswd", "passwd");
        check(None, "https://a.com/a%00b", "download");
        check(Some("attachment; filename=a.txt"), "https://a.com/x", "a.txt");
        check(Some("attachment; filename=\"a \\\"b\\\";c.txt\"; size=1"), "https://a.com/x", "a \"b\";c.txt");
        check(Some("attachment; filename=\"a\"; filename*=UTF-8''%e2%82%ac%20b"), "https://a.com/x", "€ b");
        check(Some("inline"), "https://a.com/x", "x");
    }

    #[test]
    fn no_name_leaves_the_directory() {
        check(Some("attachment; filename=\"../../etc/passwd\""), "https://a.com/x", "passwd");
        check(Some("attachment; filename=\"..\\\\..\\\\boot.ini\""), "https://a.com/x", "boot.ini");
        check(Some("attachment; filename*=UTF-8''..%2F..%2Fetc%2Fpasswd"), "https://a.com/x", "passwd");
        for name in ["\"\"", "\"..\"", "\".\"", "\"/\"", "\"a/..\"", "\"a\u{1b}[2J\"", "\"", ";;==;"] {
            check(Some(&format!("attachment; filename={name}")), "https://a.com/x", "x");
        }
        check(Some(&format!("attachment; filename={}", "a".repeat(256))), "https://a.com/x", "x");
    }
}
