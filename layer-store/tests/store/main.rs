//! The store from outside: one module per subject; `tar` makes archives, `place` makes stores, namespaces and listings.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod apply;
mod check;
mod files;
mod flushed;
mod hostile;
mod images;
mod leases;
mod place;
mod prune;
mod round_trip;
mod snapshots;
mod tar;
mod tar_layers;
mod unpack;
mod version;
mod volumes;
