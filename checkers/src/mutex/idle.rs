//! Locks that nobody holds although somebody asks for them.

use std::time::Duration;

use duress_history::{Function, Operation, Phase, Time};

use super::holdings::Holding;
use crate::{Run, words};

/// What is known of a lock while nobody held it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Idle {
    /// The longest time from a request that was made while nobody held the lock to the next grant,
    /// or to the end of the run.
    pub(super) longest: Duration,
    /// How many asked for it after everything had been healed and nobody held it any more, if none
    /// of them was granted it: perhaps a deadlock.
    pub(super) in_vain: usize,
}

/// Finds the times at which nobody held a lock. O(n log n).
pub(super) fn idle(run: &Run<'_>, operations: &[usize], holdings: &[Holding]) -> Idle {
    let asked: Vec<Time> = operations
        .iter()
        .map(|at| &run.operations[*at])
        .filter(|operation| operation.op.f == Function::Acquire)
        .map(Operation::began)
        .collect();
    let mut held: Vec<(Time, Time)> = holdings.iter().map(|holding| (holding.from, holding.to)).collect();
    held.sort_unstable();
    let mut longest = Duration::ZERO;
    let mut free = Time(0);
    for (from, to) in held.into_iter().chain([(run.end, run.end)]) {
        let first = asked.get(asked.partition_point(|at| *at < free)).filter(|at| **at < from);
        longest = first.map_or(longest, |first| longest.max(words::between(*first, from)));
        if from < run.end {
            free = free.max(to);
        }
    }
    let in_vain = match run.phase_start(Phase::Recovery) {
        Some(healed) => asked.len() - asked.partition_point(|at| *at < healed.max(free)),
        None => 0,
    };
    Idle { longest, in_vain }
}
