//! Leading: phase 2 in batches, what followers have, what is chosen, and how fresh the majority's
//! support is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use duress_machine::{Effects, NodeId, Reading};

use super::snapshot::Outgoing;
use super::{Grant, Message, Part, Paxos, Reads, Round, Timer, fitting};
use crate::bugs::Bug;
use crate::store::Command;

/// How many batches may be proposed and not yet chosen. Requests that arrive meanwhile share the
/// next one: two keep disk and network busy, more would only make batches smaller.
const MAX_BATCHES: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    /// In the order of their numbers.
    pub followers: Vec<Follower>,
    /// The last slots of the batches under way.
    batches: VecDeque<u64>,
    /// Reads may be answered once this slot is applied: everything chosen before this leader's
    /// time lies below.
    ready: u64,
    /// The latest round sent for waiting reads.
    read_round: u64,
    pub outgoing: Option<Outgoing>,
}

/// What a leader knows of a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    node: NodeId,
    /// The next slot to send.
    pub next: u64,
    /// Every slot up to this one is on its disk.
    acked: u64,
    /// The latest round it answered.
    acked_round: Round,
    /// Whether it has answered in this ballot at all.
    answered: bool,
    heard: Duration,
    sent: Duration,
    /// The last gap it reported, and when it was last filled.
    filled: Option<(u64, Duration)>,
    /// How much of the outgoing snapshot it has.
    pub received: u64,
}

impl Leader {
    pub(super) fn follower(&mut self, node: NodeId) -> Option<&mut Follower> {
        self.followers.iter_mut().find(|follower| follower.node == node)
    }
}

impl Paxos {
    /// Begins to lead, by proposing what phase 1 found.
    pub(super) fn lead(&mut self, mut commands: Vec<Command>, now: Reading, effects: &mut Effects<Self>) {
        let next = self.commit() + 1;
        let follower = |node| Follower {
            node,
            next,
            acked: 0,
            acked_round: Round::default(),
            answered: false,
            heard: now.monotonic,
            sent: now.monotonic,
            filled: None,
            received: 0,
        };
        let ready = self.commit() + commands.len() as u64;
        self.leader = Some(self.me);
        self.part = Part::Leader(Leader {
            followers: self.peers().map(follower).collect(),
            batches: VecDeque::new(),
            ready,
            read_round: 0,
            outgoing: None,
        });
        self.dismiss_lost(&commands, effects);
        if commands.is_empty() {
            self.heartbeat(now, effects, |_| true);
        }
        while !commands.is_empty() {
            let rest = commands.split_off(fitting(commands.iter()));
            self.propose(std::mem::replace(&mut commands, rest), now, effects);
        }
        effects.set_timer(Timer::Tick, self.config.heartbeat);
        self.advance(now, effects);
        self.serve_reads(now, effects);
    }

    pub(super) fn next_round(&mut self, now: Reading) -> Round {
        self.round += 1;
        if self.config.reads == Reads::Lease {
            self.grant = Grant { to: Some(self.me), until: now.monotonic + self.config.lease };
        }
        Round { number: self.round, sent: now.monotonic }
    }

    /// Proposes what waits, in batches, as far as the bound on batches allows.
    pub(super) fn flush(&mut self, now: Reading, effects: &mut Effects<Self>) {
        while let Part::Leader(leader) = &self.part
            && leader.batches.len() < MAX_BATCHES
            && !self.desk.pending.is_empty()
        {
            let at = now.wall;
            let batch: Vec<Command> =
                self.desk.next_batch().into_iter().map(|request| Command::Request { request, at }).collect();
            self.propose(batch, now, effects);
        }
    }

    /// Phase 2a for the slots after the last.
    fn propose(&mut self, commands: Vec<Command>, now: Reading, effects: &mut Effects<Self>) {
        let commands = Arc::new(commands);
        let first = self.accepted + 1;
        self.accept_new(commands.clone(), effects);
        let (last, ballot, commit) = (self.accepted, self.promised, self.commit());
        let round = self.next_round(now);
        let Part::Leader(leader) = &mut self.part else { return };
        leader.batches.push_back(last);
        for follower in &mut leader.followers {
            // One that is behind gets what it misses first, one that is silent only heartbeats.
            let silent = now.monotonic.saturating_sub(follower.heard) >= self.config.election_timeout;
            if follower.next == first && !silent {
                follower.next = last + 1;
                follower.sent = now.monotonic;
                let commands = Arc::clone(&commands);
                effects.send(follower.node, Message::Accept { ballot, round, commit, first, commands });
            }
        }
    }

    /// Sends an empty accept to the followers that `to` picks.
    fn heartbeat(&mut self, now: Reading, effects: &mut Effects<Self>, to: impl Fn(&Follower) -> bool) {
        let round = self.next_round(now);
        let (ballot, commit, commands) = (self.promised, self.commit(), Arc::default());
        let Part::Leader(leader) = &mut self.part else { return };
        for follower in leader.followers.iter_mut().filter(|follower| to(follower)) {
            follower.sent = now.monotonic;
            let (first, commands) = (follower.next, Arc::clone(&commands));
            effects.send(follower.node, Message::Accept { ballot, round, commit, first, commands });
        }
    }

    pub(super) fn leader_tick(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let heard = self.by_majority(now.monotonic, |follower| follower.heard);
        if now.monotonic.saturating_sub(heard) >= self.config.election_timeout {
            self.become_follower(None, now, effects);
            return;
        }
        let recent = self.config.heartbeat / 2;
        self.heartbeat(now, effects, |follower| now.monotonic.saturating_sub(follower.sent) >= recent);
        self.forget_outgoing();
        effects.set_timer(Timer::Tick, self.config.heartbeat);
    }

    /// The greatest value that a majority of the nodes has reached, this node among them with
    /// `own`.
    fn by_majority<T: Ord + Copy>(&self, own: T, of: impl Fn(&Follower) -> T) -> T {
        let Part::Leader(leader) = &self.part else { return own };
        // Compared with each other instead of sorted: they are few, and asked for after every answer.
        let values = || leader.followers.iter().map(&of).chain([own]);
        let reached = |value: &T| values().filter(|other| other >= value).count() >= self.majority();
        values().filter(reached).max().unwrap_or(own)
    }

    pub(super) fn on_accepted(
        &mut self,
        from: NodeId,
        round: Round,
        through: u64,
        missing_from: Option<u64>,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        let last = self.log.last();
        let patience = self.config.heartbeat / 4;
        let Some(follower) = self.heard_from(from, round, now) else { return };
        follower.acked = follower.acked.max(through.min(last));
        follower.next = follower.next.max(through.min(last) + 1);
        let send = match missing_from {
            Some(slot) => {
                // Answers to several messages may report the same gap: fill it once.
                let again = follower
                    .filled
                    .is_none_or(|(filled, at)| filled != slot || now.monotonic.saturating_sub(at) >= patience);
                if again {
                    follower.filled = Some((slot, now.monotonic));
                    follower.next = slot.min(last) + 1;
                }
                again
            }
            None => follower.next == through.saturating_add(1),
        };
        if send {
            self.send_next(from, now, effects);
        }
        self.advance(now, effects);
        self.serve_reads(now, effects);
    }

    /// Notes that a follower supports this leader, as of a round.
    pub(super) fn heard_from(&mut self, from: NodeId, round: Round, now: Reading) -> Option<&mut Follower> {
        let Part::Leader(leader) = &mut self.part else { return None };
        let follower = leader.follower(from)?;
        follower.heard = now.monotonic;
        follower.acked_round = follower.acked_round.max(round);
        follower.answered = true;
        Some(follower)
    }

    /// Sends a follower what it doesn't have yet, as far as one message goes.
    pub(super) fn send_next(&mut self, to: NodeId, now: Reading, effects: &mut Effects<Self>) {
        let Part::Leader(leader) = &mut self.part else { return };
        let Some(next) = leader.follower(to).map(|follower| follower.next) else { return };
        if next <= self.log.base() {
            self.send_snapshot(to, now, effects);
            return;
        }
        if next > self.log.last() {
            return;
        }
        let commands = Arc::new(self.log.chunk(next));
        let round = self.next_round(now);
        let (ballot, commit) = (self.promised, self.commit());
        let Part::Leader(leader) = &mut self.part else { return };
        if let Some(follower) = leader.follower(to) {
            follower.next = next + commands.len() as u64;
            follower.sent = now.monotonic;
            effects.send(to, Message::Accept { ballot, round, commit, first: next, commands });
        }
    }

    /// Applies what a majority has accepted, and proposes what waited for room.
    pub(super) fn advance(&mut self, now: Reading, effects: &mut Effects<Self>) {
        if self.log.last() > self.commit() {
            let chosen = self.by_majority(self.synced, |follower| follower.acked);
            if chosen > self.commit() {
                self.apply_through(chosen, effects);
            }
        }
        let commit = self.commit();
        let Part::Leader(leader) = &mut self.part else { return };
        while leader.batches.front().is_some_and(|last| *last <= commit) {
            leader.batches.pop_front();
        }
        self.flush(now, effects);
    }

    /// Whether everything chosen in earlier ballots has been applied.
    fn caught_up(&self) -> bool {
        if self.bug(Bug::ReadBeforeApply) {
            return matches!(self.part, Part::Leader(_));
        }
        matches!(&self.part, Part::Leader(leader) if self.commit() >= leader.ready)
    }

    /// Whether reads may be answered from the state at once.
    pub(super) fn holds_lease(&self, now: Reading) -> bool {
        let supported_at = || {
            self.by_majority(Some(now.monotonic), |follower| {
                let from_answer = self.bug(Bug::LeaseCountedFromAnswer);
                let sent = if from_answer { follower.heard } else { follower.acked_round.sent };
                follower.answered.then_some(sent)
            })
        };
        self.config.reads == Reads::Lease
            && self.caught_up()
            && supported_at().is_some_and(|sent| now.monotonic < sent + self.config.usable_lease())
    }

    /// Answers the reads that a majority has confirmed, and begins a round for the others unless
    /// one is under way.
    pub(super) fn serve_reads(&mut self, now: Reading, effects: &mut Effects<Self>) {
        if self.desk.reads.is_empty() || !self.caught_up() {
            return;
        }
        loop {
            let confirmed = self.by_majority(self.round, |follower| follower.acked_round.number);
            self.answer_reads(confirmed, effects);
            let Part::Leader(leader) = &mut self.part else { return };
            if self.desk.reads.is_empty() || leader.read_round > confirmed {
                return;
            }
            // Asking just enough followers, those heard from last, halves the messages; the
            // heartbeat asks the others if one of them is gone.
            let mut heard: Vec<(Duration, NodeId)> =
                leader.followers.iter().map(|follower| (follower.heard, follower.node)).collect();
            heard.sort_unstable_by(|a, b| b.cmp(a));
            let enough = usize::from(self.config.nodes) / 2;
            let least = heard.get(enough.wrapping_sub(1)).copied();
            leader.read_round = self.round + 1;
            let followers: Vec<NodeId> =
                heard.iter().filter(|one| Some(**one) >= least).map(|(_, node)| *node).collect();
            self.ask(&followers, now, effects);
            if enough > 0 {
                return;
            }
        }
    }

    fn ask(&mut self, followers: &[NodeId], now: Reading, effects: &mut Effects<Self>) {
        let round = self.next_round(now);
        let (ballot, commit, commands) = (self.promised, self.commit(), Arc::default());
        let Part::Leader(leader) = &mut self.part else { return };
        for node in followers {
            if let Some(follower) = leader.follower(*node) {
                let (first, commands) = (follower.next, Arc::clone(&commands));
                effects.send(*node, Message::Accept { ballot, round, commit, first, commands });
            }
        }
    }
}
