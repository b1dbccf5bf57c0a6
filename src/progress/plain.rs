//! A build as lines, for files, pipes and logs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use builder::{Event, NodeId, Progress};

use super::{Shown, cache_limited, seconds};
use crate::config::Display;
use crate::report::Seen;
use crate::shown::{Colours, OutputLines, shown};
use crate::size;

/// Writes lines.
pub(super) struct Plain<W> {
    colours: Colours,
    state: Mutex<State<W>>,
}

struct State<W> {
    to: W,
    steps: BTreeMap<NodeId, Step>,
    /// The step of the last line: lines of different steps are set apart.
    last: Option<usize>,
}

struct Step {
    /// From 1, in the order in which steps were started.
    number: usize,
    started: Instant,
    output: OutputLines,
    is_cached: bool,
}

impl Plain<io::Stderr> {
    /// Writes to standard error.
    pub(super) fn stderr(display: Display) -> Self {
        let colours = if display.has_colours() { Colours::Kept } else { Colours::Dropped };
        Self::new(io::stderr(), colours)
    }
}

impl<W: Write> Plain<W> {
    fn new(to: W, colours: Colours) -> Self {
        Self { colours, state: Mutex::new(State { to, steps: BTreeMap::new(), last: None }) }
    }
}

impl<W: Write> State<W> {
    fn line(&mut self, number: usize, text: &str) {
        self.lines(number, &[text.to_owned()]);
    }

    fn lines(&mut self, number: usize, lines: &[String]) {
        let mut text = String::new();
        for line in lines {
            let gap = if self.last.is_some_and(|last| last != number) { "\n" } else { "" };
            self.last = Some(number);
            text.push_str(&format!("{gap}#{number} {line}\n"));
        }
        // one write of whole lines: others write to the same place
        let _unheard = self.to.write_all(text.as_bytes());
    }

    fn start(&mut self, node: NodeId, label: &str, colours: Colours) {
        let number = self.steps.len() + 1;
        let step = Step { number, started: Instant::now(), output: OutputLines::new(colours), is_cached: false };
        self.steps.insert(node, step);
        self.line(number, &shown(label));
    }

    fn output(&mut self, node: NodeId, bytes: &[u8]) {
        let Some(step) = self.steps.get_mut(&node) else { return };
        let (number, elapsed) = (step.number, step.started.elapsed().as_secs_f64());
        let lines: Vec<_> = step.output.push(bytes).iter().map(|line| format!("{elapsed:.3} {line}")).collect();
        self.lines(number, &lines);
    }

    fn is_cached(&self, node: NodeId) -> bool {
        self.steps.get(&node).is_some_and(|step| step.is_cached)
    }

    /// Writes the last line of a step's output and then how it ended.
    fn end(&mut self, node: NodeId, how: &str) {
        let Some(step) = self.steps.get_mut(&node) else { return };
        let (number, elapsed) = (step.number, step.started.elapsed().as_secs_f64());
        if let Some(line) = step.output.finish() {
            self.line(number, &format!("{elapsed:.3} {line}"));
        }
        self.line(number, how);
    }
}

impl<W: Write + Send> Progress for Plain<W> {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { node, label } => state.start(node, label, self.colours),
            Event::Output { node, bytes } => state.output(node, bytes),
            Event::Cached { node } => {
                if let Some(step) = state.steps.get_mut(&node) {
                    step.is_cached = true;
                }
                state.end(node, "CACHED");
            }
            Event::Finished { node, .. } if state.is_cached(node) => {}
            Event::Finished { node, elapsed } => state.end(node, &format!("DONE {}", seconds(elapsed))),
            Event::Failed { node } => state.end(node, "ERROR"),
            Event::Cancelled { node } => state.end(node, "CANCELED"),
            Event::Transfer { name, done, total } if done == total => {
                let _unheard = writeln!(state.to, "fetched {} ({})", shown(name), size::listed(total));
            }
            Event::CacheLimited { limit, limited } => {
                if let Some(text) = cache_limited(limit, limited) {
                    let _unheard = writeln!(state.to, "{text}");
                }
            }
            Event::Note { text } => {
                let _unheard = writeln!(state.to, "{}", shown(text));
            }
            _ => {}
        }
    }
}

impl<W: Write + Send> Shown for Plain<W> {
    fn finish(&self) {}

    fn say(&self, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _unheard = writeln!(state.to, "{text}");
    }

    fn seen(&self) -> Seen {
        Seen::Whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use builder::{Graph, Op, Source};
    use std::time::Duration;

    fn nodes() -> [NodeId; 2] {
        let mut graph = Graph::default();
        let base = graph.add(Op::Source(Source::Scratch), vec![], String::new(), None);
        let action = builder::FileAction::MakeDirectory { path: "/".to_owned(), user: String::new(), time: None };
        [base, graph.add(Op::File(action), vec![base], String::new(), None)]
    }

    #[test]
    fn steps_are_numbered_and_set_apart() {
        let plain = Plain::new(Vec::new(), Colours::Dropped);
        let [base, run] = nodes();
        plain.event(Event::Started { node: base, label: "[1/2] FROM scratch" });
        plain.event(Event::Cached { node: base });
        plain.event(Event::Finished { node: base, elapsed: Duration::ZERO });
        plain.event(Event::Started { node: run, label: "[2/2] RUN \u{1b}x" });
        plain.event(Event::Output { node: run, bytes: b"half a" });
        plain.event(Event::Output { node: run, bytes: b" line\n\x1b]0;title\x07end" });
        plain.event(Event::Finished { node: run, elapsed: Duration::from_millis(3140) });
        let text = String::from_utf8(plain.state.into_inner().unwrap().to).unwrap();
        let untimed: Vec<String> = text.lines().map(without_time).collect();
        let expected = [
            "#1 [1/2] FROM scratch",
            "#1 CACHED",
            "",
            "#2 [2/2] RUN \\u{1b}x",
            "#2 T half a line",
            "#2 T end",
            "#2 DONE 3.1s",
        ];
        assert_eq!(untimed, expected);
    }

    fn without_time(line: &str) -> String {
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        match words[..] {
            [number, time, text] if time.parse::<f64>().is_ok() => format!("{number} T {text}"),
            _ => line.to_owned(),
        }
    }
}
