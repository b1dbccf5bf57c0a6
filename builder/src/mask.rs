//! Masks secrets in what a process writes: `***` stands where a value was.
//!
//! - Masked are the values that the process was lent, without the line break at their end, and each of their lines, from
//!   [`SHORTEST`] bytes on: shorter ones would be found everywhere.
//! - What may become a value with the next bytes is held back, nothing else: a prompt appears at once.

/// Bytes of the shortest text that is masked.
const SHORTEST: usize = 4;
const STARS: &[u8] = b"***";

/// A stream that is masked.
#[derive(Debug)]
pub(crate) struct Mask {
    /// Longest first.
    values: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Mask {
    /// Masks these secrets.
    pub(crate) fn new<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        let lines = |secret: &'a [u8]| secret.split(|byte| *byte == b'\n').chain([secret]).map(<[u8]>::trim_ascii_end);
        let mut values: Vec<Vec<u8>> = secrets.flat_map(lines).map(<[u8]>::to_vec).collect();
        values.retain(|value| value.len() >= SHORTEST);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self { values, held: Vec::new() }
    }

    /// Hands `bytes` on to `output`, masked.
    pub(crate) fn push(&mut self, bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
        if self.values.is_empty() {
            return output(bytes);
        }
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let (mut plain, mut at) = (0, 0);
        while at < held.len() {
            let rest = &held[at..];
            if let Some(value) = self.values.iter().find(|value| rest.starts_with(value)) {
                write(&held[plain..at], output);
                output(STARS);
                at += value.len();
                plain = at;
            } else if self.values.iter().any(|value| value.starts_with(rest)) {
                break;
            } else {
                at += 1;
            }
        }
        write(&held[plain..at], output);
        self.held = held[at..].to_vec();
    }

    /// Hands on what was held back.
    pub(crate) fn finish(&mut self, output: &mut dyn FnMut(&[u8])) {
        write(&std::mem::take(&mut self.held), output);
    }
}

fn write(bytes: &[u8], output: &mut dyn FnMut(&[u8])) {
    if !bytes.is_empty() {
        output(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], chunks: &[&str]) -> String {
        let mut mask = Mask::new(secrets.iter().map(|secret| secret.as_bytes()));
        let mut shown = Vec::new();
        for chunk in chunks {
            mask.push(chunk.as_bytes(), &mut |bytes| shown.extend_from_slice(bytes));
        }
        mask.finish(&mut |bytes| shown.extend_from_slice(bytes));
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn values_are_masked_however_they_arrive() {
        for chunks in [&["a hush-hush b"][..], &["a hu", "sh-", "hush b"], &["a h", "u", "s", "h-hush b"]] {
            assert_eq!(masked(&["hush-hush\n"], chunks), "a *** b");
        }
        assert_eq!(masked(&["aaab"], &["aaaab"]), "a***");
        assert_eq!(masked(&["one", "four", "fourfold"], &["one fourfold four"]), "one *** ***");
        assert_eq!(masked(&["BEGIN\nline-one\r\nx\nline-two\n"], &["line-two BEGIN x line-one"]), "*** *** x ***");
    }

    #[test]
    fn what_is_no_value_passes_whole() {
        assert_eq!(masked(&["hush"], &["hus", "k hu"]), "husk hu");
        assert_eq!(masked(&[""], &["a", "b"]), "ab");
        assert_eq!(masked(&["\n\n"], &["a\n\nb"]), "a\n\nb");
    }

    #[test]
    fn only_the_start_of_a_value_waits_for_more() {
        let mut mask = Mask::new([b"hush".as_slice()].into_iter());
        let mut shown = Vec::new();
        mask.push(b"password: ", &mut |bytes| shown.extend_from_slice(bytes));
        assert_eq!(shown, b"password: ");
    }
}
