//! Multi-Paxos: one log, agreed slot by slot, applied by every node to its [`Store`].
//!
//! After Lamport, "Paxos Made Simple" (2001), section 3, with the practice of van Renesse and
//! Altinbuken, "Paxos Made Moderately Complex" (2015), and of Chandra et al., "Paxos Made Live"
//! (2007):
//!
//! - **Phase 1 once per leader.** A [`Ballot`] is a round and a node. A node that has heard of no
//!   leader for its election timeout first asks whether a majority would have it (a pre-vote,
//!   which changes nothing, so a node that returns from a partition disturbs nobody), then
//!   prepares its ballot for every open slot at once, and proposes again what the promises
//!   reported.
//! - **Phase 2 in batches.** Requests that arrive while a few batches are under way wait
//!   and share the next. Followers accept in order within a ballot, so one number acknowledges
//!   everything before it, and the commit index travels with the next message.
//! - **Durability.** A promise or an acceptance is spoken of only when it is on disk; the leader's
//!   own acceptance counts only then, too.
//! - **Catch-up.** A follower that misses something says from where; the leader sends its log from
//!   there, in bounded pieces, or a snapshot when its log no longer reaches back.
//! - **Snapshots.** Every [`Config::snapshot_every`] entries the log on disk is replaced by the
//!   state they made.
//! - **Exactly once.** The store recognises repeated requests, wherever in the log they stand.
//!
//! Reads, by [`Config::reads`]: see [`Reads`]. The module knows nothing of IO, clocks beyond the
//! readings it is given, or worlds.

mod acceptor;
mod config;
mod election;
mod leader;
mod log;
mod message;
mod recovery;
mod requests;
mod snapshot;

use std::collections::VecDeque;
use std::time::Duration;

use duress_machine::wal::{Damage, Recovered};
use duress_machine::{Effects, Input, Journal, Machine, NodeId, Observation, Reading, Role, Status};

use crate::api::{Request, Response};
use crate::bugs::{self, Bug};
use crate::store::{Command, Store};
pub use config::{Config, Reads};
use election::Candidate;
use leader::Leader;
use log::Log;
pub use message::{Ballot, Message, Record, Round, Timer};
use requests::Desk;
use snapshot::Incoming;

/// Messages carry at most about this many bytes of commands or snapshot (one command may exceed
/// it).
const CHUNK: usize = 1 << 20;

/// A Multi-Paxos node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Paxos {
    config: Config,
    me: NodeId,
    journal: Journal<Self>,
    /// The highest ballot promised. A leader's own ballot, while it leads.
    promised: Ballot,
    /// The journal's position of the latest promise.
    promise_position: u64,
    log: Log,
    /// Everything chosen, as far as known: [`Store::index`] is the commit index.
    store: Store,
    /// Every slot up to this one is chosen, or accepted here in the ballot promised.
    accepted: u64,
    /// As `accepted`, and on disk. Only this is ever acknowledged.
    synced: u64,
    /// Acceptances on their way to the disk: position in the journal, last slot.
    syncing: VecDeque<(u64, u64)>,
    part: Part,
    leader: Option<NodeId>,
    /// When to campaign, on the monotonic clock, unless a leader is heard from before.
    deadline: Duration,
    /// When a leader, or a candidate that was promised something, was last heard from.
    heard: Option<Duration>,
    /// To whom this node may make promises (lease reads only).
    grant: Grant,
    /// Counts campaigns: each has its own random timeout.
    attempt: u64,
    /// The present campaign's.
    timeout: Duration,
    /// The highest round seen anywhere.
    highest_round: u64,
    /// Counts the rounds of messages this node has sent as a leader.
    round: u64,
    /// The latest round of the present leader.
    last_round: Round,
    /// Accepted messages were missed: the leader must send again from `accepted`.
    missing: bool,
    /// The leader waits for an answer that must wait for the disk.
    owes_answer: bool,
    desk: Desk,
    incoming: Option<Incoming>,
    /// The index of the snapshot on disk.
    snapshot_index: u64,
    /// How many records the log on disk holds besides.
    records: u64,
    /// The log on disk can't be made sense of: this node takes no part.
    damaged: bool,
    observed: Option<(Role, u64, Option<NodeId>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    /// `returning`: restarted, and not yet in touch with a leader.
    Follower {
        returning: bool,
    },
    Candidate(Candidate),
    Leader(Leader),
}

/// A promise, on this node's monotonic clock, to make no Paxos promise to any other node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Grant {
    /// The exception. After a restart nobody is: the grants of the earlier life are forgotten.
    to: Option<NodeId>,
    until: Duration,
}

impl Paxos {
    fn bug(&self, bug: Bug) -> bool {
        self.config.bug == Some(bug)
    }

    fn majority(&self) -> usize {
        if self.bug(Bug::OffByOneMajority) {
            return usize::from(self.config.nodes).div_ceil(2);
        }
        usize::from(self.config.nodes) / 2 + 1
    }

    fn peers(&self) -> impl Iterator<Item = NodeId> + use<> {
        let me = self.me;
        (0..self.config.nodes).map(NodeId).filter(move |node| *node != me)
    }

    fn commit(&self) -> u64 {
        self.store.index()
    }

    fn term(&self) -> u64 {
        self.promised.number(self.config.nodes)
    }

    fn role(&self) -> Role {
        match self.part {
            Part::Follower { returning: true } => Role::Recovering,
            Part::Follower { returning: false } => Role::Follower,
            Part::Candidate(_) => Role::Candidate,
            Part::Leader(_) => Role::Leader,
        }
    }

    /// Says a change of role, term or leader out of band, once.
    fn observe(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let seen = Some((self.role(), self.term(), self.leader));
        if self.observed != seen {
            self.observed = seen;
            effects.observe(Observation::Status(self.status(now)));
        }
    }

    fn message(&mut self, from: NodeId, message: Message, now: Reading, effects: &mut Effects<Self>) {
        match message {
            Message::PreVote { ballot, commit } => self.on_pre_vote(from, ballot, commit, now, effects),
            Message::PreVoted { ballot, highest_round, granted } => {
                self.on_pre_voted(from, ballot, highest_round, granted, now, effects);
            }
            Message::Prepare { ballot, commit } => self.on_prepare(from, ballot, commit, now, effects),
            Message::Promise { ballot, first, commit, entries } => {
                self.on_promise(from, ballot, election::Promised { first, commit, entries }, now, effects);
            }
            Message::Reject { ballot, promised } => self.on_reject(ballot, promised, now, effects),
            Message::Accept { ballot, round, commit, first, commands } => {
                if self.follow(from, ballot, round, now, effects) {
                    self.accept(first, commit, commands, effects);
                }
            }
            Message::Accepted { ballot, round, through, missing_from } => {
                if ballot == self.promised {
                    self.on_accepted(from, round, through, missing_from, now, effects);
                }
            }
            Message::Snapshot { ballot, round, index, offset, total, bytes } => {
                if self.follow(from, ballot, round, now, effects) {
                    self.on_snapshot(index, offset, total, &bytes, effects);
                }
            }
            Message::SnapshotReceived { ballot, round, index, received } => {
                if ballot == self.promised {
                    self.on_snapshot_received(from, round, index, received, now, effects);
                }
            }
        }
    }

    fn durable(&mut self, through: u64, now: Reading, effects: &mut Effects<Self>) {
        self.journal.durable(through, effects);
        let durable = self.journal.durable_position();
        let mut moved = false;
        while let Some((position, slot)) = self.syncing.front().copied()
            && position <= durable
        {
            self.syncing.pop_front();
            self.synced = self.synced.max(slot);
            moved = true;
        }
        match self.part {
            Part::Leader(_) if moved => self.advance(now, effects),
            Part::Leader(_) => {}
            Part::Candidate(_) => self.check_promises(now, effects),
            Part::Follower { .. } => {
                if moved || self.owes_answer {
                    self.answer_leader(effects);
                }
            }
        }
    }
}

impl Machine for Paxos {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Timer;
    type Request = Request;
    type Response = Response;

    fn new(config: &Config, me: NodeId) -> Self {
        let mut node = Paxos {
            config: Config { nodes: config.nodes.max(1), ..config.clone() },
            me,
            journal: Journal::default(),
            promised: Ballot::default(),
            promise_position: 0,
            log: Log::default(),
            store: Store::default(),
            accepted: 0,
            synced: 0,
            syncing: VecDeque::new(),
            part: Part::Follower { returning: true },
            leader: None,
            deadline: Duration::ZERO,
            heard: None,
            grant: Grant::default(),
            attempt: 0,
            timeout: Duration::ZERO,
            highest_round: 0,
            round: 0,
            last_round: Round::default(),
            missing: false,
            owes_answer: false,
            desk: Desk::default(),
            incoming: None,
            snapshot_index: 0,
            records: 0,
            damaged: false,
            observed: None,
        };
        node.timeout = node.draw_timeout();
        node
    }

    fn step(&mut self, input: Input<Self>, now: Reading, effects: &mut Effects<Self>) {
        match input {
            Input::Started { recovered } => self.start(recovered, now, effects),
            Input::Request { id, request } => self.request(id, request, now, effects),
            _ if self.damaged => {}
            Input::Message { from, message } => {
                if from.0 < self.config.nodes && from != self.me {
                    self.message(from, message, now, effects);
                }
            }
            Input::Timer(Timer::Election) => self.election_timer(now, effects),
            Input::Timer(Timer::Tick) => match self.part {
                Part::Leader(_) => self.leader_tick(now, effects),
                Part::Candidate(_) => self.candidate_tick(effects),
                Part::Follower { .. } => {}
            },
            Input::Durable { through } => self.durable(through, now, effects),
            // Paxos needs nobody shut off.
            Input::Fenced { .. } => {}
        }
        self.observe(now, effects);
    }

    fn status(&self, _: Reading) -> Status {
        Status {
            role: self.role(),
            term: self.term(),
            leader: self.leader,
            commit_index: self.store.index(),
            digest: self.store.digest(),
        }
    }

    fn read_log(config: &Config, bytes: &[u8]) -> Result<Recovered<Record>, Damage> {
        bugs::read_log(config.bug, bytes)
    }
}

/// Commands from the front of `commands` that fit one message: at least one, if there is one.
fn fitting<'a>(commands: impl Iterator<Item = &'a Command>) -> usize {
    let mut bytes = 0;
    let mut count = 0;
    for command in commands {
        bytes += command.size();
        if count > 0 && bytes > CHUNK {
            break;
        }
        count += 1;
    }
    count
}
