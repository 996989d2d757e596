//! Pending operations: what may take effect at any time after its call, or never. Identical ones
//! are one class, and a configuration only says how many of each class it has used.

use super::history::Action;

/// One class of identical pending operations.
#[derive(Clone, Copy, Debug)]
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
    /// A row of counts, one for each class, for each multiset.
    rows: Vec<u16>,
    /// The length of a row.
    width: usize,
    /// For each multiset and class the multiset with one more, if it came up before.
    more: Vec<u32>,
    /// Open addressing: multisets by their rows; the length is a power of two.
    table: Vec<u32>,
    serials: u32,
}

/// No multiset.
const NONE: u32 = u32::MAX;

impl Pending {
    pub(super) fn new() -> Pending {
        let mut pending = Pending {
            classes: Vec::new(),
            rows: Vec::new(),
            width: 0,
            more: Vec::new(),
            table: Vec::new(),
            serials: 0,
        };
        pending.reset();
        pending
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.classes.clear();
        self.serials = 0;
        self.set_width(4);
    }

    /// Estimated bytes in use.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() * 4 + self.more.len() * 8 + self.table.len() * 4
    }

    /// Whether there are any classes.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
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
        if self.classes.len() > self.width {
            self.widen();
        }
        self.serials - 1
    }

    #[inline]
    fn row(&self, used: u32) -> &[u16] {
        &self.rows[used as usize * self.width..][..self.width]
    }

    /// Whether `used` leaves one of a class.
    #[inline]
    pub(super) fn left(&self, used: u32, class: usize) -> bool {
        self.classes[class].is_some_and(|known| self.row(used)[class] < known.called)
    }

    /// `used` and one more of a class.
    #[inline]
    pub(super) fn with(&mut self, used: u32, class: usize) -> u32 {
        let place = used as usize * self.width + class;
        if self.more[place] == NONE {
            let from = used as usize * self.width;
            self.rows.extend_from_within(from..from + self.width);
            let new = self.rows.len() - self.width;
            self.rows[new + class] += 1;
            self.more[place] = self.settle();
        }
        self.more[place]
    }

    /// Whether `a` has no more than `b` of any class.
    #[inline]
    pub(super) fn no_more(&self, a: u32, b: u32) -> bool {
        // All counts are compared, so that the processor can do it at once.
        let more = || self.row(a).iter().zip(self.row(b)).fold(false, |more, (a, b)| more | (a > b));
        a == b || a == 0 || !more()
    }

    /// Drops the classes that can't be of use after an event. Whether there were any; then each
    /// multiset in use has to be [`Pending::moved`].
    pub(super) fn expire(&mut self, now: u32) -> bool {
        let mut any = false;
        for class in &mut self.classes {
            if class.is_some_and(|class| class.until < now) {
                *class = None;
                any = true;
            }
        }
        any
    }

    /// An empty store with the same classes, and the one that it replaces.
    pub(super) fn renew(&mut self) -> Rows {
        let rows = Rows { rows: std::mem::take(&mut self.rows), width: self.width };
        while self.classes.last().is_some_and(Option::is_none) {
            self.classes.pop();
        }
        self.set_width(self.width);
        rows
    }

    /// A multiset of before [`Pending::renew`], without the classes that are gone.
    pub(super) fn moved(&mut self, old: &Rows, used: u32) -> u32 {
        if used == 0 {
            return 0;
        }
        let counts = &old.rows[used as usize * old.width..][..old.width.min(self.width)];
        for (class, count) in counts.iter().enumerate() {
            self.rows.push(if self.classes.get(class).is_some_and(Option::is_some) { *count } else { 0 });
        }
        self.rows.resize(self.rows.len() + self.width - counts.len(), 0);
        self.settle()
    }

    /// Makes rows twice as long. Multisets keep their numbers.
    fn widen(&mut self) {
        let old = Rows { rows: std::mem::take(&mut self.rows), width: self.width };
        self.set_width(old.width * 2);
        for row in old.rows.chunks(old.width).skip(1) {
            self.rows.extend_from_slice(row);
            self.rows.resize(self.rows.len() + old.width, 0);
            self.settle();
        }
    }

    /// Leaves only the empty multiset.
    fn set_width(&mut self, width: usize) {
        self.width = width;
        self.rows.clear();
        self.rows.shrink_to(1 << 14);
        self.more.clear();
        self.more.shrink_to(1 << 14);
        self.table.clear();
        self.table.shrink_to(1 << 12);
        self.table.resize(64, NONE);
        self.rows.resize(width, 0);
        self.settle();
    }

    /// The number of the multiset in the last row, which is dropped if there is one like it.
    fn settle(&mut self) -> u32 {
        let last = self.rows.len() / self.width - 1;
        let mut at = hash(&self.rows[last * self.width..]) & (self.table.len() - 1);
        while self.table[at] != NONE {
            let known = self.table[at];
            if self.row(known) == self.row(last as u32) {
                self.rows.truncate(last * self.width);
                return known;
            }
            at = (at + 1) & (self.table.len() - 1);
        }
        self.table[at] = last as u32;
        self.more.resize(self.rows.len(), NONE);
        if last * 2 > self.table.len() {
            let mut table = vec![NONE; self.table.len() * 2];
            for (number, row) in self.rows.chunks(self.width).enumerate() {
                let mut at = hash(row) & (table.len() - 1);
                while table[at] != NONE {
                    at = (at + 1) & (table.len() - 1);
                }
                table[at] = number as u32;
            }
            self.table = table;
        }
        last as u32
    }
}

/// Multisets that have to be moved.
pub(super) struct Rows {
    rows: Vec<u16>,
    width: usize,
}

fn hash(row: &[u16]) -> usize {
    let mixed = row
        .iter()
        .fold(0u64, |mixed, count| (mixed.rotate_left(23) ^ u64::from(*count)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    (mixed >> 32) as usize
}
