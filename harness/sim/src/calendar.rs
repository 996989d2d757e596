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

/// The time, then the sequence, then the place, from the upper bits to the lower ones: one
/// comparison orders by time and sequence, and the place never decides, since sequences differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry(u128);

/// So many bits name a place: no more things than that are ever planned at a time.
const PLACE: u32 = 24;
/// So many count the sequence: enough for a thousand times the events that a run may have.
const SEQUENCE: u32 = 40;

impl Entry {
    fn time(self) -> u64 {
        (self.0 >> (PLACE + SEQUENCE)) as u64
    }

    fn place(self) -> usize {
        (self.0 as usize) & ((1 << PLACE) - 1)
    }
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
        assert!(place >> PLACE == 0 && self.sequence >> SEQUENCE == 0, "a simulated run has got out of hand");
        let order = u128::from(at) << (PLACE + SEQUENCE) | u128::from(self.sequence << PLACE | u64::from(place));
        self.heap.push(Reverse(Entry(order)));
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse(entry) = self.heap.pop()?;
        let thing = self.slots[entry.place()].take();
        self.free.push(entry.place() as u32);
        thing.map(|thing| (entry.time(), thing))
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
