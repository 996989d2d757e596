//! The primary: takes requests, sends its log, commits, answers.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use duress_machine::{Effect, Effects, NodeId, Reading, RequestId, Role};

use super::log::PART_BYTES;
use super::message::{Entry, Message, Position};
use super::{Failover, PrimaryBackup, Replication};
use crate::api::{Op, Refusal, Request};
use crate::bugs::Bug;
use crate::store::Command;

/// No primary holds more unanswered requests than this.
const MAX_PENDING: usize = 8192;
/// How many messages with entries may be on their way to a backup at once. With more requests
/// than that in progress, entries gather and share messages and syncs.
const WINDOW: usize = 2;

/// What a primary keeps of its backups and clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leading {
    /// The index of the view's first entry. Nothing is committed and nothing read before it is:
    /// until then the primary doesn't know how much of what it found was acknowledged.
    start: u64,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// Who waits for which entry.
    pub(super) pending: BTreeMap<u64, RequestId>,
    /// Reads that wait for a majority to confirm the probe named first.
    reads: VecDeque<(u64, RequestId, Op)>,
    /// The latest probe sent out.
    probe: u64,
    /// The latest probe that a majority has echoed.
    confirmed: u64,
    /// The snapshot that is being sent to backups whose entries are no longer kept.
    outgoing: Option<(Position, Vec<u8>)>,
}

/// A backup, as the primary knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// The greatest life heard of.
    life: u64,
    /// When it last answered.
    pub(super) heard: Duration,
    /// No write is answered without it ([`Replication::Sync`], except by vote).
    active: bool,
    /// It has everything up to here on disk.
    matched: u64,
    /// The next entry to send.
    next: u64,
    /// The first and last entries of the messages on their way.
    batches: VecDeque<(u64, u64)>,
    /// When something was last sent.
    sent: Duration,
    /// The latest probe echoed.
    probe: u64,
    /// It is being sent a snapshot, of which it has this many bytes.
    snapshot: Option<u64>,
    /// When its shutting off was last asked for.
    fencing: Option<Duration>,
}

impl PrimaryBackup {
    /// Begins to lead in `self.view`, which is durable. `active` are the backups without which no
    /// write is answered from the start.
    pub(super) fn lead(&mut self, active: &[NodeId], now: Reading, effects: &mut Effects<Self>) {
        let last = self.log.last();
        let peer = |node: &NodeId| Peer {
            heard: now.monotonic,
            active: active.contains(node),
            next: last + 1,
            ..Peer::default()
        };
        self.leading = Some(Leading {
            start: last + 1,
            peers: self.others().iter().map(|node| (*node, peer(node))).collect(),
            pending: BTreeMap::new(),
            reads: VecDeque::new(),
            probe: 0,
            confirmed: 0,
            outgoing: None,
        });
        self.role = Role::Primary;
        self.leader = Some(self.me);
        self.candidacy = None;
        self.in_sync = true;
        self.attempts = 0;
        self.write(vec![Entry { view: self.view, command: Command::Noop }], effects);
        self.pump_all(now, effects);
        self.advance(now, effects);
    }

    /// Ends leading. What is in the log may still take effect.
    pub(super) fn step_down(&mut self, effects: &mut Effects<Self>) {
        let Some(leading) = self.leading.take() else { return };
        for id in leading.pending.into_values() {
            self.respond(id, Err(Refusal::Unknown), effects);
        }
        for (_, id, _) in leading.reads {
            self.respond(id, Err(Refusal::Unavailable), effects);
        }
        self.role = Role::Backup;
        self.leader = None;
    }

    /// Puts a request into the log.
    pub(super) fn propose(&mut self, id: RequestId, request: Request, now: Reading, effects: &mut Effects<Self>) {
        let index = self.log.last() + 1;
        match &mut self.leading {
            Some(leading) if leading.pending.len() < MAX_PENDING => leading.pending.insert(index, id),
            _ => return self.respond(id, Err(Refusal::Unavailable), effects),
        };
        let command = Command::Request { request, at: now.wall };
        self.write(vec![Entry { view: self.view, command }], effects);
        self.pump_all(now, effects);
    }

    /// Answers a read from the applied state: by vote, once a majority has confirmed that nobody
    /// else leads; otherwise at once.
    pub(super) fn read(&mut self, id: RequestId, op: Op, now: Reading, effects: &mut Effects<Self>) {
        let Some(leading) = &mut self.leading else { return };
        let behind = self.log.applied() < leading.start && self.config.bug != Some(Bug::ReadBeforeApply);
        if behind || leading.reads.len() >= MAX_PENDING {
            return self.respond(id, Err(Refusal::Unavailable), effects);
        }
        if self.config.failover != Failover::Vote {
            let reply = self.log.store().read(&op);
            return self.respond(id, reply.ok_or(Refusal::NotSupported), effects);
        }
        // A probe that is under way may have been answered before this read came.
        leading.reads.push_back((leading.probe + 1, id, op));
        self.confirm(now, effects);
    }

    /// Answers the reads that are confirmed, and sends a probe for the others unless one is under
    /// way: reads that arrive meanwhile share the next.
    fn confirm(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let needed = self.config.majority().saturating_sub(1);
        let Some(leading) = &mut self.leading else { return };
        let mut echoed: Vec<u64> = leading.peers.values().map(|peer| peer.probe).collect();
        echoed.sort_unstable_by(|a, b| b.cmp(a));
        // Alone, a node is its own majority.
        leading.confirmed = match needed.checked_sub(1) {
            Some(at) => echoed.get(at).copied().unwrap_or(0),
            None => leading.probe + 1,
        };
        let mut answered = Vec::new();
        while leading.reads.front().is_some_and(|(probe, ..)| *probe <= leading.confirmed) {
            answered.extend(leading.reads.pop_front());
        }
        let waiting = leading.reads.front().is_some_and(|(probe, ..)| *probe > leading.probe);
        let probe = waiting && leading.confirmed >= leading.probe;
        if probe {
            leading.probe += 1;
        }
        for (_, id, op) in answered {
            let reply = self.log.store().read(&op);
            self.respond(id, reply.ok_or(Refusal::NotSupported), effects);
        }
        if probe {
            self.others().into_iter().for_each(|to| self.heartbeat(to, now, effects));
        }
    }

    /// A backup has entries on disk.
    pub(super) fn acked(
        &mut self,
        from: NodeId,
        life: u64,
        matched: u64,
        probe: u64,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        let last = self.log.last();
        let Some(peer) = self.peer(from, life, now) else { return };
        if matched > last {
            return;
        }
        peer.probe = peer.probe.max(probe);
        peer.matched = peer.matched.max(matched);
        peer.next = peer.next.max(peer.matched + 1);
        while peer.batches.front().is_some_and(|(_, last)| *last <= peer.matched) {
            peer.batches.pop_front();
        }
        let applied = self.log.applied();
        if let Some(leading) = &mut self.leading
            && let Some(peer) = leading.peers.get_mut(&from)
        {
            if leading.outgoing.as_ref().is_some_and(|(position, _)| peer.matched >= position.index) {
                peer.snapshot = None;
            }
            // It has everything that was acknowledged, and from now on nothing is without it.
            if matched > 0 && peer.matched >= applied {
                peer.active = true;
            }
        }
        self.advance(now, effects);
        self.confirm(now, effects);
        self.pump(from, now, effects);
    }

    /// A backup's log doesn't join.
    pub(super) fn rejected(
        &mut self,
        from: NodeId,
        life: u64,
        last: u64,
        reset: bool,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        let end = self.log.last();
        let Some(peer) = self.peer(from, life, now) else { return };
        peer.batches.clear();
        if reset {
            peer.matched = 0;
            peer.snapshot.get_or_insert(0);
            self.send_part(from, now, effects);
        } else {
            peer.snapshot = None;
            peer.next = last.min(end) + 1;
            self.pump(from, now, effects);
        }
    }

    /// A backup has a part of a snapshot.
    pub(super) fn snapshot_acked(
        &mut self,
        from: NodeId,
        life: u64,
        index: u64,
        received: u64,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        if self.peer(from, life, now).is_none() {
            return;
        }
        let Some(leading) = &mut self.leading else { return };
        if leading.outgoing.as_ref().is_none_or(|(position, _)| position.index != index) {
            return;
        }
        if let Some(peer) = leading.peers.get_mut(&from)
            && peer.snapshot.is_some_and(|offset| offset != received)
        {
            peer.snapshot = Some(received);
            self.send_part(from, now, effects);
        }
    }

    /// A backup that has just answered.
    fn peer(&mut self, node: NodeId, life: u64, now: Reading) -> Option<&mut Peer> {
        let peer = self.leading.as_mut()?.peers.get_mut(&node)?;
        peer.life = peer.life.max(life);
        peer.heard = now.monotonic;
        Some(peer)
    }

    /// Commits what may be committed.
    pub(super) fn advance(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let Some(leading) = &self.leading else { return };
        let own = if self.bug(Bug::LeaderCountsItselfBeforeDurable) { self.log.last() } else { self.log.durable() };
        let commit = match (self.config.replication, self.config.failover) {
            (Replication::Async, _) => own,
            (Replication::Sync, Failover::Vote) => {
                let mut matched: Vec<u64> = leading.peers.values().map(|peer| peer.matched).collect();
                matched.push(own);
                matched.sort_unstable_by(|a, b| b.cmp(a));
                matched.get(self.needed(now) - 1).copied().unwrap_or(0)
            }
            (Replication::Sync, _) => {
                leading.peers.values().filter(|peer| peer.active).map(|peer| peer.matched).fold(own, u64::min)
            }
        };
        let asynchronous = self.bug(Bug::AsyncAckDuringViewChange) && commit < leading.start;
        let commit = if asynchronous { own } else { commit };
        if commit >= leading.start {
            self.apply(commit, effects);
        }
    }

    /// How many nodes must have an entry for it to be committed, by vote.
    fn needed(&self, now: Reading) -> usize {
        if self.bug(Bug::DeposedPrimaryStillAcks)
            && let Some(leading) = &self.leading
        {
            let timeout = self.config.failover_timeout;
            let heard = |peer: &&Peer| now.monotonic.saturating_sub(peer.heard) < timeout;
            return leading.peers.values().filter(heard).count().div_ceil(2) + 1;
        }
        self.config.majority()
    }

    /// The primary's part of a tick: what was lost is sent again, the silent are dealt with.
    pub(super) fn lead_on(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let late = self.config.heartbeat * 2;
        for node in self.others() {
            let Some(peer) = self.leading.as_mut().and_then(|leading| leading.peers.get_mut(&node)) else { continue };
            let since = now.monotonic.saturating_sub(peer.sent);
            if since >= late
                && let Some((first, _)) = peer.batches.front()
            {
                peer.next = *first;
                peer.batches.clear();
            }
            if peer.snapshot.is_some() {
                if since >= late {
                    self.send_part(node, now, effects);
                }
            } else if !self.pump(node, now, effects) {
                self.heartbeat(node, now, effects);
            }
        }
        self.drop_silent(now, effects);
        self.advance(now, effects);
    }

    /// Backups that have not answered for too long.
    fn drop_silent(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let timeout = self.config.failover_timeout;
        let Some(leading) = &mut self.leading else { return };
        let silent = |since: Duration| now.monotonic.saturating_sub(since) >= timeout;
        match self.config.failover {
            Failover::Vote if self.config.bug == Some(Bug::DeposedPrimaryStillAcks) => {}
            Failover::Fenced if self.config.bug == Some(Bug::BackupDroppedWithoutFencing) => {
                leading.peers.values_mut().filter(|peer| silent(peer.heard)).for_each(|peer| peer.active = false);
            }
            Failover::None | Failover::Timeout => {
                leading.peers.values_mut().filter(|peer| silent(peer.heard)).for_each(|peer| peer.active = false);
            }
            Failover::Fenced => {
                for (node, peer) in &mut leading.peers {
                    if peer.active && silent(peer.heard) && peer.fencing.is_none_or(silent) {
                        peer.fencing = Some(now.monotonic);
                        effects.push(Effect::Fence { node: *node });
                    }
                }
            }
            Failover::Vote => {
                let heard = leading.peers.values().filter(|peer| !silent(peer.heard)).count();
                if heard + 1 < self.config.majority() {
                    self.step_down(effects);
                    self.wait(now);
                }
            }
        }
    }

    /// A backup was shut off: the primary goes on without it.
    pub(super) fn without(&mut self, node: NodeId, now: Reading, effects: &mut Effects<Self>) {
        if let Some(peer) = self.leading.as_mut().and_then(|leading| leading.peers.get_mut(&node)) {
            peer.active = false;
            peer.fencing = None;
        }
        self.advance(now, effects);
    }

    fn pump_all(&mut self, now: Reading, effects: &mut Effects<Self>) {
        for node in self.others() {
            self.pump(node, now, effects);
        }
    }

    /// Sends a backup the entries it hasn't been sent, within the window. Whether any were sent.
    fn pump(&mut self, to: NodeId, now: Reading, effects: &mut Effects<Self>) -> bool {
        let mut pumped = false;
        loop {
            let base = self.log.base().index;
            let Some(peer) = self.leading.as_mut().and_then(|leading| leading.peers.get_mut(&to)) else { break };
            if peer.snapshot.is_some() || peer.batches.len() >= WINDOW || peer.next > self.log.last() {
                break;
            }
            if peer.next <= base {
                peer.snapshot = Some(0);
                self.send_part(to, now, effects);
                return true;
            }
            let first = peer.next;
            let entries = self.log.batch(first);
            if entries.is_empty() {
                break;
            }
            let last = first + entries.len() as u64 - 1;
            peer.batches.push_back((first, last));
            peer.next = last + 1;
            self.send_append(to, first, entries, now, effects);
            pumped = true;
        }
        pumped
    }

    fn heartbeat(&mut self, to: NodeId, now: Reading, effects: &mut Effects<Self>) {
        let Some(peer) = self.leading.as_ref().and_then(|leading| leading.peers.get(&to)) else { return };
        let first = peer.next.max(self.log.base().index + 1);
        self.send_append(to, first, Vec::new(), now, effects);
    }

    fn send_append(&mut self, to: NodeId, first: u64, entries: Vec<Entry>, now: Reading, effects: &mut Effects<Self>) {
        let (view, last, commit) = (self.view, self.log.last(), self.log.applied());
        let previous = Position { view: self.log.view_at(first - 1).unwrap_or(0), index: first - 1 };
        let Some(leading) = &mut self.leading else { return };
        let Some(peer) = leading.peers.get_mut(&to) else { return };
        peer.sent = now.monotonic;
        let (life, active, probe) = (peer.life, peer.active, leading.probe);
        effects.send(to, Message::Append { view, life, active, previous, entries, last, commit, probe });
    }

    /// Sends a backup the part of the snapshot that it lacks.
    fn send_part(&mut self, to: NodeId, now: Reading, effects: &mut Effects<Self>) {
        let base = self.log.base().index;
        let Some(leading) = &mut self.leading else { return };
        // A snapshot from before the first entry kept would not be joined by what follows.
        if leading.outgoing.as_ref().is_none_or(|(position, _)| position.index < base) {
            let index = self.log.applied();
            let view = self.log.view_at(index).unwrap_or(0);
            leading.outgoing = Some((Position { view, index }, self.log.store().to_bytes_with(self.config.bug)));
            leading.peers.values_mut().filter_map(|peer| peer.snapshot.as_mut()).for_each(|offset| *offset = 0);
        }
        let Some((position, bytes)) = &leading.outgoing else { return };
        let Some(peer) = leading.peers.get_mut(&to) else { return };
        let offset = peer.snapshot.unwrap_or(0);
        let part = bytes.iter().skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(PART_BYTES).copied().collect();
        peer.sent = now.monotonic;
        let (view, position, total) = (self.view, *position, bytes.len() as u64);
        effects.send(to, Message::Snapshot { view, position, total, offset, bytes: part });
    }
}
