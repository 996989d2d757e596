//! A node's log and the state that its committed part makes. It knows nothing of views' meaning
//! or of other nodes.

use std::collections::VecDeque;

use super::message::{Entry, Position, Record};
use crate::bugs::Bug;
use crate::store::{Outcome, Store};

/// No message carries more bytes of entries than this, one entry apart …
const BATCH_BYTES: usize = 256 << 10;
/// … or more entries.
const BATCH_ENTRIES: usize = 1024;
/// The length of the pieces that a snapshot is written down and sent in.
pub(super) const PART_BYTES: usize = 512 << 10;

/// Entries `base + 1 ..= last`, of which those up to the store's index have been applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Log {
    store: Store,
    /// The entry before the first one kept. Never behind the store's index.
    base: Position,
    entries: VecDeque<Entry>,
    /// Everything up to this index is durable.
    durable: u64,
    /// Journal positions, and the index up to which the log is durable once they are.
    written: VecDeque<(u64, u64)>,
}

impl Log {
    /// Takes in the records of earlier lives.
    pub(super) fn recover(records: &[Record]) -> Log {
        let mut log = Log::default();
        let mut parts = Vec::new();
        for record in records {
            match record {
                Record::Part { bytes } => parts.extend_from_slice(bytes),
                Record::Snapshot { view } => {
                    if let Some(store) = Store::from_bytes(&std::mem::take(&mut parts)) {
                        log = Log::from_snapshot(store, *view);
                    }
                }
                // Entries that would leave a gap can't have been written by us.
                Record::Entries { first, entries } if *first > log.base.index && *first <= log.last() + 1 => {
                    log.truncate(*first);
                    log.entries.extend(entries.iter().cloned());
                }
                Record::Entries { .. } | Record::Life { .. } | Record::View { .. } => {}
            }
        }
        log.durable = log.last();
        log
    }

    /// A log that begins behind a snapshot.
    pub(super) fn from_snapshot(store: Store, view: u64) -> Log {
        let base = Position { view, index: store.index() };
        Log { store, base, ..Log::default() }
    }

    /// Puts a snapshot in the place of everything up to its last entry, made in `view`.
    ///
    /// If the log has that entry, what stands behind it stays: it may have been acknowledged in
    /// an earlier view or life, and be committed because of that, so a majority must not come to
    /// be without it (as in InstallSnapshot of Ongaro and Ousterhout's Raft, 2014, figure 13). If
    /// the log hasn't, the primary's has nothing of what stands there, and has all that was ever
    /// committed: it goes.
    pub(super) fn install(&mut self, store: Store, view: u64) {
        let index = store.index();
        if index < self.applied() || self.view_at(index) != Some(view) {
            *self = Log::from_snapshot(store, view);
            return;
        }
        self.entries.drain(..(index - self.base.index) as usize);
        self.base = Position { view, index };
        self.store = store;
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// The index of the last entry applied.
    pub(super) fn applied(&self) -> u64 {
        self.store.index()
    }

    /// The index of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    /// The index up to which everything is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// The index before the first entry kept.
    pub(super) fn base(&self) -> Position {
        self.base
    }

    /// The last entry.
    pub(super) fn position(&self) -> Position {
        Position { view: self.view_at(self.last()).unwrap_or(0), index: self.last() }
    }

    /// The view of the entry at `index`, if it is still known.
    pub(super) fn view_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.view);
        }
        let offset = index.checked_sub(self.base.index + 1)?;
        self.entries.get(usize::try_from(offset).ok()?).map(|entry| entry.view)
    }

    /// Adds entries behind the last one, which the journal's write at `position` will hold.
    pub(super) fn extend(&mut self, entries: &[Entry], position: u64) {
        self.entries.extend(entries.iter().cloned());
        self.written.push_back((position, self.last()));
    }

    /// Drops every entry from `first` on. Applied entries stay: see
    /// [`from_snapshot`](Self::from_snapshot) for forgetting them.
    pub(super) fn truncate(&mut self, first: u64) {
        let first = first.max(self.applied() + 1);
        let kept = first.saturating_sub(self.base.index + 1);
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.durable = self.durable.min(first - 1);
        for (_, last) in &mut self.written {
            *last = (*last).min(first - 1);
        }
    }

    /// The journal is durable up to `position`.
    pub(super) fn synced(&mut self, position: u64) {
        while let Some((_, last)) = self.written.front().filter(|(at, _)| *at <= position) {
            self.durable = self.durable.max(*last);
            self.written.pop_front();
        }
    }

    /// The whole log, written down, will be durable with the journal's write at `position`.
    pub(super) fn rewritten(&mut self, position: u64) {
        self.written.push_back((position, self.last()));
    }

    /// Entries from `first` on, as many as go into one message.
    pub(super) fn batch(&self, first: u64) -> Vec<Entry> {
        let skip = usize::try_from(first.saturating_sub(self.base.index + 1)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let room = bytes < BATCH_BYTES;
            bytes += entry.command.size();
            room
        };
        self.entries.iter().skip(skip).take(BATCH_ENTRIES).take_while(fits).cloned().collect()
    }

    /// Applies the next entry; its index and outcome. `None` at the end of the log.
    pub(super) fn apply_next(&mut self, bug: Option<Bug>) -> Option<(u64, Outcome)> {
        let index = self.applied() + 1;
        let offset = usize::try_from(index - self.base.index - 1).ok()?;
        let outcome = self.store.apply_with(&self.entries.get(offset)?.command, bug);
        Some((index, outcome))
    }

    /// Forgets applied entries, except the last `keep`, which spare slow backups a snapshot.
    pub(super) fn forget(&mut self, keep: u64) {
        let until = self.applied().saturating_sub(keep);
        if let Some(view) = self.view_at(until).filter(|_| until > self.base.index) {
            self.entries.drain(..(until - self.base.index) as usize);
            self.base = Position { view, index: until };
        }
    }

    /// The log as records: a snapshot of what is applied, and the entries behind it.
    pub(super) fn records(&self, bug: Option<Bug>) -> Vec<Record> {
        let parts = self.store.to_bytes_with(bug);
        let mut records: Vec<Record> =
            parts.chunks(PART_BYTES).map(|bytes| Record::Part { bytes: bytes.to_vec() }).collect();
        records.push(Record::Snapshot { view: self.view_at(self.applied()).unwrap_or(0) });
        let mut first = self.applied() + 1;
        while first <= self.last() {
            let entries = self.batch(first);
            let count = entries.len() as u64;
            records.push(Record::Entries { first, entries });
            first += count;
        }
        records
    }
}
