//! The forward search: all configurations that the operations so far can have led to, event by
//! event. If none is left at a return, there is no order.
//!
//! In the manner of just-in-time linearization (Lowe, *Testing for Linearizability*, 2017, §5):
//! at a return, each configuration in which the operation has not taken effect is replaced by
//! those that follow from it by letting operations in progress take effect, the returning one
//! last. That the others wait loses nothing, for they can take effect right after. Masks cover
//! the operations in progress only, and these keep configurations few:
//!
//! - *What changes nothing takes effect at once*: a read of the value that is there.
//! - *Lazy writes*: a write in progress when another write takes effect may have been just before
//!   it, where nobody can see it. It needn't take effect any more, but still may.
//! - *A write that nobody observes is none*: unless it is the returning one, a write is only let
//!   take effect if something that is waiting could observe it (a read, a cas, a pending cas that
//!   leads there): else it is better left to be absorbed. So are pending writes; one of the value
//!   that is already there counts, for it absorbs others before a cas.
//! - *Of identical operations* the one that returns first takes effect first, pending ones last.
//! - Dominated configurations are dropped ([`super::antichain`]).

use super::antichain::{Antichain, Configuration, Kinds};
use super::certificate::{Step, Trail};
use super::mask::Mask;
use super::pending::Pending;
use super::prepare::{Action, PENDING, Problem};
use crate::budget::Deadline;
use crate::wgl::{Limit, Outcome};

/// Searches with masks as wide as need be; `None` if there are none so wide. An order is only
/// given if `certify`.
pub(super) fn run(problem: &Problem, deadline: Deadline, memory_bytes: usize, certify: bool) -> Option<Outcome> {
    Some(match problem.widest.div_ceil(64) {
        0 | 1 => Search::<1>::new(problem, certify).run(deadline, memory_bytes),
        2 => Search::<2>::new(problem, certify).run(deadline, memory_bytes),
        3 | 4 => Search::<4>::new(problem, certify).run(deadline, memory_bytes),
        5..=16 => Search::<16>::new(problem, certify).run(deadline, memory_bytes),
        _ => return None,
    })
}

/// How many configurations are followed up between two looks at the clock.
const CLOCK_INTERVAL: u32 = 256;

/// The operations in progress that are about one value.
#[derive(Clone, Copy)]
struct About<const N: usize> {
    reads: Mask<N>,
    differs: Mask<N>,
    writes: Mask<N>,
    cas_from: Mask<N>,
}

struct Search<'p, const N: usize> {
    problem: &'p Problem,
    /// The operation in each slot.
    slots: Vec<u32>,
    taken: Mask<N>,
    slot_of: Vec<u16>,
    about: Vec<About<N>>,
    kinds: Kinds<N>,
    differs: Mask<N>,
    pending: Pending,
    /// When pending operations that set a value can last be of use, by value.
    useful_until: Vec<u32>,
    next_expiry: u32,
    frontier: Vec<Configuration<N>>,
    next: Antichain<N>,
    between: Antichain<N>,
    trail: Trail,
    until_clock: u32,
    /// How many operations have returned.
    returned: usize,
}

impl<'p, const N: usize> Search<'p, N> {
    fn new(problem: &'p Problem, certify: bool) -> Self {
        let nothing = About { reads: Mask::EMPTY, differs: Mask::EMPTY, writes: Mask::EMPTY, cas_from: Mask::EMPTY };
        let start = Configuration {
            value: problem.initial,
            used: 0,
            done: Mask::EMPTY,
            absorbed: Mask::EMPTY,
            trail: Trail::START,
        };
        Search {
            problem,
            slots: vec![0; Mask::<N>::SLOTS],
            taken: Mask::EMPTY,
            slot_of: vec![0; problem.ops.len()],
            about: vec![nothing; problem.values],
            kinds: Kinds { reads: Mask::EMPTY, writes: Mask::EMPTY, cas: Mask::EMPTY },
            differs: Mask::EMPTY,
            pending: Pending::new(),
            useful_until: useful_until(problem),
            next_expiry: u32::MAX,
            frontier: vec![start],
            next: Antichain::new(),
            between: Antichain::new(),
            trail: Trail::new(certify),
            until_clock: CLOCK_INTERVAL,
            returned: 0,
        }
    }

    fn run(mut self, deadline: Deadline, memory_bytes: usize) -> Outcome {
        for (now, event) in self.problem.events.iter().enumerate() {
            let op = event / 2;
            if event % 2 == 0 {
                self.call(op);
                continue;
            }
            if let Err(limit) = self.returns(op, now as u32, deadline, memory_bytes) {
                return Outcome::Unknown { valid_up_to: self.returned, limit };
            }
            if self.frontier.is_empty() {
                return Outcome::NotLinearizable { stuck: op as usize };
            }
            self.returned += 1;
            if now as u32 >= self.next_expiry {
                self.expire(now as u32 + 1);
            }
        }
        let order = self.trail.order(self.problem, self.frontier[0].trail);
        Outcome::Linearizable { order }
    }

    fn call(&mut self, op: u32) {
        let what = self.problem.ops[op as usize];
        if what.ret == PENDING {
            let (Action::Write(to) | Action::Cas { to, .. }) = what.action else { return };
            let until = self.useful_until[to as usize];
            if until > what.call {
                let serial = self.pending.call(what.action, until);
                self.trail.pending(serial, op);
                self.next_expiry = self.next_expiry.min(until);
            }
            return;
        }
        // There is one: no more operations are in progress than there are slots.
        let Some(slot) = self.taken.lowest_free() else { return };
        self.taken.set(slot);
        self.slots[slot] = op;
        self.slot_of[op as usize] = slot as u16;
        match what.action {
            Action::Read(value) => {
                self.kinds.reads.set(slot);
                self.about[value as usize].reads.set(slot);
                for configuration in self.frontier.iter_mut().filter(|c| c.value == value) {
                    configuration.done.set(slot);
                }
            }
            Action::Differs(value) => {
                self.kinds.reads.set(slot);
                self.differs.set(slot);
                self.about[value as usize].differs.set(slot);
                for configuration in self.frontier.iter_mut().filter(|c| c.value != value) {
                    configuration.done.set(slot);
                }
            }
            Action::Write(value) => {
                self.kinds.writes.set(slot);
                self.about[value as usize].writes.set(slot);
            }
            Action::Cas { from, .. } => {
                self.kinds.cas.set(slot);
                self.about[from as usize].cas_from.set(slot);
            }
        }
    }

    /// Lets everything that an operation's return asks for happen.
    fn returns(&mut self, op: u32, now: u32, deadline: Deadline, memory_bytes: usize) -> Result<(), Limit> {
        let slot = self.slot_of[op as usize] as usize;
        if !self.frontier.iter().all(|configuration| configuration.done.has(slot)) {
            let frontier = std::mem::take(&mut self.frontier);
            for configuration in &frontier {
                self.sort(*configuration, slot);
            }
            self.frontier = frontier;
            let mut at = 0;
            while let Some(configuration) = self.between.get(at) {
                if let Some(configuration) = configuration {
                    self.follow(configuration, slot, now);
                    self.within(deadline, memory_bytes)?;
                }
                at += 1;
            }
            self.between.clear();
            self.frontier.clear();
            self.next.drain_into(&mut self.frontier);
        }
        self.free(slot, op);
        // Without this slot some may be the same as others.
        if self.frontier.len() > 1 {
            for configuration in &self.frontier {
                self.next.add(*configuration, &self.kinds, &self.pending);
            }
            self.frontier.clear();
            self.next.drain_into(&mut self.frontier);
        }
        self.trail.compact(&mut self.frontier);
        Ok(())
    }

    fn within(&mut self, deadline: Deadline, memory_bytes: usize) -> Result<(), Limit> {
        self.until_clock -= 1;
        if self.until_clock > 0 {
            return Ok(());
        }
        self.until_clock = CLOCK_INTERVAL;
        let configurations = self.frontier.capacity() * size_of::<Configuration<N>>();
        let bytes =
            configurations + self.next.bytes() + self.between.bytes() + self.pending.bytes() + self.trail.bytes();
        if bytes > memory_bytes {
            return Err(Limit::Memory);
        }
        if deadline.passed() { Err(Limit::Time) } else { Ok(()) }
    }

    fn free(&mut self, slot: usize, op: u32) {
        self.taken.clear(slot);
        self.kinds.reads.clear(slot);
        self.kinds.writes.clear(slot);
        self.kinds.cas.clear(slot);
        self.differs.clear(slot);
        match self.problem.ops[op as usize].action {
            Action::Read(value) => self.about[value as usize].reads.clear(slot),
            Action::Differs(value) => self.about[value as usize].differs.clear(slot),
            Action::Write(value) => self.about[value as usize].writes.clear(slot),
            Action::Cas { from, .. } => self.about[from as usize].cas_from.clear(slot),
        }
        for configuration in &mut self.frontier {
            configuration.done.clear(slot);
            configuration.absorbed.clear(slot);
        }
    }

    /// Adds what can follow at once from a configuration in which the operation of slot `last`
    /// has yet to take effect.
    fn follow(&mut self, from: Configuration<N>, last: usize, now: u32) {
        let about = self.about[from.value as usize];
        for slot in about.cas_from.without(from.done).slots() {
            let Action::Cas { to, .. } = self.action(slot) else { continue };
            let same = about.cas_from.without(from.done).slots().filter(|s| self.action(*s) == self.action(slot));
            if self.first_to_return(same) == Some(slot) {
                let mut new = from;
                new.done.set(slot);
                self.step(new, to, Step::Operation(self.slots[slot]), last, now);
            }
        }
        let observable = self.observable(&from);
        for slot in self.kinds.writes.without(from.done).slots() {
            let Action::Write(to) = self.action(slot) else { continue };
            if slot != last {
                let same = self.about[to as usize].writes.without(from.done);
                if self.first_to_return(same.slots()) != Some(slot) || !observable.has(to) {
                    continue;
                }
            }
            let mut new = from;
            new.done.set(slot);
            new.absorbed = from.absorbed.or(self.kinds.writes).without(new.done);
            self.step(new, to, Step::Operation(self.slots[slot]), last, now);
        }
        for class in 0..self.pending.classes.len() {
            let Some((action, serial)) = self.pending.classes[class].as_ref().map(|c| (c.action, c.serial)) else {
                continue;
            };
            let (to, in_progress) = match action {
                Action::Write(to) => (to, self.about[to as usize].writes.without(from.done)),
                Action::Cas { from: found, to } if found == from.value => {
                    let same = about.cas_from.without(from.done).slots().filter(|s| self.action(*s) == action);
                    (
                        to,
                        same.fold(Mask::EMPTY, |mut mask, slot| {
                            mask.set(slot);
                            mask
                        }),
                    )
                }
                _ => continue,
            };
            if !observable.has(to) || !in_progress.is_empty() || !self.pending.left(from.used, class) {
                continue;
            }
            let mut new = from;
            new.used = self.pending.with(from.used, class);
            if matches!(action, Action::Write(_)) {
                new.absorbed = from.absorbed.or(self.kinds.writes).without(new.done);
            }
            self.step(new, to, Step::Pending(serial), last, now);
        }
    }

    fn action(&self, slot: usize) -> Action {
        self.problem.ops[self.slots[slot] as usize].action
    }

    fn first_to_return(&self, slots: impl Iterator<Item = usize>) -> Option<usize> {
        slots.min_by_key(|slot| self.problem.ops[self.slots[*slot] as usize].ret)
    }

    fn step(&mut self, mut new: Configuration<N>, value: u32, step: Step, last: usize, now: u32) {
        new.value = value;
        let about = &self.about[value as usize];
        new.done = new.done.or(about.reads).or(self.differs.without(about.differs));
        let trail = new.trail;
        new.trail = self.trail.next();
        if self.sort(new, last) {
            self.trail.push(trail, step, now);
        }
    }

    /// Keeps a configuration for after the return of slot `last`, for following up before it, or
    /// for both: a write that was absorbed may as well take effect at its return, for those to see
    /// that come later. Whether it was kept at all.
    fn sort(&mut self, configuration: Configuration<N>, last: usize) -> bool {
        let done = configuration.done.has(last);
        let after =
            (done || configuration.absorbed.has(last)) && self.next.add(configuration, &self.kinds, &self.pending);
        let before = !done && self.between.add(configuration, &self.kinds, &self.pending);
        after || before
    }

    /// The values that something which is waiting in a configuration could observe, directly or
    /// by way of pending cas.
    fn observable(&self, configuration: &Configuration<N>) -> Observable {
        let waiting = self.taken.without(configuration.done);
        let mut values = Vec::new();
        let mut other_than = Vec::new();
        for slot in waiting.without(self.kinds.writes).slots() {
            match self.action(slot) {
                Action::Read(value) | Action::Cas { from: value, .. } => values.push(value),
                Action::Differs(value) => other_than.push(value),
                Action::Write(_) => {}
            }
        }
        let mut observable = Observable { values, other_than };
        loop {
            let mut more = false;
            for (class, known) in self.pending.classes.iter().enumerate() {
                let Some(Action::Cas { from, to }) = known.as_ref().map(|class| class.action) else { continue };
                if !observable.has(from) && observable.has(to) && self.pending.left(configuration.used, class) {
                    observable.values.push(from);
                    more = true;
                }
            }
            if !more {
                return observable;
            }
        }
    }

    /// Forgets pending operations that can't be of use from `now` on.
    fn expire(&mut self, now: u32) {
        if self.pending.expire(now) || self.pending.bytes() > 1 << 20 {
            let old = self.pending.renew();
            for configuration in &self.frontier {
                let used = self.pending.moved(&old, configuration.used);
                self.next.add(Configuration { used, ..*configuration }, &self.kinds, &self.pending);
            }
            self.frontier.clear();
            self.next.drain_into(&mut self.frontier);
        }
        self.next_expiry = self.pending.classes.iter().flatten().map(|class| class.until).min().unwrap_or(u32::MAX);
    }
}

struct Observable {
    values: Vec<u32>,
    other_than: Vec<u32>,
}

impl Observable {
    fn has(&self, value: u32) -> bool {
        self.values.contains(&value) || self.other_than.iter().any(|other| *other != value)
    }
}

/// For each value, the last return of an operation that needs it to be set: by seeing it, by
/// seeing that it isn't another, or by way of a pending cas from it.
fn useful_until(problem: &Problem) -> Vec<u32> {
    let mut until = vec![0; problem.values];
    if problem.completed == problem.ops.len() {
        return until;
    }
    let returned = || problem.ops.iter().filter(|op| op.ret != PENDING);
    for op in returned() {
        if let Action::Read(value) | Action::Cas { from: value, .. } = op.action {
            until[value as usize] = until[value as usize].max(op.ret);
        }
    }
    let differs = returned().filter(|op| matches!(op.action, Action::Differs(_))).map(|op| op.ret).max();
    if let Some(last) = differs {
        until.iter_mut().for_each(|until| *until = last.max(*until));
    }
    loop {
        let mut more = false;
        for op in problem.ops.iter().filter(|op| op.ret == PENDING) {
            if let Action::Cas { from, to } = op.action
                && until[from as usize] < until[to as usize]
            {
                until[from as usize] = until[to as usize];
                more = true;
            }
        }
        if !more {
            return until;
        }
    }
}
