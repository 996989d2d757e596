//! What is going to happen, in order: by time, and at the same time by when it was put down.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Things to happen. The heap holds only times and places, so that what is moved about in it is
/// small; the things themselves stay where they were put.
#[derive(Debug)]
pub(crate) struct Calendar<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

/// Ordered by time, then by sequence. `place` never decides: sequences differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Time in the upper half, sequence in the lower one: one comparison.
    order: u128,
    place: u32,
}

impl<T> Default for Calendar<T> {
    fn default() -> Self {
        Calendar { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<T> Calendar<T> {
    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.slots.clear();
        self.free.clear();
        self.sequence = 0;
    }

    pub(crate) fn push(&mut self, at: u64, thing: T) {
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = Some(thing);
                place
            }
            None => {
                self.slots.push(Some(thing));
                (self.slots.len() - 1) as u32
            }
        };
        self.sequence += 1;
        let order = u128::from(at) << 64 | u128::from(self.sequence);
        self.heap.push(Reverse(Entry { order, place }));
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse(entry) = self.heap.pop()?;
        let thing = self.slots[entry.place as usize].take();
        self.free.push(entry.place);
        thing.map(|thing| ((entry.order >> 64) as u64, thing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_of_time_and_then_of_putting_down() {
        let mut calendar = Calendar::default();
        for (at, name) in [(5, 'd'), (1, 'a'), (5, 'e'), (1, 'b'), (3, 'c')] {
            calendar.push(at, name);
        }
        assert_eq!(calendar.pop(), Some((1, 'a')));
        calendar.push(5, 'f');
        calendar.push(1, 'A');
        let rest: String = std::iter::from_fn(|| calendar.pop()).map(|(_, name)| name).collect();
        assert_eq!(rest, "bAcdef");
    }
}
