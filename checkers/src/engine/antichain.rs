//! Configurations, and sets of them in which none makes another superfluous.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::mask::Mask;
use super::pending::Pending;

/// One way in which things can be at a moment: what the register holds, and how each operation in
/// progress stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Configuration<const N: usize> {
    pub(super) value: u32,
    /// Which pending operations were used: a multiset of [`Pending`].
    pub(super) used: u32,
    /// Slots whose operation has taken effect.
    pub(super) done: Mask<N>,
    /// Slots whose write has not taken effect and need not any more: another write took effect
    /// while it was in progress, and it can have been just before that one, unseen.
    pub(super) absorbed: Mask<N>,
    /// How it came about, for the certificate; no part of what it is.
    pub(super) trail: u32,
}

impl<const N: usize> Configuration<N> {
    fn same(&self, other: &Self) -> bool {
        (self.value, self.used) == (other.value, other.used)
            && self.done == other.done
            && self.absorbed == other.absorbed
    }
}

/// Which slots hold what kind of operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kinds<const N: usize> {
    pub(super) reads: Mask<N>,
    pub(super) writes: Mask<N>,
    pub(super) cas: Mask<N>,
}

/// `a` can do all that `b` can: the value is the same; the same cas have taken effect; every read
/// that has in `b` has in `a`; each write stands the same or needn't take effect in `a` but may;
/// and of every class of pending operations `a` has used no more.
fn dominates<const N: usize>(a: &Configuration<N>, b: &Configuration<N>, kinds: &Kinds<N>, pending: &Pending) -> bool {
    let writes = a.done.differing(b.done).or(a.absorbed.differing(b.absorbed)).and(kinds.writes);
    a.value == b.value
        && a.done.differing(b.done).and(kinds.cas).is_empty()
        && b.done.without(a.done).and(kinds.reads).is_empty()
        && writes.without(a.absorbed).is_empty()
        && pending.no_more(a.used, b.used)
}

/// Takes a number for its own hash: keys are mixed already.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, mixed: u64) {
        self.0 = mixed;
    }
}

/// Up to this many configurations are compared with all others.
const FEW: usize = 24;

/// The most configurations that a new one is compared with, beyond those equal to it.
const COMPARED: usize = 4096;

const NONE: u32 = u32::MAX;

/// A set of configurations of which none (within the limits of [`COMPARED`]) dominates another.
pub(super) struct Antichain<const N: usize> {
    items: Vec<(Configuration<N>, bool)>,
    /// Once there are many: the last item of each bucket, and for each item the one before it.
    buckets: HashMap<u64, u32, BuildHasherDefault<Mixed>>,
    before: Vec<u32>,
}

impl<const N: usize> Antichain<N> {
    pub(super) fn new() -> Self {
        Antichain { items: Vec::new(), buckets: HashMap::default(), before: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.before.clear();
        if self.buckets.capacity() > 4096 {
            self.buckets = HashMap::default();
        } else if !self.buckets.is_empty() {
            self.buckets.clear();
        }
    }

    /// Estimated bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.items.capacity() * (size_of::<(Configuration<N>, bool)>() + 4) + self.buckets.capacity() * 16
    }

    /// The configuration that was added as number `at`, if there is one and nothing better came.
    pub(super) fn get(&self, at: usize) -> Option<Option<Configuration<N>>> {
        self.items.get(at).map(|(configuration, alive)| alive.then_some(*configuration))
    }

    /// Moves what is left to `to`.
    pub(super) fn drain_into(&mut self, to: &mut Vec<Configuration<N>>) {
        to.extend(self.items.iter().filter(|(_, alive)| *alive).map(|(configuration, _)| *configuration));
        self.clear();
    }

    /// Adds a configuration unless one that is there can do all that it can. Whether it was added.
    pub(super) fn add(&mut self, new: Configuration<N>, kinds: &Kinds<N>, pending: &Pending) -> bool {
        if self.before.is_empty() && self.items.len() < FEW {
            for (item, alive) in &mut self.items {
                if *alive && dominates(item, &new, kinds, pending) {
                    return false;
                }
                *alive = *alive && !dominates(&new, item, kinds, pending);
            }
            self.items.push((new, true));
            return true;
        }
        if self.before.is_empty() {
            for at in 0..self.items.len() {
                self.link(at, kinds);
            }
        }
        let bucket = self.buckets.get(&bucket(&new, kinds)).copied().unwrap_or(NONE);
        let mut at = bucket;
        let mut compared = 0;
        while at != NONE {
            let (item, alive) = &mut self.items[at as usize];
            if *alive {
                if item.same(&new) || (compared < COMPARED && dominates(item, &new, kinds, pending)) {
                    return false;
                }
                if compared < COMPARED && dominates(&new, item, kinds, pending) {
                    *alive = false;
                }
            }
            compared += 1;
            at = self.before[at as usize];
        }
        self.items.push((new, true));
        self.link(self.items.len() - 1, kinds);
        true
    }

    fn link(&mut self, at: usize, kinds: &Kinds<N>) {
        let before = self.buckets.insert(bucket(&self.items[at].0, kinds), at as u32).unwrap_or(NONE);
        self.before.push(before);
    }
}

/// What has to be equal for one configuration to dominate another.
fn bucket<const N: usize>(configuration: &Configuration<N>, kinds: &Kinds<N>) -> u64 {
    let mixed =
        configuration.done.and(kinds.cas).mix() ^ u64::from(configuration.value).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
