//! Starting with what the disk holds, and keeping that short.

use std::sync::Arc;

use duress_machine::{Effects, NodeId, Reading};

use super::log::Entry;
use super::{Ballot, CHUNK, Grant, Part, Paxos, Reads, Record};
use crate::bugs::Bug;
use crate::store::Store;

/// The log on disk is replaced by a snapshot once its entries take about this many bytes,
/// however few they are.
const MAX_LOG_BYTES: usize = 32 << 20;

impl Paxos {
    pub(super) fn start(&mut self, recovered: Vec<Record>, now: Reading, effects: &mut Effects<Self>) {
        let fresh = recovered.is_empty();
        self.damaged = self.replay(recovered).is_none();
        self.part = Part::Follower { returning: !fresh };
        if self.damaged {
            return;
        }
        self.postpone(now);
        if fresh && self.me == NodeId(0) {
            // Nobody leads a cluster that has just been made: don't wait to find out.
            self.deadline = now.monotonic;
        }
        if !fresh && self.config.reads == Reads::Lease && !self.bug(Bug::LeaseGrantLostOnRestart) {
            self.grant = Grant { to: None, until: now.monotonic + self.config.lease };
        }
        self.election_timer(now, effects);
    }

    /// Takes in the records, or finds that they make no sense.
    fn replay(&mut self, mut recovered: Vec<Record>) -> Option<()> {
        if self.bug(Bug::LastRecordDroppedOnRestart) {
            recovered.pop();
        }
        let mut snapshot = Vec::new();
        self.records = recovered.len() as u64;
        for record in recovered {
            match record {
                Record::Snapshot { bytes, last } => {
                    snapshot.extend_from_slice(&bytes);
                    if last {
                        self.store = Store::from_bytes(&std::mem::take(&mut snapshot))?;
                        self.snapshot_index = self.commit();
                        self.log.forget_through(self.commit());
                    }
                }
                Record::Promise { .. } if self.bug(Bug::LostBallotOnRestart) => {}
                Record::Promise { ballot } => self.promised = self.promised.max(ballot),
                Record::Accept { ballot, commit, first, commands } => {
                    self.promised = self.promised.max(ballot);
                    self.replay_commits(commit);
                    (first <= self.log.last() + 1).then_some(())?;
                    for (slot, command) in (first..).zip(commands.iter()) {
                        let entry = Entry { ballot, command: command.clone() };
                        (slot <= self.commit() || self.log.set(slot, entry)).then_some(())?;
                    }
                }
            }
        }
        if self.bug(Bug::AcceptorForgetsAfterSnapshot) && self.snapshot_index > 0 {
            self.promised = Ballot::default();
            self.log.forget_beyond(self.commit());
        }
        self.highest_round = self.promised.round;
        let accepted = self.log.from(self.commit() + 1).take_while(|entry| entry.ballot == self.promised).count();
        self.accepted = self.commit() + accepted as u64;
        self.synced = self.accepted;
        snapshot.is_empty().then_some(())
    }

    fn replay_commits(&mut self, commit: u64) {
        while self.commit() < commit
            && let Some(entry) = self.log.get(self.commit() + 1)
        {
            let _ = self.store.apply_with(&entry.command, self.config.bug);
        }
    }

    pub(super) fn snapshot_when_due(&mut self, effects: &mut Effects<Self>) {
        let every = self.config.snapshot_every.max(1);
        let entries = self.commit() - self.snapshot_index;
        // Records that bring no entries (promises, repeated acceptances) add up as well.
        if entries >= every || self.records >= every.saturating_mul(2).saturating_add(1000) || self.too_many_bytes() {
            self.write_snapshot(effects);
            // Some chosen entries stay in memory for followers that are only a little behind.
            let kept = if self.too_many_bytes() { 0 } else { every / 2 };
            self.log.forget_through(self.commit().saturating_sub(kept).max(self.log.base()));
        }
    }

    fn too_many_bytes(&self) -> bool {
        self.log.bytes() > MAX_LOG_BYTES && self.log.base() < self.commit()
    }

    /// Replaces the log on disk by the state and what has been accepted beyond it.
    pub(super) fn write_snapshot(&mut self, effects: &mut Effects<Self>) {
        let state = self.store.to_bytes_with(self.config.bug);
        let pieces = state.len().div_ceil(CHUNK);
        let mut records: Vec<Record> = state
            .chunks(CHUNK)
            .enumerate()
            .map(|(i, bytes)| Record::Snapshot { bytes: bytes.to_vec(), last: i + 1 == pieces })
            .collect();
        let commit = self.commit();
        let mut open = self.log.from(commit + 1).zip(commit + 1..).peekable();
        while let Some((entry, first)) = open.next() {
            let ballot = entry.ballot;
            let mut commands = vec![entry.command.clone()];
            while let Some((next, _)) = open.next_if(|(next, _)| next.ballot == ballot) {
                commands.push(next.command.clone());
            }
            records.push(Record::Accept { ballot, commit, first, commands: Arc::new(commands) });
        }
        records.push(Record::Promise { ballot: self.promised });
        self.records = records.len() as u64;
        self.journal.rewrite(records, effects);
        self.journal.sync(effects);
        self.snapshot_index = commit;
    }
}
