//! Sending the state to a follower that the log no longer reaches, piece by piece.

use std::sync::Arc;

use duress_machine::{Effects, NodeId, Reading};

use super::{CHUNK, Message, Part, Paxos, Round};
use crate::bugs::Bug;
use crate::store::Store;

/// No snapshot may be longer than this.
const MAX_SNAPSHOT: u64 = 1 << 32;

/// The state as a leader sends it: fixed at one index until every follower has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outgoing {
    index: u64,
    bytes: Arc<Vec<u8>>,
}

/// What has arrived of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Incoming {
    index: u64,
    bytes: Vec<u8>,
}

impl Paxos {
    pub(super) fn send_snapshot(&mut self, to: NodeId, now: Reading, effects: &mut Effects<Self>) {
        let base = self.log.base();
        let (index, ballot, round) = (self.commit(), self.promised, self.next_round(now));
        let Part::Leader(leader) = &mut self.part else { return };
        if leader.outgoing.as_ref().is_none_or(|outgoing| outgoing.index < base) {
            leader.outgoing = Some(Outgoing { index, bytes: Arc::new(self.store.to_bytes_with(self.config.bug)) });
            leader.followers.iter_mut().for_each(|follower| follower.received = 0);
        }
        let Some(received) = leader.follower(to).map(|follower| follower.received) else { return };
        let Some(outgoing) = &leader.outgoing else { return };
        let from = usize::try_from(received).unwrap_or(usize::MAX).min(outgoing.bytes.len());
        let to_end = (from + CHUNK).min(outgoing.bytes.len());
        let bytes = Arc::new(outgoing.bytes[from..to_end].to_vec());
        let (index, offset, total) = (outgoing.index, from as u64, outgoing.bytes.len() as u64);
        effects.send(to, Message::Snapshot { ballot, round, index, offset, total, bytes });
    }

    pub(super) fn on_snapshot_received(
        &mut self,
        from: NodeId,
        round: Round,
        index: u64,
        received: u64,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        if self.heard_from(from, round, now).is_none() {
            return;
        }
        let base = self.log.base();
        let Part::Leader(leader) = &mut self.part else { return };
        let sending = leader.outgoing.as_ref().is_some_and(|outgoing| outgoing.index == index);
        if let Some(follower) = leader.follower(from)
            && sending
            && follower.next <= base
            && follower.received != received
        {
            follower.received = received;
            self.send_snapshot(from, now, effects);
        }
    }

    /// Drops the snapshot once no follower needs it.
    pub(super) fn forget_outgoing(&mut self) {
        let base = self.log.base();
        if let Part::Leader(leader) = &mut self.part
            && leader.followers.iter().all(|follower| follower.next > base)
        {
            leader.outgoing = None;
        }
    }

    pub(super) fn on_snapshot(
        &mut self,
        index: u64,
        offset: u64,
        total: u64,
        bytes: &[u8],
        effects: &mut Effects<Self>,
    ) {
        if (index <= self.commit() && !self.bug(Bug::CommitIndexRegresses)) || total > MAX_SNAPSHOT {
            self.incoming = None;
            return self.answer_leader(effects);
        }
        if self.incoming.as_ref().is_none_or(|incoming| incoming.index != index) {
            self.incoming = Some(Incoming { index, bytes: Vec::new() });
        }
        let Some(incoming) = &mut self.incoming else { return };
        if incoming.bytes.len() as u64 == offset && offset.saturating_add(bytes.len() as u64) <= total {
            incoming.bytes.extend_from_slice(bytes);
        }
        let received = incoming.bytes.len() as u64;
        if received == total {
            let store = self.incoming.take().and_then(|incoming| Store::from_bytes(&incoming.bytes));
            if let Some(store) = store.filter(|store| store.index() == index) {
                self.install(store, effects);
            }
            self.answer_leader(effects);
        } else if let Some(leader) = self.leader
            && self.promise_position <= self.journal.durable_position()
        {
            let (ballot, round) = (self.promised, self.last_round);
            effects.send(leader, Message::SnapshotReceived { ballot, round, index, received });
        }
    }

    /// Takes over a state that is further on than the own one.
    fn install(&mut self, store: Store, effects: &mut Effects<Self>) {
        self.store = store;
        let index = self.commit();
        self.log.forget_through(index);
        self.accepted = self.accepted.max(index);
        self.missing = false;
        self.write_snapshot(effects);
        self.syncing.push_back((self.journal.written(), self.accepted));
    }
}
