//! The store from outside: one module per subject; `tar` makes archives, `place` makes stores, namespaces and listings.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod apply;
mod cache_limits;
mod check;
mod compression;
mod drivers;
mod files;
mod flushed;
mod hostile;
mod images;
mod kept_tars;
mod leases;
mod listings;
mod place;
mod prune;
mod round_trip;
mod snapshots;
mod tar;
mod tar_layers;
mod unpack;
mod usage;
mod version;
mod volumes;
