//! What people see of a build while it runs; all of it on standard error.
//!
//! | `--progress` | shown |
//! |---|---|
//! | `plain` | a line for each thing that happens, with the number of its step: `#3 [2/3] RUN make`, `#3 0.312 cc …`, `#3 DONE 3.1s` |
//! | `tty` | finished steps as lines; below them a live block: each running step with its last line of output |
//! | `quiet` | nothing; the end of a failed step's output comes with the error |
//! | `auto` | `tty` on a terminal, else `plain` |
//!
//! What steps write is made harmless for the terminal ([`crate::shown`]).

mod live;
mod plain;

use std::sync::Arc;
use std::time::Duration;

use builder::Progress;
use layer_store::LimitedCache;

use crate::config::Display;
use crate::report::Seen;
use crate::size;

/// How a build is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Style {
    Auto,
    Plain,
    Tty,
    Quiet,
}

/// A shown build.
pub(crate) trait Shown: Progress {
    /// Leaves what was drawn behind and draws no more.
    fn finish(&self);

    /// Says one line.
    fn say(&self, text: &str);

    /// Tells how much of the output of steps was shown.
    fn seen(&self) -> Seen;
}

/// Starts to show a build.
pub(crate) fn start(style: Style, display: Display) -> Arc<dyn Shown> {
    match style {
        Style::Plain => Arc::new(plain::Plain::stderr(display)),
        Style::Tty => Arc::new(live::Live::new(display)),
        Style::Quiet => Arc::new(Quiet),
        Style::Auto if display.is_terminal() => Arc::new(live::Live::new(display)),
        Style::Auto => Arc::new(plain::Plain::stderr(display)),
    }
}

/// Shows nothing.
struct Quiet;

impl Progress for Quiet {
    fn event(&self, _: builder::Event<'_>) {}
}

impl Shown for Quiet {
    fn finish(&self) {}

    fn say(&self, _: &str) {}

    fn seen(&self) -> Seen {
        Seen::Little
    }
}

/// Tells what a limit of the build cache has led to; `None` when nothing had to be done.
fn cache_limited(limit: u64, LimitedCache { freed, size }: &LimitedCache) -> Option<String> {
    let bytes: u64 = freed.iter().map(|freed| freed.size).sum();
    let removed = format!("removed {} of the build cache, least recently used first", size::summed(bytes));
    let above = format!("{} of it are in use", size::summed(*size));
    match (freed.is_empty(), *size <= limit) {
        (true, true) => None,
        (false, true) => Some(removed),
        (false, false) => Some(format!("{removed}; it is still above its limit: {above}")),
        (true, false) => Some(format!("the build cache is above its limit: {above}")),
    }
}

/// Writes a duration in seconds with one digit after the point.
fn seconds(elapsed: Duration) -> String {
    format!("{:.1}s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use layer_store::{Freed, FreedKind};

    #[test]
    fn a_limit_says_what_it_removed_and_what_it_could_not() {
        let freed = Freed { what: FreedKind::Layer, name: String::new(), why: "", size: 1500 };
        let check = |freed: &[Freed], size, expected: Option<&str>| {
            assert_eq!(cache_limited(1000, &LimitedCache { freed: freed.to_vec(), size }).as_deref(), expected);
        };
        let removed = "removed 1.5kB of the build cache, least recently used first";
        check(&[], 1000, None);
        check(std::slice::from_ref(&freed), 900, Some(removed));
        let above = "is still above its limit: 2kB of it are in use";
        check(&[freed], 2000, Some(&format!("{removed}; it {above}")));
        let above = "the build cache is above its limit: 2kB of it are in use";
        check(&[], 2000, Some(above));
    }
}
