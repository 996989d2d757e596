//! The follower's side of phase 2: accepting, in order, and answering.

use std::sync::Arc;

use duress_machine::{Effects, NodeId, Observation, Reading};

use super::log::Entry;
use super::{Ballot, Grant, Message, Part, Paxos, Reads, Record, Round};
use crate::bugs::Bug;
use crate::store::{CHECKPOINT_INTERVAL, Command};

impl Paxos {
    /// Takes the sender of a leader's message for the leader, unless a higher ballot has been
    /// promised; says whether it did.
    pub(super) fn follow(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        round: Round,
        now: Reading,
        effects: &mut Effects<Self>,
    ) -> bool {
        let unchecked = self.bug(Bug::AcceptWithoutCheckingPromise);
        if ballot < self.promised && !unchecked {
            effects.send(from, Message::Reject { ballot, promised: self.promised });
            return false;
        }
        if ballot.node != from {
            return false;
        }
        self.become_follower(Some(from), now, effects);
        if ballot > self.promised || (unchecked && ballot < self.promised) {
            self.promise(ballot, effects);
        }
        self.part = Part::Follower { returning: false };
        self.leader = Some(from);
        self.heard = Some(now.monotonic);
        self.postpone(now);
        if self.config.reads == Reads::Lease {
            // A majority promised this ballot, so whatever lease this node granted another
            // leader has already run out at enough nodes.
            self.grant = Grant { to: Some(from), until: now.monotonic + self.config.lease };
        }
        self.last_round = self.last_round.max(round);
        true
    }

    /// Promises a ballot above the present one. Nothing may speak of it before it is on disk.
    pub(super) fn promise(&mut self, ballot: Ballot, effects: &mut Effects<Self>) {
        self.promised = ballot;
        self.highest_round = self.highest_round.max(ballot.round);
        self.write(Record::Promise { ballot }, effects);
        self.promise_position = self.journal.written();
        // What was accepted in earlier ballots does not count in this one, unless it is chosen.
        self.accepted = self.commit();
        self.synced = self.commit();
        self.syncing.clear();
        // Rounds are counted by each leader for itself: an earlier one's must not be echoed to this
        // one, who would take it for an answer to what it has yet to ask.
        self.last_round = Round::default();
        self.missing = false;
        self.owes_answer = false;
        self.incoming = None;
    }

    pub(super) fn accept(&mut self, first: u64, commit: u64, commands: Arc<Vec<Command>>, effects: &mut Effects<Self>) {
        if first > self.accepted + 1 {
            self.missing = true;
            self.learn(commit, effects);
            self.answer_leader(effects);
            return;
        }
        self.missing = false;
        let known = usize::try_from(self.accepted + 1 - first).unwrap_or(usize::MAX);
        if known >= commands.len() {
            self.learn(commit, effects);
            self.answer_leader(effects);
            return;
        }
        let new = if known == 0 { commands } else { Arc::new(commands[known..].to_vec()) };
        self.accept_new(new, effects);
        self.learn(commit, effects);
    }

    /// Accepts commands, in the ballot promised, in the slots after those accepted.
    pub(super) fn accept_new(&mut self, commands: Arc<Vec<Command>>, effects: &mut Effects<Self>) {
        let (ballot, first) = (self.promised, self.accepted + 1);
        for command in commands.iter() {
            if !self.log.set(self.accepted + 1, Entry { ballot, command: command.clone() }) {
                return;
            }
            self.accepted += 1;
        }
        self.write(Record::Accept { ballot, commit: self.commit(), first, commands }, effects);
        self.syncing.push_back((self.journal.written(), self.accepted));
        let leads = matches!(self.part, Part::Leader(_));
        if !leads && self.bug(Bug::AckBeforeDurable) || leads && self.bug(Bug::LeaderCountsItselfBeforeDurable) {
            self.synced = self.accepted;
            self.answer_leader(effects);
        }
    }

    /// Applies what the leader says is chosen. What was accepted in the leader's ballot is what
    /// the leader proposed, and in a chosen slot that is what was chosen.
    fn learn(&mut self, commit: u64, effects: &mut Effects<Self>) {
        self.apply_through(commit.min(self.accepted), effects);
    }

    /// Answers the leader's latest message, or leaves that to the time when the promise of its
    /// ballot is on disk.
    pub(super) fn answer_leader(&mut self, effects: &mut Effects<Self>) {
        let Some(leader) = self.leader.filter(|leader| *leader != self.me) else { return };
        self.owes_answer = self.promise_position > self.journal.durable_position();
        if self.owes_answer {
            self.journal.sync(effects);
            return;
        }
        let missing_from = self.missing.then_some(self.accepted);
        let (ballot, round) = (self.promised, self.last_round);
        effects.send(leader, Message::Accepted { ballot, round, through: self.synced, missing_from });
    }

    /// Applies every slot up to `commit`, which must be chosen, and answers who waits for it.
    pub(super) fn apply_through(&mut self, commit: u64, effects: &mut Effects<Self>) {
        while self.commit() < commit {
            let Some(entry) = self.log.get(self.commit() + 1) else { break };
            let outcome = self.store.apply_with(&entry.command, self.config.bug);
            if let Command::Request { request, .. } = &entry.command
                && let Some(id) = self.desk.take((request.client, request.sequence))
            {
                let response = self.response(outcome);
                effects.respond(id, response);
            }
            let index = self.commit();
            if index.is_multiple_of(CHECKPOINT_INTERVAL) {
                effects.observe(Observation::Committed { index, digest: self.store.digest() });
            }
        }
        self.accepted = self.accepted.max(self.commit());
        self.snapshot_when_due(effects);
    }

    /// Appends a record and asks for it to reach the disk.
    pub(super) fn write(&mut self, record: Record, effects: &mut Effects<Self>) {
        self.journal.append(record, effects);
        self.records += 1;
        self.journal.sync(effects);
    }
}
