//! What must be durable before what may be said.

use std::collections::VecDeque;

use crate::{Effect, Effects, Machine};

/// A machine's view of its log: counts what was written, and holds effects until what they speak
/// of is on disk.
///
/// A machine keeps one in its state, writes through it, and hands every
/// [`Input::Durable`](crate::Input::Durable) to [`durable`](Journal::durable). Held effects leave
/// in the order in which they were held.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Journal<M: Machine> {
    written: u64,
    synced: u64,
    durable: u64,
    held: VecDeque<(u64, Effect<M>)>,
}

impl<M: Machine> Default for Journal<M> {
    fn default() -> Self {
        Journal { written: 0, synced: 0, durable: 0, held: VecDeque::new() }
    }
}

impl<M: Machine> Journal<M> {
    /// Appends a record. Nothing may yet be said that relies on it; see
    /// [`when_durable`](Journal::when_durable).
    pub fn append(&mut self, record: M::Record, effects: &mut Effects<M>) {
        self.written += 1;
        effects.push(Effect::Append { record });
    }

    /// Replaces the whole log by `records`.
    pub fn rewrite(&mut self, records: Vec<M::Record>, effects: &mut Effects<M>) {
        self.written += 1;
        effects.push(Effect::Rewrite { records });
    }

    /// Lets `effect` go once everything written so far is durable: at once if it already is.
    pub fn when_durable(&mut self, effect: Effect<M>, effects: &mut Effects<M>) {
        if self.durable == self.written {
            effects.push(effect);
            return;
        }
        self.held.push_back((self.written, effect));
        self.sync(effects);
    }

    /// Asks for everything written so far to be made durable, if nobody has asked yet.
    pub fn sync(&mut self, effects: &mut Effects<M>) {
        if self.synced < self.written {
            self.synced = self.written;
            effects.push(Effect::Sync);
        }
    }

    /// Everything up to the `through`-th write is on disk: lets go what waited for it.
    pub fn durable(&mut self, through: u64, effects: &mut Effects<M>) {
        self.durable = self.durable.max(through.min(self.written));
        while self.held.front().is_some_and(|(position, _)| *position <= self.durable) {
            if let Some((_, effect)) = self.held.pop_front() {
                effects.push(effect);
            }
        }
    }

    /// How many writes there were in this life of the node; the position of the latest one.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The position of the latest write known to be durable.
    pub fn durable_position(&self) -> u64 {
        self.durable
    }

    /// Forgets held effects for which `keep` is false, such as promises of an abandoned term.
    pub fn retain(&mut self, mut keep: impl FnMut(&Effect<M>) -> bool) {
        self.held.retain(|(_, effect)| keep(effect));
    }
}
