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
mod frontier;
mod history;
mod mask;
mod pending;
mod prepare;
mod search;
mod sort;
mod values;
pub mod verify;
mod zones;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::history::{Action, History, Operation, PENDING};

use self::frontier::Meter;
use self::prepare::Problem;
use self::search::Search;
use self::sort::{Record, Sorted, WORTH_THREADS};
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

/// The most operations that can be numbered.
const MOST: usize = 1 << 30;

/// Judges every key of a history; the answers are in the order of the keys. `certify`: with an
/// order for each key that has one, at a cost in memory. More than 2³⁰ operations are too many for
/// any budget.
pub fn check(history: &History, budget: &Budget, certify: bool) -> Vec<KeyAnswer> {
    let deadline = Deadline::after(budget.time);
    let count = history.operations.len();
    if count > MOST {
        let outcome = Outcome::Unknown { valid_up_to: 0, limit: Limit::Memory };
        let answer = KeyAnswer { outcome, method: Method::Configurations, completed: 0 };
        return vec![answer; history.keys as usize];
    }
    if history.keys == 1 {
        let mut judge = Judge::new(deadline, budget.memory_bytes, certify);
        return vec![judge.operations(history.initial, &history.operations)];
    }
    let sorted = sort::by_key(history);
    let largest_first = sorted.largest_first(history.keys);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut judge = Judge::new(deadline, budget.memory_bytes / MEMORY_SHARES, certify);
        let mut answers = Vec::new();
        while let Some(key) = largest_first.get(next.fetch_add(1, Ordering::Relaxed)) {
            answers.push((*key, judge.key(history.initial, &sorted, *key)));
        }
        answers
    };
    let mut answers: Vec<(u32, KeyAnswer)> =
        if count < WORTH_THREADS { work() } else { rayon::broadcast(|_| work()).into_iter().flatten().collect() };
    answers.sort_unstable_by_key(|(key, _)| *key);
    let mut alone = Judge::new(deadline, budget.memory_bytes, certify);
    let again = |(key, answer): (u32, KeyAnswer)| match answer.outcome {
        Outcome::Unknown { limit: Limit::Memory, .. } => alone.key(history.initial, &sorted, key),
        _ => answer,
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
    let Some((history, ids)) = history::of_entries(initial, entries) else {
        return wgl::search_until(Register(initial), entries, deadline, memory_bytes);
    };
    let mut judge = Judge::new(deadline, memory_bytes, certify);
    let mut outcome = judge.operations(initial, &history.operations).outcome;
    rename(&mut outcome, |op| ids[op]);
    outcome
}

/// Calls operations by other names.
fn rename(outcome: &mut Outcome, name: impl Fn(usize) -> usize) {
    match outcome {
        Outcome::Linearizable { order } => order.iter_mut().for_each(|op| *op = name(*op)),
        Outcome::NotLinearizable { stuck } => *stuck = name(*stuck),
        Outcome::Unknown { .. } => {}
    }
}

/// Judges keys one after the other, in memory that is used again.
struct Judge {
    problem: Problem,
    search: Search,
    meter: Meter,
    certify: bool,
}

impl Judge {
    fn new(deadline: Deadline, memory_bytes: usize, certify: bool) -> Judge {
        let meter = Meter::new(deadline, memory_bytes);
        Judge { problem: Problem::default(), search: Search::default(), meter, certify }
    }

    /// Judges operations that are all of one key.
    fn operations(&mut self, initial: u32, operations: &[Operation]) -> KeyAnswer {
        self.problem.fill(initial, || operations.iter().enumerate().map(|(id, op)| Record::new(op, id)));
        self.judge()
    }

    fn key(&mut self, initial: u32, sorted: &Sorted, key: u32) -> KeyAnswer {
        self.problem.fill(initial, || sorted.records(key));
        self.judge()
    }

    fn judge(&mut self) -> KeyAnswer {
        let (mut outcome, method) = self.outcome();
        rename(&mut outcome, |op| self.problem.ids[op] as usize);
        KeyAnswer { outcome, method, completed: self.problem.completed }
    }

    fn outcome(&mut self) -> (Outcome, Method) {
        let Judge { problem, search, meter, certify } = self;
        if let Some(op) = problem.refuted {
            return (Outcome::NotLinearizable { stuck: op as usize }, Method::Refutation);
        }
        // Zones tell that there is no order, and not at which return; the search tells that too.
        if problem.unique
            && let Some(order) = zones::order(problem, *certify)
        {
            return (Outcome::Linearizable { order }, Method::Zones);
        }
        if let Some(outcome) = search.run(problem, meter, *certify) {
            return (outcome, Method::Configurations);
        }
        let (register, (entries, ids)) = (Register(problem.initial), problem.entries());
        let mut outcome = wgl::search_until(register, &entries, meter.deadline, meter.memory_bytes);
        rename(&mut outcome, |entry| ids[entry]);
        (outcome, Method::WingGongLowe)
    }
}
