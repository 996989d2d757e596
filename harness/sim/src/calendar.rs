//! What is going to happen, in order: by time, and at the same time by when it was put down.

/// Things to happen, in hierarchical timing wheels (Varghese and Lauck, "Hashed and hierarchical
/// timing wheels", 1987, scheme 7).
///
/// A time is read as digits of [`DIGIT`] bits. A thing waits on the wheel of the highest digit in
/// which its time differs from the present, in the slot of that digit's value: so the next thing
/// is in the first slot in use of the lowest wheel in use. A slot with one thing gives it away; the
/// things of a fuller one are spread over the wheels below. Each is moved once or twice in
/// practice, at most once per digit, and things of the same time keep their order all by
/// themselves, since they are always in the same slot.
#[derive(Debug)]
pub(crate) struct Calendar<T> {
    /// The time of what came last.
    now: u64,
    wheels: [Wheel; WHEELS],
    /// Which wheels are in use, as bits.
    used: u32,
    /// The things, each with the next one of its slot; those that have come are chained, too.
    places: Vec<Place<T>>,
    free: u32,
}

const DIGIT: u32 = 6;
const WHEELS: usize = u64::BITS.div_ceil(DIGIT) as usize;
/// No place.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Place<T> {
    at: u64,
    next: u32,
    thing: Option<T>,
}

#[derive(Clone, Copy, Debug)]
struct Wheel {
    /// Which slots are in use, as bits.
    used: u64,
    slots: [Slot; 1 << DIGIT],
}

/// The first and the last thing of a slot in use.
#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    last: u32,
}

impl<T> Default for Calendar<T> {
    fn default() -> Self {
        let wheel = Wheel { used: 0, slots: [Slot { first: NONE, last: NONE }; 1 << DIGIT] };
        Calendar { now: 0, wheels: [wheel; WHEELS], used: 0, places: Vec::new(), free: NONE }
    }
}

impl<T> Calendar<T> {
    /// Empties it and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.now = 0;
        self.wheels.iter_mut().for_each(|wheel| wheel.used = 0);
        self.used = 0;
        self.places.clear();
        self.free = NONE;
    }

    /// Puts a thing down for a time; what should have happened already happens next.
    pub(crate) fn push(&mut self, at: u64, thing: T) {
        let at = at.max(self.now);
        let place = self.free;
        match self.places.get_mut(place as usize) {
            Some(free) => {
                self.free = free.next;
                *free = Place { at, next: NONE, thing: Some(thing) };
                self.sort_in(at, place);
            }
            None => {
                assert!(self.places.len() < NONE as usize, "a simulated run has got out of hand");
                self.places.push(Place { at, next: NONE, thing: Some(thing) });
                self.sort_in(at, self.places.len() as u32 - 1);
            }
        }
    }

    /// Appends a thing to the slot of its time.
    fn sort_in(&mut self, at: u64, place: u32) {
        let level = ((at ^ self.now) | 1).ilog2() / DIGIT;
        let digit = (at >> (level * DIGIT)) as usize % (1 << DIGIT);
        let wheel = &mut self.wheels[level as usize];
        let slot = &mut wheel.slots[digit];
        if wheel.used >> digit & 1 == 0 {
            *slot = Slot { first: place, last: place };
            wheel.used |= 1 << digit;
            self.used |= 1 << level;
        } else {
            self.places[slot.last as usize].next = place;
            slot.last = place;
        }
    }

    /// The next thing, and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        loop {
            let level = self.used.trailing_zeros();
            let wheel = self.wheels.get_mut(level as usize)?;
            let digit = wheel.used.trailing_zeros();
            let slot = &mut wheel.slots[digit as usize];
            let Slot { first, last } = *slot;
            let place = &mut self.places[first as usize];
            if first != last && level > 0 {
                self.spread(level, digit);
                continue;
            }
            slot.first = place.next;
            if first == last {
                wheel.used &= wheel.used - 1;
                self.used ^= u32::from(wheel.used == 0) << level;
            }
            self.now = place.at;
            place.next = self.free;
            self.free = first;
            return place.thing.take().map(|thing| (self.now, thing));
        }
    }

    /// Goes on to the beginning of a slot's time, and spreads its things over the wheels below.
    fn spread(&mut self, level: u32, digit: u32) {
        let wheel = &mut self.wheels[level as usize];
        let mut next = wheel.slots[digit as usize].first;
        wheel.used &= !(1 << digit);
        self.used ^= u32::from(wheel.used == 0) << level;
        if let Some(place) = self.places.get(next as usize) {
            self.now = place.at >> (level * DIGIT) << (level * DIGIT);
        }
        while let Some(place) = self.places.get_mut(next as usize) {
            let (at, this) = (place.at, next);
            next = std::mem::replace(&mut place.next, NONE);
            self.sort_in(at, this);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use duress_seed::Seed;

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

    #[test]
    fn as_an_ordered_map_has_it() {
        let mut calendar = Calendar::default();
        for seed in 0..200 {
            let decide = |what: u64, number: u64| Seed(seed).decide(&[what, number]);
            calendar.clear();
            let mut oracle = BTreeMap::new();
            let mut now = 0;
            for number in 0..300 {
                if decide(0, number).chance(0.55) {
                    // Near and far, and the same time again and again.
                    let ahead = decide(1, number).bits() >> decide(2, number).below(64).max(2);
                    calendar.push(now + ahead, number);
                    oracle.insert((now + ahead, number), ());
                } else {
                    let expected = oracle.pop_first().map(|((at, number), ())| (at, number));
                    assert_eq!(calendar.pop(), expected, "seed {seed}");
                    now = expected.map_or(now, |(at, _)| at);
                }
                if now > u64::MAX / 2 {
                    break;
                }
            }
            while let Some(((at, number), ())) = oracle.pop_first() {
                assert_eq!(calendar.pop(), Some((at, number)), "seed {seed}");
            }
            assert_eq!(calendar.pop(), None);
        }
    }

    #[test]
    fn what_is_late_comes_next() {
        let mut calendar = Calendar::default();
        calendar.push(10, 'a');
        calendar.push(20, 'c');
        assert_eq!(calendar.pop(), Some((10, 'a')));
        calendar.push(3, 'b');
        assert_eq!(calendar.pop(), Some((10, 'b')));
        assert_eq!(calendar.pop(), Some((20, 'c')));
    }
}
