//! Comma-separated values, as the options of `--mount` and `--device` are written.

use std::ops::Range;

/// Splits comma-separated values as CSV has them: a field may be quoted as a whole, and `""` is a quote inside of it.
///
/// Each comes with its place in `text`.
///
/// # Errors
///
/// What is wrong with the quotes, or that `text` is empty.
pub fn fields(text: &str) -> Result<Vec<(String, Range<usize>)>, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let mut fields = Vec::new();
    let mut start = 0;
    loop {
        let rest = &text[start..];
        let (field, length) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err("a quote inside of an option");
                }
                (rest[..end].to_owned(), end)
            }
        };
        let end = start + length;
        fields.push((field, start..end));
        match text.get(end..end + 1) {
            Some(_) => start = end + 1,
            None => return Ok(fields),
        }
    }
}

fn quoted_field(quoted: &str) -> Result<(String, usize), &'static str> {
    let mut field = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((index, c)) = characters.next() {
        match c {
            '"' if characters.peek().is_some_and(|(_, next)| *next == '"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted[index + 1..].is_empty() || quoted[index + 1..].starts_with(',') => {
                return Ok((field, index + 2));
            }
            '"' => return Err("text after a quoted option"),
            other => field.push(other),
        }
    }
    Err("an unterminated quote")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_separated_as_in_csv() {
        let texts = |text| fields(text).map(|fields| fields.into_iter().map(|(field, _)| field).collect::<Vec<_>>());
        assert_eq!(texts("a=1,b"), Ok(vec!["a=1".into(), "b".into()]));
        assert_eq!(texts("\"a=1,2\",b"), Ok(vec!["a=1,2".into(), "b".into()]));
        assert_eq!(texts("\"a=\"\"x\"\"\""), Ok(vec!["a=\"x\"".into()]));
        assert_eq!(texts("a,"), Ok(vec!["a".into(), String::new()]));
        assert!(texts("").is_err());
        assert!(texts("a\"b").is_err() && texts("\"a").is_err() && texts("\"a\"b,c").is_err());
        assert_eq!(fields("ab,cd").unwrap()[1].1, 3..5);
    }
}
