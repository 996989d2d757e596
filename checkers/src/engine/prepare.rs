//! From one key's operations to a small problem: their events in order, values numbered from 0,
//! what can't matter left out, cheap refutations found on the way. One pass, and memory that is
//! used again for the next key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::history::{Action, PENDING};
use super::sort::Record;
use super::values::Values;
use crate::register::{RegisterOp, RegisterRet};
use crate::wgl::Entry;

/// An event: an operation's index times two, and one more for its return.
pub(super) type Event = u32;

/// One operation of a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) action: Action,
    /// Its place among the problem's events.
    pub(super) call: u32,
    /// Its place among the problem's events, or [`PENDING`].
    pub(super) ret: u32,
    /// While it is in progress no other operation has this slot. None if pending.
    pub(super) slot: u32,
}

/// What is known of a value. Places here count from 1: 0 is before everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// A setter of it was called; the initial value is there from the start.
    set: bool,
    /// The last return of an operation that needs it to be there: by seeing it, by seeing that
    /// another isn't, or by way of a pending cas from it.
    pub(super) needed: u32,
    /// The first return of an operation that sees or sets it, or [`PENDING`]; only if values are
    /// unique.
    pub(super) first_return: u32,
    /// The last call of such an operation.
    pub(super) last_call: u32,
}

/// One key's operations, ready to be ordered. An operation here is an index of `ops`.
#[derive(Default)]
pub(super) struct Problem {
    /// In the order of their calls.
    pub(super) ops: Vec<Op>,
    /// Which operation of the history each is.
    pub(super) ids: Vec<u32>,
    /// Calls (an operation times two) and returns (one more), in order.
    pub(super) events: Vec<Event>,
    pub(super) values: Vec<Value>,
    pub(super) initial: u32,
    /// How many operations return.
    pub(super) completed: usize,
    /// How many slots there are: the most operations with a return that are in progress at once.
    pub(super) widest: usize,
    /// Whether some operations have no return.
    pub(super) pending: bool,
    /// The first operation to return that saw what nobody can have set.
    pub(super) refuted: Option<u32>,
    /// Nothing but reads and writes, and no two writes of one value, the initial one included.
    pub(super) unique: bool,
    /// Values in the order of their first returns; only if they are unique.
    pub(super) by_return: Vec<u32>,
    numbers: Values,
    /// What is in progress, as returns and operations: the first to return, and the others.
    first: u64,
    others: BinaryHeap<Reverse<u64>>,
    free: Vec<u32>,
    pending_cas: Vec<(u32, u32)>,
    /// The last return of an operation that saw that a value wasn't there.
    differs: u32,
}

/// An operation of the general search.
type RegisterEntry = Entry<RegisterOp<u32>, RegisterRet<u32>>;

/// Nothing is in progress.
const IDLE: u64 = u64::MAX;

impl Problem {
    /// Makes this the problem of some records: `records` gives them, twice if they are not in the
    /// order of their invocations.
    pub(super) fn fill<I: Iterator<Item = Record>>(&mut self, initial: u32, records: impl Fn() -> I) {
        if !self.fill_sorted(initial, records()) {
            let mut sorted: Vec<Record> = records().collect();
            sorted.sort_unstable_by_key(|record| record.invoked);
            self.fill_sorted(initial, sorted.into_iter());
        }
        self.spread_needs();
    }

    /// False if the records turn out not to be in order.
    fn fill_sorted(&mut self, initial: u32, records: impl Iterator<Item = Record>) -> bool {
        self.clear(initial);
        let count = records.size_hint().0;
        self.ops.reserve(count);
        self.ids.reserve(count);
        self.events.reserve(count * 2);
        let mut last = 0;
        for record in records {
            if record.invoked < last {
                return false;
            }
            last = record.invoked;
            while self.first >> 32 <= u64::from(record.invoked) {
                self.returns();
            }
            if self.refuted.is_none() {
                self.call(&record);
            } else if record.returned != PENDING {
                // Only to be counted.
                self.completed += 1;
            }
        }
        while self.first != IDLE {
            self.returns();
        }
        true
    }

    fn clear(&mut self, initial: u32) {
        self.ops.clear();
        self.ids.clear();
        self.events.clear();
        self.values.clear();
        self.by_return.clear();
        self.first = IDLE;
        self.others.clear();
        self.free.clear();
        self.pending_cas.clear();
        self.differs = 0;
        self.numbers.reset();
        self.initial = self.numbers.number(initial);
        self.values.push(Value { set: true, needed: 0, first_return: 0, last_call: 0 });
        self.by_return.push(self.initial);
        (self.completed, self.widest, self.pending) = (0, 0, false);
        (self.refuted, self.unique) = (None, true);
    }

    #[inline]
    fn call(&mut self, record: &Record) {
        let Problem { numbers, values, .. } = self;
        let action = record.action.map(|value| {
            let number = numbers.number(value);
            if number as usize == values.len() {
                values.push(Value { set: false, needed: 0, first_return: PENDING, last_call: 0 });
            }
            number
        });
        let at = self.events.len() as u32;
        let action = match action {
            // Where it took effect it changed nothing, like a read.
            Action::Cas { from, to } if from == to => Action::Read(from),
            action => action,
        };
        let is_pending = record.returned == PENDING;
        match action {
            Action::Read(_) | Action::Differs(_) if is_pending => return,
            Action::Read(value) => self.values[value as usize].last_call = at + 1,
            Action::Write(to) => {
                let value = &mut self.values[to as usize];
                self.unique &= !value.set;
                (value.set, value.last_call) = (true, at + 1);
            }
            Action::Cas { from, to } => {
                self.unique = false;
                self.values[to as usize].set = true;
                if is_pending {
                    self.pending_cas.push((from, to));
                }
            }
            Action::Differs(_) => self.unique = false,
        }
        let op = self.ops.len() as u32;
        let mut slot = u32::MAX;
        if is_pending {
            self.pending = true;
        } else {
            slot = self.free.pop().unwrap_or_else(|| {
                self.widest += 1;
                self.widest as u32 - 1
            });
            let mut open = u64::from(record.returned) << 32 | u64::from(op);
            if open < self.first {
                std::mem::swap(&mut open, &mut self.first);
            }
            if open != IDLE {
                self.others.push(Reverse(open));
            }
        }
        self.ops.push(Op { action, call: at, ret: PENDING, slot });
        self.ids.push(record.id);
        self.events.push(op * 2);
    }

    /// What is the first to return does.
    #[inline]
    fn returns(&mut self) {
        let op = self.first as u32;
        self.first = self.others.pop().map_or(IDLE, |Reverse(open)| open);
        self.completed += 1;
        let at = self.events.len() as u32;
        let what = &mut self.ops[op as usize];
        what.ret = at;
        self.free.push(what.slot);
        self.events.push(op * 2 + 1);
        match what.action {
            Action::Read(value) | Action::Cas { from: value, .. } => {
                let value = &mut self.values[value as usize];
                value.needed = at + 1;
                if !value.set {
                    self.refuted = self.refuted.or(Some(op));
                }
            }
            Action::Differs(_) => self.differs = at + 1,
            Action::Write(_) => {}
        }
        if self.unique
            && let Action::Read(value) | Action::Write(value) = what.action
            && self.values[value as usize].first_return == PENDING
        {
            self.values[value as usize].first_return = at + 1;
            self.by_return.push(value);
        }
    }

    /// What is needed is needed before a pending cas that leads there, too.
    fn spread_needs(&mut self) {
        if !self.pending {
            return;
        }
        // That a value isn't there can be seen of every other value.
        if self.differs > 0 {
            self.values.iter_mut().for_each(|value| value.needed = value.needed.max(self.differs));
        }
        let mut more = true;
        while std::mem::take(&mut more) {
            for (from, to) in &self.pending_cas {
                let needed = self.values[*to as usize].needed;
                let from = &mut self.values[*from as usize];
                more |= from.needed < needed;
                from.needed = from.needed.max(needed);
            }
        }
    }

    /// Until when, among the events, a pending operation can be of use: as long as what it sets is
    /// needed. Take one that is not away from any order: those between it and the next change
    /// still have their results. `None` if it never is.
    pub(super) fn useful_until(&self, op: &Op) -> Option<u32> {
        let (Action::Write(to) | Action::Cas { to, .. }) = op.action else { return None };
        let needed = self.values[to as usize].needed;
        (needed > op.call + 1).then(|| needed - 1)
    }

    /// The operations that can matter as entries of the general search, and which each is.
    pub(super) fn entries(&self) -> (Vec<RegisterEntry>, Vec<usize>) {
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
        let matters = |(_, op): &(usize, &Op)| op.ret != PENDING || self.useful_until(op).is_some();
        self.ops.iter().enumerate().filter(matters).map(|(i, op)| (entry(op), i)).unzip()
    }
}
