//! The engine on a history that grows: events come in one by one, and a violation is told at the
//! return that makes it.
//!
//! What a read returns is known only at its end, but matters from its beginning: a value may have
//! been there for a moment in between. So the state at the beginning of each read in progress is
//! kept, with the events since; when the read returns, these are gone through again. What is over
//! is forgotten, and a key where nothing is in progress takes up next to nothing, so memory
//! depends on what is in progress, and on indeterminate operations, not on the history's length.
//!
//! The verdict after each return is that of [`super::check`] on the history so far, with what is
//! in progress pending.

use std::collections::{BTreeMap, VecDeque};

use super::frontier::{Frontier, Meter};
use super::growing::Snapshot;
use super::history::{Action, PENDING};
use crate::Budget;
use crate::budget::Deadline;
use crate::register::RegisterOp;

/// How many operations on one key can be in progress at once.
const SLOTS: usize = 64 * WORDS;
const WORDS: usize = 4;

/// While a read is in progress this many events of its key are kept at most. If it takes longer,
/// its result is not judged.
const MOST_EVENTS: usize = 1 << 14;

/// An operation's end that leaves no order: its return, or that it turns out to have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// On which register.
    pub key: u32,
    /// The operation's number among all that were invoked, from 0.
    pub operation: u64,
}

/// What is known of one register's history so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is an order.
    Valid,
    /// There is none.
    Invalid(Violation),
    /// Too much was in progress, or its budget ran out. It isn't followed any more.
    Undecided,
}

/// Judges the registers of a growing history.
pub struct Online {
    initial: u32,
    budget: Budget,
    keys: BTreeMap<u32, Key>,
    /// The processes' operations in progress: keys and places in [`Active::ops`].
    open: BTreeMap<u64, (u32, u32)>,
    invoked: u64,
    unjudged: u64,
    /// To be used again.
    spare: Vec<Active>,
}

/// One register.
enum Key {
    /// Nothing is in progress, or pending: the values that it may hold.
    Idle(Vec<u32>),
    /// Something is.
    Active(Box<Active>),
    Invalid(Violation),
    Undecided,
}

/// An operation that is in progress, or over but still needed.
#[derive(Clone)]
struct Op {
    /// `None`: a read in progress.
    action: Option<Action>,
    slot: u32,
    number: u64,
    /// It is over and had no effect.
    void: bool,
    /// Of a read in progress: how things were at its beginning, and how many events there had been.
    start: Option<(Snapshot<WORDS>, u64)>,
}

#[derive(Clone, Copy)]
enum Event {
    Call(u32),
    Return(u32),
    /// It failed.
    Void(u32),
    /// Its end will never be known.
    Pending(u32),
}

struct Active {
    frontier: Frontier<WORDS>,
    ops: Vec<Option<Op>>,
    free_ops: Vec<u32>,
    free_slots: Vec<u32>,
    /// What happened since the first of the reads in progress began.
    events: VecDeque<Event>,
    /// How many events were before those.
    forgotten: u64,
    in_progress: usize,
    numbers: BTreeMap<u32, u32>,
    values: Vec<Option<u32>>,
    free_values: Vec<u32>,
    sweep_at: usize,
    any_pending: bool,
}

impl Online {
    /// Registers that all hold `initial` at first. The budget's time is for each event, its memory
    /// for each key; a key that needs more is undecided from then on.
    pub fn new(initial: u32, budget: Budget) -> Online {
        let (keys, open, spare) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        Online { initial, budget, keys, open, invoked: 0, unjudged: 0, spare }
    }

    /// A process begins an operation; it must have none in progress. The operation's number.
    pub fn invoke(&mut self, process: u64, key: u32, op: RegisterOp<u32>) -> u64 {
        let number = self.invoked;
        self.invoked += 1;
        let initial = self.initial;
        let known = self.keys.entry(key).or_insert_with(|| Key::Idle(vec![initial]));
        if let Key::Idle(values) = known {
            let mut active = self.spare.pop().unwrap_or_default();
            active.start(values);
            *known = Key::Active(Box::new(active));
        }
        let Key::Active(active) = known else { return number };
        active.sweep_if_due();
        let action = match op {
            RegisterOp::Read => None,
            RegisterOp::Write(to) => Some(Action::Write(active.number(to))),
            // Where it takes effect it changes nothing, like a read.
            RegisterOp::Cas { from, to } if from == to => Some(Action::Read(active.number(from))),
            RegisterOp::Cas { from, to } => Some(Action::Cas { from: active.number(from), to: active.number(to) }),
        };
        match active.free_slots.pop() {
            Some(slot) => {
                let op = active.begin(Op { action, slot, number, void: false, start: None });
                self.open.insert(process, (key, op));
            }
            None => *known = Key::Undecided,
        }
        number
    }

    /// A process's operation has taken effect; `seen` is what a read returned. The violation that
    /// this makes, if there was none on this key before.
    pub fn ok(&mut self, process: u64, seen: Option<u32>) -> Option<Violation> {
        self.end(process, Event::Return, seen)
    }

    /// A process's operation did not take effect and never will; a cas that didn't match, too: that
    /// the value differed is not judged. The violation that this makes: others may have been
    /// explained by this operation's effect only.
    pub fn fail(&mut self, process: u64) -> Option<Violation> {
        self.end(process, Event::Void, None)
    }

    /// A process's operation may or may not take effect at any time; it will never be known.
    pub fn info(&mut self, process: u64) {
        self.end(process, Event::Pending, None);
    }

    fn end(&mut self, process: u64, how: impl Fn(u32) -> Event, seen: Option<u32>) -> Option<Violation> {
        let (key, op) = self.open.remove(&process)?;
        let known = self.keys.get_mut(&key)?;
        let Key::Active(active) = known else { return None };
        let mut meter = Meter::new(Deadline::after(self.budget.time), self.budget.memory_bytes);
        match active.end(op, how(op), seen, &mut meter) {
            Ok(judged) => self.unjudged += u64::from(!judged),
            Err(Stop::Budget) => *known = Key::Undecided,
            Err(Stop::NoOrder(operation)) => {
                let violation = Violation { key, operation };
                *known = Key::Invalid(violation);
                return Some(violation);
            }
        }
        if let Key::Active(active) = known {
            if active.bytes() > self.budget.memory_bytes {
                *known = Key::Undecided;
            } else if active.in_progress == 0 && !active.any_pending {
                let values = active.held();
                if let Key::Active(active) = std::mem::replace(known, Key::Idle(values))
                    && self.spare.len() < 16
                {
                    self.spare.push(*active);
                }
            }
        }
        None
    }

    /// What is known of a register.
    pub fn state(&self, key: u32) -> State {
        match self.keys.get(&key) {
            Some(Key::Invalid(violation)) => State::Invalid(*violation),
            Some(Key::Undecided) => State::Undecided,
            _ => State::Valid,
        }
    }

    /// The registers that are undecided.
    pub fn undecided(&self) -> impl Iterator<Item = u32> + '_ {
        self.keys.iter().filter(|(_, known)| matches!(known, Key::Undecided)).map(|(key, _)| *key)
    }

    /// How many reads were not judged, because too much happened while they were in progress, or
    /// they returned nothing.
    pub fn unjudged(&self) -> u64 {
        self.unjudged
    }

    /// Forgets a register that will not be used again.
    pub fn retire(&mut self, key: u32) {
        self.keys.remove(&key);
        self.open.retain(|_, (of, _)| *of != key);
    }

    /// Estimated bytes in use.
    pub fn bytes(&self) -> usize {
        let of = |key: &Key| match key {
            Key::Idle(values) => values.capacity() * 4,
            Key::Active(active) => active.bytes(),
            _ => 0,
        };
        let entries = self.keys.len() * 2 * size_of::<(u32, Key)>() + self.open.len() * 2 * size_of::<(u64, u64)>();
        entries + self.keys.values().map(of).sum::<usize>() + self.spare.iter().map(|a| a.bytes()).sum::<usize>()
    }
}

/// Why a key is no longer followed.
enum Stop {
    Budget,
    /// At the return of this operation.
    NoOrder(u64),
}

impl Default for Active {
    fn default() -> Self {
        Active {
            frontier: Frontier::new(),
            ops: Vec::new(),
            free_ops: Vec::new(),
            free_slots: Vec::new(),
            events: VecDeque::new(),
            forgotten: 0,
            in_progress: 0,
            numbers: BTreeMap::new(),
            values: Vec::new(),
            free_values: Vec::new(),
            sweep_at: 0,
            any_pending: false,
        }
    }
}

impl Active {
    /// Begins where a register may hold one of these values.
    fn start(&mut self, values: &[u32]) {
        self.ops.clear();
        self.free_ops.clear();
        self.free_slots.clear();
        self.free_slots.extend((0..SLOTS as u32).rev());
        self.events.clear();
        (self.forgotten, self.in_progress, self.any_pending) = (0, 0, false);
        self.numbers.clear();
        self.values.clear();
        self.free_values.clear();
        self.sweep_at = 1024;
        self.frontier.reset(0, 0, false);
        self.frontier.follow_growing_history();
        let numbers: Vec<u32> = values.iter().map(|value| self.number(*value)).collect();
        self.frontier.may_hold(&numbers);
    }

    /// The values that the register may hold, when nothing is in progress.
    fn held(&self) -> Vec<u32> {
        let held = self.frontier.configurations().iter().filter_map(|c| self.values[c.value as usize]);
        let mut held: Vec<u32> = held.collect();
        held.sort_unstable();
        held.dedup();
        held
    }

    /// A value's number.
    fn number(&mut self, value: u32) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = self.free_values.pop().unwrap_or_else(|| {
            self.values.push(None);
            self.frontier.more_values(self.values.len());
            self.values.len() as u32 - 1
        });
        self.values[number as usize] = Some(value);
        self.numbers.insert(value, number);
        number
    }

    /// Frees the numbers of values that nothing speaks of any more, now and then.
    fn sweep_if_due(&mut self) {
        if self.numbers.len() < self.sweep_at {
            return;
        }
        let mut live = vec![false; self.values.len()];
        let mut mark = |value: u32| {
            live[value as usize] = true;
            value
        };
        for op in self.ops.iter().flatten() {
            op.action.map(|action| action.map(&mut mark));
            if let Some((snapshot, _)) = &op.start {
                snapshot.values().for_each(|value| _ = mark(value));
            }
        }
        self.frontier.values().for_each(|value| _ = mark(value));
        for (number, live) in live.into_iter().enumerate() {
            if !live && let Some(value) = self.values[number].take() {
                self.numbers.remove(&value);
                self.free_values.push(number as u32);
            }
        }
        self.sweep_at = (self.numbers.len() * 2).max(1024);
    }

    fn begin(&mut self, op: Op) -> u32 {
        let place = self.free_ops.pop().unwrap_or_else(|| {
            self.ops.push(None);
            self.ops.len() as u32 - 1
        });
        self.ops[place as usize] = Some(op);
        self.in_progress += 1;
        self.call(place, self.forgotten + self.events.len() as u64);
        self.note(Event::Call(place));
        place
    }

    /// Notes what happened, if it may have to be gone through again.
    fn note(&mut self, event: Event) {
        self.events.push_back(event);
        let first = |active: &Active| {
            let starts = active.ops.iter().flatten().filter_map(|op| op.start.as_ref().map(|(_, at)| *at));
            starts.min().unwrap_or(u64::MAX)
        };
        if self.events.len() > MOST_EVENTS {
            // The read that began first has taken too long.
            let oldest = first(self);
            for op in self.ops.iter_mut().flatten() {
                op.start.take_if(|(_, at)| *at == oldest);
            }
        }
        // Looking for the first costs something, so not every time.
        let is_time = (self.forgotten + self.events.len() as u64).is_multiple_of(16);
        if !is_time && self.events.len() > 1 && self.has_starts() {
            return;
        }
        let first = first(self);
        while self.forgotten < first
            && let Some(event) = self.events.pop_front()
        {
            self.forgotten += 1;
            if let Event::Return(op) | Event::Void(op) | Event::Pending(op) = event {
                self.ops[op as usize] = None;
                self.free_ops.push(op);
            }
        }
    }

    fn has_starts(&self) -> bool {
        self.ops.iter().flatten().any(|op| op.start.is_some())
    }

    /// Whether it was judged.
    fn end(&mut self, op: u32, how: Event, seen: Option<u32>, meter: &mut Meter) -> Result<bool, Stop> {
        let seen = seen.map(|value| self.number(value));
        let Some(what) = self.ops[op as usize].as_mut() else { return Ok(false) };
        let start = what.start.take();
        let mut judged = true;
        if what.action.is_none() {
            match (how, seen, start) {
                (Event::Return(_), Some(value), Some((snapshot, at))) => {
                    what.action = Some(Action::Read(value));
                    self.frontier.restore(&snapshot);
                    let from = (at - self.forgotten) as usize;
                    for event in from..self.events.len() {
                        self.apply(self.events[event], self.forgotten + event as u64, meter)?;
                    }
                }
                (how, ..) => {
                    what.void = true;
                    judged = !matches!(how, Event::Return(_));
                }
            }
        }
        self.apply(how, 0, meter)?;
        self.in_progress -= 1;
        if let Some(what) = &self.ops[op as usize] {
            self.free_slots.push(what.slot);
        }
        self.note(how);
        Ok(judged)
    }

    fn call(&mut self, op: u32, at: u64) {
        let Some(what) = self.ops[op as usize].as_mut() else { return };
        match what.action {
            _ if what.void => {}
            Some(action) => self.frontier.call(what.slot as usize, op, action, PENDING),
            None => what.start = Some((self.frontier.snapshot(), at)),
        }
    }

    fn apply(&mut self, event: Event, at: u64, meter: &mut Meter) -> Result<(), Stop> {
        let (Event::Call(op) | Event::Return(op) | Event::Void(op) | Event::Pending(op)) = event;
        let Some(what) = &self.ops[op as usize] else { return Ok(()) };
        let (slot, number) = (what.slot as usize, what.number);
        if what.void && !matches!(event, Event::Call(_)) && what.action.is_none() {
            return Ok(());
        }
        match event {
            Event::Call(_) => self.call(op, at),
            Event::Return(_) => self.frontier.returns(slot, 0, meter).map_err(|_| Stop::Budget)?,
            Event::Void(_) => self.frontier.fails(slot),
            Event::Pending(_) => {
                self.any_pending = true;
                self.frontier.becomes_pending(slot);
            }
        }
        if self.frontier.configurations().is_empty() { Err(Stop::NoOrder(number)) } else { Ok(()) }
    }

    fn bytes(&self) -> usize {
        let snapshots = self.ops.iter().flatten().filter_map(|op| op.start.as_ref());
        let snapshots: usize = snapshots.map(|(snapshot, _)| snapshot.bytes()).sum();
        let values = self.values.capacity() * (8 + size_of::<u32>() * 6);
        let ops = self.ops.capacity() * size_of::<Op>() + self.events.capacity() * size_of::<Event>();
        self.frontier.bytes() + SLOTS * 64 + snapshots + values + ops
    }
}
