//! What people see while an image is pulled, pushed, loaded or saved: a line for each layer, or, on a terminal, a bar.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use builder::TransferProgress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use registry_client::{LayerEvent, Outcome};

use crate::output;

/// Where a transfer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Standard output: the transfer is what was asked for.
    Output,
    /// Standard error: the transfer is on the way to something else.
    Errors,
    /// Nobody.
    Nobody,
}

/// What a transfer is called while it runs and when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Pull,
    Push,
    /// From an archive: there are bars, but no lines, as with docker.
    Load,
    /// To an archive: likewise.
    Save,
}

/// Tells about one transfer.
#[derive(Debug)]
pub(crate) struct TransferReport {
    audience: Audience,
    direction: Direction,
    bars: Option<MultiProgress>,
    of_layers: Mutex<BTreeMap<String, ProgressBar>>,
}

impl TransferReport {
    /// Starts to tell about a transfer.
    pub(crate) fn new(audience: Audience, direction: Direction) -> Arc<Self> {
        let target = match audience {
            Audience::Output if std::io::stdout().is_terminal() => Some(ProgressDrawTarget::stdout()),
            Audience::Errors if std::io::stderr().is_terminal() => Some(ProgressDrawTarget::stderr()),
            _ => None,
        };
        let bars = target.map(MultiProgress::with_draw_target);
        Arc::new(Self { audience, direction, bars, of_layers: Mutex::default() })
    }

    /// Says one line.
    pub(crate) fn say(&self, text: &str) {
        match (self.audience, &self.bars) {
            (Audience::Nobody, _) => {}
            (_, Some(bars)) => bars.suspend(|| self.print(text)),
            (_, None) => self.print(text),
        }
    }

    /// Says what became of a pushed layer.
    pub(crate) fn pushed(&self, layer: &LayerEvent) {
        self.end(
            layer.digest.short(),
            match layer.outcome {
                Outcome::Existed => "Layer already exists",
                Outcome::Mounted => "Mounted from another repository",
                Outcome::Uploaded => "Pushed",
            },
        );
    }

    /// Draws no more.
    pub(crate) fn finish(&self) {
        let bars = std::mem::take(&mut *self.of_layers.lock().unwrap_or_else(PoisonError::into_inner));
        bars.values().for_each(ProgressBar::finish_and_clear);
    }

    fn print(&self, text: &str) {
        if self.audience == Audience::Errors {
            output::notice(text);
        } else {
            // whoever does not read on is told at the end, by the last line
            let _unheard = output::line(text);
        }
    }

    fn end(&self, name: &str, how: &str) {
        let bar = self.of_layers.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        if let (Some(bar), Some(bars)) = (bar, &self.bars) {
            bar.finish_and_clear();
            bars.remove(&bar);
        }
        if matches!(self.direction, Direction::Load | Direction::Save) {
            return;
        }
        self.say(&format!("{name}: {how}"));
    }

    fn bar(&self, bars: &MultiProgress, name: &str, total: u64) -> ProgressBar {
        let mut of_layers = self.of_layers.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let template = "{prefix}: {msg} [{bar:30}] {decimal_bytes}/{decimal_total_bytes}";
            let style = ProgressStyle::with_template(template).expect("the template is one").progress_chars("=> ");
            let bar = bars.add(ProgressBar::new(total).with_style(style).with_prefix(name.to_owned()));
            bar.set_message(match self.direction {
                Direction::Pull => "Downloading",
                Direction::Push => "Pushing",
                Direction::Load => "Loading",
                Direction::Save => "Saving",
            });
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        };
        of_layers.entry(name.to_owned()).or_insert_with(start).clone()
    }
}

impl TransferProgress for TransferReport {
    fn moved(&self, name: &str, done: u64, total: u64) {
        let Some(bars) = &self.bars else { return };
        let bar = self.bar(bars, name, total);
        bar.set_position(done);
        if done >= total && matches!(self.direction, Direction::Pull | Direction::Load) {
            bar.set_message("Extracting");
        }
    }

    fn existed(&self, name: &str) {
        self.end(name, "Already exists");
    }

    fn completed(&self, name: &str) {
        self.end(name, "Pull complete");
    }

    fn note(&self, text: &str) {
        let note = || output::notice(&format!("note: {text}"));
        match &self.bars {
            Some(bars) => bars.suspend(note),
            None => note(),
        }
    }
}
