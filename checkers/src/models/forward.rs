//! The forward search for any sequential specification: all configurations that the events so far
//! can have led to, from return to return.
//!
//! Just-in-time linearization (Lowe, *Testing for Linearizability*, 2017, §5): at a return, each
//! configuration in which the operation has not taken effect is replaced by those that follow from
//! it by letting operations in progress take effect, the returning one last. Where
//! [`crate::wgl`] remembers every configuration of the whole history, this holds only those of one
//! moment: where there is no order, or the state never repeats, it needs far less memory.

use std::collections::HashMap;
use std::hash::Hash;

use stateright::semantics::SequentialSpec;

use crate::Budget;
use crate::budget::Deadline;
use crate::wgl::{self, Entry, Limit, Outcome};

/// The memory, in bytes, that a depth-first search may use before it gives way to a forward one.
const FIRST_TRY: usize = 64 << 20;

/// How many configurations are followed up between two looks at the clock.
const CLOCK_INTERVAL: u32 = 256;

/// Searches depth first, which finds an order soonest where there is one, and forward if that takes
/// too much memory. An order is only sure to be given if `certify`.
pub(super) fn either<S>(
    initial: S,
    entries: &[Entry<S::Op, S::Ret>],
    deadline: Deadline,
    memory_bytes: usize,
    certify: bool,
) -> Outcome
where
    S: SequentialSpec + Clone + Hash + Eq,
{
    if certify || memory_bytes <= FIRST_TRY {
        return wgl::search_until(initial, entries, deadline, memory_bytes);
    }
    let first = wgl::search_until(initial.clone(), entries, deadline, FIRST_TRY);
    let Outcome::Unknown { valid_up_to, limit: Limit::Memory } = first else { return first };
    match run(initial, entries, deadline, memory_bytes) {
        Some(Outcome::Unknown { valid_up_to: other, limit }) => {
            Outcome::Unknown { valid_up_to: valid_up_to.max(other), limit }
        }
        Some(outcome) => outcome,
        None => first,
    }
}

/// Searches forward. `None` if more operations are in progress, or pending, at once than a mask has
/// bits. The order of [`Outcome::Linearizable`] is empty.
pub fn search<S>(initial: S, entries: &[Entry<S::Op, S::Ret>], budget: &Budget) -> Option<Outcome>
where
    S: SequentialSpec + Clone + Hash + Eq,
{
    run(initial, entries, Deadline::after(budget.time), budget.memory_bytes)
}

/// Which operations in progress have taken effect, by their slots.
type Mask = u128;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration<S> {
    done: Mask,
    state: S,
}

/// Configurations, each with the sets of pending operations that were used, none of which holds
/// another.
struct Known<S> {
    known: HashMap<Configuration<S>, Vec<Mask>>,
    list: Vec<(Configuration<S>, Mask)>,
}

impl<S: Clone + Hash + Eq> Known<S> {
    fn new() -> Self {
        Known { known: HashMap::new(), list: Vec::new() }
    }

    fn add(&mut self, configuration: Configuration<S>, used: Mask) {
        let sets = self.known.entry(configuration.clone()).or_default();
        if sets.iter().any(|set| set & !used == 0) {
            return;
        }
        sets.retain(|set| used & !set != 0);
        sets.push(used);
        self.list.push((configuration, used));
    }

    /// Estimated bytes in use.
    fn bytes(&self) -> usize {
        self.list.len() * (size_of::<Configuration<S>>() * 2 + 3 * size_of::<Mask>())
    }
}

fn run<S>(initial: S, entries: &[Entry<S::Op, S::Ret>], deadline: Deadline, memory_bytes: usize) -> Option<Outcome>
where
    S: SequentialSpec + Clone + Hash + Eq,
{
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(entries.len() * 2);
    for (at, entry) in entries.iter().enumerate() {
        events.push((entry.invoked, false, at));
        events.extend(entry.returned.as_ref().map(|(end, _)| (entry.invoked.max(*end), true, at)));
    }
    events.sort_unstable();
    let mut moment = Moment { entries, open: vec![None; 128], pending: Vec::new() };
    let mut slots = vec![0; entries.len()];
    let mut now = vec![(Configuration { done: 0, state: initial }, 0)];
    let (mut returned, mut until_clock) = (0, CLOCK_INTERVAL);
    for (_, returns, at) in events {
        if !returns && entries[at].returned.is_none() {
            moment.pending.push(at);
            if moment.pending.len() > 128 {
                return None;
            }
            continue;
        }
        if !returns {
            slots[at] = moment.open.iter().position(Option::is_none)?;
            moment.open[slots[at]] = Some(at);
            continue;
        }
        let last: Mask = 1 << slots[at];
        let (mut between, mut next) = (Known::new(), Known::new());
        for (mut configuration, used) in now {
            moment.settle(&mut configuration);
            between.add(configuration, used);
        }
        let mut followed = 0;
        while let Some((configuration, used)) = between.list.get(followed).cloned() {
            followed += 1;
            if configuration.done & last != 0 {
                next.add(Configuration { done: configuration.done & !last, ..configuration }, used);
                continue;
            }
            moment.follow(&configuration, used, |configuration, used| between.add(configuration, used));
            until_clock -= 1;
            let over = between.bytes() + next.bytes() > memory_bytes;
            if over || until_clock == 0 {
                until_clock = CLOCK_INTERVAL;
                let limit = if over { Some(Limit::Memory) } else { deadline.passed().then_some(Limit::Time) };
                if let Some(limit) = limit {
                    return Some(Outcome::Unknown { valid_up_to: returned, limit });
                }
            }
        }
        if next.list.is_empty() {
            return Some(Outcome::NotLinearizable { stuck: at });
        }
        moment.open[slots[at]] = None;
        now = next.list;
        returned += 1;
    }
    Some(Outcome::Linearizable { order: Vec::new() })
}

/// What is in progress.
struct Moment<'e, S: SequentialSpec> {
    entries: &'e [Entry<S::Op, S::Ret>],
    /// Operations that will return, by their slots.
    open: Vec<Option<usize>>,
    /// Operations of which nobody knows whether they took or will take effect.
    pending: Vec<usize>,
}

impl<S> Moment<'_, S>
where
    S: SequentialSpec + Clone + Hash + Eq,
{
    /// Lets everything take effect that changes nothing here and never would.
    fn settle(&self, configuration: &mut Configuration<S>) {
        for (slot, at) in self.open.iter().enumerate() {
            let Some(entry) = at.map(|at| &self.entries[at]).filter(|entry| entry.passive) else { continue };
            let bit = 1 << slot;
            if configuration.done & bit == 0 && self.step(entry, &configuration.state).is_some() {
                configuration.done |= bit;
            }
        }
    }

    /// The state after an operation that returned, if it fits.
    fn step(&self, entry: &Entry<S::Op, S::Ret>, state: &S) -> Option<S> {
        let (_, ret) = entry.returned.as_ref()?;
        let mut state = state.clone();
        state.is_valid_step(&entry.op, ret).then_some(state)
    }

    /// Everything that one more operation can lead to.
    fn follow(&self, from: &Configuration<S>, used: Mask, mut to: impl FnMut(Configuration<S>, Mask)) {
        for (slot, at) in self.open.iter().enumerate() {
            let Some(entry) = at.map(|at| &self.entries[at]) else { continue };
            let bit = 1 << slot;
            if from.done & bit == 0
                && !entry.passive
                && let Some(state) = self.step(entry, &from.state)
            {
                let mut configuration = Configuration { done: from.done | bit, state };
                self.settle(&mut configuration);
                to(configuration, used);
            }
        }
        for (rank, at) in self.pending.iter().enumerate() {
            let bit = 1 << rank;
            if used & bit != 0 {
                continue;
            }
            let mut state = from.state.clone();
            state.invoke(&self.entries[*at].op);
            // Without an effect it is better kept for later.
            if state != from.state {
                let mut configuration = Configuration { done: from.done, state };
                self.settle(&mut configuration);
                to(configuration, used | bit);
            }
        }
    }
}
