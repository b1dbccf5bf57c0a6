//! Makes room before a build writes: brings the build cache below the limit of its request.
//!
//! - Once, before the first step that has to run. A build that finds everything in the cache measures nothing and removes nothing.
//! - What the steps of the graph made when they last ran is held first, whether or not it was looked for yet: no step of this build
//!   misses because of the limit.
//! - Images are not the build cache: nothing that one needs goes.
//! - What the build then writes is not counted; the next build's limit does that. A failure is only told, nothing depends on it.

use std::sync::Arc;

use crate::cache_key::definition_key;
use crate::graph::Op;
use crate::progress::Event;
use crate::solve::{Cache, Solver};

impl Solver {
    /// Brings the build cache below its limit, if there is one and no step did it before.
    pub(crate) async fn make_room(self: &Arc<Self>) {
        let Some(limit) = self.keep_storage else { return };
        let make = || async {
            let solver = Arc::clone(self);
            tokio::task::spawn_blocking(move || solver.limit_cache(limit)).await.expect("making room does not panic");
        };
        self.has_room.get_or_init(make).await;
    }

    fn limit_cache(&self, limit: u64) {
        if self.cache == Cache::Used {
            self.hold_own_cache();
        }
        match self.backend.store.limit_cache(limit) {
            Ok(limited) => self.backend.progress.event(Event::CacheLimited { limit, limited: &limited }),
            Err(error) => {
                let text = format!("the build cache was not brought below its limit: {error}");
                self.backend.progress.event(Event::Note { text: &text });
            }
        }
    }

    fn hold_own_cache(&self) {
        let ops = self.graph.nodes().map(|(_, node)| &node.op);
        for op in ops.filter(|op| matches!(op, Op::Exec(_) | Op::File(_))) {
            let _held_if_found = self.backend.store.recall(&definition_key(op, &self.platform).key);
        }
    }
}
