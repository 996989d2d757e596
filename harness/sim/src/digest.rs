//! The running hash of everything that happened.
//!
//! It has to be quick, and the same on every machine; it has not to withstand anybody. Each word
//! is folded in by a 64×64→128-bit multiplication, as in Wang Yi's wyhash.

use std::hash::{Hash, Hasher};

/// A run's trace so far, as a number that everything that happens is folded into.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0x9e37_79b9_7f4a_7c15)
    }
}

impl Digest {
    #[inline]
    fn fold(&mut self, word: u64) {
        // An odd factor with many bits set. The rotation keeps a state of zero from being absorbing.
        let product = u128::from(self.0.rotate_left(23) ^ word ^ 0xa076_1d64_78bd_642f) * 0xe703_7ed1_a0b4_28db;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn word(&mut self, word: u64) {
        self.fold(word);
    }

    #[inline]
    pub(crate) fn contents(&mut self, contents: &impl Hash) {
        contents.hash(self);
    }
}

/// Words of any width are folded as 64 bits, so that the hash is the same where `usize` isn't.
impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.fold(u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.fold(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
        }
    }

    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.fold(u64::from(word));
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.fold(u64::from(word));
    }

    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    #[inline]
    fn write_isize(&mut self, word: isize) {
        self.fold(word as u64);
    }
}
