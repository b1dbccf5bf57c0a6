//! Tables as docker prints them: left-aligned columns, at least ten wide, three blanks apart.

const MIN_WIDTH: usize = 10;
const GAP: usize = 3;

/// Rows of cells; the first row is the header.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with this header.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|&title| title.to_owned()).collect()] }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Lays the table out, one line for each row.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }

    /// The last cell of a row is not padded, so it does not widen its column.
    fn width(&self, column: usize) -> usize {
        let padded = self.rows.iter().filter(|row| row.len() > column + 1);
        let longest = padded.map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + GAP).max(MIN_WIDTH)
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let Some((last, padded)) = row.split_last() else { return "\n".to_owned() };
    let mut line: String = padded.iter().zip(widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
    line.push_str(last);
    line.push('\n');
    line
}

/// Cuts `text` to `width` characters, the last of them `…` if something is missing.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_laid_out_as_docker_does() {
        let mut table = Table::new(&["REPOSITORY", "TAG", "SIZE"]);
        table.row(vec!["localhost:5000/demo".to_owned(), "latest".to_owned(), "7B".to_owned()]);
        let shown = "REPOSITORY            TAG       SIZE\nlocalhost:5000/demo   latest    7B\n";
        assert_eq!(table.render(), shown);
    }

    #[test]
    fn long_text_is_cut_at_runes() {
        assert_eq!(ellipsis("äöüäöü", 6), "äöüäöü");
        assert_eq!(ellipsis("äöüäöüx", 6), "äöüäö…");
    }
}
