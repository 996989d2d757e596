//! From a register's history that has no order to the fewest operations that have none.
//!
//! Every step keeps this true: *if the original had an order, what is left would have one too*.
//! So what is left explains, by itself, why the original has none. The steps are
//!
//! - cutting the history off after the return at which every order fails;
//! - leaving out operations, together with all that observed a value they set (if nothing that is
//!   kept observed it, the operation can be taken out of any order);
//! - taking a cas for a blind write of its new value, which it is wherever it took effect.

use std::collections::BTreeSet;

use super::history::{KeyEntry, KeyHistory, Symbol, observes, sets};
use crate::budget::Deadline;
use crate::engine;
use crate::register::RegisterOp;
use crate::wgl::Outcome;

/// Operations that can't be ordered.
pub(super) struct Window {
    /// Entries of the key's history, in the order of their invocations.
    pub(super) members: Vec<Member>,
    /// The entry at whose return every order of the window fails.
    pub(super) stuck: usize,
    /// None of the members can be left out (together with those that observed what it set).
    pub(super) minimal: bool,
}

/// One operation of a window.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// Which entry of the key's history.
    pub(super) entry: usize,
    /// A cas of which only the value it set matters.
    pub(super) blind: bool,
    /// An operation whose return comes after all that matters.
    pub(super) open: bool,
}

/// The smallest window that could be found before the deadline.
pub(super) fn smallest(history: &KeyHistory<'_>, stuck: usize, deadline: Deadline, memory_bytes: usize) -> Window {
    let all: Vec<Member> =
        (0..history.entries.len()).map(|entry| Member { entry, blind: false, open: false }).collect();
    let window = Window { members: all, stuck, minimal: false };
    let mut shrinker = Shrinker { history, deadline, memory_bytes, window };
    shrinker.cut_off(stuck);
    // Each round may open the way for the next; each makes the window smaller, so they end.
    loop {
        let before = shrinker.size();
        shrinker.leave_out();
        shrinker.blind();
        let passed = deadline.passed();
        if shrinker.size() == before || passed {
            shrinker.window.minimal = !passed;
            return shrinker.window;
        }
    }
}

impl KeyHistory<'_> {
    /// A member as an entry of the search.
    pub(super) fn entry(&self, member: &Member) -> KeyEntry {
        let mut entry = self.entries[member.entry].clone();
        if member.blind
            && let RegisterOp::Cas { to, .. } = entry.op
        {
            entry.op = RegisterOp::Write(to);
        }
        if member.open {
            entry.returned = None;
        }
        entry
    }
}

struct Shrinker<'k, 'r> {
    history: &'k KeyHistory<'r>,
    deadline: Deadline,
    memory_bytes: usize,
    window: Window,
}

impl Shrinker<'_, '_> {
    fn size(&self) -> (usize, usize) {
        let sighted = self.window.members.iter().filter(|m| !m.blind).count();
        (self.window.members.len(), sighted)
    }

    /// Takes `members` for the window if they have no order.
    fn adopt(&mut self, members: Vec<Member>) -> bool {
        if members.len() < 2 && members.iter().all(|m| self.history.entry(m).returned.is_none()) {
            return false;
        }
        let entries: Vec<KeyEntry> = members.iter().map(|member| self.history.entry(member)).collect();
        let initial = self.history.initial;
        match engine::search_until(initial, &entries, self.deadline, self.memory_bytes, false) {
            Outcome::NotLinearizable { stuck } => {
                self.window = Window { stuck: members[stuck].entry, members, minimal: false };
                true
            }
            _ => false,
        }
    }

    /// Leaves out what was invoked after the fatal return, and forgets returns after it.
    fn cut_off(&mut self, stuck: usize) {
        let entries = &self.history.entries;
        let Some((end, _)) = entries[stuck].returned else { return };
        let members = self.window.members.iter().filter(|member| entries[member.entry].invoked < end);
        let members = members.map(|member| {
            let open = entries[member.entry].returned.as_ref().is_none_or(|(at, _)| *at > end);
            Member { open, ..*member }
        });
        // An open read shows nothing.
        let members = members.filter(|m| !(m.open && entries[m.entry].op == RegisterOp::Read)).collect();
        // Without another search: the one that got stuck has shown that this has no order, for
        // what a register does to its state doesn't depend on whether the result is known.
        self.window = Window { members, stuck, minimal: false };
    }

    /// Leaves out ever smaller pieces, oldest first.
    fn leave_out(&mut self) {
        let mut piece = self.window.members.len().div_ceil(2);
        while piece > 0 {
            let mut from = 0;
            while from < self.window.members.len() {
                if self.deadline.passed() {
                    return;
                }
                let to = (from + piece).min(self.window.members.len());
                let rest = self.without(from..to);
                if rest.is_empty() || !self.adopt(rest) {
                    from = to;
                }
            }
            piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
        }
    }

    /// The members without a piece, and without all that observed what the piece, or what had to
    /// go with it, set.
    fn without(&self, piece: std::ops::Range<usize>) -> Vec<Member> {
        let entries: Vec<KeyEntry> = self.window.members.iter().map(|member| self.history.entry(member)).collect();
        let mut gone: Vec<bool> = (0..entries.len()).map(|i| piece.contains(&i)).collect();
        let mut unset: BTreeSet<Symbol> = piece.filter_map(|i| sets(&entries[i])).collect();
        loop {
            let mut more = false;
            for (i, entry) in entries.iter().enumerate() {
                if !gone[i] && observes(entry).is_some_and(|value| unset.contains(&value)) {
                    gone[i] = true;
                    more = true;
                    unset.extend(sets(entry));
                }
            }
            if !more {
                break;
            }
        }
        self.window.members.iter().zip(gone).filter(|(_, gone)| !gone).map(|(member, _)| *member).collect()
    }

    fn blind(&mut self) {
        for at in 0..self.window.members.len() {
            let member = self.window.members[at];
            let is_cas = matches!(self.history.entries[member.entry].op, RegisterOp::Cas { .. });
            if !is_cas || member.blind || self.deadline.passed() {
                continue;
            }
            let mut members = self.window.members.clone();
            members[at].blind = true;
            self.adopt(members);
        }
    }
}

#[cfg(test)]
mod tests {
    use duress_history::Value;
    use duress_seed::Seed;
    use stateright::semantics::SequentialSpec;

    use super::*;
    use crate::linearizable::certify;
    use crate::linearizable::history::Key;
    use crate::register::{Register, RegisterRet};
    use crate::wgl::Entry;

    /// A history that a register can have had: operations take effect one after the other, and
    /// each is stretched to both sides of that moment.
    fn possible(seed: Seed, key: &Value) -> KeyHistory<'_> {
        let mut register = Register(0);
        let mut entries: Vec<KeyEntry> = Vec::new();
        for n in 0..12 {
            let draw = |what, below| seed.decide(&[n, what]).below(below);
            let value = |what| draw(what, 4) as Symbol;
            let op = match draw(0, 5) {
                0 | 1 => RegisterOp::Read,
                2 | 3 => RegisterOp::Write(value(1)),
                _ => RegisterOp::Cas { from: register.0, to: value(2) },
            };
            let ret = register.invoke(&op);
            // Moments are unique: effects are 1000 apart, and stretches told apart by `n`.
            let effect = (n + 5) * 1000;
            let (invoked, end) = (effect - draw(3, 40) * 100 - n, effect + draw(4, 40) * 100 + 50 + n);
            let indeterminate = op != RegisterOp::Read && draw(5, 4) == 0;
            let passive = op == RegisterOp::Read;
            entries.push(Entry { op, invoked, returned: (!indeterminate).then_some((end, ret)), passive });
        }
        let values = Vec::new();
        let key = Key(Some(key));
        KeyHistory { key, operations: Vec::new(), all: Vec::new(), entries, values, initial: 0, indeterminate: 0 }
    }

    /// Leaving out and blinding never make an order impossible: else a correct target would be
    /// blamed for what the explanation shows.
    #[test]
    fn what_has_an_order_keeps_it() {
        let key = Value::from("");
        let deadline = Deadline::after(std::time::Duration::from_secs(3600));
        for seed in 0..300 {
            let history = possible(Seed(seed), &key);
            let members = (0..12).map(|entry| Member { entry, blind: false, open: false }).collect();
            let mut shrinker = Shrinker {
                history: &history,
                deadline,
                memory_bytes: 1 << 20,
                window: Window { members, stuck: 0, minimal: false },
            };
            assert!(!shrinker.adopt(shrinker.window.members.clone()), "seed {seed}: it has an order");
            for blind in [false, true] {
                for member in &mut shrinker.window.members {
                    member.blind = blind && Seed(seed).decide(&[99, member.entry as u64]).chance(0.7);
                }
                for from in 0..12 {
                    for to in from + 1..=12 {
                        let rest = shrinker.without(from..to);
                        let window = Window { members: shrinker.window.members.clone(), stuck: 0, minimal: false };
                        assert!(rest.len() < 12, "seed {seed}: {from}..{to} left nothing out");
                        assert!(!shrinker.adopt(rest), "seed {seed}: without {from}..{to} it has none");
                        shrinker.window = window;
                    }
                }
            }
        }
    }

    /// What is left of a history without an order has none by the naive search either, and nothing
    /// can be left out of it.
    #[test]
    fn cores_are_minimal_and_confirmed() {
        let key = Value::from("");
        let deadline = Deadline::after(std::time::Duration::from_secs(3600));
        let mut cores = 0;
        for seed in 0..400 {
            let mut history = possible(Seed(seed), &key);
            let victim = Seed(seed).decide(&[77]).below(12) as usize;
            if let Some((_, RegisterRet::Value(value))) = &mut history.entries[victim].returned {
                *value = (*value + 1) % 4;
            }
            let order = engine::search_until(0, &history.entries, deadline, 1 << 20, true);
            let stuck = match order {
                Outcome::Linearizable { order } => {
                    assert_eq!(certify::flaw(0, &history.entries, &order), None, "seed {seed}");
                    continue;
                }
                Outcome::NotLinearizable { stuck } => stuck,
                Outcome::Unknown { .. } => panic!("seed {seed}: it is small"),
            };
            let window = smallest(&history, stuck, deadline, 1 << 20);
            assert!(window.minimal, "seed {seed}");
            let entries = |members: &[Member]| members.iter().map(|m| history.entry(m)).collect::<Vec<_>>();
            let has_order = |members: &[Member]| certify::has_order(0, &entries(members), deadline, 1 << 20);
            assert_eq!(has_order(&window.members), Some(false), "seed {seed}");
            let count = window.members.len();
            let shrinker = Shrinker { history: &history, deadline, memory_bytes: 1 << 20, window };
            for at in 0..count {
                let rest = shrinker.without(at..at + 1);
                assert_eq!(has_order(&rest), Some(true), "seed {seed}: {at} can be left out");
            }
            cores += 1;
        }
        assert!(cores > 50, "{cores}");
    }
}
