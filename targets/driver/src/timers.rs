//! The timers that a machine has set, on the node's monotonic clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Timers by name. Each is set at most once.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    by_name: BTreeMap<T, Entry>,
    by_deadline: BTreeSet<(Entry, T)>,
    set: u64,
}

/// When a timer runs out, and, among equals, the one set first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    deadline: Duration,
    order: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { by_name: BTreeMap::new(), by_deadline: BTreeSet::new(), set: 0 }
    }
}

impl<T: Copy + Ord> Timers<T> {
    /// Sets a timer, or moves it.
    pub(crate) fn set(&mut self, timer: T, deadline: Duration) {
        self.cancel(timer);
        self.set += 1;
        let entry = Entry { deadline, order: self.set };
        self.by_name.insert(timer, entry);
        self.by_deadline.insert((entry, timer));
    }

    /// Forgets a timer, if it is set.
    pub(crate) fn cancel(&mut self, timer: T) {
        if let Some(entry) = self.by_name.remove(&timer) {
            self.by_deadline.remove(&(entry, timer));
        }
    }

    /// When the next timer runs out.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_deadline.first().map(|(entry, _)| entry.deadline)
    }

    /// Takes one timer that has run out by `now`, the earliest first.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<T> {
        let (entry, timer) = *self.by_deadline.first()?;
        if entry.deadline > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_once_in_order_and_can_be_moved_and_cancelled() {
        let at = Duration::from_millis;
        let mut timers = Timers::default();
        timers.set('a', at(30));
        timers.set('b', at(10));
        timers.set('c', at(20));
        timers.set('a', at(10));
        timers.cancel('c');
        timers.cancel('d');
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(10)), Some('b'));
        assert_eq!(timers.pop(at(10)), Some('a'));
        assert_eq!(timers.pop(at(100)), None);
        assert_eq!(timers.next(), None);
    }
}
