//! Sets of slots: which of the operations in progress something is true of.

/// A set of slot numbers below `64 * N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mask<const N: usize>([u64; N]);

impl<const N: usize> Mask<N> {
    pub(super) const EMPTY: Mask<N> = Mask([0; N]);
    pub(super) const SLOTS: usize = 64 * N;

    pub(super) fn has(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 != 0
    }

    pub(super) fn set(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    pub(super) fn clear(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn zip(self, other: Mask<N>, with: impl Fn(u64, u64) -> u64) -> Mask<N> {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(other.0) {
            *word = with(*word, other);
        }
        Mask(words)
    }

    pub(super) fn and(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a & b)
    }

    pub(super) fn or(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a | b)
    }

    pub(super) fn without(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a & !b)
    }

    pub(super) fn differing(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a ^ b)
    }

    /// A number that differs for most different sets.
    pub(super) fn mix(&self) -> u64 {
        self.0.iter().fold(0, |mixed, word| (mixed ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
    }

    /// The members, ascending.
    pub(super) fn slots(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                (word != 0).then(|| {
                    let slot = at * 64 + word.trailing_zeros() as usize;
                    word &= word - 1;
                    slot
                })
            })
        })
    }

    /// The lowest slot that is not in the set.
    pub(super) fn lowest_free(&self) -> Option<usize> {
        let at = self.0.iter().position(|word| *word != u64::MAX)?;
        Some(at * 64 + self.0[at].trailing_ones() as usize)
    }
}
