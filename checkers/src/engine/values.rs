//! The values of one key, numbered from 0 in the order in which they come up.

/// A table that is used again for the next key.
#[derive(Default)]
pub(super) struct Values {
    /// Open addressing; the length is a power of two.
    table: Vec<Entry>,
    /// Entries of other rounds are empty.
    round: u32,
    count: u32,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    value: u32,
    number: u32,
    round: u32,
}

impl Values {
    /// Forgets all values.
    pub(super) fn reset(&mut self) {
        self.count = 0;
        self.round = self.round.wrapping_add(1);
        // A table that a large key left behind would slow down small ones: it doesn't fit the cache.
        if self.round == 0 || self.table.len() > 1 << 13 {
            self.table.clear();
            self.round = 1;
        }
        if self.table.is_empty() {
            self.table.resize(64, Entry::default());
        }
    }

    /// A value's number; new values get the next one.
    #[inline]
    pub(super) fn number(&mut self, value: u32) -> u32 {
        let mask = self.table.len() - 1;
        let mut at = spread(value) & mask;
        loop {
            let entry = self.table[at & mask];
            if entry.round != self.round {
                break;
            }
            if entry.value == value {
                return entry.number;
            }
            at += 1;
        }
        self.table[at & mask] = Entry { value, number: self.count, round: self.round };
        self.count += 1;
        if self.count as usize * 2 > self.table.len() {
            self.grow();
        }
        self.count - 1
    }

    fn grow(&mut self) {
        let entries = std::mem::take(&mut self.table);
        self.table.resize(entries.len() * 2, Entry::default());
        let mask = self.table.len() - 1;
        for entry in entries.into_iter().filter(|entry| entry.round == self.round) {
            let mut at = spread(entry.value) & mask;
            while self.table[at].round == self.round {
                at = (at + 1) & mask;
            }
            self.table[at] = entry;
        }
    }
}

/// Spreads neighbouring and aligned values over the whole range.
#[inline]
fn spread(value: u32) -> usize {
    (u64::from(value).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}
