//! The log in memory: what has been accepted, slot by slot, without holes.

use std::collections::VecDeque;

use super::{Ballot, fitting};
use crate::store::Command;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub ballot: Ballot,
    pub command: Command,
}

/// Entries of slots `base + 1 ..= last`. Slots up to `base` are chosen, applied and forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Log {
    base: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Log {
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn last(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// About how many bytes the entries take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&self, slot: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(slot.checked_sub(self.base + 1)?).ok()?)
    }

    /// Sets a slot after `base` that is there or is the next; says whether it was one.
    pub(super) fn set(&mut self, slot: u64, entry: Entry) -> bool {
        if slot <= self.base || slot > self.last() + 1 {
            return false;
        }
        self.bytes += entry.command.size();
        match self.entries.get_mut((slot - self.base - 1) as usize) {
            Some(old) => {
                self.bytes -= old.command.size();
                *old = entry;
            }
            None => self.entries.push_back(entry),
        }
        true
    }

    /// The entries from a slot after `base` on.
    pub(super) fn from(&self, slot: u64) -> impl Iterator<Item = &Entry> {
        let skip = usize::try_from(slot.saturating_sub(self.base + 1)).unwrap_or(usize::MAX);
        self.entries.range(skip.min(self.entries.len())..)
    }

    /// As many commands from a slot on as fit one message.
    pub(super) fn chunk(&self, slot: u64) -> Vec<Command> {
        let count = fitting(self.from(slot).map(|entry| &entry.command));
        self.from(slot).take(count).map(|entry| entry.command.clone()).collect()
    }

    /// Forgets every slot after `last`
    /// ([`Bug::AcceptorForgetsAfterSnapshot`](crate::bugs::Bug::AcceptorForgetsAfterSnapshot) only:
    /// what was accepted is never to be forgotten).
    pub(super) fn forget_beyond(&mut self, last: u64) {
        let kept = usize::try_from(last.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.bytes -=
            self.entries.range(kept.min(self.entries.len())..).map(|entry| entry.command.size()).sum::<usize>();
        self.entries.truncate(kept);
    }

    /// Forgets every slot up to `base`, which may lie beyond the last.
    pub(super) fn forget_through(&mut self, base: u64) {
        while self.base < base {
            match self.entries.pop_front() {
                Some(entry) => {
                    self.bytes -= entry.command.size();
                    self.base += 1;
                }
                None => self.base = base,
            }
        }
    }
}
