//! What a run has tested: which faults met whom, in which situation.

use std::collections::BTreeMap;
use std::fmt;

/// A fault, or something else worth counting, and what it met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Situation {
    /// What happened: `crash`, `partition`, `restart`, ….
    pub what: &'static str,
    /// The role of the node that it happened to: `leader`, …; `client` for a client host.
    pub whom: &'static str,
    /// What the cluster was doing: `during an election`, …; of a restart, how the log was found.
    pub when: &'static str,
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.what, self.whom, self.when)
    }
}

/// How often each situation came about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    counts: BTreeMap<Situation, u64>,
}

impl Coverage {
    pub(crate) fn count(&mut self, what: &'static str, whom: &'static str, when: &'static str) {
        *self.counts.entry(Situation { what, whom, when }).or_default() += 1;
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Coverage) {
        for (situation, count) in &other.counts {
            *self.counts.entry(*situation).or_default() += count;
        }
    }

    /// Every situation that came about, and how often.
    pub fn counts(&self) -> &BTreeMap<Situation, u64> {
        &self.counts
    }

    /// The same in words: `crash: leader during an election`.
    pub fn named(&self) -> BTreeMap<String, u64> {
        self.counts.iter().map(|(situation, count)| (situation.to_string(), *count)).collect()
    }
}
