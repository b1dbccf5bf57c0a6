//! What the command line lends to steps: secrets and SSH agents, by the ids that `RUN --mount` names.
//!
//! Nothing of it is in a layer, a record, a key or a message.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ssh_agent::Agent;

/// Everything that is lent.
#[derive(Clone, Debug, Default)]
pub struct Lent {
    /// Secrets, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Agents, by id.
    pub agents: BTreeMap<String, Arc<Agent>>,
}

/// The bytes of a secret; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps `bytes` from being shown.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let lent = Lent { secrets: [("a".to_owned(), Secret::new(b"hush".to_vec()))].into(), ..Lent::default() };
        assert!(!format!("{lent:?}").contains("104"), "{lent:?}");
        assert!(!format!("{lent:?}").contains("hush"));
    }
}
