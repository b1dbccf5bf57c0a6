//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::peer::Tool;
use crate::scenario::Scenario;

/// Measures wharf and its peers on the same workloads, side by side, and prints one table.
///
/// Needs root, cgroups of version 1, and the programs docker-registry, skopeo, busybox (static), openssl and debootstrap. Peers that are not
/// installed or do not work here are named and left out.
#[derive(Debug, Parser)]
#[command(name = "wharf-benches")]
pub(crate) struct Args {
    /// What to measure [default: all but w3s]
    pub(crate) scenarios: Vec<Scenario>,

    /// Whom to measure
    #[arg(long, value_delimiter = ',', default_values = ["wharf", "docker", "buildah", "podman"])]
    pub(crate) peers: Vec<Tool>,

    /// How many rounds; the table shows the medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// The wharf to measure [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) wharf: Option<PathBuf>,

    /// Where contexts, images and stores are; contexts and images stay for the next run
    #[arg(long, value_name = "DIR", default_value = "/var/tmp/wharf-bench")]
    pub(crate) work: PathBuf,
}

impl Args {
    /// What to measure, in the order of the command line.
    pub(crate) fn chosen(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() { Scenario::ALL.to_vec() } else { self.scenarios.clone() }
    }
}
