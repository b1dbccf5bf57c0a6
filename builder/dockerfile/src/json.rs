//! Recognises exec form: a JSON array of strings.
//!
//! Docker's rules: text that does not begin with `[`, or is no JSON array, is shell form without a word; a JSON array that
//! holds anything but strings is an error.

use std::ops::Range;

use serde::de::IgnoredAny;

/// What an argument text is, seen as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json {
    /// An array of strings, each with the range of its literal.
    Strings(Vec<(String, Range<usize>)>),
    /// An array that holds something else.
    OtherArray,
    /// No array.
    Not,
}

/// Reads `text` as a JSON array of strings.
pub(crate) fn read(text: &str) -> Json {
    if !text.trim_start().starts_with('[') {
        return Json::Not;
    }
    if let Some(strings) = (Reader { text, at: 0 }).array() {
        return Json::Strings(strings);
    }
    match serde_json::from_str::<Vec<IgnoredAny>>(text.trim_start()) {
        Ok(_) => Json::OtherArray,
        Err(_) => Json::Not,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn array(&mut self) -> Option<Vec<(String, Range<usize>)>> {
        let mut strings = Vec::new();
        self.at = self.text.len() - self.text.trim_start().len();
        self.expect(b'[')?;
        if self.expect(b']').is_none() {
            loop {
                self.skip_blanks();
                let start = self.at;
                let string = self.string()?;
                strings.push((string, start..self.at));
                if self.expect(b',').is_none() {
                    self.expect(b']')?;
                    break;
                }
            }
        }
        self.skip_blanks();
        (self.at == self.text.len()).then_some(strings)
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_blanks();
        let found = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found.then_some(())
    }

    fn string(&mut self) -> Option<String> {
        let mut characters = self.text[self.at..].char_indices();
        (characters.next()?.1 == '"').then_some(())?;
        let mut string = String::new();
        while let Some((index, c)) = characters.next() {
            match c {
                '"' => {
                    self.at += index + 1;
                    return Some(string);
                }
                '\\' if self.text[self.at + index..].starts_with("\\u") => {
                    let (character, length) = unicode(&self.text[self.at + index..])?;
                    string.push(character);
                    characters.nth(length - 2);
                }
                '\\' => string.push(simple_escape(characters.next()?.1)?),
                '\0'..='\u{1f}' => return None,
                other => string.push(other),
            }
        }
        None
    }
}

fn simple_escape(c: char) -> Option<char> {
    Some(match c {
        '"' | '\\' | '/' => c,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        _ => return None,
    })
}

/// Reads `\uXXXX`, or a surrogate pair of two, and returns how long it is; half a pair becomes U+FFFD, as in docker.
fn unicode(text: &str) -> Option<(char, usize)> {
    let first = unit(text)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = unit(&text[6..]).filter(|second| first < 0xdc00 && (0xdc00..0xe000).contains(second));
    let Some(second) = second else { return Some(('\u{fffd}', 6)) };
    let character = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((character, 12))
}

fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Option<Vec<String>> {
        match read(text) {
            Json::Strings(strings) => Some(strings.into_iter().map(|(string, _)| string).collect()),
            _ => None,
        }
    }

    #[test]
    fn an_array_of_strings_is_read_with_all_escapes() {
        let cases: [(&str, &[&str]); 7] = [
            ("[]", &[]),
            (" [ \"a\" , \"b c\" ]", &["a", "b c"]),
            (r#"["\"\\\/\b\f\n\r\t"]"#, &["\"\\/\u{8}\u{c}\n\r\t"]),
            (r#"["A\u00e4"]"#, &["Aä"]),
            (r#"["\ud83d\ude00x"]"#, &["😀x"]),
            (r#"["\ud83dx\ude00"]"#, &["\u{fffd}x\u{fffd}"]),
            (r#"["ä€😀"]"#, &["ä€😀"]),
        ];
        for (text, expected) in cases {
            assert_eq!(strings(text).unwrap(), expected, "{text}");
            let own: Vec<String> = serde_json::from_str(text).unwrap_or_else(|_| strings(text).unwrap());
            assert_eq!(own, expected, "{text}");
        }
        assert_eq!(read(r#"["ab", "c"]"#), Json::Strings(vec![("ab".into(), 1..5), ("c".into(), 7..10)]));
    }

    #[test]
    fn other_arrays_are_told_from_shell_text() {
        for text in ["[1]", "[\"a\", null]", "[[\"a\"]]", "[{}]"] {
            assert_eq!(read(text), Json::OtherArray, "{text}");
        }
        for text in
            ["['a']", "[\"a\"] x", "[\"a\",]", "[a", "x[\"a\"]", "\"a\"", "[\"\\x\"]", "[\"\\u12\"]", "[", "[\"a\tb\"]"]
        {
            assert_eq!(read(text), Json::Not, "{text}");
        }
    }
}
