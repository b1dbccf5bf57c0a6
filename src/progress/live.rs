//! A build on a terminal: finished steps scroll up as lines, running ones are drawn below them.
//!
//! ```text
//! ✔ [1/3] FROM debian:bookworm  0.4s
//! ⠹ [2/3] RUN apt-get update  12s
//!     Get:7 bookworm/main amd64 Packages
//! ```

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use builder::{Event, NodeId, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Shown, cache_limited, seconds};
use crate::config::Display;
use crate::output;
use crate::report::Seen;
use crate::shown::{Colours, OutputLines, shown};
use crate::table::ellipsis;

const TICK: Duration = Duration::from_millis(100);
/// A terminal's width when it does not say.
const WIDTH: u16 = 80;
/// What a line has besides its label: spinner, time, blanks.
const MARGIN: usize = 12;
const STEP: &str = "{spinner} {prefix}  {elapsed}";
const STEP_WITH_OUTPUT: &str = "{spinner} {prefix}  {elapsed}\n    {wide_msg}";
const BLOB: &str = "  {prefix}  [{bar:30}] {decimal_bytes}/{decimal_total_bytes}";

/// Draws a live block.
pub(super) struct Live {
    display: Display,
    block: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    steps: BTreeMap<NodeId, Step>,
    blobs: BTreeMap<String, ProgressBar>,
}

struct Step {
    label: String,
    bar: ProgressBar,
    output: OutputLines,
    is_cached: bool,
}

impl Live {
    /// Starts to draw on standard error.
    pub(super) fn new(display: Display) -> Self {
        let block = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { display, block, state: Mutex::default() }
    }

    fn start(&self, state: &mut State, node: NodeId, label: &str) {
        let bar = self.block.add(ProgressBar::new_spinner().with_style(style(STEP)));
        let label = shown(label);
        bar.set_prefix(ellipsis(&label, width().saturating_sub(MARGIN)));
        bar.enable_steady_tick(TICK);
        // a line that is drawn over keeps no colours: it may be cut anywhere
        let output = OutputLines::new(Colours::Dropped);
        state.steps.insert(node, Step { label, bar, output, is_cached: false });
    }

    fn end(&self, state: &mut State, node: NodeId, sign: (&str, &str), how: &str) {
        let Some(step) = state.steps.remove(&node) else { return };
        step.bar.finish_and_clear();
        self.block.remove(&step.bar);
        let (sign, colour) = sign;
        let sign =
            if self.display.has_colours() { format!("\u{1b}[{colour}m{sign}\u{1b}[0m") } else { sign.to_owned() };
        self.print(&format!("{sign} {}  {how}", step.label));
    }

    fn print(&self, text: &str) {
        // not `println`, which fills lines with blanks up to the terminal's width
        self.block.suspend(|| output::notice(text));
    }

    fn blob(&self, state: &mut State, name: &str, (done, total): (u64, u64)) {
        let start = || {
            let style = style(BLOB).progress_chars("=> ");
            self.block.add(ProgressBar::new(total).with_style(style).with_prefix(shown(name)))
        };
        let bar = state.blobs.entry(name.to_owned()).or_insert_with(start);
        bar.set_position(done);
        if done >= total {
            bar.finish_and_clear();
            self.block.remove(bar);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is one")
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr()).map_or(WIDTH, |size| size.ws_col).into()
}

impl Step {
    fn output(&mut self, bytes: &[u8]) {
        let finished = self.output.push(bytes).into_iter().rfind(|line| !line.trim().is_empty());
        if let Some(line) = self.output.unfinished().filter(|line| !line.trim().is_empty()).or(finished) {
            self.bar.set_style(style(STEP_WITH_OUTPUT));
            self.bar.set_message(line.replace('\t', " "));
        }
    }
}

impl Progress for Live {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        match event {
            Event::Started { node, label } => self.start(state, node, label),
            Event::Output { node, bytes } => {
                if let Some(step) = state.steps.get_mut(&node) {
                    step.output(bytes);
                }
            }
            Event::Cached { node } => {
                if let Some(step) = state.steps.get_mut(&node) {
                    step.is_cached = true;
                }
            }
            Event::Finished { node, elapsed } => {
                let is_cached = state.steps.get(&node).is_some_and(|step| step.is_cached);
                let how = if is_cached { "CACHED".to_owned() } else { seconds(elapsed) };
                self.end(state, node, ("✔", "32"), &how);
            }
            Event::Failed { node } => self.end(state, node, ("✘", "31"), "ERROR"),
            Event::Cancelled { node } => self.end(state, node, ("✘", "33"), "CANCELED"),
            Event::Transfer { name, done, total } => self.blob(state, name, (done, total)),
            Event::CacheLimited { limit, limited } => {
                if let Some(text) = cache_limited(limit, limited) {
                    self.print(&text);
                }
            }
            Event::Note { text } => self.print(&shown(text)),
            _ => {}
        }
    }
}

impl Shown for Live {
    fn finish(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for step in std::mem::take(&mut state.steps).into_values() {
            step.bar.finish_and_clear();
        }
        for bar in std::mem::take(&mut state.blobs).into_values() {
            bar.finish_and_clear();
        }
    }

    fn say(&self, text: &str) {
        self.print(text);
    }

    fn seen(&self) -> Seen {
        Seen::Little
    }
}
