//! Passes the signals that this process gets on to a container.
//!
//! They are watched from before the container is started, so that none gets lost or ends this process instead. A process 1
//! ignores the signals that it does not handle: whoever asks it to stop for the third time gets it killed.
//!
//! Not passed on, a signal to stop ends the container, as nothing of it stays without this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use runtime::{Killer, Running, SignalError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::session::Interrupt;
use crate::{output, stdio};

/// The time a stop is asked for at which the container is killed.
const LAST_CALL: u32 = 3;

/// Whether signals are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// Every one.
    ToCommand,
    /// None.
    None,
}

/// Watched signals that nobody has got yet.
#[derive(Debug)]
pub(crate) struct ForwardedSignals {
    watched: Vec<(SignalKind, Signal)>,
    /// Where they are not passed on.
    interrupt: Option<Interrupt>,
    resized: Signal,
}

impl ForwardedSignals {
    /// Begins to watch. Must be called inside of a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(crate) fn watch(passing: Passing) -> anyhow::Result<Self> {
        let (kinds, interrupt) = match passing {
            Passing::ToCommand => (passed(), None),
            Passing::None => (Vec::new(), Some(Interrupt::watch()?)),
        };
        let watch = |kind| signal(kind).context("cannot watch for signals");
        let watched = kinds.into_iter().map(|kind| Ok((kind, watch(kind)?))).collect::<anyhow::Result<_>>()?;
        Ok(Self { watched, interrupt, resized: watch(SignalKind::window_change())? })
    }

    /// Passes them on, those that came before too; the size of our terminal goes to the container's.
    ///
    /// Where they are not passed on, they end the container; what comes back knows the signal.
    ///
    /// # Errors
    ///
    /// When descriptors run out.
    pub(crate) fn pass_to(self, running: &Running) -> anyhow::Result<Option<Interrupt>> {
        if let Some(interrupt) = &self.interrupt {
            let (killer, stop) = (running.killer(), interrupt.stop().clone());
            tokio::spawn(async move {
                stop.cancelled().await;
                tell(killer.kill());
            });
        }
        let stops = Arc::new(AtomicU32::new(0));
        for (kind, mut received) in self.watched {
            let (killer, stops) = (running.killer(), Arc::clone(&stops));
            tokio::spawn(async move {
                while received.recv().await.is_some() {
                    pass(kind, &killer, &stops);
                }
            });
        }
        if let Some(master) = running.terminal() {
            let master = master.try_clone().context("cannot share the terminal")?;
            stdio::resize(&master);
            let mut resized = self.resized;
            tokio::spawn(async move {
                while resized.recv().await.is_some() {
                    stdio::resize(&master);
                }
            });
        }
        Ok(self.interrupt)
    }
}

fn passed() -> Vec<SignalKind> {
    vec![
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ]
}

fn pass(kind: SignalKind, killer: &Killer, stops: &AtomicU32) {
    let is_stop = kind == SignalKind::interrupt() || kind == SignalKind::terminate();
    let asked = if is_stop { stops.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
    tell(if asked >= LAST_CALL { killer.kill() } else { killer.signal(kind.as_raw_value()) });
}

fn tell(sent: Result<(), SignalError>) {
    if let Err(error) = sent {
        output::notice(&error.to_string());
    }
}
