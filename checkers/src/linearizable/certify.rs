//! Verdicts confirmed by other means than those that found them. Shares no code with the engine.

use std::collections::HashSet;

use super::history::KeyEntry;
use crate::budget::Deadline;
use crate::register::{Register, RegisterOp, RegisterRet};
use crate::wgl::{self, Outcome};

/// Why an order of entries is no linearization; `None`: it is one. Linear in time.
pub(super) fn flaw(initial: u32, entries: &[KeyEntry], order: &[usize]) -> Option<&'static str> {
    let mut placed = vec![false; entries.len()];
    let (mut held, mut latest_call) = (initial, 0);
    for at in order {
        let Some(entry) = entries.get(*at).filter(|_| !placed[*at]) else { return Some("an operation comes twice") };
        placed[*at] = true;
        latest_call = latest_call.max(entry.invoked);
        if entry.returned.as_ref().is_some_and(|(end, _)| *end < latest_call) {
            return Some("an operation comes after one that began when it was over");
        }
        match step(entry, held) {
            Some(after) => held = after,
            None => return Some("an operation gives another result"),
        }
    }
    let missing = entries.iter().zip(placed).any(|(entry, placed)| entry.returned.is_some() && !placed);
    missing.then_some("an operation is missing")
}

/// What a register holds after an entry, if it gives its result there.
fn step(entry: &KeyEntry, held: u32) -> Option<u32> {
    match (&entry.op, entry.returned.as_ref().map(|(_, ret)| ret)) {
        (RegisterOp::Read, Some(RegisterRet::Value(value))) => (*value == held).then_some(held),
        (RegisterOp::Read, None) => Some(held),
        (RegisterOp::Write(to), Some(RegisterRet::Done) | None) => Some(*to),
        (RegisterOp::Cas { from, to }, Some(RegisterRet::Done) | None) => (*from == held).then_some(*to),
        (RegisterOp::Cas { from, .. }, Some(RegisterRet::Mismatch)) => (*from != held).then_some(held),
        _ => None,
    }
}

/// More dead ends than this are not remembered.
const MOST_DEAD_ENDS: usize = 1 << 20;

/// Whether a few entries have an order, by trying all; by the general search if there are too many
/// for that. `None`: there was no time to tell.
pub(super) fn has_order(initial: u32, entries: &[KeyEntry], deadline: Deadline, memory_bytes: usize) -> Option<bool> {
    if entries.len() <= 64 {
        let all = u64::MAX.checked_shr(64 - entries.len() as u32).unwrap_or(0);
        if let Some(found) = try_all(entries, initial, all, &mut HashSet::new(), deadline) {
            return Some(found);
        }
    }
    match wgl::search_until(Register(initial), entries, deadline, memory_bytes) {
        Outcome::Linearizable { .. } => Some(true),
        Outcome::NotLinearizable { .. } => Some(false),
        Outcome::Unknown { .. } => None,
    }
}

/// Tries every entry that may come next, and what then is left. `None`: too many dead ends.
fn try_all(
    entries: &[KeyEntry],
    held: u32,
    left: u64,
    dead: &mut HashSet<(u32, u64)>,
    deadline: Deadline,
) -> Option<bool> {
    let members = || (0..entries.len()).filter(move |i| left >> i & 1 == 1);
    let Some(first_end) = members().filter_map(|i| entries[i].returned.as_ref().map(|(end, _)| *end)).min() else {
        return Some(true);
    };
    if dead.contains(&(held, left)) {
        return Some(false);
    }
    // Of a return and an invocation at the same moment, the invocation comes first.
    for i in members().filter(|i| entries[*i].invoked <= first_end) {
        if let Some(after) = step(&entries[i], held)
            && try_all(entries, after, left & !(1 << i), dead, deadline)?
        {
            return Some(true);
        }
    }
    dead.insert((held, left));
    (dead.len() < MOST_DEAD_ENDS && !(dead.len().is_multiple_of(256) && deadline.passed())).then_some(false)
}
