//! All configurations that the events so far can have led to. If none is left after a return,
//! there is no order.
//!
//! In the manner of just-in-time linearization (Lowe, *Testing for Linearizability*, 2017, §5):
//! at a return, each configuration in which the operation has not taken effect is replaced by
//! those that follow from it by letting operations in progress take effect, the returning one
//! last. That the others wait loses nothing, for they can take effect right after. Masks cover
//! the operations in progress only, and these keep configurations few:
//!
//! - *What changes nothing takes effect at once*: a read of the value that is there.
//! - *Lazy writes*: a write in progress when another write takes effect may have been just before
//!   it, where nobody can see it. It needn't take effect any more, but still may. At its return
//!   this counts only if the other took effect before an earlier return: one that is let take
//!   effect now may as well wait until the returning one has taken effect.
//! - *A write that nobody observes is none*: unless it is the returning one, a write is only let
//!   take effect if something that is waiting could observe it (a read, a cas, a pending cas that
//!   leads there): else it is better left to be absorbed. So are pending writes; one of the value
//!   that is already there counts, for it absorbs others before a cas.
//! - *Of identical operations* the one that returns first takes effect first (if it is known when
//!   they return), pending ones last.
//! - Dominated configurations are dropped ([`super::antichain`]).

use super::antichain::{Antichain, Configuration, Kinds};
use super::certificate::{Step, Trail};
use super::history::{Action, PENDING};
use super::mask::Mask;
use super::pending::Pending;
use crate::budget::Deadline;
use crate::wgl::Limit;

/// An operation in progress.
#[derive(Clone, Copy)]
pub(super) struct Slot<const N: usize> {
    /// Its number.
    op: u32,
    pub(super) action: Action,
    /// When it returns, or [`PENDING`] if that isn't known.
    ret: u32,
    /// Identical operations that return before it.
    before: Mask<N>,
}

/// The operations in progress that are about one value.
#[derive(Clone, Copy)]
pub(super) struct About<const N: usize> {
    reads: Mask<N>,
    differs: Mask<N>,
    writes: Mask<N>,
    cas_from: Mask<N>,
}

impl<const N: usize> About<N> {
    pub(super) const NOTHING: About<N> =
        About { reads: Mask::EMPTY, differs: Mask::EMPTY, writes: Mask::EMPTY, cas_from: Mask::EMPTY };
}

/// What may be spent, and when to look at the clock again.
pub(super) struct Meter {
    pub(super) deadline: Deadline,
    pub(super) memory_bytes: usize,
    until_clock: u32,
}

impl Meter {
    pub(super) fn new(deadline: Deadline, memory_bytes: usize) -> Meter {
        Meter { deadline, memory_bytes, until_clock: 1 }
    }
}

/// How many configurations are followed up between two looks at the clock, and comparisons.
const CLOCK_INTERVAL: u32 = 256;
const CLOCK_COMPARISONS: u64 = 1 << 16;

pub(super) struct Frontier<const N: usize> {
    pub(super) slots: Vec<Slot<N>>,
    pub(super) taken: Mask<N>,
    pub(super) about: Vec<About<N>>,
    pub(super) kinds: Kinds<N>,
    differs: Mask<N>,
    pub(super) pending: Pending,
    pub(super) configurations: Vec<Configuration<N>>,
    pub(super) next: Antichain<N>,
    between: Antichain<N>,
    /// How many of `between` have been followed up, if a return was interrupted.
    interrupted: Option<usize>,
    /// It isn't known yet how the operations in progress will end.
    pub(super) growing: bool,
    /// Memory for [`Frontier::find_leading`].
    leading: Vec<u32>,
    pub(super) trail: Trail,
}

impl<const N: usize> Frontier<N> {
    /// At the start of a history of no values: [`Frontier::reset`] comes next.
    pub(super) fn new() -> Self {
        let slot = Slot { op: 0, action: Action::Read(0), ret: 0, before: Mask::EMPTY };
        Frontier {
            slots: vec![slot; Mask::<N>::SLOTS],
            taken: Mask::EMPTY,
            about: Vec::new(),
            kinds: Kinds { reads: Mask::EMPTY, writes: Mask::EMPTY, cas: Mask::EMPTY },
            differs: Mask::EMPTY,
            pending: Pending::new(),
            configurations: Vec::new(),
            next: Antichain::new(),
            between: Antichain::new(),
            interrupted: None,
            growing: false,
            leading: Vec::new(),
            trail: Trail::new(false),
        }
    }

    /// Starts a history whose values are below `values`.
    pub(super) fn reset(&mut self, initial: u32, values: usize, certify: bool) {
        self.taken = Mask::EMPTY;
        self.kinds = Kinds { reads: Mask::EMPTY, writes: Mask::EMPTY, cas: Mask::EMPTY };
        self.differs = Mask::EMPTY;
        self.about.clear();
        self.about.resize(values, About::NOTHING);
        self.pending.reset();
        self.configurations.clear();
        self.configurations.push(Configuration::new(initial, Trail::START));
        self.configurations.shrink_to(1 << 14);
        self.next.clear();
        self.next.release();
        self.between.clear();
        self.between.release();
        (self.interrupted, self.growing) = (None, false);
        self.trail = Trail::new(certify);
    }

    /// The ways in which things can be now. None: there is no order.
    pub(super) fn configurations(&self) -> &[Configuration<N>] {
        &self.configurations
    }

    /// If things can be one way only, and nothing is in progress: the value. If an operation now
    /// begins and ends alone, and can be done to this value, then it is, and nothing pending is
    /// used: whatever that could lead to would be dominated.
    #[inline]
    pub(super) fn settled(&mut self) -> Option<&mut u32> {
        let settled = self.taken.is_empty() && !self.trail.is_on();
        match self.configurations.as_mut_slice() {
            [configuration] if settled => Some(&mut configuration.value),
            _ => None,
        }
    }

    /// An operation is called that is to return. Nothing else may be in its slot.
    #[inline]
    pub(super) fn call(&mut self, slot: usize, op: u32, action: Action, ret: u32) {
        let mut before = Mask::EMPTY;
        if ret != PENDING {
            for other in self.identical(action).slots() {
                if self.slots[other].ret < ret {
                    before.set(other);
                } else {
                    self.slots[other].before.set(slot);
                }
            }
        }
        self.occupy(slot, Slot { op, action, ret, before });
        match action {
            Action::Read(value) => {
                for configuration in self.configurations.iter_mut().filter(|c| c.value == value) {
                    configuration.done.set(slot);
                }
            }
            Action::Differs(value) => {
                for configuration in self.configurations.iter_mut().filter(|c| c.value != value) {
                    configuration.done.set(slot);
                }
            }
            Action::Write(_) | Action::Cas { .. } => {}
        }
    }

    #[inline]
    pub(super) fn occupy(&mut self, slot: usize, with: Slot<N>) {
        self.taken.set(slot);
        match with.action {
            Action::Read(value) => {
                self.kinds.reads.set(slot);
                self.about[value as usize].reads.set(slot);
            }
            Action::Differs(value) => {
                self.kinds.reads.set(slot);
                self.differs.set(slot);
                self.about[value as usize].differs.set(slot);
            }
            Action::Write(to) => {
                self.kinds.writes.set(slot);
                self.about[to as usize].writes.set(slot);
            }
            Action::Cas { from, .. } => {
                self.kinds.cas.set(slot);
                self.about[from as usize].cas_from.set(slot);
            }
        }
        self.slots[slot] = with;
    }

    /// The operations in progress that set the register in the same way.
    #[inline]
    fn identical(&self, action: Action) -> Mask<N> {
        match action {
            Action::Write(to) => self.about[to as usize].writes,
            Action::Cas { from, .. } => {
                let mut same = self.about[from as usize].cas_from;
                for slot in same.slots().filter(|slot| self.slots[*slot].action != action) {
                    same.clear(slot);
                }
                same
            }
            Action::Read(_) | Action::Differs(_) => Mask::EMPTY,
        }
    }

    /// An operation is called of which it will never be known whether it takes effect, which can
    /// be of use until an event.
    pub(super) fn call_pending(&mut self, op: u32, action: Action, until: u32) {
        let serial = self.pending.call(action, until);
        self.trail.pending(serial, op);
    }

    /// Lets everything that an operation's return asks for happen. If a limit is met, the same
    /// call again goes on where this one stopped.
    #[inline]
    pub(super) fn returns(&mut self, slot: usize, now: u32, meter: &mut Meter) -> Result<(), Limit> {
        if self.interrupted.is_none() && self.configurations.iter().all(|c| c.done.has(slot)) {
            // Those that differed still do.
            self.free(slot);
            self.configurations.iter_mut().for_each(|c| c.done.clear(slot));
        } else {
            self.expand(slot, now, meter)?;
        }
        self.trail.compact(&mut self.configurations);
        Ok(())
    }

    fn expand(&mut self, slot: usize, now: u32, meter: &mut Meter) -> Result<(), Limit> {
        let mut at = self.interrupted.take().unwrap_or_else(|| {
            for at in 0..self.configurations.len() {
                let configuration = self.configurations[at];
                if configuration.done.has(slot) || configuration.absorbed.has(slot) {
                    self.keep(configuration, slot);
                }
                if !configuration.done.has(slot) {
                    self.between.add(configuration, &self.kinds, &self.pending);
                }
            }
            0
        });
        while let Some(configuration) = self.between.get(at) {
            if let Some(configuration) = configuration {
                if let Err(limit) = self.within(meter) {
                    self.interrupted = Some(at);
                    return Err(limit);
                }
                self.follow(&configuration, slot, now);
            }
            at += 1;
        }
        self.between.clear();
        self.free(slot);
        self.next.take_into(&mut self.configurations);
        Ok(())
    }

    #[inline]
    fn within(&mut self, meter: &mut Meter) -> Result<(), Limit> {
        meter.until_clock -= 1;
        if meter.until_clock > 0 && self.next.work + self.between.work < CLOCK_COMPARISONS {
            return Ok(());
        }
        meter.until_clock = CLOCK_INTERVAL;
        (self.next.work, self.between.work) = (0, 0);
        if self.bytes() > meter.memory_bytes {
            return Err(Limit::Memory);
        }
        if meter.deadline.passed() { Err(Limit::Time) } else { Ok(()) }
    }

    /// Estimated bytes in use: a function of what is in it, not of what was before.
    pub(super) fn bytes(&self) -> usize {
        let configurations = self.configurations.len() * 2 * size_of::<Configuration<N>>();
        configurations + self.next.bytes() + self.between.bytes() + self.pending.bytes() + self.trail.bytes()
    }

    /// Frees an operation's slot; the configurations still speak of it.
    #[inline]
    pub(super) fn free(&mut self, slot: usize) {
        self.taken.clear(slot);
        self.kinds.reads.clear(slot);
        self.kinds.writes.clear(slot);
        self.kinds.cas.clear(slot);
        self.differs.clear(slot);
        let Slot { action, ret, .. } = self.slots[slot];
        match action {
            Action::Read(value) => self.about[value as usize].reads.clear(slot),
            Action::Differs(value) => self.about[value as usize].differs.clear(slot),
            Action::Write(value) => self.about[value as usize].writes.clear(slot),
            Action::Cas { from, .. } => self.about[from as usize].cas_from.clear(slot),
        }
        if ret != PENDING {
            for other in self.identical(action).slots() {
                self.slots[other].before.clear(slot);
            }
        }
    }

    /// Adds what can follow at once from a configuration in which the operation of slot `last`
    /// has yet to take effect.
    #[inline]
    fn follow(&mut self, from: &Configuration<N>, last: usize, now: u32) {
        for slot in self.about[from.value as usize].cas_from.without(from.done).slots() {
            let Slot { op, action, before, .. } = self.slots[slot];
            let Action::Cas { to, .. } = action else { continue };
            if before.without(from.done).is_empty() {
                let mut new = *from;
                new.done.set(slot);
                self.step(new, to, Step::Operation(op), last, now);
            }
        }
        let mut leading = std::mem::take(&mut self.leading);
        self.find_leading(from, &mut leading);
        for slot in self.kinds.writes.without(from.done).slots() {
            let Slot { op, action, before, .. } = self.slots[slot];
            let Action::Write(to) = action else { continue };
            let allowed = slot == last || (before.without(from.done).is_empty() && self.wanted(to, from, &leading));
            if allowed {
                let mut new = *from;
                new.done.set(slot);
                new.absorbed = from.absorbed.or(self.kinds.writes).without(new.done);
                self.step(new, to, Step::Operation(op), last, now);
            }
        }
        if !self.pending.is_empty() {
            self.follow_pending(from, last, now, &leading);
        }
        self.leading = leading;
    }

    fn follow_pending(&mut self, from: &Configuration<N>, last: usize, now: u32, leading: &[u32]) {
        for class in 0..self.pending.classes.len() {
            let Some((action, serial)) = self.pending.classes[class].map(|class| (class.action, class.serial)) else {
                continue;
            };
            let to = match action {
                Action::Write(to) => to,
                Action::Cas { from: found, to } if found == from.value => to,
                _ => continue,
            };
            if !self.pending.left(from.used, class)
                || !self.wanted(to, from, leading)
                || (!self.growing && !self.identical(action).without(from.done).is_empty())
            {
                continue;
            }
            let mut new = *from;
            new.used = self.pending.with(from.used, class);
            if matches!(action, Action::Write(_)) {
                new.absorbed = from.absorbed.or(self.kinds.writes).without(new.done);
            }
            self.step(new, to, Step::Pending(serial), last, now);
        }
    }

    #[inline]
    fn step(&mut self, mut new: Configuration<N>, value: u32, step: Step, last: usize, now: u32) {
        new.value = value;
        let about = &self.about[value as usize];
        new.done = new.done.or(about.reads).or(self.differs.without(about.differs));
        let trail = new.trail;
        new.trail = self.trail.next();
        let kept =
            if new.done.has(last) { self.keep(new, last) } else { self.between.add(new, &self.kinds, &self.pending) };
        if kept {
            self.trail.push(trail, step, now);
        }
    }

    /// Keeps a configuration for after the return of slot `last`. What is over makes no difference
    /// any more.
    #[inline]
    fn keep(&mut self, mut configuration: Configuration<N>, last: usize) -> bool {
        configuration.done.clear(last);
        configuration.absorbed.clear(last);
        self.next.add(configuration, &self.kinds, &self.pending)
    }

    /// Whether something that is waiting in a configuration could observe a value, directly or by
    /// way of pending cas.
    #[inline]
    fn wanted(&self, value: u32, configuration: &Configuration<N>, leading: &[u32]) -> bool {
        let about = &self.about[value as usize];
        let observers = about.reads.or(about.cas_from).or(self.differs.without(about.differs));
        !observers.without(configuration.done).is_empty() || leading.contains(&value)
    }

    /// Finds the values from which pending cas lead to one that is wanted.
    #[inline]
    fn find_leading(&self, configuration: &Configuration<N>, leading: &mut Vec<u32>) {
        leading.clear();
        let mut more = !self.pending.is_empty();
        while std::mem::take(&mut more) {
            for (class, known) in self.pending.classes.iter().enumerate() {
                if let Some(Action::Cas { from, to }) = known.map(|class| class.action)
                    && self.pending.left(configuration.used, class)
                    && !leading.contains(&from)
                    && self.wanted(to, configuration, leading)
                {
                    leading.push(from);
                    more = true;
                }
            }
        }
    }

    /// Forgets pending operations that can't be of use from `now` on. When the next one can't.
    pub(super) fn expire(&mut self, now: u32) -> u32 {
        if self.pending.expire(now) || self.pending.bytes() > 1 << 20 {
            let old = self.pending.renew();
            for at in 0..self.configurations.len() {
                let mut moved = self.configurations[at];
                moved.used = self.pending.moved(&old, moved.used);
                self.next.add(moved, &self.kinds, &self.pending);
            }
            self.next.take_into(&mut self.configurations);
        }
        self.pending.classes.iter().flatten().map(|class| class.until).min().unwrap_or(u32::MAX)
    }
}
