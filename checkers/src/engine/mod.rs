//! The linearizability engine for registers and cas registers: one entry point that picks the
//! cheapest sound method for each key.
//!
//! A history of many registers is linearizable if and only if that of each is (Herlihy and Wing,
//! TOPLAS 1990, §3.3), so each key is judged apart: refuted cheaply where a value is seen that
//! nobody can have set; by zones where every value is written at most once
//! and there is no cas; else by a forward search over configurations at returns.
//! [`crate::wgl`] stays the oracle that this is tested against, and the fallback for what has more
//! operations in progress at once than the search's masks hold.
//!
//! Certificates: asked to, `valid` comes with an order, which [`verify`] (which shares
//! nothing with the search) accepts or not.

mod antichain;
mod certificate;
mod mask;
mod pending;
mod prepare;
mod search;
pub mod verify;
mod zones;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::prepare::{Action, History, Operation, PENDING};

use self::prepare::{Problem, Scratch};
use crate::Budget;
use crate::budget::Deadline;
use crate::register::{Register, RegisterOp, RegisterRet};
use crate::wgl::{self, Entry, Limit, Outcome};

/// How a key was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// A value was seen that nobody can have set by then.
    Refutation,
    /// The zones of Gibbons and Korach.
    Zones,
    /// The forward search over configurations.
    Configurations,
    /// Wing, Gong and Lowe's search.
    WingGongLowe,
}

/// What the engine says of one key. Operations are named by their index in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The verdict. The order of [`Outcome::Linearizable`] is empty unless certificates were asked
    /// for.
    pub outcome: Outcome,
    /// How it was found.
    pub method: Method,
    /// How many of the key's operations returned.
    pub completed: usize,
}

/// While keys are searched in parallel each has this share of the memory; a key that needs more
/// is searched again alone. Fixed, so that an answer doesn't depend on the number of threads.
const MEMORY_SHARES: usize = 32;

/// Judges every key of a history; the answers are in the order of the keys. `certify`: with an
/// order for each key that has one, at a cost in memory.
pub fn check(history: &History, budget: &Budget, certify: bool) -> Vec<KeyAnswer> {
    let deadline = Deadline::after(budget.time);
    let sorted = prepare::by_key(history);
    let mut largest_first: Vec<u32> = (0..history.keys).collect();
    largest_first.sort_by_key(|key| std::cmp::Reverse(sorted.events(*key).len()));
    let next = AtomicUsize::new(0);
    let work = |_: rayon::BroadcastContext<'_>| {
        let mut scratch = Scratch::default();
        let mut answers = Vec::new();
        while let Some(key) = largest_first.get(next.fetch_add(1, Ordering::Relaxed)) {
            let problem = Problem::new(history, sorted.events(*key), &mut scratch);
            answers.push((*key, judge(&problem, deadline, budget.memory_bytes / MEMORY_SHARES, certify)));
        }
        answers
    };
    let mut answers: Vec<(u32, KeyAnswer)> = rayon::broadcast(work).into_iter().flatten().collect();
    answers.sort_unstable_by_key(|(key, _)| *key);
    let mut scratch = Scratch::default();
    let again = |(key, answer): (u32, KeyAnswer)| {
        if matches!(answer.outcome, Outcome::Unknown { limit: Limit::Memory, .. }) {
            let problem = Problem::new(history, sorted.events(key), &mut scratch);
            return judge(&problem, deadline, budget.memory_bytes, certify);
        }
        answer
    };
    answers.into_iter().map(again).collect()
}

/// Searches for an order of one register's operations, as [`wgl::search`] does: the same meaning
/// of entries and outcomes, found by whichever method is cheapest.
pub fn search(initial: u32, entries: &[Entry<RegisterOp<u32>, RegisterRet<u32>>], budget: &Budget) -> Outcome {
    search_until(initial, entries, Deadline::after(budget.time), budget.memory_bytes, true)
}

pub(crate) fn search_until(
    initial: u32,
    entries: &[Entry<RegisterOp<u32>, RegisterRet<u32>>],
    deadline: Deadline,
    memory_bytes: usize,
    certify: bool,
) -> Outcome {
    let Some(history) = prepare::of_entries(initial, entries) else {
        return wgl::search_until(Register(initial), entries, deadline, memory_bytes);
    };
    let sorted = prepare::by_key(&history.0);
    let problem = Problem::new(&history.0, sorted.events(0), &mut Scratch::default());
    let mut outcome = judge(&problem, deadline, memory_bytes, certify).outcome;
    match &mut outcome {
        Outcome::Linearizable { order } => order.iter_mut().for_each(|at| *at = history.1[*at]),
        Outcome::NotLinearizable { stuck } => *stuck = history.1[*stuck],
        Outcome::Unknown { .. } => {}
    }
    outcome
}

fn judge(problem: &Problem, deadline: Deadline, memory_bytes: usize, certify: bool) -> KeyAnswer {
    let answer = |mut outcome, method| {
        match &mut outcome {
            Outcome::Linearizable { order } => order.iter_mut().for_each(|op| *op = problem.ids[*op] as usize),
            Outcome::NotLinearizable { stuck } => *stuck = problem.ids[*stuck] as usize,
            Outcome::Unknown { .. } => {}
        }
        KeyAnswer { outcome, method, completed: problem.completed }
    };
    if let Some(op) = problem.refuted {
        return answer(Outcome::NotLinearizable { stuck: op }, Method::Refutation);
    }
    // Zones tell that there is no order, and not at which return; the search tells that too.
    if problem.unique
        && let Some(order) = zones::order(problem, certify)
    {
        return answer(Outcome::Linearizable { order }, Method::Zones);
    }
    match search::run(problem, deadline, memory_bytes, certify) {
        Some(outcome) => answer(outcome, Method::Configurations),
        None => {
            let entries = problem.entries();
            answer(wgl::search_until(Register(problem.initial), &entries, deadline, memory_bytes), Method::WingGongLowe)
        }
    }
}
