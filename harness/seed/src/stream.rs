//! A generator for `rand` that one decision seeds.

use std::convert::Infallible;

use rand::TryRng;

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), after
/// the decision itself as the first word.
///
/// It is ours, and not one of `rand`'s, because its values are what stored seeds mean, and those of
/// `rand`'s small generators may change with a release. What `rand` makes of the words is pinned by
/// this crate's tests.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The next word.
    next: u64,
    state: u64,
}

impl Stream {
    #[inline]
    pub(crate) fn new(first: u64) -> Stream {
        Stream { next: first, state: first }
    }

    /// The next 64 bits.
    #[inline]
    fn word(&mut self) -> u64 {
        let word = self.next;
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.next = mixed ^ (mixed >> 31);
        word
    }
}

impl TryRng for Stream {
    type Error = Infallible;

    /// The upper half of a word, so that small choices are made as [`below`](crate::Decision::below)
    /// makes them.
    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.word() >> 32) as u32)
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.word())
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        for piece in to.chunks_mut(8) {
            piece.copy_from_slice(&self.word().to_le_bytes()[..piece.len()]);
        }
        Ok(())
    }
}
