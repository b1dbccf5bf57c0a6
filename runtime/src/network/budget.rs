//! How many sockets the relay may hold open: a part of what the process may, so that a container cannot take them all.

use std::sync::Arc;

use rustix::process::{Resource, getrlimit};

/// With no limit of the process, this many.
const MOST: usize = 16_384;

/// The sockets that may still be opened.
#[derive(Debug)]
pub(super) struct Budget {
    permits: Arc<()>,
    limit: usize,
}

/// The right to hold one socket open, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _counted: Arc<()>,
}

impl Budget {
    /// Half of the descriptors that the process may open.
    pub(super) fn of_the_process() -> Budget {
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
        Budget::new(descriptors.map_or(MOST, |descriptors| MOST.min(descriptors / 2)))
    }

    pub(super) fn new(limit: usize) -> Budget {
        Budget { permits: Arc::new(()), limit }
    }

    /// Returns a permit while there are any.
    pub(super) fn take(&self) -> Option<Permit> {
        // One reference is the budget's own.
        let given = Arc::strong_count(&self.permits) - 1;
        (given < self.limit).then(|| Permit { _counted: Arc::clone(&self.permits) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_can_be_taken_again_when_it_was_given_back() {
        let budget = Budget::new(2);
        let (first, second) = (budget.take(), budget.take());
        assert!(first.is_some() && second.is_some() && budget.take().is_none());
        drop(first);
        assert!(budget.take().is_some());
    }
}
