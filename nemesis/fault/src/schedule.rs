//! A timed list of faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::{Fault, Lookout, Trigger, Turn};

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

    /// When each fault begins at the earliest, by its number: what is waited for of the cluster is
    /// taken to happen as soon as the main phase begins, and other faults to be injected at once
    /// and healed in their time. Faults that can never begin, because they wait for each other,
    /// are not in it.
    ///
    /// Takes time quadratic in the number of faults.
    pub fn earliest(&self) -> BTreeMap<u64, Duration> {
        let mut lookout = Lookout::over(&self.faults);
        lookout.begin();
        let by_number: BTreeMap<u64, &Timed> = self.faults.iter().map(|timed| (timed.number, timed)).collect();
        // What is going to happen: when, what, of which fault.
        let mut coming: BTreeSet<(Duration, Turn, u64)> = BTreeSet::new();
        for timed in &self.faults {
            if !matches!(timed.when, Some(Trigger::Faults { .. })) {
                coming.insert((timed.at, Turn::Starts, timed.number));
            }
        }
        let mut earliest = BTreeMap::new();
        while let Some((now, turn, number)) = coming.pop_first() {
            if turn == Turn::Starts {
                earliest.insert(number, now);
                let lasts = by_number.get(&number).map_or(Duration::ZERO, |timed| timed.lasts);
                coming.insert((now.saturating_add(lasts), Turn::Ends, number));
            }
            for fired in lookout.fault(number, turn) {
                let after = by_number.get(&fired).map_or(Duration::ZERO, |timed| timed.at);
                coming.insert((now.saturating_add(after), Turn::Starts, fired));
            }
        }
        earliest
    }

    /// The same faults numbered from one, in their order, for a place where numbers are positions.
    /// Triggers follow; one that waits only for faults that are not there has nothing to wait for.
    pub fn renumbered(&self) -> Vec<Timed> {
        let numbers: BTreeMap<u64, u64> =
            self.faults.iter().zip(1..).map(|(timed, number)| (timed.number, number)).collect();
        let renumber = |timed: &Timed| {
            let mut timed = timed.clone();
            timed.number = numbers[&timed.number];
            if let Some(Trigger::Faults { numbers: waited, .. }) = &mut timed.when {
                *waited = waited.iter().filter_map(|number| numbers.get(number).copied()).collect();
                if waited.is_empty() {
                    timed.when = None;
                }
            }
            timed
        };
        self.faults.iter().map(renumber).collect()
    }
}
