//! What is left of an invalid history when everything is taken away that isn't needed for it to
//! be invalid; and how that is told, with the lines of the input.
//!
//! Only what keeps validity may be taken away: what was invoked after the return at which every
//! order failed, and classes of calls without which a valid history of the object stays valid
//! ([`super::object::Object::classes`]). So what is left has no order whatever the rest did.

use crate::Run;
use std::collections::BTreeMap;
use std::time::Duration;

use duress_history::Outcome as Ended;
use duress_history::formats::{Operation, Value};

use super::object::{Entries, Found, Object};
use crate::budget::Deadline;
use crate::wgl::{Entry, Outcome};
use crate::words;

/// How long taking away may last.
const LIMIT: Duration = Duration::from_secs(3);

/// How many cuts are tried.
const CUTS: usize = 64;

/// How many operations are listed.
const LISTED: usize = 24;

/// Calls that can't be ordered.
pub(super) struct Core {
    /// The calls, as indices, in the order of their invocations.
    pub(super) calls: Vec<usize>,
    /// The call at whose return every order fails.
    pub(super) blocking: Option<usize>,
    /// The rule that they break, if there is a short one.
    pub(super) rule: Option<&'static str>,
    /// Whether no class of calls can be taken away any more; otherwise there was no time left.
    pub(super) minimal: bool,
}

/// Reduces a part that has no order: from all of its calls, or from those that are known to have
/// none.
pub(super) fn of<O: Object>(
    object: &O,
    entries: &Entries<O::Spec>,
    from: Core,
    deadline: Deadline,
    memory: usize,
) -> Core {
    let limit = Deadline::after(LIMIT.min(deadline.remaining()));
    let by_rule = from.rule.is_some();
    let reduction = Reduction { object, entries, limit, memory, by_rule };
    let mut core = from;
    if let Some(stuck) = core.blocking {
        let end = |at: usize| entries[at].returned.as_ref().map_or(u64::MAX, |(end, _)| *end);
        if object.looks_ahead() {
            core = reduction.shortest(core, end(stuck), (0..entries.len()).map(end).collect());
        } else {
            core.calls.retain(|at| entries[*at].invoked < end(stuck));
        }
    }
    for cut in object.cuts(entries, &core.calls).into_iter().take(CUTS) {
        if let Some(less) = reduction.fails(cut) {
            core = less;
            break;
        }
    }
    let classes = object.classes(entries);
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for at in &core.calls {
        if let Some(class) = classes[*at] {
            groups.entry(class).or_default().push(*at);
        }
    }
    // The latest are kept longest: what fails, fails by what is near.
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.sort_by_key(|group| group.first().copied());
    let mut chunk = groups.len();
    while chunk > 0 {
        let mut from = 0;
        while from < groups.len() {
            if limit.passed() {
                core.minimal = false;
                return core;
            }
            let to = (from + chunk).min(groups.len());
            let gone: Vec<usize> = groups[from..to].iter().flatten().copied().collect();
            match reduction.fails(without(&core.calls, gone)) {
                Some(less) => {
                    core = less;
                    groups.drain(from..to);
                }
                None => from = to,
            }
        }
        chunk /= 2;
    }
    core
}

fn without(calls: &[usize], mut gone: Vec<usize>) -> Vec<usize> {
    gone.sort_unstable();
    calls.iter().copied().filter(|at| gone.binary_search(at).is_err()).collect()
}

struct Reduction<'o, O: Object> {
    object: &'o O,
    entries: &'o Entries<O::Spec>,
    limit: Deadline,
    memory: usize,
    /// Only what breaks a rule counts: the calls to start from are too few to be searched.
    by_rule: bool,
}

impl<O: Object> Reduction<'_, O> {
    /// What was invoked before the first return up to which there is no order: for searches that
    /// don't tell it. Before the return of `stuck` there is one. `ends`: when calls returned.
    fn shortest(&self, mut core: Core, stuck: u64, mut ends: Vec<u64>) -> Core {
        ends.sort_unstable();
        let (mut valid, mut invalid) = (ends.partition_point(|end| *end < stuck), ends.len());
        // It is rarely far from there.
        let mut step = 1;
        while valid < invalid && !self.limit.passed() {
            let middle = (valid + step - 1).min((valid + invalid) / 2);
            let calls = (0..self.entries.len()).filter(|at| self.entries[*at].invoked < ends[middle]).collect();
            match self.fails(calls) {
                Some(less) => (core, invalid) = (less, middle),
                None => valid = middle + 1,
            }
            step *= 2;
        }
        Core { blocking: None, ..core }
    }

    /// These calls as a core, if they have no order.
    fn fails(&self, calls: Vec<usize>) -> Option<Core> {
        let entries: Vec<Entry<_, _>> = calls.iter().map(|at| self.entries[*at].clone()).collect();
        match self.object.monitor(&entries) {
            Some(Found::Order) => return None,
            Some(Found::Contradiction { rule, .. }) => {
                return Some(Core { calls, blocking: None, rule: Some(rule), minimal: true });
            }
            None if self.by_rule => return None,
            None => {}
        }
        match self.object.search(&entries, self.limit, self.memory, false) {
            Outcome::NotLinearizable { stuck } => {
                let blocking = (!self.object.looks_ahead()).then_some(calls[stuck]);
                Some(Core { calls, blocking, rule: None, minimal: true })
            }
            _ => None,
        }
    }
}

/// The operations of a core's calls, ascending.
pub(super) fn operations(sources: &[u32], core: &Core) -> Vec<usize> {
    let mut operations: Vec<usize> = core.calls.iter().map(|at| sources[*at] as usize).collect();
    operations.sort_unstable();
    operations.dedup();
    operations
}

/// A core as one sentence and a list of operations, with the lines of the input.
pub(super) fn tell(history: &Run<'_>, key: &Option<Value>, sources: &[u32], core: &Core) -> (String, Vec<String>) {
    let of_core = operations(sources, core);
    let on = key.as_ref().map_or(String::new(), |key| format!(" on {key}"));
    let n = words::count(of_core.len(), "operation");
    let blocking = core.blocking.map(|at| &history.operations[sources[at] as usize]);
    let mut sentence = match (core.rule, blocking) {
        (Some(rule), _) => format!("{}{on}.", capital(rule)),
        (None, Some(op)) => {
            let line = op.completed.map_or(op.invoked.line, |end| end.line);
            let at = match (&op.client, op.ended()) {
                (Some(_), Some(end)) => format!("{end}"),
                _ => format!("line {line}"),
            };
            format!("No order of {n}{on} explains {}, which returned at {at}.", what(op))
        }
        (None, None) => format!("No order of {n}{on} explains every result."),
    };
    let mut lines = Vec::new();
    let skipped = of_core.len().saturating_sub(LISTED);
    let note = if core.minimal { "" } else { " (there was no time to look for fewer)" };
    let these = if of_core.len() == 1 { "This operation".into() } else { format!("These {n}") };
    lines.push(format!("{these}{on} can't be put in any order{note}:"));
    if skipped > 0 {
        lines.push(format!("  ({skipped} before these)"));
    }
    for at in &of_core[skipped..] {
        lines.push(format!("  {}", line(&history.operations[*at])));
    }
    if let (Some(_), [_, .., last]) = (core.rule, &of_core[..]) {
        let first = &history.operations[of_core[0]];
        let last = &history.operations[*last];
        let place = match (&first.client, last.ended()) {
            (Some(_), Some(end)) => format!("{} to {end}", first.began()),
            _ => format!("lines {} to {}", first.invoked.line, last_line(last)),
        };
        sentence = format!("{} ({place})", sentence.trim_end_matches('.'));
        sentence.push('.');
    }
    if let (Some(first), Some(last)) = (of_core.first(), of_core.last()) {
        let (first, last) = (&history.operations[*first], &history.operations[*last]);
        lines.extend(words::faults(history, first.began(), last.ended().unwrap_or(history.end)));
    }
    (sentence, lines)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn last_line(operation: &Operation) -> usize {
    operation.completed.map_or(operation.invoked.line, |end| end.line)
}

/// How many characters of a value are shown.
const SHOWN: usize = 60;

/// A value as it is written, its middle left out if it is long.
fn short(value: &Value) -> String {
    let whole = value.to_string();
    let length = whole.chars().count();
    if length <= SHOWN {
        return whole;
    }
    let start: String = whole.chars().take(SHOWN / 2).collect();
    let end: String = whole.chars().skip(length - SHOWN / 3).collect();
    format!("{start} ... {end}")
}

/// "the dequeue of process 3 that gave 7".
fn what(operation: &Operation) -> String {
    let asked =
        if operation.op.value == Value::Nil { String::new() } else { format!(" {}", short(&operation.op.value)) };
    let gave = match &operation.result {
        Some(result) if *result != operation.op.value => format!(" that gave {}", short(result)),
        _ => String::new(),
    };
    format!("the {}{asked} of process {}{gave}", operation.op.f, operation.process.0)
}

/// "lines 3-7: process 2: enqueue 5 -> ok"; of a run of ours with hosts and times instead of lines.
fn line(operation: &Operation) -> String {
    let lines = match (words::place(operation), operation.completed) {
        (Some(place), _) => place,
        (None, Some(end)) => format!("lines {}-{}", operation.invoked.line, end.line),
        (None, None) => format!("line {}", operation.invoked.line),
    };
    let key = operation.op.key.as_ref().map_or(String::new(), |key| format!(" {key}"));
    let asked =
        if operation.op.value == Value::Nil { String::new() } else { format!(" {}", short(&operation.op.value)) };
    let ended = match (&operation.result, operation.outcome) {
        (Some(result), Ended::Ok) if *result == operation.op.value => "ok".into(),
        (Some(result), Ended::Ok) => short(result),
        (None, Ended::Ok) => "ok".into(),
        (_, Ended::Fail) => "failed".into(),
        (_, Ended::Info) => "unknown".into(),
    };
    format!("{lines}: process {}: {}{key}{asked} -> {ended}", operation.process.0, operation.op.f)
}
