//! The table: for each thing that was measured, what every peer needs, and how often what wharf needs that is.

use std::fmt::Write as _;
use std::time::Duration;

use crate::figures::Figures;
use crate::peer::Tool;

const HEAD: [&str; 10] = ["", "peer", "wall", "/wharf", "CPU", "/wharf", "memory", "bytes", "/wharf", "inodes"];

/// The figures of all rounds, of everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    tool: Tool,
    rounds: Vec<Figures>,
}

impl Table {
    /// Adds the figures of one round of `what` by `tool`.
    pub(crate) fn add(&mut self, what: &str, tool: Tool, figures: Figures) {
        match self.rows.iter_mut().find(|row| row.what == what && row.tool == tool) {
            Some(row) => row.rounds.push(figures),
            None => self.rows.push(Row { what: what.to_owned(), tool, rounds: vec![figures] }),
        }
    }

    /// The table as text: medians, a line for each peer, wharf first.
    pub(crate) fn text(&self) -> String {
        let mut names: Vec<&str> = vec![];
        for row in &self.rows {
            if !names.contains(&row.what.as_str()) {
                names.push(&row.what);
            }
        }
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(names.into_iter().flat_map(|what| self.lines(what)));
        aligned(&lines)
    }

    fn lines(&self, what: &str) -> Vec<[String; 10]> {
        let mut rows: Vec<_> = self.rows.iter().filter(|row| row.what == what).collect();
        rows.sort_by_key(|row| row.tool as u8);
        let own = rows.iter().find(|row| row.tool == Tool::Wharf).map(|row| Figures::median(&row.rounds));
        let own = own.unwrap_or_default();
        let line = |(number, row): (usize, &&Row)| {
            let figures = Figures::median(&row.rounds);
            [
                if number == 0 { what.to_owned() } else { String::new() },
                row.tool.name().to_owned(),
                cell(figures.wall, time),
                times(figures.wall.map(|wall| wall.as_secs_f64()), own.wall.map(|wall| wall.as_secs_f64())),
                cell(figures.cpu, time),
                times(figures.cpu.map(|cpu| cpu.as_secs_f64()), own.cpu.map(|cpu| cpu.as_secs_f64())),
                cell(figures.memory, size),
                cell(figures.bytes, size),
                times(figures.bytes.map(approximate), own.bytes.map(approximate)),
                cell(figures.inodes, |inodes| inodes.to_string()),
            ]
        };
        rows.iter().enumerate().map(line).collect()
    }
}

/// A time as people compare it: three digits or so.
pub(crate) fn time(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    match milliseconds {
        ..10.0 => format!("{milliseconds:.1} ms"),
        ..1000.0 => format!("{milliseconds:.0} ms"),
        ..10_000.0 => format!("{:.2} s", milliseconds / 1000.0),
        _ => format!("{:.1} s", milliseconds / 1000.0),
    }
}

fn size(bytes: u64) -> String {
    match approximate(bytes) / 1e6 {
        megabytes @ ..10.0 => format!("{megabytes:.2} MB"),
        megabytes => format!("{megabytes:.1} MB"),
    }
}

fn times(figure: Option<f64>, own: Option<f64>) -> String {
    match (figure, own) {
        (Some(figure), Some(own)) if own > 0.0 => format!("{:.2}", figure / own),
        _ => cell(None, |(): ()| String::new()),
    }
}

fn cell<T>(figure: Option<T>, show: impl FnOnce(T) -> String) -> String {
    figure.map_or_else(|| "-".to_owned(), show)
}

#[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
fn approximate(bytes: u64) -> f64 {
    bytes as f64
}

/// Names to the left, figures to the right.
fn aligned(lines: &[[String; 10]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if column < 2 { write!(shown, "{cell:<width$}  ") } else { write!(shown, "{cell:>width$}  ") };
        }
        let _ = writeln!(text, "{}", shown.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(milliseconds: u64, bytes: Option<u64>) -> Figures {
        let time = Some(Duration::from_millis(milliseconds));
        Figures { wall: time, cpu: time, bytes, ..Figures::default() }
    }

    #[test]
    fn each_peer_has_a_line_with_its_medians_and_their_ratio_to_wharf() {
        let mut table = Table::default();
        for milliseconds in [9000, 5000, 12_000] {
            table.add("w7 pull", Tool::Docker, figures(milliseconds, None));
        }
        table.add("w7 pull", Tool::Wharf, figures(500, Some(2_000_000)));
        table.add("w10 images", Tool::Docker, figures(4, None));
        let expected = "\
            peer    wall    /wharf  CPU     /wharf  memory  bytes    /wharf  inodes\n\
            w7 pull wharf 500 ms 1.00 500 ms 1.00 - 2.00 MB 1.00 -\n\
            docker 9.00 s 18.00 9.00 s 18.00 - - - -\n\
            w10 images docker 4.0 ms - 4.0 ms - - - - -\n";
        let words = |text: &str| {
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect::<Vec<Vec<_>>>()
        };
        assert_eq!(words(&table.text()), words(expected));
        let ends: Vec<_> = table.text().lines().map(|line| line.trim_end().chars().count()).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "the last column is to the right: {ends:?}");
    }
}
