//! What a build tells while it runs.

use std::time::Duration;

use layer_store::LimitedCache;

use crate::graph::NodeId;

/// Receives what happens; called from many threads.
pub trait Progress: Send + Sync {
    /// Takes one event; must not block for long.
    fn event(&self, event: Event<'_>);
}

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant's fields are said in its sentence")]
pub enum Event<'a> {
    /// A node is looked at for the first time.
    Started { node: NodeId, label: &'a str },
    /// A node's layer was found in the cache.
    Cached { node: NodeId },
    /// A process wrote `bytes`, not necessarily whole lines.
    Output { node: NodeId, bytes: &'a [u8] },
    /// A node is done after `elapsed`.
    Finished { node: NodeId, elapsed: Duration },
    /// A node failed; the error is returned.
    Failed { node: NodeId },
    /// Another build or this one's failure stopped a node.
    Cancelled { node: NodeId },
    /// `done` of `total` bytes of a blob have moved.
    Transfer { name: &'a str, done: u64, total: u64 },
    /// The build cache was brought below `limit` bytes, as far as that goes.
    CacheLimited { limit: u64, limited: &'a LimitedCache },
    /// Something the user should know, though nothing failed.
    Note { text: &'a str },
}
