//! The scenarios: what is measured, step by step, for one peer in one round.
//!
//! | | before it is measured | measured |
//! |---|---|---|
//! | w1 | base pulled, built once | build: everything is cached |
//! | w2, w6 | base pulled | build: nothing is cached |
//! | w3, w3s | base pulled | build cold; with one file changed; with nothing changed; all again without the RUN |
//! | w7 | store empty | pull until a container can start |
//! | w8 | target registry empty | push of what was pulled; push of what was built |
//! | w10 | 200 images pulled, once | images, history, inspect: one of 20 in a row |
//! | w11 | store empty | disk and inodes after one image, and after ten that share a base and a layer |

mod builds;
mod listings;
mod transfers;

use clap::ValueEnum;

use crate::bench::Bench;
use crate::peer::Peer;
use crate::workload::Workload;

/// One of the scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    W1,
    W2,
    W3,
    W3s,
    W6,
    W7,
    W8,
    W10,
    W11,
}

impl Scenario {
    /// Those that are measured when none is named.
    pub(crate) const ALL: &[Self] = &[Self::W2, Self::W3, Self::W7, Self::W8, Self::W10, Self::W11, Self::W1, Self::W6];

    /// Measures it with every peer.
    ///
    /// # Errors
    ///
    /// When what the peers need cannot be made, or the user wants to stop. A peer that fails is noted.
    pub(crate) fn measure(self, bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
        match self {
            Self::W1 => builds::cached(bench, peers),
            Self::W2 => builds::cold(bench, peers, Workload::W2),
            Self::W3 => builds::files(bench, peers, Workload::W3),
            Self::W3s => builds::files(bench, peers, Workload::W3s),
            Self::W6 => builds::cold(bench, peers, Workload::W6),
            Self::W7 => transfers::pull(bench, peers),
            Self::W8 => transfers::push(bench, peers),
            Self::W10 => listings::many_images(bench, peers),
            Self::W11 => builds::shared(bench, peers),
        }
    }
}
