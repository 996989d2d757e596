//! A timed list of faults.

use std::time::Duration;

use crate::{Fault, Trigger};

/// A fault and when it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timed {
    /// Names the fault within its run, and is the key of every decision about it. It stays with
    /// the fault when others are removed from the schedule.
    pub number: u64,
    /// When it is injected: since the main phase began, or since its trigger fired.
    pub at: Duration,
    /// How long until it is healed.
    pub lasts: Duration,
    /// What is done.
    pub fault: Fault,
    /// What it waits for first.
    pub when: Option<Trigger>,
}

impl Timed {
    /// When it is healed: since the main phase began, or since its trigger fired.
    pub fn end(&self) -> Duration {
        self.at.saturating_add(self.lasts)
    }
}

/// Faults in the order of their injection. They may overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Schedule {
    faults: Vec<Timed>,
}

impl Schedule {
    /// A schedule of these faults, put in the order of their injection.
    pub fn new(mut faults: Vec<Timed>) -> Schedule {
        faults.sort_by_key(|timed| (timed.at, timed.number));
        Schedule { faults }
    }

    /// The faults, in the order of their injection.
    pub fn faults(&self) -> &[Timed] {
        &self.faults
    }

    /// When the last fault has been healed, as far as that is known before anything is run:
    /// faults that wait for something are taken to have found it at once.
    pub fn end(&self) -> Duration {
        self.faults.iter().map(Timed::end).max().unwrap_or_default()
    }
}
