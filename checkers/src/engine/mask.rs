//! Sets of slots: which of the operations in progress something is true of.

/// A set of slot numbers below `64 * N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mask<const N: usize>([u64; N]);

impl<const N: usize> Mask<N> {
    pub(super) const EMPTY: Mask<N> = Mask([0; N]);
    pub(super) const SLOTS: usize = 64 * N;

    #[inline]
    pub(super) fn has(&self, slot: usize) -> bool {
        self.0[slot / 64] >> (slot % 64) & 1 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, slot: usize) {
        self.0[slot / 64] |= 1 << (slot % 64);
    }

    #[inline]
    pub(super) fn clear(&mut self, slot: usize) {
        self.0[slot / 64] &= !(1 << (slot % 64));
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().fold(0, |all, word| all | word) == 0
    }

    #[inline]
    fn zip(self, other: Mask<N>, with: impl Fn(u64, u64) -> u64) -> Mask<N> {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(other.0) {
            *word = with(*word, other);
        }
        Mask(words)
    }

    #[inline]
    pub(super) fn and(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a & b)
    }

    #[inline]
    pub(super) fn or(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a | b)
    }

    #[inline]
    pub(super) fn without(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a & !b)
    }

    #[inline]
    pub(super) fn differing(self, other: Mask<N>) -> Mask<N> {
        self.zip(other, |a, b| a ^ b)
    }

    /// A number that differs for most different sets.
    #[inline]
    pub(super) fn mix(&self) -> u64 {
        self.0.iter().fold(0, |mixed, word| (mixed ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
    }

    /// The members, ascending.
    #[inline]
    pub(super) fn slots(self) -> Slots<N> {
        Slots { words: self.0, at: 0 }
    }
}

/// The members of a [`Mask`], ascending.
pub(super) struct Slots<const N: usize> {
    words: [u64; N],
    at: usize,
}

impl<const N: usize> Iterator for Slots<N> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while let Some(word) = self.words.get_mut(self.at) {
            if *word != 0 {
                let slot = self.at * 64 + word.trailing_zeros() as usize;
                *word &= *word - 1;
                return Some(slot);
            }
            self.at += 1;
        }
        None
    }
}
