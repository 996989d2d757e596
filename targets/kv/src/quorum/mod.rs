//! A leaderless register and lock service: reads and writes by quorum.
//!
//! Registers follow Attiya, Bar-Noy and Dolev, "Sharing Memory Robustly in Message-Passing
//! Systems" (J. ACM 42(1), 1995), in the multi-writer form of Lynch and Shvartsman (FTCS 1997):
//! a write asks R replicas for their tags, picks a greater one and stores it at W replicas; a read
//! asks R replicas, takes the greatest tag and, with [`Config::write_back`], stores it at W
//! replicas before it answers. With R + W > N, logical tags and write-back every register is
//! linearizable. Each of the three can be taken away, and then it is not: see [`Config`].
//!
//! Locks are leases granted by a majority of all nodes, each by its own monotonic clock, with
//! tokens that only grow (the scheme of "Redlock" with fencing tokens added). A holder may count
//! on its lease from the moment at which it *asked*, never from that of the answer. A holder that
//! is paused past its lease does not notice; only a resource that checks tokens is safe from it.
//!
//! Any node coordinates any request. A node's own replica takes part like every other, without
//! the network. What a replica says is durable when it says it.

mod config;
mod coordinator;
mod message;
mod operation;
mod replica;

use std::collections::{BTreeMap, VecDeque};

use duress_machine::wal::{Damage, Recovered};
use duress_machine::{Effect, Effects, Input, Journal, Machine, NodeId, Observation, Reading, Role, Status};

use crate::api;
use crate::bugs::{self, Bug};

pub use config::{Config, Timestamps};
pub use message::{Answer, Ask, Message, Record, RoundId, Tag};

use operation::Operation;
use replica::Replica;

/// No node coordinates more requests than this at once; further ones are refused as
/// [`Unavailable`](api::Refusal::Unavailable).
pub const MAX_OPERATIONS: usize = 8192;

/// The one timer: resends to silent replicas and gives up on what took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick;

/// One node of the quorum service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    config: Config,
    me: NodeId,
    journal: Journal<Quorum>,
    replica: Replica,
    /// Counts this node's lives, so that rounds and tags of an earlier life are never reused.
    life: u64,
    /// The life's number is durable.
    ready: bool,
    /// The number of the latest round.
    rounds: u64,
    /// By the number of the round that each is in.
    operations: BTreeMap<u64, Operation>,
    /// Answers of the node's own replica to its own rounds. Empty between steps.
    arrived: VecDeque<(u64, Answer)>,
    /// The same, waiting for the journal to be durable up to a position.
    waiting: VecDeque<(u64, u64, Answer)>,
    ticking: bool,
    /// Records in the log since its last rewrite.
    logged: u64,
}

impl Machine for Quorum {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Tick;
    type Request = api::Request;
    type Response = api::Response;

    fn new(config: &Config, me: NodeId) -> Self {
        Quorum {
            config: config.clone(),
            me,
            journal: Journal::default(),
            replica: Replica::new(config.bug),
            life: 0,
            ready: false,
            rounds: 0,
            operations: BTreeMap::new(),
            arrived: VecDeque::new(),
            waiting: VecDeque::new(),
            ticking: false,
            logged: 0,
        }
    }

    fn step(&mut self, input: Input<Self>, now: Reading, effects: &mut Effects<Self>) {
        match input {
            Input::Started { recovered } => self.start(recovered, now, effects),
            Input::Message { from, message } => self.receive(from, message, now, effects),
            Input::Timer(Tick) => self.tick(now, effects),
            Input::Request { id, request } => self.request(id, request, now, effects),
            Input::Durable { through } => {
                self.journal.durable(through, effects);
                if !self.ready && self.journal.durable_position() > 0 {
                    self.ready = true;
                    effects.observe(Observation::Status(self.status(now)));
                }
            }
            Input::Fenced { .. } => {}
        }
        self.settle(now, effects);
        self.compact(effects);
    }

    fn status(&self, _now: Reading) -> Status {
        Status {
            role: if self.ready { Role::Replica } else { Role::Recovering },
            term: 0,
            leader: None,
            commit_index: 0,
            digest: self.replica.digest(),
        }
    }

    fn read_log(config: &Config, bytes: &[u8]) -> Result<Recovered<Record>, Damage> {
        bugs::read_log(config.bug, bytes)
    }
}

impl Quorum {
    fn start(&mut self, mut recovered: Vec<Record>, now: Reading, effects: &mut Effects<Self>) {
        if self.config.bug == Some(Bug::LastRecordDroppedOnRestart) {
            recovered.pop();
        }
        self.logged = recovered.len() as u64;
        for record in recovered {
            if let Record::Life { life } = record {
                self.life = self.life.max(life);
            }
            self.replica.recover(record, now.monotonic);
        }
        self.life = match self.config.bug {
            Some(Bug::LifeReusedAfterRestart) => 1,
            _ => self.life.saturating_add(1),
        };
        self.append(Record::Life { life: self.life }, effects);
        self.journal.sync(effects);
        effects.observe(Observation::Status(self.status(now)));
    }

    fn receive(&mut self, from: NodeId, message: Message, now: Reading, effects: &mut Effects<Self>) {
        match message {
            // Before the life's number is durable there is nothing to fear in answering: what is
            // answered comes from the log, or is held like everything else.
            Message::Ask { round, ask } => {
                let (answer, position) = self.serve(&ask, round, now, effects);
                let effect = Effect::Send { to: from, message: Message::Answer { round, answer } };
                if position <= self.journal.durable_position() {
                    effects.push(effect);
                } else {
                    self.journal.when_durable(effect, effects);
                }
            }
            Message::Answer { round, answer } => {
                if round.life == self.life && round.node == self.me {
                    self.deliver(round.number, from, answer, now, effects);
                }
            }
            Message::Repair { key, tag, value } => {
                if self.config.bug == Some(Bug::ReadRepairWritesOlderTag) {
                    self.replica.forget(&key);
                }
                if let Some(record) = self.replica.store(key, tag, value, self.journal.written() + 1) {
                    self.append(record, effects);
                }
            }
        }
    }

    /// The replica's answer, and the position up to which the journal must be durable before it
    /// may be said.
    fn serve(&mut self, ask: &Ask, round: RoundId, now: Reading, effects: &mut Effects<Self>) -> (Answer, u64) {
        let served = self.replica.serve(ask, round, now.monotonic, self.journal.written());
        if let Some(record) = served.record {
            self.append(record, effects);
        }
        if self.config.bug == Some(Bug::AckBeforeDurable) {
            self.journal.sync(effects);
            return (served.answer, 0);
        }
        (served.answer, served.position)
    }

    fn append(&mut self, record: Record, effects: &mut Effects<Self>) {
        self.journal.append(record, effects);
        self.logged += 1;
    }

    /// Rewrites the log once it holds far more records than the state needs. The second bound
    /// keeps the work per record constant however large the state grows.
    fn compact(&mut self, effects: &mut Effects<Self>) {
        let needed = self.replica.len() as u64 + 1;
        if self.logged < self.config.snapshot_every.max(64).saturating_add(needed.saturating_mul(2)) {
            return;
        }
        let mut records = vec![Record::Life { life: self.life }];
        records.extend(self.replica.records());
        self.logged = records.len() as u64;
        self.journal.rewrite(records, effects);
        self.journal.sync(effects);
    }
}
