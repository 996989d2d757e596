//! Pending operations: what may take effect at any time after its call, or never. Identical ones
//! are one class, and a configuration only says how many of each class it has used.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;

use super::prepare::Action;

/// One class of identical pending operations.
pub(super) struct Class {
    pub(super) action: Action,
    /// Tells it from all other classes of the search.
    pub(super) serial: u32,
    /// How many of them have been called.
    pub(super) called: u16,
    /// The last event at which it can be of use.
    pub(super) until: u32,
}

/// The classes that can still be of use, and the multisets of used ones, numbered; 0 is empty.
pub(super) struct Pending {
    pub(super) classes: Vec<Option<Class>>,
    multisets: Vec<Box<[u16]>>,
    known: HashMap<Box<[u16]>, u32, BuildHasherDefault<DefaultHasher>>,
    bytes: usize,
    serials: u32,
}

impl Pending {
    pub(super) fn new() -> Pending {
        let mut pending =
            Pending { classes: Vec::new(), multisets: Vec::new(), known: HashMap::default(), bytes: 0, serials: 0 };
        pending.intern(Vec::new());
        pending
    }

    /// Estimated bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One more operation was called. The serial number of its class.
    pub(super) fn call(&mut self, action: Action, until: u32) -> u32 {
        if let Some(class) = self.classes.iter_mut().flatten().find(|class| class.action == action) {
            class.called = class.called.saturating_add(1);
            return class.serial;
        }
        self.serials += 1;
        let class = Class { action, serial: self.serials - 1, called: 1, until };
        match self.classes.iter_mut().find(|class| class.is_none()) {
            Some(place) => *place = Some(class),
            None => self.classes.push(Some(class)),
        }
        self.serials - 1
    }

    /// Whether `used` leaves one of a class.
    pub(super) fn left(&self, used: u32, class: usize) -> bool {
        let counts = &self.multisets[used as usize];
        self.classes[class].as_ref().is_some_and(|c| counts.get(class).copied().unwrap_or(0) < c.called)
    }

    /// `used` and one more of a class.
    pub(super) fn with(&mut self, used: u32, class: usize) -> u32 {
        let mut counts = self.multisets[used as usize].to_vec();
        counts.resize(counts.len().max(class + 1), 0);
        counts[class] += 1;
        self.intern(counts)
    }

    /// Whether `a` has no more than `b` of any class.
    pub(super) fn no_more(&self, a: u32, b: u32) -> bool {
        if a == b || a == 0 {
            return true;
        }
        let (a, b) = (&self.multisets[a as usize], &self.multisets[b as usize]);
        a.len() <= b.len() && a.iter().zip(b.iter()).all(|(a, b)| a <= b)
    }

    /// Drops the classes that can't be of use after an event. Whether there were any; then each
    /// multiset in use has to be [`Pending::moved`].
    pub(super) fn expire(&mut self, now: u32) -> bool {
        let mut any = false;
        for class in &mut self.classes {
            if class.as_ref().is_some_and(|class| class.until < now) {
                *class = None;
                any = true;
            }
        }
        any
    }

    /// An empty store with the same classes, and the multisets that it replaces.
    pub(super) fn renew(&mut self) -> Vec<Box<[u16]>> {
        self.known.clear();
        self.bytes = 0;
        let old = std::mem::take(&mut self.multisets);
        self.intern(Vec::new());
        old
    }

    /// A multiset of before [`Pending::renew`], without the classes that are gone.
    pub(super) fn moved(&mut self, old: &[Box<[u16]>], used: u32) -> u32 {
        if used == 0 {
            return 0;
        }
        let counts = old[used as usize].iter().zip(&self.classes);
        let counts = counts.map(|(count, class)| if class.is_some() { *count } else { 0 }).collect();
        self.intern(counts)
    }

    fn intern(&mut self, mut counts: Vec<u16>) -> u32 {
        while counts.last() == Some(&0) {
            counts.pop();
        }
        if let Some(known) = self.known.get(counts.as_slice()) {
            return *known;
        }
        let number = self.multisets.len() as u32;
        let counts = counts.into_boxed_slice();
        self.bytes += counts.len() * 4 + 80;
        self.known.insert(counts.clone(), number);
        self.multisets.push(counts);
        number
    }
}
