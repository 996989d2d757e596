//! Configurations, and sets of them in which none makes another superfluous.

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
    /// In an [`Antichain`]: something better came.
    dead: bool,
}

impl<const N: usize> Configuration<N> {
    /// Nothing is in progress, and nothing pending was used.
    pub(super) fn new(value: u32, trail: u32) -> Configuration<N> {
        Configuration { value, used: 0, done: Mask::EMPTY, absorbed: Mask::EMPTY, trail, dead: false }
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
#[inline]
fn dominates<const N: usize>(a: &Configuration<N>, b: &Configuration<N>, kinds: &Kinds<N>, pending: &Pending) -> bool {
    let done = a.done.differing(b.done);
    let writes = done.or(a.absorbed.differing(b.absorbed)).and(kinds.writes).without(a.absorbed);
    let reads = b.done.without(a.done).and(kinds.reads);
    a.value == b.value && done.and(kinds.cas).or(reads).or(writes).is_empty() && pending.no_more(a.used, b.used)
}

/// Up to this many configurations are compared with all others.
const FEW: usize = 16;

/// The most configurations that a new one is compared with, beyond those equal to it.
const COMPARED: usize = 4096;

const NONE: u32 = u32::MAX;

/// A set of configurations of which none (within the limits of [`COMPARED`]) dominates another.
pub(super) struct Antichain<const N: usize> {
    items: Vec<Configuration<N>>,
    /// Once there are many: the last item of each bucket, and for each item the one before it.
    buckets: Vec<Bucket>,
    before: Vec<u32>,
    /// Buckets of other rounds are empty.
    round: u32,
    /// How many comparisons there have been since this was last looked at: what the time goes into.
    pub(super) work: u64,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    round: u32,
    last: u32,
}

impl<const N: usize> Antichain<N> {
    pub(super) fn new() -> Self {
        Antichain { items: Vec::new(), buckets: Vec::new(), before: Vec::new(), round: 0, work: 0 }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.before.clear();
    }

    /// Estimated bytes in use: a function of what is in it, not of what was before.
    pub(super) fn bytes(&self) -> usize {
        self.items.len() * (2 * size_of::<Configuration<N>>() + 4 * size_of::<Bucket>() + 8)
    }

    /// Gives memory back if it is much.
    pub(super) fn release(&mut self) {
        if self.items.capacity() > 1 << 14 {
            *self = Antichain::new();
        }
    }

    /// The configuration that was added as number `at`, if there is one and nothing better came.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<Option<Configuration<N>>> {
        self.items.get(at).map(|configuration| (!configuration.dead).then_some(*configuration))
    }

    /// Swaps what is left with the contents of `to`, which are forgotten.
    #[inline]
    pub(super) fn take_into(&mut self, to: &mut Vec<Configuration<N>>) {
        std::mem::swap(&mut self.items, to);
        if to.len() > 1 {
            to.retain(|configuration| !configuration.dead);
        }
        self.clear();
    }

    /// Adds a configuration unless one that is there can do all that it can. Whether it was added.
    #[inline]
    pub(super) fn add(&mut self, new: Configuration<N>, kinds: &Kinds<N>, pending: &Pending) -> bool {
        if self.items.len() < FEW {
            for item in self.items.iter_mut().filter(|item| item.value == new.value && !item.dead) {
                if dominates(item, &new, kinds, pending) {
                    return false;
                }
                item.dead = dominates(&new, item, kinds, pending);
            }
            self.items.push(new);
            return true;
        }
        self.add_to_many(new, kinds, pending)
    }

    fn add_to_many(&mut self, new: Configuration<N>, kinds: &Kinds<N>, pending: &Pending) -> bool {
        if self.before.len() * 2 >= self.buckets.len() || self.before.is_empty() {
            self.index(kinds);
        }
        let place = bucket(&new, kinds) & (self.buckets.len() - 1);
        let Bucket { round, last } = self.buckets[place];
        let last = if round == self.round { last } else { NONE };
        let mut at = last;
        let mut compared = 0;
        while at != NONE {
            let item = &mut self.items[at as usize];
            if !item.dead {
                if dominates(item, &new, kinds, pending) {
                    self.work += compared;
                    return false;
                }
                item.dead = compared < COMPARED as u64 && dominates(&new, item, kinds, pending);
            }
            compared += 1;
            at = self.before[at as usize];
        }
        self.work += compared;
        self.buckets[place] = Bucket { round: self.round, last: self.items.len() as u32 };
        self.before.push(last);
        self.items.push(new);
        true
    }

    /// Puts all items into buckets, twice as many as there are items or more.
    fn index(&mut self, kinds: &Kinds<N>) {
        let size = (self.items.len() * 4).next_power_of_two().max(256);
        self.round = self.round.wrapping_add(1);
        if size > self.buckets.len() || self.round == 0 {
            self.buckets = vec![Bucket::default(); size.max(self.buckets.len())];
            self.round = 1;
        }
        self.before.clear();
        let mask = self.buckets.len() - 1;
        for (at, item) in self.items.iter().enumerate() {
            let place = &mut self.buckets[bucket(item, kinds) & mask];
            self.before.push(if place.round == self.round { place.last } else { NONE });
            *place = Bucket { round: self.round, last: at as u32 };
        }
    }
}

/// Where to look for what may dominate a configuration, or be dominated by it.
#[inline]
fn bucket<const N: usize>(configuration: &Configuration<N>, kinds: &Kinds<N>) -> usize {
    let mixed =
        configuration.done.and(kinds.cas).mix() ^ u64::from(configuration.value).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}
