//! From a history of many keys to one small problem per key: events sorted by key, values
//! numbered from 0, what can't matter left out, cheap refutations found on the way.

use crate::register::{RegisterOp, RegisterRet};
use crate::wgl::Entry;

/// What an operation did to a register, if it took effect. Values are numbers that stand for
/// values: the fewer and smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It read this.
    Read(u32),
    /// It set this.
    Write(u32),
    /// It found `from` and set `to`.
    Cas {
        /// What it found.
        from: u32,
        /// What it set.
        to: u32,
    },
    /// It found anything but this: a cas that didn't match.
    Differs(u32),
}

/// [`Operation::returned`] of an operation of which nobody knows whether it took or will take
/// effect.
pub const PENDING: u32 = u32::MAX;

/// One operation of a history. What certainly had no effect and told nothing must be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The register.
    pub key: u32,
    /// What it did.
    pub action: Action,
    /// The place of its invocation in the order of all events.
    pub invoked: u32,
    /// The place of its return, or [`PENDING`].
    pub returned: u32,
}

/// The operations of many registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The operations, in any order; their events' places must all be different and should be
    /// close together.
    pub operations: Vec<Operation>,
    /// How many registers there are; each operation's key is below.
    pub keys: u32,
    /// What every register holds at first.
    pub initial: u32,
}

/// An event: an operation's index times two, and one more for its return.
type Event = u32;

/// All events in their order, key by key.
pub(super) struct Sorted {
    events: Vec<Event>,
    /// Where each key's events start, and where the last one's end.
    starts: Vec<u32>,
}

impl Sorted {
    pub(super) fn events(&self, key: u32) -> &[Event] {
        &self.events[self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize]
    }
}

/// Sorts events by place and key, in linear time (two counting sorts).
pub(super) fn by_key(history: &History) -> Sorted {
    let last = history.operations.iter().map(|op| if op.returned == PENDING { op.invoked } else { op.returned }).max();
    let mut at = vec![u32::MAX; last.map_or(0, |last| last as usize + 1)];
    let mut starts = vec![0u32; history.keys as usize + 1];
    for (i, op) in history.operations.iter().enumerate() {
        at[op.invoked as usize] = i as u32 * 2;
        let mut events = 1;
        if op.returned != PENDING {
            at[op.returned as usize] = i as u32 * 2 + 1;
            events = 2;
        }
        starts[op.key as usize + 1] += events;
    }
    if history.keys == 1 {
        at.retain(|event| *event != u32::MAX);
        return Sorted { events: at, starts };
    }
    for key in 1..starts.len() {
        starts[key] += starts[key - 1];
    }
    let mut next = starts.clone();
    let mut events = vec![0; starts.last().copied().unwrap_or(0) as usize];
    for event in at.into_iter().filter(|event| *event != u32::MAX) {
        let place = &mut next[history.operations[event as usize / 2].key as usize];
        events[*place as usize] = event;
        *place += 1;
    }
    Sorted { events, starts }
}

/// One register's entries as a history, and which entry each operation is. `None` if there are
/// more than can be numbered.
pub(super) fn of_entries(
    initial: u32,
    entries: &[Entry<RegisterOp<u32>, RegisterRet<u32>>],
) -> Option<(History, Vec<usize>)> {
    if entries.len() >= (u32::MAX / 4) as usize {
        return None;
    }
    let mut operations = Vec::with_capacity(entries.len());
    let mut ids = Vec::with_capacity(entries.len());
    let mut events = Vec::with_capacity(entries.len() * 2);
    for (i, entry) in entries.iter().enumerate() {
        let action = match (&entry.op, entry.returned.as_ref().map(|(_, ret)| ret)) {
            (RegisterOp::Read, Some(RegisterRet::Value(value))) => Action::Read(*value),
            (RegisterOp::Write(value), Some(RegisterRet::Done) | None) => Action::Write(*value),
            (RegisterOp::Cas { from, to }, Some(RegisterRet::Done) | None) => Action::Cas { from: *from, to: *to },
            (RegisterOp::Cas { from, .. }, Some(RegisterRet::Mismatch)) => Action::Differs(*from),
            (RegisterOp::Read, None) => continue,
            // A result that no register gives: the general search says what follows from it.
            _ => return None,
        };
        let index = operations.len() as u32;
        operations.push(Operation { key: 0, action, invoked: 0, returned: PENDING });
        ids.push(i);
        events.push((entry.invoked, index * 2));
        if let Some((end, _)) = entry.returned {
            // Of events at the same moment, invocations come first.
            events.push((end.max(entry.invoked), index * 2 + 1));
        }
    }
    events.sort_unstable_by_key(|(at, event)| (*at, event % 2, *event));
    for (place, (_, event)) in events.into_iter().enumerate() {
        let op = &mut operations[event as usize / 2];
        *(if event.is_multiple_of(2) { &mut op.invoked } else { &mut op.returned }) = place as u32;
    }
    Some((History { operations, keys: 1, initial }, ids))
}

/// Memory that is used again for the next key.
#[derive(Default)]
pub(super) struct Scratch {
    /// Each value's number in the present key, and for which key that was noted.
    numbers: Vec<(u32, u32)>,
    /// For values too large for a table.
    large: std::collections::BTreeMap<u32, u32>,
    /// Each operation's number in the present key: only read after it was written for this key.
    ops: Vec<u32>,
    key: u32,
}

/// One operation of a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) action: Action,
    /// Its place among the problem's events.
    pub(super) call: u32,
    /// Its place among the problem's events, or [`PENDING`].
    pub(super) ret: u32,
}

/// One key's operations, ready to be ordered. An operation here is an index of `ops`.
pub(super) struct Problem {
    /// In the order of their calls.
    pub(super) ops: Vec<Op>,
    /// Which operation of the history each is.
    pub(super) ids: Vec<u32>,
    /// Calls (an operation times two) and returns (one more), in order.
    pub(super) events: Vec<Event>,
    /// Values are below this.
    pub(super) values: usize,
    pub(super) initial: u32,
    /// How many operations return.
    pub(super) completed: usize,
    /// The most operations with a return that are in progress at once.
    pub(super) widest: usize,
    /// The first operation to return that saw what nobody can have set.
    pub(super) refuted: Option<usize>,
    /// Nothing but reads and writes, and no two writes of one value, the initial one included.
    pub(super) unique: bool,
}

/// Values below this many times the operations are numbered by a table.
const TABLE_SPARSITY: usize = 4;

impl Problem {
    pub(super) fn new(history: &History, events: &[Event], scratch: &mut Scratch) -> Problem {
        scratch.key += 1;
        scratch.large.clear();
        scratch.ops.resize(history.operations.len(), 0);
        let limit = history.operations.len() * TABLE_SPARSITY + 1024;
        let mut values = 0;
        let mut number = |value: u32| -> u32 {
            if value as usize >= limit {
                return *scratch.large.entry(value).or_insert_with(|| {
                    values += 1;
                    values - 1
                });
            }
            if scratch.numbers.len() <= value as usize {
                scratch.numbers.resize(value as usize + 1, (0, 0));
            }
            let known = &mut scratch.numbers[value as usize];
            if known.0 != scratch.key {
                *known = (scratch.key, values);
                values += 1;
            }
            known.1
        };
        let initial = number(history.initial);
        let mut problem = Problem {
            ops: Vec::with_capacity(events.len().div_ceil(2)),
            ids: Vec::with_capacity(events.len().div_ceil(2)),
            events: Vec::with_capacity(events.len()),
            values: 0,
            initial,
            completed: 0,
            widest: 0,
            refuted: None,
            unique: true,
        };
        let mut pending = false;
        let mut open = 0;
        for event in events {
            let id = event / 2;
            let at = problem.events.len() as u32;
            if event % 2 == 1 {
                let op = scratch.ops[id as usize];
                problem.ops[op as usize].ret = at;
                problem.events.push(op * 2 + 1);
                problem.completed += 1;
                open -= 1;
                continue;
            }
            let operation = &history.operations[id as usize];
            let action = match operation.action {
                Action::Read(value) => Action::Read(number(value)),
                Action::Write(value) => Action::Write(number(value)),
                // Where it took effect it changed nothing, like a read.
                Action::Cas { from, to } if from == to => Action::Read(number(from)),
                Action::Cas { from, to } => Action::Cas { from: number(from), to: number(to) },
                Action::Differs(value) => Action::Differs(number(value)),
            };
            if operation.returned == PENDING {
                if matches!(action, Action::Read(_) | Action::Differs(_)) {
                    continue;
                }
                pending = true;
            } else {
                open += 1;
                problem.widest = problem.widest.max(open);
            }
            let op = problem.ops.len() as u32;
            scratch.ops[id as usize] = op;
            problem.ops.push(Op { action, call: at, ret: PENDING });
            problem.ids.push(id);
            problem.events.push(op * 2);
        }
        problem.values = values as usize;
        if pending {
            problem.leave_out_unseen();
        }
        problem.look_over();
        problem
    }

    /// Leaves out pending operations that set what nobody who counts saw. Take such a one away
    /// from any order: those between it and the next change still have their results.
    fn leave_out_unseen(&mut self) {
        // That a value isn't there can be seen of every other value.
        if self.ops.iter().any(|op| matches!(op.action, Action::Differs(_))) {
            return;
        }
        let mut seen = vec![false; self.values];
        for op in self.ops.iter().filter(|op| op.ret != PENDING) {
            if let Action::Read(value) | Action::Cas { from: value, .. } = op.action {
                seen[value as usize] = true;
            }
        }
        loop {
            let mut more = false;
            for op in self.ops.iter().filter(|op| op.ret == PENDING) {
                if let Action::Cas { from, to } = op.action {
                    more |= seen[to as usize] && !seen[from as usize];
                    seen[from as usize] |= seen[to as usize];
                }
            }
            if !more {
                break;
            }
        }
        let keep = |op: &Op| match op.action {
            Action::Write(to) | Action::Cas { to, .. } => op.ret != PENDING || seen[to as usize],
            _ => true,
        };
        let mut number = vec![u32::MAX; self.ops.len()];
        let mut kept = 0;
        for (op, number) in self.ops.iter().zip(&mut number) {
            if keep(op) {
                *number = kept;
                kept += 1;
            }
        }
        if kept as usize == self.ops.len() {
            return;
        }
        let mut numbers = number.iter();
        self.ids.retain(|_| numbers.next() != Some(&u32::MAX));
        let mut numbers = number.iter();
        self.ops.retain(|_| numbers.next() != Some(&u32::MAX));
        self.events.retain_mut(|event| {
            let op = number[*event as usize / 2];
            *event = op.wrapping_mul(2) + *event % 2;
            op != u32::MAX
        });
        for (at, event) in self.events.iter().enumerate() {
            let op = &mut self.ops[*event as usize / 2];
            *(if event.is_multiple_of(2) { &mut op.call } else { &mut op.ret }) = at as u32;
        }
    }

    /// Finds what is refuted cheaply, and whether values are unique.
    fn look_over(&mut self) {
        // When each value can first have been there.
        let mut set = vec![u32::MAX; self.values];
        set[self.initial as usize] = 0;
        for op in &self.ops {
            match op.action {
                Action::Write(to) | Action::Cas { to, .. } => {
                    self.unique &= set[to as usize] == u32::MAX && matches!(op.action, Action::Write(_));
                    set[to as usize] = set[to as usize].min(op.call);
                }
                Action::Differs(_) => self.unique = false,
                Action::Read(_) => {}
            }
        }
        let refuted = self.ops.iter().enumerate().filter(|(_, op)| {
            let seen = match op.action {
                Action::Read(value) | Action::Cas { from: value, .. } => value,
                _ => return false,
            };
            op.ret != PENDING && set[seen as usize] > op.ret
        });
        self.refuted = refuted.min_by_key(|(_, op)| op.ret).map(|(i, _)| i);
    }

    /// The operations as entries of the general search.
    pub(super) fn entries(&self) -> Vec<Entry<RegisterOp<u32>, RegisterRet<u32>>> {
        let entry = |op: &Op| {
            let (what, ret) = match op.action {
                Action::Read(value) => (RegisterOp::Read, RegisterRet::Value(value)),
                Action::Write(value) => (RegisterOp::Write(value), RegisterRet::Done),
                Action::Cas { from, to } => (RegisterOp::Cas { from, to }, RegisterRet::Done),
                // The new value doesn't matter where it didn't match.
                Action::Differs(value) => (RegisterOp::Cas { from: value, to: value }, RegisterRet::Mismatch),
            };
            Entry {
                op: what,
                invoked: op.call.into(),
                returned: (op.ret != PENDING).then_some((op.ret.into(), ret)),
                passive: matches!(op.action, Action::Read(_) | Action::Differs(_)),
            }
        };
        self.ops.iter().map(entry).collect()
    }
}
