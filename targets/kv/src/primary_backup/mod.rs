//! Primary and backups: one node orders all requests in a log and sends it to the others.
//!
//! Time is divided into numbered *views*; view `v` belongs to node `v mod nodes`, so no two nodes
//! ever lead in the same view, whatever else goes wrong, and no node leads in a view twice. Every
//! view's first entry is a [`Noop`](crate::store::Command::Noop), so logs of different views
//! differ where they part. The ways of taking over are those of the textbooks, from naive to
//! safe: see [`Failover`], and for the safe ones
//!
//! - `vote`: Oki and Liskov, "Viewstamped Replication" (PODC 1988); with the choice of the new
//!   primary by comparing logs, the question before the vote, and the confirmation of reads as
//!   in Ongaro, "Consensus: Bridging Theory and Practice" (2014), sections 3.6, 9.6 and 6.4;
//! - `fenced`: a primary waits for every backup that has not been shut off since it was admitted
//!   to the active set, so a backup that has been in the set for all of its present life has
//!   every acknowledged write. Such a node is *in sync*, and may lead once each other node has
//!   promised to follow it or was shut off. A node that has restarted is not in sync: it may have
//!   been shut off and missed something. If none is in sync, all nodes must come together, and
//!   the one with the most up-to-date log leads.
//!
//! Both rest on the network not making up messages; `fenced` also on the controller answering a
//! fence before it lets the node start again. Neither relies on clocks.

mod backup;
mod config;
mod election;
mod log;
mod message;
mod primary;

use std::time::Duration;

use duress_machine::wal::{Damage, Recovered};
use duress_machine::{Effects, Input, Journal, Machine, NodeId, Observation, Reading, RequestId, Role, Status};

use crate::api::{Op, Refusal, Reply, Request, Response};
use crate::bugs::{self, Bug};
use crate::store::CHECKPOINT_INTERVAL;

pub use config::{Config, Failover, Reads, Replication};
pub use message::{Entry, Message, Position, Record};

use backup::Incoming;
use election::Candidacy;
use log::Log;
use primary::Leading;

/// The one timer: heartbeats, and everything that waits for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick;

/// One node of the primary-backup service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrimaryBackup {
    config: Config,
    me: NodeId,
    journal: Journal<PrimaryBackup>,
    log: Log,
    /// Entries in the log on disk since its last rewrite.
    logged: u64,
    /// Counts this node's lives.
    life: u64,
    /// The node takes part in no view before this one.
    view: u64,
    role: Role,
    /// The primary of `view`, once it has been heard.
    leader: Option<NodeId>,
    /// When the primary was last heard.
    heard: Duration,
    /// The log has every acknowledged write, and will as long as this life lasts
    /// ([`Failover::Fenced`]).
    in_sync: bool,
    /// What a primary keeps of its backups and clients.
    leading: Option<Leading>,
    /// The log equals the primary's up to this index.
    verified: u64,
    /// The applied state is to be replaced by the primary's, even by an older one.
    reset: bool,
    /// A snapshot that is arriving.
    incoming: Option<Incoming>,
    /// Without a word from a primary until then, the node acts.
    deadline: Duration,
    /// How often it has acted since it last heard a primary.
    attempts: u64,
    candidacy: Option<Candidacy>,
    /// Some other node's log goes further ([`Failover::Timeout`], after a restart).
    outdone: bool,
    /// What to do once the journal is durable up to a position.
    awaiting: Option<(u64, Awaited)>,
    /// When the timer last ran out: tells the node that it was paused.
    ticked: Duration,
    /// The role, view and leader last said out of band.
    said: Option<(Role, u64, Option<NodeId>)>,
}

/// What waits for the view to be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Awaited {
    /// To lead in it, in place of the node named.
    Lead(Option<NodeId>),
    /// To ask the others for firm promises.
    Campaign,
}

impl Machine for PrimaryBackup {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Tick;
    type Request = Request;
    type Response = Response;

    fn new(config: &Config, me: NodeId) -> Self {
        PrimaryBackup {
            config: config.clone(),
            me,
            journal: Journal::default(),
            log: Log::default(),
            logged: 0,
            life: 0,
            view: 0,
            role: Role::Recovering,
            leader: None,
            heard: Duration::ZERO,
            in_sync: false,
            leading: None,
            verified: 0,
            reset: false,
            incoming: None,
            deadline: Duration::ZERO,
            attempts: 0,
            candidacy: None,
            outdone: false,
            awaiting: None,
            ticked: Duration::ZERO,
            said: None,
        }
    }

    fn step(&mut self, input: Input<Self>, now: Reading, effects: &mut Effects<Self>) {
        match input {
            Input::Started { recovered } => self.start(&recovered, now, effects),
            Input::Message { from, message } => self.receive(from, message, now, effects),
            Input::Timer(Tick) => self.tick(now, effects),
            Input::Request { id, request } => self.request(id, request, now, effects),
            Input::Durable { through } => {
                self.journal.durable(through, effects);
                self.log.synced(self.journal.durable_position());
                self.awaited(now, effects);
                self.advance(now, effects);
            }
            Input::Fenced { node } => self.fenced(node, now, effects),
        }
        self.compact(effects);
        self.journal.sync(effects);
        self.say(now, effects);
    }

    fn status(&self, _now: Reading) -> Status {
        Status {
            role: self.role,
            term: self.view,
            leader: self.leader,
            commit_index: self.log.applied(),
            digest: self.log.store().digest(),
        }
    }

    fn read_log(config: &Config, bytes: &[u8]) -> Result<Recovered<Record>, Damage> {
        bugs::read_log(config.bug, bytes)
    }
}

impl PrimaryBackup {
    fn bug(&self, bug: Bug) -> bool {
        self.config.bug == Some(bug)
    }

    fn start(&mut self, mut recovered: &[Record], now: Reading, effects: &mut Effects<Self>) {
        if self.bug(Bug::LastRecordDroppedOnRestart) {
            recovered = recovered.split_last().map_or(recovered, |(_, rest)| rest);
        }
        self.log = Log::recover(recovered);
        for record in recovered {
            match record {
                Record::Life { life } => self.life = self.life.max(*life),
                Record::View { .. } if self.bug(Bug::LostBallotOnRestart) => {}
                Record::View { view } => self.view = self.view.max(*view),
                Record::Entries { entries, .. } => self.logged += entries.len() as u64,
                Record::Part { .. } | Record::Snapshot { .. } => {}
            }
        }
        self.life = self.life.saturating_add(1);
        self.journal.append(Record::Life { life: self.life }, effects);
        self.ticked = now.monotonic;
        self.wait(now);
        let first = self.me == NodeId(0);
        if recovered.is_empty() && first {
            // A new cluster begins with the first node in view 0. It leads only once the disk
            // says that it has lived, so that it can't begin twice.
            self.awaiting = Some((self.journal.written(), Awaited::Lead(None)));
        } else if self.config.failover == Failover::None && first {
            self.promote(now, effects);
        } else if self.config.failover == Failover::Timeout && !recovered.is_empty() {
            self.canvass(now, effects);
        }
        effects.set_timer(Tick, self.config.heartbeat);
    }

    /// Enters a view of which the node has learned, and follows whoever leads in it.
    fn adopt(&mut self, view: u64, now: Reading, effects: &mut Effects<Self>) {
        if view <= self.view {
            return;
        }
        self.step_down(effects);
        self.view = view;
        self.journal.append(Record::View { view }, effects);
        if self.bug(Bug::LogTruncatedPastCommit) {
            self.log.truncate(self.log.applied() + 1);
        }
        self.candidacy = None;
        self.awaiting = None;
        self.leader = None;
        self.verified = 0;
        self.reset = false;
        self.incoming = None;
        if self.role != Role::Recovering {
            self.role = Role::Backup;
        }
        self.wait(now);
    }

    fn receive(&mut self, from: NodeId, message: Message, now: Reading, effects: &mut Effects<Self>) {
        match message {
            Message::Append { view, life, active, previous, entries, last, commit, probe } => {
                if self.follow(from, view, now, effects) {
                    // Another life may have been shut off since it was told that it is active.
                    self.in_sync = active && life == self.life;
                    self.append(from, previous, entries, last, probe, effects);
                    self.apply(commit.min(self.verified), effects);
                }
            }
            Message::Snapshot { view, position, total, offset, bytes } => {
                if self.follow(from, view, now, effects) {
                    self.snapshot(from, position, total, offset, &bytes, effects);
                }
            }
            Message::Ack { view, life, matched, probe } if view == self.view => {
                self.acked(from, life, matched, probe, now, effects);
            }
            Message::Reject { view, life, last, reset } if view == self.view => {
                self.rejected(from, life, last, reset, now, effects);
            }
            Message::SnapshotAck { view, life, index, received } if view == self.view => {
                self.snapshot_acked(from, life, index, received, now, effects);
            }
            Message::Newer { view } => self.outrun(view, now, effects),
            Message::ViewChange { view, firm, position } => {
                self.view_change(from, view, firm, position, now, effects);
            }
            Message::Promise { view, firm, granted, in_sync, position } => {
                self.promised(from, view, firm, election::Promised { granted, in_sync, position }, now, effects);
            }
            // Of a view that is over.
            Message::Ack { .. } | Message::Reject { .. } | Message::SnapshotAck { .. } => {}
        }
    }

    fn request(&mut self, id: RequestId, request: Request, now: Reading, effects: &mut Effects<Self>) {
        let takes_part = matches!(self.role, Role::Backup | Role::Primary);
        let own_state = match &request.op {
            Op::Scan { .. } => true,
            Op::Read { .. } if self.role == Role::Backup && self.bug(Bug::BackupAnswersReads) => true,
            Op::Read { .. } => self.config.reads == Reads::Any,
            _ => false,
        };
        if own_state {
            let reply = self.log.store().read(&request.op).filter(|_| takes_part);
            return self.respond(id, reply.ok_or(Refusal::Unavailable), effects);
        }
        if self.leading.is_none() {
            let leader = self.leader.filter(|leader| *leader != self.me);
            return self.respond(id, Err(Refusal::NotLeader { leader }), effects);
        }
        if request.op.is_read() {
            self.read(id, request.op, now, effects);
        } else {
            self.propose(id, request, now, effects);
        }
    }

    fn tick(&mut self, now: Reading, effects: &mut Effects<Self>) {
        effects.set_timer(Tick, self.config.heartbeat);
        let since = now.monotonic.saturating_sub(self.ticked);
        self.ticked = now.monotonic;
        // A node that was paused has heard nobody, and that says nothing of the others. The naive
        // failover doesn't think of it.
        let paused = since > self.config.heartbeat + self.config.failover_timeout / 2;
        if paused && self.config.failover != Failover::Timeout {
            self.forgive(now);
        }
        if self.leading.is_some() {
            self.lead_on(now, effects);
        } else if self.awaiting.is_none() && now.monotonic >= self.deadline {
            self.act(now, effects);
        }
    }

    /// Starts all waiting anew.
    fn forgive(&mut self, now: Reading) {
        if let Some(leading) = &mut self.leading {
            leading.peers.values_mut().for_each(|peer| peer.heard = now.monotonic);
        }
        self.deadline = now.monotonic + self.config.patience(self.me, self.view, self.attempts);
    }

    /// Applies committed entries and answers those who wait for them.
    fn apply(&mut self, commit: u64, effects: &mut Effects<Self>) {
        while self.log.applied() < commit
            && let Some((index, outcome)) = self.log.apply_next(self.config.bug)
        {
            if index % CHECKPOINT_INTERVAL == 0 {
                effects.observe(Observation::Committed { index, digest: self.log.store().digest() });
            }
            if let Some(id) = self.leading.as_mut().and_then(|leading| leading.pending.remove(&index)) {
                self.respond(id, outcome, effects);
            }
        }
    }

    /// Rewrites the log on disk as a snapshot, once it holds more entries than configured and
    /// more than the state has keys: then the work per entry stays constant.
    fn compact(&mut self, effects: &mut Effects<Self>) {
        let every = self.config.snapshot_every.max(64);
        let unapplied = self.log.last() - self.log.applied();
        if self.logged >= every.max(self.log.store().len() as u64) + 2 * unapplied {
            self.log.forget(every / 2);
            self.rewrite(effects);
        }
    }

    fn rewrite(&mut self, effects: &mut Effects<Self>) {
        let mut records = vec![Record::Life { life: self.life }, Record::View { view: self.view }];
        records.extend(self.log.records(self.config.bug));
        self.journal.rewrite(records, effects);
        self.log.rewritten(self.journal.written());
        self.logged = self.log.last() - self.log.applied();
    }

    /// Adds entries to the log, in memory and on disk.
    fn write(&mut self, entries: Vec<Entry>, effects: &mut Effects<Self>) {
        if entries.is_empty() {
            return;
        }
        let first = self.log.last() + 1;
        self.logged += entries.len() as u64;
        self.log.extend(&entries, self.journal.written() + 1);
        self.journal.append(Record::Entries { first, entries }, effects);
    }

    /// Tells the controller when role, view or leader have changed.
    fn say(&mut self, now: Reading, effects: &mut Effects<Self>) {
        let saying = Some((self.role, self.view, self.leader));
        if self.said != saying {
            self.said = saying;
            effects.observe(Observation::Status(self.status(now)));
        }
    }

    fn respond(&self, id: RequestId, result: Result<Reply, Refusal>, effects: &mut Effects<Self>) {
        effects.respond(id, Response { node: self.me, term: self.view, result });
    }

    fn others(&self) -> Vec<NodeId> {
        (0..self.config.nodes).map(NodeId).filter(|node| *node != self.me).collect()
    }
}
