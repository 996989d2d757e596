//! A backup: takes in the primary's log or its snapshot.

use duress_machine::{Effect, Effects, NodeId, Observation, Reading, Role};

use super::PrimaryBackup;
use super::log::Log;
use super::message::{Entry, Message, Position};
use crate::bugs::Bug;
use crate::store::{CHECKPOINT_INTERVAL, Store};

/// No snapshot longer than this is taken in.
const MAX_SNAPSHOT: u64 = 1 << 30;

/// A snapshot that is arriving.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Incoming {
    position: Position,
    total: u64,
    bytes: Vec<u8>,
}

impl PrimaryBackup {
    /// Whether `from` leads in a view that is not over; if so, this node is its backup.
    pub(super) fn follow(&mut self, from: NodeId, view: u64, now: Reading, effects: &mut Effects<Self>) -> bool {
        if from != self.config.primary(view) || from == self.me {
            return false;
        }
        if view < self.view {
            effects.send(from, Message::Newer { view: self.view });
            return false;
        }
        self.adopt(view, now, effects);
        self.role = Role::Backup;
        self.leader = Some(from);
        self.candidacy = None;
        self.awaiting = None;
        self.outdone = false;
        self.heard = now.monotonic;
        self.attempts = 0;
        self.wait(now);
        true
    }

    /// Joins the primary's entries to the log, and answers.
    pub(super) fn append(
        &mut self,
        from: NodeId,
        mut previous: Position,
        mut entries: Vec<Entry>,
        last: u64,
        probe: u64,
        effects: &mut Effects<Self>,
    ) {
        let end = previous.index.saturating_add(entries.len() as u64);
        if end > self.verified {
            let base = self.log.base();
            if end < base.index {
                // What the log begins with can't be compared with this message.
                return self.reject(from, base.index, last < base.index, effects);
            }
            if previous.index < base.index {
                let skipped = (base.index - previous.index) as usize;
                let view = entries[skipped - 1].view;
                entries.drain(..skipped);
                previous = Position { view, index: base.index };
            }
            let applied = self.log.applied();
            match self.log.view_at(previous.index) {
                None => return self.reject(from, self.log.last(), false, effects),
                Some(view) if view != previous.view => {
                    // What has been applied is committed and on every log that may lead; when it
                    // isn't, the failover was an unsafe one.
                    return self.reject(from, applied, previous.index <= applied, effects);
                }
                Some(_) => {}
            }
            let differs = |(entry, index): (&Entry, u64)| self.log.view_at(index) != Some(entry.view);
            let known = entries.iter().zip(previous.index + 1..).take_while(|pair| !differs(*pair)).count();
            let first = previous.index + 1 + known as u64;
            if known < entries.len() {
                if first <= applied {
                    return self.reject(from, applied, true, effects);
                }
                self.log.truncate(first);
                let news = entries.split_off(known);
                self.write(news, effects);
            }
            self.verified = end;
        }
        let (view, life) = (self.view, self.life);
        let ack = |matched| Effect::Send { to: from, message: Message::Ack { view, life, matched, probe } };
        // The echo of a probe doesn't wait for the disk, but for a life that was written down.
        if probe > 0 && self.journal.durable_position() > 0 && self.log.durable() < self.log.last() {
            effects.push(ack(0));
        }
        if self.bug(Bug::AckBeforeDurable) {
            return effects.push(ack(self.verified));
        }
        self.journal.when_durable(ack(self.verified), effects);
    }

    fn reject(&mut self, to: NodeId, last: u64, reset: bool, effects: &mut Effects<Self>) {
        self.reset |= reset;
        if reset {
            self.in_sync = false;
        }
        effects.send(to, Message::Reject { view: self.view, life: self.life, last, reset });
    }

    /// Takes in a part of the primary's applied state.
    pub(super) fn snapshot(
        &mut self,
        from: NodeId,
        position: Position,
        total: u64,
        offset: u64,
        part: &[u8],
        effects: &mut Effects<Self>,
    ) {
        let (view, life) = (self.view, self.life);
        if position.index <= self.verified && !self.reset {
            let message = Message::Ack { view, life, matched: self.verified, probe: 0 };
            return self.journal.when_durable(Effect::Send { to: from, message }, effects);
        }
        if position.index <= self.log.applied() && !self.reset {
            // Older than what is here, which may well join the primary's log.
            return self.reject(from, self.log.applied(), false, effects);
        }
        if self.incoming.as_ref().is_none_or(|i| i.position != position || i.total != total) {
            self.incoming = Some(Incoming { position, total, bytes: Vec::new() });
        }
        let Some(incoming) = &mut self.incoming else { return };
        let room = total.min(MAX_SNAPSHOT).saturating_sub(incoming.bytes.len() as u64);
        if offset == incoming.bytes.len() as u64 && part.len() as u64 <= room {
            incoming.bytes.extend_from_slice(part);
        }
        let received = incoming.bytes.len() as u64;
        if received < total {
            return effects.send(from, Message::SnapshotAck { view, life, index: position.index, received });
        }
        let store = self.incoming.take().and_then(|incoming| Store::from_bytes(&incoming.bytes));
        let Some(store) = store.filter(|store| store.index() == position.index) else { return };
        self.install(store, position.view, effects);
        let message = Message::Ack { view, life, matched: self.verified, probe: 0 };
        self.journal.when_durable(Effect::Send { to: from, message }, effects);
    }

    /// Takes over the primary's state, and what stands behind it in this log if they join. One
    /// rewrite holds both, so a crash leaves the log as it was or as it is now.
    fn install(&mut self, store: Store, view: u64, effects: &mut Effects<Self>) {
        let (index, digest) = (store.index(), store.digest());
        if self.reset {
            // This log parts from the primary's in what has been applied, which is to be forgotten.
            self.log = Log::from_snapshot(store, view);
        } else {
            self.log.install(store, view);
        }
        self.rewrite(effects);
        self.verified = index;
        self.reset = false;
        if index % CHECKPOINT_INTERVAL == 0 {
            effects.observe(Observation::Committed { index, digest });
        }
    }
}
