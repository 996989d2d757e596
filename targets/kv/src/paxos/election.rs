//! Becoming leader: pre-vote, phase 1, and giving way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_machine::{Effect, Effects, NodeId, Reading};

use super::{Ballot, Config, Grant, Message, Part, Paxos, Reads, Timer};
use crate::bugs::Bug;
use crate::store::Command;

/// A candidate may lag by this many entries; the promises then carry them.
const MAX_LAG: u64 = 4096;
/// Promises carry at most about this many bytes.
const MAX_PROMISE: usize = 8 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    ballot: Ballot,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    PreVote {
        granted: BTreeSet<NodeId>,
    },
    Prepare {
        /// The journal's position of the own promise.
        position: u64,
        promises: BTreeMap<NodeId, Promised>,
    },
}

/// The contents of a promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Promised {
    pub first: u64,
    pub commit: u64,
    pub entries: Vec<(Ballot, Command)>,
}

impl Paxos {
    /// Puts the next campaign off by this attempt's timeout.
    pub(super) fn postpone(&mut self, now: Reading) {
        self.deadline = now.monotonic + self.timeout;
    }

    /// Begins another attempt, with a timeout of its own.
    fn begin_attempt(&mut self) {
        self.attempt += 1;
        self.timeout = self.draw_timeout();
    }

    pub(super) fn draw_timeout(&self) -> Duration {
        let base = self.config.election_timeout;
        if self.bug(Bug::DuellingProposers) {
            return base;
        }
        let key = [u64::from(self.me.0), self.attempt];
        self.config.seed.derive("election").decide(&key).between(base, base * 2)
    }

    pub(super) fn election_timer(&mut self, now: Reading, effects: &mut Effects<Self>) {
        if matches!(self.part, Part::Leader(_)) {
            return;
        }
        if self.bound_elsewhere(self.me, now) {
            self.deadline = self.deadline.max(self.grant.until);
        }
        if now.monotonic >= self.deadline {
            self.campaign(now, effects);
        } else {
            effects.set_timer(Timer::Election, self.deadline - now.monotonic);
        }
    }

    /// Whether this node must not support `node` now because it granted another one a lease.
    fn bound_elsewhere(&self, node: NodeId, now: Reading) -> bool {
        self.config.reads == Reads::Lease
            && now.monotonic < self.grant.until
            && self.grant.to != Some(node)
            && !self.bug(Bug::StaleLeaseAfterLeaderChange)
    }

    /// Whether no leader has been heard from lately.
    fn leaderless(&self, now: Reading) -> bool {
        let silent = |heard: Duration| now.monotonic.saturating_sub(heard) >= self.config.election_timeout;
        !matches!(self.part, Part::Leader(_)) && self.heard.is_none_or(silent)
    }

    /// Whether a promise to a candidate with this commit index can hold all it needs.
    fn can_bring_up_to_date(&self, commit: u64) -> bool {
        commit >= self.log.base()
            && self.commit().saturating_sub(commit) <= MAX_LAG
            && self.log.from(commit.saturating_add(1)).map(|entry| entry.command.size()).sum::<usize>() <= MAX_PROMISE
    }

    fn campaign(&mut self, now: Reading, effects: &mut Effects<Self>) {
        self.become_follower(None, now, effects);
        self.begin_attempt();
        self.postpone(now);
        effects.set_timer(Timer::Election, self.deadline.saturating_sub(now.monotonic));
        effects.set_timer(Timer::Tick, self.config.heartbeat / 2);
        let ballot = Ballot { round: self.highest_round.saturating_add(1), node: self.me };
        self.leader = None;
        if self.bug(Bug::DuellingProposers) {
            return self.prepare(ballot, now, effects);
        }
        self.part = Part::Candidate(Candidate { ballot, stage: Stage::PreVote { granted: BTreeSet::new() } });
        self.ask_again(effects);
        self.check_pre_votes(now, effects);
    }

    /// Asks whoever has not answered yet.
    fn ask_again(&mut self, effects: &mut Effects<Self>) {
        let Part::Candidate(Candidate { ballot, stage }) = &self.part else { return };
        let (ballot, commit) = (*ballot, self.commit());
        for peer in self.peers() {
            match stage {
                Stage::PreVote { granted } if !granted.contains(&peer) => {
                    effects.send(peer, Message::PreVote { ballot, commit });
                }
                Stage::Prepare { position, promises }
                    if !promises.contains_key(&peer) && *position <= self.journal.durable_position() =>
                {
                    effects.send(peer, Message::Prepare { ballot, commit });
                }
                _ => {}
            }
        }
    }

    pub(super) fn candidate_tick(&mut self, effects: &mut Effects<Self>) {
        self.ask_again(effects);
        effects.set_timer(Timer::Tick, self.config.heartbeat / 2);
    }

    pub(super) fn on_pre_vote(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        commit: u64,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        let granted = ballot > self.promised
            && self.leaderless(now)
            && !self.bound_elsewhere(from, now)
            && self.can_bring_up_to_date(commit);
        let highest_round = self.highest_round;
        effects.send(from, Message::PreVoted { ballot, highest_round, granted });
    }

    pub(super) fn on_pre_voted(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        highest_round: u64,
        granted: bool,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        self.highest_round = self.highest_round.max(highest_round);
        if let Part::Candidate(Candidate { ballot: asked, stage: Stage::PreVote { granted: by } }) = &mut self.part
            && *asked == ballot
        {
            if granted {
                let from = voter(&self.config, from, |voter| by.contains(voter));
                by.insert(from);
                self.check_pre_votes(now, effects);
            } else if highest_round >= ballot.round {
                // Ask for a ballot that can be had.
                *asked = Ballot { round: self.highest_round.saturating_add(1), node: self.me };
                by.clear();
            }
        }
    }

    fn check_pre_votes(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let Part::Candidate(Candidate { ballot, stage: Stage::PreVote { granted } }) = &self.part else { return };
        if granted.len() + 1 >= self.majority() {
            self.prepare(*ballot, now, effects);
        }
    }

    /// Phase 1a. The own promise comes first: a ballot is never used by two lives of a node.
    pub(super) fn prepare(&mut self, ballot: Ballot, now: Reading, effects: &mut Effects<Self>) {
        if ballot <= self.promised || self.bound_elsewhere(self.me, now) {
            return;
        }
        self.promise(ballot, effects);
        self.leader = None;
        let stage = Stage::Prepare { position: self.promise_position, promises: BTreeMap::new() };
        self.part = Part::Candidate(Candidate { ballot, stage });
        let commit = self.commit();
        for peer in self.peers() {
            let message = Message::Prepare { ballot, commit };
            if self.bug(Bug::PromiseBeforeDurable) {
                effects.send(peer, message);
            } else {
                self.journal.when_durable(Effect::Send { to: peer, message }, effects);
            }
        }
        self.postpone(now);
        effects.set_timer(Timer::Election, self.deadline.saturating_sub(now.monotonic));
        effects.set_timer(Timer::Tick, self.config.heartbeat / 2);
    }

    pub(super) fn on_prepare(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        commit: u64,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        if ballot < self.promised {
            effects.send(from, Message::Reject { ballot, promised: self.promised });
            return;
        }
        if ballot.node != from || self.bound_elsewhere(from, now) || !self.can_bring_up_to_date(commit) {
            return;
        }
        if ballot > self.promised {
            let duels = self.bug(Bug::DuellingProposers) && !matches!(self.part, Part::Follower { .. });
            self.become_follower(None, now, effects);
            self.promise(ballot, effects);
            self.leader = None;
            self.heard = Some(now.monotonic);
            self.postpone(now);
            if duels {
                self.campaign(now, effects);
                return;
            }
        }
        let first = commit.saturating_add(1);
        let entries = self.log.from(first).map(|entry| (entry.ballot, entry.command.clone())).collect();
        let message = Message::Promise { ballot, first, commit: self.commit(), entries };
        if self.bug(Bug::PromiseBeforeDurable) {
            return effects.send(from, message);
        }
        self.journal.when_durable(Effect::Send { to: from, message }, effects);
    }

    pub(super) fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        promised: Promised,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        let next = self.commit() + 1;
        if let Part::Candidate(Candidate { ballot: asked, stage: Stage::Prepare { promises, .. } }) = &mut self.part
            && *asked == ballot
            && promised.first == next
        {
            let from = voter(&self.config, from, |voter| promises.contains_key(voter));
            promises.insert(from, promised);
            self.check_promises(now, effects);
        }
    }

    /// Leads once a majority has promised, this node's own promise on disk among them.
    pub(super) fn check_promises(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let durable = self.journal.durable_position();
        let majority = self.majority();
        let unsynced = self.bug(Bug::PromiseBeforeDurable);
        let Part::Candidate(Candidate { stage: Stage::Prepare { position, promises }, .. }) = &mut self.part else {
            return;
        };
        if (*position > durable && !unsynced) || promises.len() + 1 < majority {
            return;
        }
        let promises = std::mem::take(promises);
        let commands = self.to_propose_again(promises.into_values());
        self.lead(commands, now, effects);
    }

    /// What phase 1 obliges the leader to propose in the slots above its commit index: what is
    /// chosen, else what was accepted in the highest ballot ("Paxos Made Simple", section 2.2).
    fn to_propose_again(&self, promises: impl Iterator<Item = Promised>) -> Vec<Command> {
        let first = self.commit() + 1;
        let mut best: BTreeMap<u64, (bool, Ballot, Command)> = self
            .log
            .from(first)
            .zip(first..)
            .map(|(entry, slot)| (slot, (false, entry.ballot, entry.command.clone())))
            .collect();
        for promise in promises {
            for (slot, (ballot, command)) in (promise.first..).zip(promise.entries) {
                let chosen = slot <= promise.commit;
                let rank = |(chosen, ballot, _): &(bool, Ballot, Command)| (*chosen, *ballot);
                if self.bug(Bug::HighestAcceptedBallotIgnored) && best.contains_key(&slot) {
                    continue;
                }
                if best.get(&slot).is_none_or(|known| rank(known) < (chosen, ballot)) {
                    best.insert(slot, (chosen, ballot, command));
                }
            }
        }
        let last = best.last_key_value().map_or(self.commit(), |(slot, _)| *slot);
        (first..=last).map(|slot| best.remove(&slot).map_or(Command::Noop, |(_, _, command)| command)).collect()
    }

    pub(super) fn on_reject(&mut self, ballot: Ballot, promised: Ballot, now: Reading, effects: &mut Effects<Self>) {
        self.highest_round = self.highest_round.max(promised.round);
        if ballot != self.promised || promised <= ballot || ballot.node != self.me {
            return;
        }
        match self.part {
            // A node that promised more can't follow; with a higher ballot it can. What is under
            // way stays so: phase 1 finds it again.
            Part::Leader(_) => {
                let ballot = Ballot { round: self.highest_round.saturating_add(1), node: self.me };
                self.prepare(ballot, now, effects);
            }
            Part::Candidate(_) if self.bug(Bug::DuellingProposers) => self.campaign(now, effects),
            // Somebody else tries as well: leave it the field for a random time.
            Part::Candidate(_) => {
                self.become_follower(None, now, effects);
                self.begin_attempt();
                self.postpone(now);
                effects.set_timer(Timer::Election, self.deadline.saturating_sub(now.monotonic));
            }
            Part::Follower { .. } => {}
        }
    }

    /// Stops leading or campaigning; whoever waits for an answer gets one.
    pub(super) fn become_follower(&mut self, leader: Option<NodeId>, now: Reading, effects: &mut Effects<Self>) {
        if matches!(self.part, Part::Follower { .. }) {
            return;
        }
        self.part = Part::Follower { returning: false };
        self.leader = leader;
        if self.grant.to == Some(self.me) {
            // Its own lease: it serves no reads any more.
            self.grant = Grant::default();
        }
        self.dismiss(leader, effects);
        self.postpone(now);
        effects.set_timer(Timer::Election, self.deadline.saturating_sub(now.monotonic));
    }
}

/// As whose vote an answer counts: its sender's. With [`Bug::VoteCountedTwice`] a second answer is
/// another voter's, one that doesn't exist.
fn voter(config: &Config, from: NodeId, mut voted: impl FnMut(&NodeId) -> bool) -> NodeId {
    if config.bug == Some(Bug::VoteCountedTwice) && voted(&from) {
        return NodeId(from.0.saturating_add(config.nodes));
    }
    from
}
