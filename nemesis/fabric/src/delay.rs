//! Frames held back until they are due.
//!
//! Pure: time is a number of nanoseconds the caller reads from whatever clock it likes. Memory is
//! bounded in bytes; what does not fit is refused, and the caller counts it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Bytes a held frame costs beyond its own: its heap entry and its allocation.
const OVERHEAD: usize = 64;

/// A frame whose time has come.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    /// When it is due. Held frames are ordered by this, then by age.
    pub(crate) due: u64,
    /// How many frames were held before it: makes equal due times first in, first out.
    sequence: u64,
    /// The port it came from.
    pub(crate) from: usize,
    /// The port it goes to.
    pub(crate) to: usize,
    /// The frame, offload header included.
    pub(crate) frame: Box<[u8]>,
}

/// A priority queue of frames by due time. Frames of one link held for the same time come out in
/// the order they went in.
#[derive(Debug)]
pub(crate) struct DelayQueue {
    held: BinaryHeap<Reverse<Held>>,
    pushed: u64,
    bytes: usize,
    limit: usize,
}

impl DelayQueue {
    /// A queue that holds at most `limit` bytes, bookkeeping included.
    pub(crate) fn new(limit: usize) -> DelayQueue {
        DelayQueue { held: BinaryHeap::new(), pushed: 0, bytes: 0, limit }
    }

    /// Holds `frame` until `due`; false if there is no room for it. O(log n).
    #[must_use]
    pub(crate) fn push(&mut self, due: u64, from: usize, to: usize, frame: impl AsRef<[u8]> + Into<Box<[u8]>>) -> bool {
        let cost = frame.as_ref().len() + OVERHEAD;
        if self.bytes + cost > self.limit {
            return false;
        }
        self.bytes += cost;
        self.held.push(Reverse(Held { due, sequence: self.pushed, from, to, frame: frame.into() }));
        self.pushed += 1;
        true
    }

    /// When the next frame is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.held.peek().map(|Reverse(held)| held.due)
    }

    /// Takes out the next frame if it is due at `now`. O(log n).
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Held> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(held) = self.held.pop()?;
        self.bytes -= held.frame.len() + OVERHEAD;
        Some(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use duress_seed::Seed;

    fn drain(queue: &mut DelayQueue, now: u64) -> Vec<u8> {
        std::iter::from_fn(|| queue.pop_due(now)).map(|held| held.frame[0]).collect()
    }

    #[test]
    fn nothing_comes_out_before_it_is_due() {
        let mut queue = DelayQueue::new(10_000);
        assert!(queue.push(20, 0, 1, [2]) && queue.push(10, 0, 1, [1]));
        assert_eq!(queue.next_due(), Some(10));
        assert_eq!(drain(&mut queue, 9), []);
        assert_eq!(drain(&mut queue, 10), [1]);
        assert_eq!(drain(&mut queue, 100), [2]);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn equal_times_are_first_in_first_out() {
        let mut queue = DelayQueue::new(1 << 20);
        for i in 0..200 {
            assert!(queue.push(5, 0, 1, [i]));
        }
        assert_eq!(drain(&mut queue, 5), (0..200).collect::<Vec<u8>>());
    }

    #[test]
    fn the_bound_is_in_bytes_and_room_comes_back() {
        let mut queue = DelayQueue::new(3 * (100 + OVERHEAD));
        for _ in 0..3 {
            assert!(queue.push(1, 0, 1, [0; 100]));
        }
        assert!(!queue.push(1, 0, 1, [0; 100]));
        assert!(queue.pop_due(1).is_some());
        assert!(queue.push(1, 0, 1, [0; 100]));
        assert!(!queue.push(1, 0, 1, []), "even an empty frame costs its bookkeeping");
    }

    /// Against the naive queue: a list, sorted by due time, stably.
    #[test]
    fn it_agrees_with_a_stable_sort() {
        for round in 0..50 {
            let mut queue = DelayQueue::new(1 << 20);
            let mut naive = Vec::new();
            for i in 0..100u64 {
                let due = Seed(round).decide(&[i]).below(20);
                assert!(queue.push(due, i as usize, 0, []));
                naive.push((due, i as usize));
            }
            naive.sort_by_key(|(due, _)| *due);
            let mut out = Vec::new();
            for now in 0..20 {
                out.extend(std::iter::from_fn(|| queue.pop_due(now)).map(|held| (held.due, held.from)));
            }
            assert_eq!(out, naive, "round {round}");
        }
    }
}
