//! Text that others wrote, made harmless for a terminal.
//!
//! | source | shown as |
//! |---|---|
//! | names, labels, messages of registries ([`shown`]) | control and direction characters escaped; line breaks and tabs become blanks |
//! | JSON documents ([`shown_json`]) | the same characters as `\uXXXX`, which is the same JSON |
//! | output of build steps ([`OutputLines`]) | line by line; colours kept on a terminal, every other escape sequence dropped |

/// Whether colours of a step's output are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    /// For a terminal.
    Kept,
    /// For files and pipes.
    Dropped,
}

/// Bytes of the longest line; what is longer becomes several.
const MAX_LINE: usize = 64 << 10;

/// Makes `text` one harmless line.
pub(crate) fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if is_harmful(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// Makes serialised JSON harmless; it stays the same value.
pub(crate) fn shown_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_harmful(c) {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a step's output into harmless lines.
#[derive(Debug)]
pub(crate) struct OutputLines {
    colours: Colours,
    rest: Vec<u8>,
}

impl OutputLines {
    /// Starts with no output.
    pub(crate) fn new(colours: Colours) -> Self {
        Self { colours, rest: Vec::new() }
    }

    /// Adds output and returns the lines that it completed.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut parts = bytes.split(|byte| *byte == b'\n');
        self.keep(parts.next().unwrap_or_default(), &mut lines);
        for part in parts {
            lines.push(self.take());
            self.keep(part, &mut lines);
        }
        lines
    }

    /// Returns what the current line looks like so far.
    pub(crate) fn unfinished(&self) -> Option<String> {
        (!self.rest.is_empty()).then(|| clean(&self.rest, self.colours))
    }

    /// Returns the last line, if it was not ended.
    pub(crate) fn finish(&mut self) -> Option<String> {
        (!self.rest.is_empty()).then(|| self.take())
    }

    fn keep(&mut self, mut bytes: &[u8], lines: &mut Vec<String>) {
        while !bytes.is_empty() {
            if self.rest.len() == MAX_LINE {
                lines.push(self.take());
            }
            let (fitting, more) = bytes.split_at(bytes.len().min(MAX_LINE - self.rest.len()));
            self.rest.extend_from_slice(fitting);
            bytes = more;
            // what a carriage return will overwrite needs no room
            if let Some(position) = self.rest.iter().rposition(|byte| *byte == b'\r')
                && position + 1 < self.rest.len()
            {
                self.rest.drain(..=position);
            }
        }
    }

    fn take(&mut self) -> String {
        let line = clean(&self.rest, self.colours);
        self.rest.clear();
        line
    }
}

/// Shows a line as a terminal would after its last carriage return, without what moves a cursor or talks to the terminal.
fn clean(line: &[u8], colours: Colours) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let text = text.rsplit('\r').next().unwrap_or_default();
    let mut shown = String::with_capacity(text.len());
    let mut has_colour = false;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' => {
                let colour = escape_sequence(&mut rest).filter(|_| colours == Colours::Kept);
                has_colour |= colour.is_some();
                shown.extend(colour);
            }
            '\t' => shown.push('\t'),
            '\u{7}' | '\0' => {}
            c if is_harmful(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    if has_colour {
        shown.push_str("\u{1b}[0m");
    }
    shown
}

/// Reads the rest of an escape sequence; returns it whole if it sets colours and nothing else.
fn escape_sequence(rest: &mut std::str::Chars<'_>) -> Option<String> {
    match rest.next()? {
        '[' => control_sequence(rest),
        ']' | 'P' | 'X' | '^' | '_' => {
            control_string(rest);
            None
        }
        mut c => {
            while matches!(c, '\u{20}'..='\u{2f}') {
                c = rest.next()?;
            }
            None
        }
    }
}

fn control_sequence(rest: &mut std::str::Chars<'_>) -> Option<String> {
    let mut parameters = String::new();
    for c in rest.by_ref() {
        match c {
            '\u{20}'..='\u{3f}' => parameters.push(c),
            'm' if parameters.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':') => {
                return Some(format!("\u{1b}[{parameters}m"));
            }
            _ => return None,
        }
    }
    None
}

/// Skips to the end of a string such as a window title: BEL, or ESC and a backslash.
fn control_string(rest: &mut std::str::Chars<'_>) {
    let mut before = ' ';
    for c in rest.by_ref() {
        if c == '\u{7}' || c == '\u{9c}' || (before == '\u{1b}' && c == '\\') {
            return;
        }
        before = c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&str], colours: Colours) -> Vec<String> {
        let mut output = OutputLines::new(colours);
        let mut lines: Vec<String> = chunks.iter().flat_map(|chunk| output.push(chunk.as_bytes())).collect();
        lines.extend(output.finish());
        lines
    }

    #[test]
    fn control_and_direction_characters_of_others_are_escaped() {
        assert_eq!(shown("a\u{1b}[2Jb\u{202e}c\u{9b}d\ne"), "a\\u{1b}[2Jb\\u{202e}c\\u{9b}d e");
        assert_eq!(shown("déjà 漢字"), "déjà 漢字");
        assert_eq!(shown_json("\"\u{9b}\u{202e}é\"\n"), "\"\\u009b\\u202eé\"\n");
    }

    #[test]
    fn output_is_cut_into_lines_wherever_the_chunks_end() {
        assert_eq!(lines(&["a", "b\nc", "\n", "\nd"], Colours::Dropped), ["ab", "c", "", "d"]);
    }

    #[test]
    fn colours_survive_on_a_terminal_and_nothing_else_does() {
        let hostile = "\u{1b}[31mred\u{1b}[2J\u{1b}]0;title\u{7}\u{1b}]8;;http://x\u{1b}\\\u{1b}(B\u{1b}7\u{8}end\n";
        assert_eq!(lines(&[hostile], Colours::Kept), ["\u{1b}[31mred\\u{8}end\u{1b}[0m"]);
        assert_eq!(lines(&[hostile], Colours::Dropped), ["red\\u{8}end"]);
        assert_eq!(lines(&["\u{1b}[31;1", "mx\u{1b}["], Colours::Kept), ["\u{1b}[31;1mx\u{1b}[0m"]);
    }

    #[test]
    fn a_progress_bar_is_shown_in_its_last_state() {
        assert_eq!(lines(&["10%\r50%\r100%\r\n", "50%\r", "70%\n"], Colours::Dropped), ["100%", "70%"]);
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory_nor_hide_what_follows() {
        let mut output = OutputLines::new(Colours::Dropped);
        let lines: Vec<_> = (0..10).flat_map(|_| output.push(&[b'x'; 32 << 10])).collect();
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [MAX_LINE; 4]);
        assert_eq!(output.push(b"end\n"), ["x".repeat(MAX_LINE), "end".to_owned()]);
        let bar = [[b'x'; 1000].as_slice(), b"\r"].concat().repeat(200);
        assert_eq!((output.push(&bar).len(), output.finish()), (0, Some("x".repeat(1000))));
    }
}
