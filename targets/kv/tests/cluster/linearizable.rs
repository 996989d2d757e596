//! A naive linearizability check of registers, key by key (Wing & Gong, with Lowe's memory of
//! states already tried), and a direct search for stale reads.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use duress_kv::api::{Key, Op, Refusal, Reply, Value};
use duress_machine::client::Outcome;

use super::Call;

#[derive(Clone, Debug)]
enum Step {
    Read(Option<Value>),
    Write(Value),
    Cas {
        from: Option<Value>,
        to: Value,
    },
    /// A cas that found something else.
    Mismatch {
        from: Option<Value>,
        actual: Option<Value>,
    },
}

#[derive(Clone, Debug)]
struct Operation {
    step: Step,
    invoked: Duration,
    /// `None`: it may take effect at any later time, or never.
    completed: Option<Duration>,
}

/// Whether the calls on every key could have happened one at a time; the first key whose calls
/// could not, with its calls.
pub fn check_registers(history: &[Call]) -> Result<(), String> {
    let mut keys: BTreeMap<Key, Vec<(Operation, &Call)>> = BTreeMap::new();
    for call in history {
        if let Some((key, operation)) = operation(call) {
            keys.entry(key).or_default().push((operation, call));
        }
    }
    for (key, mut calls) in keys {
        calls.sort_by_key(|(operation, _)| operation.invoked);
        let operations: Vec<Operation> = calls.iter().map(|(operation, _)| operation.clone()).collect();
        if !linearizable(&operations) {
            let lines: Vec<String> = operations.iter().map(|operation| format!("  {operation:?}")).collect();
            return Err(format!("{key} is not linearizable:\n{}", lines.join("\n")));
        }
    }
    Ok(())
}

/// A read that returned a value although a later write had been acknowledged before the read
/// began and the value's own write had been acknowledged before that one began. Values must be
/// unique.
pub fn stale_read(history: &[Call]) -> Option<String> {
    let writes: BTreeMap<(&Key, Option<&Value>), &Call> = history
        .iter()
        .filter_map(|call| match &call.op {
            Op::Write { key, value } => Some(((key, Some(value)), call)),
            _ => None,
        })
        .collect();
    for read in history {
        let (Op::Read { key }, Some(Reply::Value(value))) = (&read.op, read.ok()) else { continue };
        // An unset key was "written" before everything.
        let written = match value {
            None => Duration::ZERO,
            Some(value) => match writes.get(&(key, Some(value))).and_then(|call| call.completed.as_ref()) {
                Some((at, _)) => *at,
                None => continue,
            },
        };
        let newer = writes.values().find(|write| {
            matches!(&write.op, Op::Write { key: other, value: new } if other == key && Some(new) != value.as_ref())
                && write.ok().is_some()
                && write.invoked > written
                && write.completed.as_ref().is_some_and(|(at, _)| *at < read.invoked)
        });
        if let Some(newer) = newer {
            return Some(format!("{read:?} is older than {newer:?}"));
        }
    }
    None
}

fn operation(call: &Call) -> Option<(Key, Operation)> {
    let completed = call.completed.as_ref();
    let answer = completed.and_then(|(_, outcome)| match outcome {
        Outcome::Ok { answer, .. } | Outcome::Failed { answer: Some(answer) } => Some(&answer.result),
        _ => None,
    });
    let (key, step) = match (&call.op, answer) {
        (Op::Read { key }, Some(Ok(Reply::Value(value)))) => (key, Step::Read(value.clone())),
        (Op::Cas { key, from, .. }, Some(Err(Refusal::CasMismatch { actual }))) => {
            (key, Step::Mismatch { from: from.clone(), actual: actual.clone() })
        }
        _ if call.failed() => return None,
        (Op::Write { key, value }, _) => (key, Step::Write(value.clone())),
        (Op::Cas { key, from, to }, _) => (key, Step::Cas { from: from.clone(), to: to.clone() }),
        // Reads without an answer, scans and locks.
        _ => return None,
    };
    let completed = if call.unknown() { None } else { completed.map(|(at, _)| *at) };
    Some((key.clone(), Operation { step, invoked: call.invoked, completed }))
}

fn linearizable(operations: &[Operation]) -> bool {
    let done = vec![0u64; operations.len().div_ceil(64)];
    // An explicit stack: histories are longer than the thread's.
    let mut stack = vec![(done, None::<Value>)];
    let mut tried = HashSet::new();
    while let Some((done, state)) = stack.pop() {
        let is_done = |i: usize| done[i / 64] >> (i % 64) & 1 == 1;
        let open = || (0..operations.len()).filter(|i| !is_done(*i));
        if open().all(|i| operations[i].completed.is_none()) {
            return true;
        }
        let first_end = open().filter_map(|i| operations[i].completed).min().unwrap_or(Duration::MAX);
        for i in open() {
            if operations[i].invoked > first_end {
                break;
            }
            let Some(next) = apply(&operations[i].step, &state) else { continue };
            let mut done = done.clone();
            done[i / 64] |= 1 << (i % 64);
            if tried.insert((done.clone(), next.clone())) {
                stack.push((done, next));
            }
        }
    }
    false
}

fn apply(step: &Step, state: &Option<Value>) -> Option<Option<Value>> {
    match step {
        Step::Read(value) => (value == state).then(|| state.clone()),
        Step::Write(value) => Some(Some(value.clone())),
        Step::Cas { from, to } => (from == state).then(|| Some(to.clone())),
        Step::Mismatch { from, actual } => (actual == state && from != actual).then(|| state.clone()),
    }
}
