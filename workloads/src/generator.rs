//! What every generator of operations offers.

use std::time::Duration;

use duress_history::{Completion, Op, Process};

/// One of the clients that work side by side. Its process changes after an indeterminate
/// operation; the slot remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// From zero to the concurrency, exclusive.
    pub index: usize,
    /// The process that the slot is at present.
    pub process: Process,
}

/// What a slot does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Invoke this operation now.
    Op(Op),
    /// Nothing until this time since the main phase began; ask again then. Always later than the
    /// time of asking.
    Wait(Duration),
    /// This slot is finished; don't ask again.
    Done,
}

/// An operation of the final phase, with the node that has to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalOp {
    /// Which node, from zero.
    pub node: usize,
    /// What is asked.
    pub op: Op,
}

/// A source of operations.
///
/// A slot has at most one operation in progress: between a [`Next::Op`] and the call of
/// [`completed`](Generator::completed) for it, the slot is not asked. Decisions are functions of
/// the seed, the slot, and the number of the slot's operation, so leaving out an operation of one
/// slot leaves the decisions of the others alone; what is shared between slots (which key is in
/// use, what was last read) follows the order of calls.
pub trait Generator: Send {
    /// What `who` does at time `now` since the main phase began.
    fn next(&mut self, who: Slot, now: Duration) -> Next;

    /// An operation of `who` ended at time `now`. `who` is the slot as it was when it invoked the
    /// operation.
    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration);

    /// The operations of the final phase, to be carried out when everything is healed and the
    /// target answers again. Each is a separate process's.
    fn finale(&self) -> Vec<FinalOp> {
        Vec::new()
    }
}

impl<G: Generator + ?Sized> Generator for Box<G> {
    fn next(&mut self, who: Slot, now: Duration) -> Next {
        (**self).next(who, now)
    }

    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration) {
        (**self).completed(who, completion, now);
    }

    fn finale(&self) -> Vec<FinalOp> {
        (**self).finale()
    }
}
