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
//! A search whose budget runs out can go on with another ([`KeySearch`]); a history that grows can
//! be followed event by event ([`online`]).
//!
//! Certificates: asked to, `valid` comes with an order, which [`verify`] (which shares
//! nothing with the search) accepts or not.

mod antichain;
mod certificate;
mod frontier;
mod growing;
mod history;
mod judge;
mod mask;
pub mod online;
mod pending;
mod prepare;
mod search;
mod sort;
mod values;
pub mod verify;
mod zones;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::history::{Action, History, Operation, PENDING};
pub use self::judge::KeySearch;

use self::judge::{Judge, rename};
use self::sort::WORTH_THREADS;
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
/// is searched on alone. Fixed, so that an answer doesn't depend on the number of threads.
const MEMORY_SHARES: usize = 32;

/// How many searches that need more memory are kept to be continued; the others start again.
const PARKED: usize = 4;

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
    let parked = Mutex::new(BTreeMap::new());
    let share = budget.memory_bytes / MEMORY_SHARES;
    let work = || {
        let mut judge = Judge::new(deadline, share, certify);
        let mut answers = Vec::new();
        while let Some(key) = largest_first.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answer = judge.key(history.initial, &sorted, *key);
            if needs_memory(&answer)
                && let Ok(mut parked) = parked.lock()
                && parked.len() < PARKED
            {
                parked.insert(*key, std::mem::replace(&mut judge, Judge::new(deadline, share, certify)));
            }
            answers.push((*key, answer));
        }
        answers
    };
    let mut answers: Vec<(u32, KeyAnswer)> =
        if count < WORTH_THREADS { work() } else { rayon::broadcast(|_| work()).into_iter().flatten().collect() };
    answers.sort_unstable_by_key(|(key, _)| *key);
    let mut parked = parked.into_inner().unwrap_or_default();
    // What is parked keeps its share.
    let alone = budget.memory_bytes - share * PARKED;
    let mut judge = Judge::new(deadline, alone, certify);
    let again = |(key, answer): (u32, KeyAnswer)| match parked.remove(&key) {
        Some(mut parked) => parked.resume(deadline, alone),
        None if needs_memory(&answer) => judge.key(history.initial, &sorted, key),
        None => answer,
    };
    answers.into_iter().map(again).collect()
}

fn needs_memory(answer: &KeyAnswer) -> bool {
    matches!(answer.outcome, Outcome::Unknown { limit: Limit::Memory, .. })
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
