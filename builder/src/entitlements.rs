//! Entitlements: what a Dockerfile may ask for only if the user who builds it has said so.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// What a build is allowed.
pub type Entitlements = BTreeSet<Entitlement>;

/// One thing that a build may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entitlement {
    /// `RUN --network=host`: the network of the host, with its loopback.
    NetworkHost,
    /// `RUN --security=insecure`: every capability, no system call filter, kernel files to write, the host's devices.
    SecurityInsecure,
}

/// A word that names no entitlement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not an entitlement that is known (`network.host` and `security.insecure` are)")]
pub struct UnknownEntitlement {
    /// The word.
    pub word: String,
}

impl FromStr for Entitlement {
    type Err = UnknownEntitlement;

    fn from_str(word: &str) -> Result<Self, UnknownEntitlement> {
        match word {
            "network.host" => Ok(Self::NetworkHost),
            "security.insecure" => Ok(Self::SecurityInsecure),
            _ => Err(UnknownEntitlement { word: word.to_owned() }),
        }
    }
}

impl fmt::Display for Entitlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        })
    }
}
