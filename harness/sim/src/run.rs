//! What comes out of a run.

use std::time::Duration;

use duress_history::{Event, Host};

use crate::Coverage;

/// A run that is over.
#[derive(Clone, Debug)]
pub struct SimRun {
    /// The history.
    pub events: Vec<Event>,
    /// A hash of everything that happened, in order. Equal plans give equal hashes.
    pub trace_hash: u64,
    /// How the run ended.
    pub ended: Ended,
    /// What it took.
    pub stats: Stats,
    /// What it tested.
    pub coverage: Coverage,
}

/// How a run ended, apart from its history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It came to its end: every node answered again after everything was healed.
    Complete {
        /// From the healing of all faults until every node had answered.
        recovery: Duration,
        /// Whether the logs of all nodes became equal within the bound; always so where there
        /// are no logs.
        converged: bool,
    },
    /// No client got an answer, though nothing had been done to the cluster.
    NeverServed,
    /// Everything was healed, or a quorum, and these nodes did not answer within the bound.
    Unavailable {
        /// The nodes that were down or cut off all the while; empty if everything was healed.
        away: Vec<Host>,
        /// Each with what it last said of itself and of the attempt to ask it.
        stuck: Vec<(Host, String)>,
    },
    /// The run was cut short at its bound on events.
    OutOfEvents,
    /// A machine panicked, and the run ended there.
    Panicked {
        /// The node whose machine it was; `None` if it was none's, but the simulator's own code.
        node: Option<Host>,
        /// The panic's words.
        said: String,
    },
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events handled, those that had become void included.
    pub events: u64,
    /// Inputs that machines handled.
    pub steps: u64,
    /// Messages sent between nodes.
    pub messages: u64,
    /// Messages between nodes that were lost.
    pub dropped: u64,
    /// Operations that ended, probes included.
    pub operations: u64,
    /// The virtual time that passed.
    pub simulated: Duration,
}
