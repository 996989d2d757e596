//! Judgements that are no linearizability: what must be true of a history as a whole, told by one
//! definition each.
//!
//! Most are those that Jepsen's users know (sets, counters, queues, banks, …); the others say how
//! much weaker than one copy a target is: sessions, causality, sequential consistency, staleness.
//! Every module says its definition and where that is from. None of them guesses: what can't be
//! told is unknown.

mod bank;
mod causal;
mod comments;
mod counter;
mod counts;
mod exceptions;
mod findings;
mod holders;
mod long_fork;
mod order;
mod queue;
mod search;
mod sequential;
mod session;
mod set;
mod set_full;
mod staleness;
mod unique_ids;
mod versions;

use std::collections::HashMap;

use duress_history::formats::{Operation, Value};

use self::findings::Findings;

use crate::{Class, Judge, Report, Run, Settings, words};

pub(super) use bank::{BANK, BANK_OVERDRAFT};
pub(super) use causal::{CAUSAL, CAUSAL_PER_KEY};
pub(super) use comments::COMMENTS;
pub(super) use counter::COUNTER_BOUNDS;
pub(super) use exceptions::EXCEPTIONS;
pub(super) use holders::{MUTEX_FAIR, RW_LOCK, SEMAPHORE};
pub(super) use long_fork::LONG_FORK;
pub(super) use queue::{EXACTLY_ONCE_QUEUE, TOTAL_QUEUE};
pub(super) use sequential::{SEQUENTIAL, SEQUENTIAL_PER_KEY};
pub(super) use session::{MONOTONIC_READS, MONOTONIC_WRITES, READ_YOUR_WRITES, SESSION, WRITES_FOLLOW_READS};
pub(super) use set::SET_FINAL;
pub(super) use set_full::SET_FULL;
pub(super) use staleness::STALENESS;
pub(super) use unique_ids::UNIQUE_IDS;

/// One judgement: a name, and the function that judges.
pub(super) struct Judgement {
    name: &'static str,
    about: &'static str,
    judge: fn(&Run<'_>, &Settings) -> Result<Findings, Unfit>,
}

/// The first operation that a judgement has no meaning for, and why.
struct Unfit {
    line: usize,
    why: String,
}

impl Unfit {
    fn new(operation: &Operation, why: impl Into<String>) -> Unfit {
        Unfit { line: operation.invoked.line, why: why.into() }
    }

    /// An operation whose function means nothing here.
    fn function(operation: &Operation, known: &str) -> Unfit {
        Unfit::new(operation, format!("it is a {}, and only {known} are known", operation.op.f))
    }
}

impl Judge for Judgement {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn judge(&self, history: &Run<'_>, settings: &Settings) -> Report {
        super::of_the_workload(history, |history| match (self.judge)(history, settings) {
            Ok(findings) => findings.report(self.name),
            Err(Unfit { line, why }) => {
                let summary = format!("Line {line} has no meaning for {}: {why}.", self.name);
                Report::unknown(self.name, Class::Inconclusive, summary)
            }
        })
    }
}

/// The operations of each key, as indices, keys in the order in which they first appear.
fn by_key<'r>(history: &'r Run<'_>) -> Vec<(Option<&'r Value>, Vec<usize>)> {
    let mut known: HashMap<Option<&Value>, usize> = HashMap::new();
    let mut keys: Vec<(Option<&Value>, Vec<usize>)> = Vec::new();
    for (at, operation) in history.operations.iter().enumerate() {
        let key = operation.op.key.as_ref();
        let place = *known.entry(key).or_insert_with(|| {
            keys.push((key, Vec::new()));
            keys.len() - 1
        });
        keys[place].1.push(at);
    }
    keys
}

/// ` of key 3`, where the history has keys.
fn of_key(key: Option<&Value>) -> String {
    key.map_or(String::new(), |key| format!(" of {key}"))
}

/// An operation as a person finds it again: `process 3's add 5 (lines 4 to 9)`.
fn told(operation: &Operation) -> String {
    let value = match (&operation.op.value, &operation.result) {
        (Value::Nil, Some(Value::Nil) | None) => String::new(),
        (Value::Nil, Some(result)) => format!(" -> {}", short(result)),
        (argument, Some(result)) if argument != result && *result != Value::Nil && !operation.op.f.reads() => {
            format!(" {} -> {}", short(argument), short(result))
        }
        (_, Some(result)) if operation.op.f.reads() => format!(" -> {}", short(result)),
        (argument, _) => format!(" {}", short(argument)),
    };
    format!("process {}'s {}{value} ({})", operation.process.0, operation.op.f, lines(operation))
}

/// Where an operation stands: `line 4`, `lines 4 to 9`; of a run of ours who asked whom and when,
/// `c1 to n2, 1.204 s to 1.310 s`.
fn lines(operation: &Operation) -> String {
    if let Some(place) = words::place(operation) {
        return place;
    }
    match operation.completed {
        Some(end) if end.line != operation.invoked.line => format!("lines {} to {}", operation.invoked.line, end.line),
        _ => format!("line {}", operation.invoked.line),
    }
}

/// A value, cut to what fits a sentence.
fn short(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Some values, sorted, cut to what fits a sentence.
fn some(values: &[&Value]) -> String {
    let mut values = values.to_vec();
    values.sort();
    let names: Vec<String> = values.iter().take(13).map(|value| short(value)).collect();
    let more = values.len() - names.len().min(12);
    if values.len() > names.len() || names.len() > 12 {
        return format!("{} and {more} more", names[..12].join(", "));
    }
    crate::words::list(&names, 12)
}

/// Where an operation ends in the order of the history; beyond all if it never did.
fn end(operation: &Operation) -> u64 {
    operation.completed.map_or(u64::MAX, |moment| moment.index)
}

/// The time between two moments in nanoseconds, if the history says it; zero if not later.
fn nanos(from: Option<i64>, to: Option<i64>) -> Option<u64> {
    Some(u64::try_from(to?.saturating_sub(from?)).unwrap_or(0))
}
