//! Seats: the processes that carry out operations, and what each is doing.

use duress_history::Op;
use duress_machine::client::Call;
use smol_str::SmolStr;

use crate::fleet::Held;

/// What a seat is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It takes operations from the generator.
    Slot,
    /// It asks a node whether it serves; and whether that has been answered.
    Probe { answered: bool },
    /// It asks one of the final questions.
    Final,
}

/// A question of the final phase.
#[derive(Clone, Debug)]
pub(crate) struct Final {
    pub(crate) node: usize,
    pub(crate) op: Op,
}

/// A process in progress: who it is, where it runs, whom it asks.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) purpose: Purpose,
    pub(crate) process: u64,
    /// Operations of this process so far.
    pub(crate) sequence: u64,
    pub(crate) client: usize,
    pub(crate) node: usize,
    /// Whom it asks first.
    pub(crate) first: usize,
    /// Operations of this seat so far.
    pub(crate) operations: u64,
    /// Counts what the client host waits for; what belongs to an earlier one is void.
    pub(crate) attempt: u32,
    pub(crate) doing: Option<Doing>,
    /// When the attempt's time is up by the host's clock, when that is, and for when that has been
    /// put down.
    pub(crate) deadline: u64,
    pub(crate) timeout_at: u64,
    pub(crate) alarm_at: Option<u64>,
    pub(crate) last_error: SmolStr,
}

/// An operation in progress.
#[derive(Debug)]
pub(crate) struct Doing {
    pub(crate) op: Op,
    pub(crate) invoked: u64,
    /// When the client host began, by its own clock.
    pub(crate) begun: u64,
    pub(crate) call: Option<Call>,
    /// What is asked; every attempt sends a copy.
    pub(crate) request: Option<Held>,
    /// The node that the attempt in progress went to, and in which life of it, if a connection
    /// was made.
    pub(crate) asked: Option<(usize, u32)>,
    /// It waits for an answer.
    pub(crate) waiting: bool,
}
