//! Generators that hold another one back: by rate, by time, by number of operations.

use std::time::Duration;

use duress_history::Completion;
use duress_seed::Seed;

use crate::{FinalOp, Generator, Next, Slot};

/// Spreads operations over time, to an average rate over all slots.
///
/// Each slot has periods of equal length, shifted against those of the other slots, and invokes
/// one operation per period at a random moment of it. Periods that pass while the slot is busy
/// are not made up for, so the rate is never exceeded for long.
pub struct Stagger<G> {
    inner: G,
    seed: Seed,
    period: Duration,
    shift: Duration,
    /// For each slot, the first period that it hasn't used.
    unused: Vec<u64>,
}

impl<G: Generator> Stagger<G> {
    /// At most `rate` operations per second over `slots` slots. The rate is taken to lie within
    /// one operation in a million seconds and a thousand million per second.
    pub fn new(inner: G, rate: f64, slots: usize, seed: Seed) -> Stagger<G> {
        let shift = Duration::from_secs_f64(1.0 / rate.clamp(1e-6, 1e9));
        let slots = slots.max(1);
        let period = shift.saturating_mul(slots as u32).max(Duration::from_nanos(1));
        Stagger { inner, seed, period, shift, unused: vec![0; slots] }
    }

    /// When `slot` may invoke the operation of its period `number`.
    fn due(&self, slot: usize, number: u64) -> Duration {
        let shift = self.shift.saturating_mul(slot as u32);
        let jitter = self.seed.decide(&[slot as u64, number]).between(Duration::ZERO, self.period);
        let start = self.period.as_nanos().saturating_mul(u128::from(number));
        let start = Duration::from_nanos(u64::try_from(start).unwrap_or(u64::MAX));
        start.saturating_add(shift).saturating_add(jitter)
    }
}

impl<G: Generator> Generator for Stagger<G> {
    fn next(&mut self, who: Slot, now: Duration) -> Next {
        let Some(unused) = self.unused.get(who.index).copied() else { return Next::Done };
        let shift = self.shift.saturating_mul(who.index as u32);
        let present = u64::try_from(now.saturating_sub(shift).as_nanos() / self.period.as_nanos()).unwrap_or(u64::MAX);
        // The operation of the period before may be due in this one.
        let number = unused.max(present.saturating_sub(1));
        let due = self.due(who.index, number);
        if due > now {
            return Next::Wait(due);
        }
        let next = self.inner.next(who, now);
        if matches!(next, Next::Op(_)) {
            self.unused[who.index] = number + 1;
        }
        next
    }

    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration) {
        self.inner.completed(who, completion, now);
    }

    fn finale(&self) -> Vec<FinalOp> {
        self.inner.finale()
    }
}

/// Ends every slot at a given time.
pub struct TimeLimit<G> {
    inner: G,
    end: Duration,
}

impl<G: Generator> TimeLimit<G> {
    /// No operation is invoked at `end` or later, since the main phase began.
    pub fn new(inner: G, end: Duration) -> TimeLimit<G> {
        TimeLimit { inner, end }
    }
}

impl<G: Generator> Generator for TimeLimit<G> {
    fn next(&mut self, who: Slot, now: Duration) -> Next {
        if now >= self.end {
            return Next::Done;
        }
        match self.inner.next(who, now) {
            Next::Wait(until) if until >= self.end => Next::Done,
            next => next,
        }
    }

    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration) {
        self.inner.completed(who, completion, now);
    }

    fn finale(&self) -> Vec<FinalOp> {
        self.inner.finale()
    }
}

/// Ends every slot after its share of a number of operations.
pub struct OpLimit<G> {
    inner: G,
    left: Vec<u64>,
}

impl<G: Generator> OpLimit<G> {
    /// `operations` in all, shared evenly among `slots` slots.
    pub fn new(inner: G, operations: u64, slots: usize) -> OpLimit<G> {
        let slots = slots.max(1) as u64;
        let left = (0..slots).map(|slot| operations / slots + u64::from(slot < operations % slots)).collect();
        OpLimit { inner, left }
    }
}

impl<G: Generator> Generator for OpLimit<G> {
    fn next(&mut self, who: Slot, now: Duration) -> Next {
        match self.left.get_mut(who.index) {
            None | Some(0) => Next::Done,
            Some(left) => {
                let next = self.inner.next(who, now);
                if matches!(next, Next::Op(_)) {
                    *left -= 1;
                }
                next
            }
        }
    }

    fn completed(&mut self, who: Slot, completion: &Completion, now: Duration) {
        self.inner.completed(who, completion, now);
    }

    fn finale(&self) -> Vec<FinalOp> {
        self.inner.finale()
    }
}
