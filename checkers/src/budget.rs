//! How much a checker may spend. The only module of this crate that reads a clock.

use std::time::{Duration, Instant};

/// What checking a history may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Wall time for all checkers together. Checkers whose time grows linearly with the history
    /// don't look at it; searches do, and answer `unknown` when it is over.
    pub time: Duration,
    /// Memory, in bytes, that a search may use to remember where it has been. An estimate: the
    /// history itself and the allocator's overhead come on top.
    pub memory_bytes: usize,
}

impl Default for Budget {
    /// One minute and 2 GiB.
    fn default() -> Self {
        Budget { time: Duration::from_secs(60), memory_bytes: 2 << 30 }
    }
}

/// A budget whose time has begun to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    /// `None`: so far away that the clock can't express it.
    at: Option<Instant>,
}

impl Deadline {
    pub(crate) fn after(time: Duration) -> Deadline {
        Deadline { at: Instant::now().checked_add(time) }
    }

    pub(crate) fn passed(self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    pub(crate) fn remaining(self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }
}
