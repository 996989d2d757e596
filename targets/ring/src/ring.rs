//! The machine: Le Lann's ring ("Distributed Systems: Towards a Formal Approach", 1977), with the
//! token made anew when it seems lost.
//!
//! - **Passing.** A node that has no use for the token sends it to the next one, again and again
//!   until that one says that it took it. A successor that stays silent is skipped; since it may
//!   have the token all the same, a skip makes a new one.
//! - **Epochs.** Making a token takes the promises of a majority to know no lower epoch any more; they
//!   are on disk before they are given. An epoch is one node's: its remainder by the number of nodes.
//! - **Grants.** Before each grant the holder asks a majority whether its epoch is still the highest.
//!   So the token number, epoch and count, is greater than that of every grant that was over before
//!   this one was asked for, whatever stood still meanwhile.
//! - **Leases.** Nobody waits for an older epoch's leases to run out. A node that stands still for
//!   [`Config::regenerate_after`] while its client is in the critical section is enough for two
//!   clients to be in it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use duress_machine::{
    Asker, Effect, Effects, Input, Journal, Machine, NodeId, Observation, Reading, RequestId, Role, RoleName, Status,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::api::{Ask, Granted, Refusal, Request, Response};

/// So often the token is sent to a successor that doesn't answer.
const TRIES: u32 = 4;

/// A ring's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Config {
    /// How many nodes.
    pub nodes: u16,
    /// How long a node hears nothing of the token before it makes another.
    pub regenerate_after: Duration,
    /// How long a node that has no use for the token keeps it.
    pub pass_after: Duration,
    /// How long a node waits for an acknowledgement before it repeats itself.
    pub retry_after: Duration,
    /// How long a client waits for the token before it is told to try again.
    pub wait: Duration,
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Message {
    /// The token, handed over for the `hop`-th time.
    Token {
        /// Its epoch.
        epoch: u64,
        /// Counts handovers within the epoch.
        hop: u64,
        /// Counts grants within the epoch.
        count: u64,
    },
    /// The token was taken.
    Took {
        /// Its epoch.
        epoch: u64,
        /// Which handover.
        hop: u64,
    },
    /// The sender has the token.
    Here {
        /// Its epoch.
        epoch: u64,
    },
    /// May the sender make a token of this epoch?
    Claim {
        /// The epoch.
        epoch: u64,
    },
    /// It may; the sender takes none of a lower epoch from now on.
    Promise {
        /// The epoch.
        epoch: u64,
    },
    /// Is this epoch still the highest? The sender has its token and wants to grant.
    Confirm {
        /// The epoch.
        epoch: u64,
        /// Which question of that epoch's holder this is.
        round: u64,
    },
    /// It is.
    Confirmed {
        /// The epoch.
        epoch: u64,
        /// Which question.
        round: u64,
    },
    /// The receiver spoke of a lower epoch than this.
    Stale {
        /// The highest epoch that the sender knows.
        epoch: u64,
    },
}

/// What is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// No token of a lower epoch is taken any more.
    Promised {
        /// The epoch.
        epoch: u64,
    },
}

/// The one timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Grant {
    lock: SmolStr,
    client: u64,
    token: u64,
    until: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// The token is not here.
    Away,
    /// It is; since when.
    Here { since: Duration, announced: Duration },
    /// It was sent on and not yet acknowledged.
    Passing { to: NodeId, tries: u32, sent: Duration },
    /// A new one is asked for.
    Claiming { promised: BTreeSet<NodeId>, since: Duration },
}

/// A question to all whether the epoch is still the highest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    round: u64,
    confirmed: BTreeSet<NodeId>,
    sent: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    id: RequestId,
    who: Asker,
    lock: SmolStr,
    lease: Duration,
    until: Duration,
}

/// A node of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ring {
    config: Config,
    me: NodeId,
    journal: Journal<Self>,
    /// The highest epoch known; no lower one's token is taken.
    epoch: u64,
    /// The last handover seen in that epoch, and the grants then.
    hop: u64,
    count: u64,
    place: Place,
    grant: Option<Grant>,
    question: Option<Question>,
    rounds: u64,
    /// The epoch of an earlier life, of which nobody knows any more what was seen.
    forgotten: u64,
    /// Whoever said last that it has the token.
    holder: Option<NodeId>,
    /// Until when the token is not taken for lost.
    alive_until: Duration,
    waiting: VecDeque<Waiting>,
    /// Successors that stayed silent, until they are heard.
    skipped: BTreeSet<NodeId>,
    said: Option<(Role, u64)>,
}

impl Machine for Ring {
    type Config = Config;
    type Message = Message;
    type Record = Record;
    type Timer = Tick;
    type Request = Request;
    type Response = Response;

    fn new(config: &Config, me: NodeId) -> Self {
        Ring {
            config: config.clone(),
            me,
            journal: Journal::default(),
            epoch: 0,
            hop: 0,
            count: 0,
            place: Place::Away,
            grant: None,
            question: None,
            rounds: 0,
            forgotten: 0,
            holder: None,
            alive_until: Duration::ZERO,
            waiting: VecDeque::new(),
            skipped: BTreeSet::new(),
            said: None,
        }
    }

    fn step(&mut self, input: Input<Self>, now: Reading, effects: &mut Effects<Self>) {
        let at = now.monotonic;
        match input {
            Input::Started { recovered } => {
                let fresh = recovered.is_empty();
                self.epoch = recovered.iter().map(|Record::Promised { epoch }| *epoch).max().unwrap_or(0);
                self.forgotten = self.epoch;
                // Whoever had skipped this node hears that it is there.
                self.tell_all(Message::Stale { epoch: self.epoch }, effects);
                // Whoever starts for the first time has no token to wait for.
                let patience = if fresh { self.config.retry_after } else { self.config.regenerate_after };
                self.alive_until = at + patience;
                effects.set_timer(Tick, self.tick_after());
            }
            Input::Message { from, message } => {
                self.skipped.remove(&from);
                self.receive(from, message, at, effects);
            }
            Input::Timer(Tick) => {
                self.tick(at, effects);
                effects.set_timer(Tick, self.tick_after());
            }
            Input::Request { id, request } => self.request(id, request, at, effects),
            Input::Durable { through } => self.journal.durable(through, effects),
            Input::Fenced { .. } => {}
        }
        self.serve(at, effects);
        let said = Some((self.role(), self.epoch));
        if self.said != said {
            self.said = said;
            effects.observe(Observation::Status(self.status(now)));
        }
    }

    fn status(&self, _: Reading) -> Status {
        Status { role: self.role(), term: self.epoch, leader: None, commit_index: 0, digest: 0 }
    }
}

impl Ring {
    fn role(&self) -> Role {
        Role::Own(RoleName(match self.place {
            Place::Here { .. } if self.grant.is_some() => "holder",
            _ if !self.waiting.is_empty() => "waiting",
            _ => "idle",
        }))
    }

    fn tick_after(&self) -> Duration {
        self.config.pass_after.min(self.config.retry_after)
    }

    fn peers(&self) -> impl Iterator<Item = NodeId> + use<> {
        let me = self.me;
        (0..self.config.nodes).map(NodeId).filter(move |node| *node != me)
    }

    fn majority(&self) -> usize {
        usize::from(self.config.nodes) / 2 + 1
    }

    fn successor(&self) -> Option<NodeId> {
        let nodes = self.config.nodes;
        let after = (1..nodes).map(|steps| NodeId((self.me.0 + steps) % nodes));
        after.into_iter().find(|node| !self.skipped.contains(node))
    }

    fn tell_all(&self, message: Message, effects: &mut Effects<Self>) {
        for to in self.peers() {
            effects.send(to, message);
        }
    }

    fn respond(&self, id: RequestId, result: Result<Granted, Refusal>, effects: &mut Effects<Self>) {
        effects.respond(id, Response { node: self.me, result });
    }

    fn alive(&mut self, at: Duration) {
        self.alive_until = at + self.config.regenerate_after;
    }

    /// Enters an epoch, if it is a new one: what is here of a lower one is worth nothing.
    fn enter(&mut self, epoch: u64, at: Duration, effects: &mut Effects<Self>) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        (self.hop, self.count, self.holder) = (0, 0, None);
        self.place = Place::Away;
        (self.grant, self.question) = (None, None);
        self.alive(at);
        self.journal.append(Record::Promised { epoch }, effects);
    }

    fn receive(&mut self, from: NodeId, message: Message, at: Duration, effects: &mut Effects<Self>) {
        let (Message::Token { epoch, .. }
        | Message::Took { epoch, .. }
        | Message::Here { epoch }
        | Message::Claim { epoch }
        | Message::Promise { epoch }
        | Message::Confirm { epoch, .. }
        | Message::Confirmed { epoch, .. }
        | Message::Stale { epoch }) = message;
        if epoch < self.epoch {
            if !matches!(message, Message::Stale { .. }) {
                let message = Message::Stale { epoch: self.epoch };
                self.journal.when_durable(Effect::Send { to: from, message }, effects);
            }
            return;
        }
        self.enter(epoch, at, effects);
        match message {
            // Not even acknowledged: it may be a repetition. Whoever sent it makes another.
            Message::Token { epoch, .. } if epoch == self.forgotten => {}
            Message::Token { hop, count, .. } => {
                self.alive(at);
                let message = Message::Took { epoch, hop };
                self.journal.when_durable(Effect::Send { to: from, message }, effects);
                if hop > self.hop {
                    (self.hop, self.count) = (hop, count);
                    self.arrived(at, effects);
                }
            }
            Message::Took { hop, .. } => {
                if hop == self.hop && matches!(self.place, Place::Passing { .. }) {
                    self.place = Place::Away;
                    self.holder = Some(from);
                    self.alive(at);
                }
            }
            Message::Here { .. } => {
                self.holder = Some(from);
                self.alive(at);
            }
            Message::Claim { .. } => {
                self.alive(at);
                self.journal.when_durable(Effect::Send { to: from, message: Message::Promise { epoch } }, effects);
            }
            Message::Promise { .. } => {
                let enough = self.majority();
                if let Place::Claiming { promised, .. } = &mut self.place {
                    promised.insert(from);
                    if promised.len() >= enough {
                        self.hop += 1;
                        self.arrived(at, effects);
                    }
                }
            }
            Message::Confirm { round, .. } => {
                self.holder = Some(from);
                self.alive(at);
                let message = Message::Confirmed { epoch, round };
                self.journal.when_durable(Effect::Send { to: from, message }, effects);
            }
            Message::Confirmed { round, .. } => {
                if let Some(question) = self.question.as_mut().filter(|question| question.round == round) {
                    question.confirmed.insert(from);
                }
            }
            Message::Stale { .. } => {}
        }
    }

    /// The token is here.
    fn arrived(&mut self, at: Duration, effects: &mut Effects<Self>) {
        self.holder = Some(self.me);
        self.alive(at);
        self.place = Place::Here { since: at, announced: at };
        self.tell_all(Message::Here { epoch: self.epoch }, effects);
    }

    /// Asks all for a new epoch, by a number of this node's own.
    fn claim(&mut self, at: Duration, effects: &mut Effects<Self>) {
        let nodes = u64::from(self.config.nodes);
        self.enter((self.epoch / nodes + 1) * nodes + u64::from(self.me.0), at, effects);
        self.place = Place::Claiming { promised: BTreeSet::from([self.me]), since: at };
        let message = Message::Claim { epoch: self.epoch };
        for to in self.peers() {
            self.journal.when_durable(Effect::Send { to, message }, effects);
        }
    }

    fn tick(&mut self, at: Duration, effects: &mut Effects<Self>) {
        while let Some(waiting) = self.waiting.front().filter(|waiting| waiting.until <= at) {
            let id = waiting.id;
            self.waiting.pop_front();
            self.question = None;
            self.respond(id, Err(Refusal::Unavailable), effects);
        }
        self.expire(at);
        let Config { regenerate_after, pass_after, retry_after, nodes, .. } = self.config;
        // Each waits a little longer than the one before it, so that normally one regenerates.
        let stagger = regenerate_after / u32::from(nodes) * u32::from(self.me.0);
        match &mut self.place {
            Place::Away => {
                if at >= self.alive_until + stagger {
                    self.claim(at, effects);
                }
            }
            Place::Here { since, announced } => {
                let since = *since;
                if at >= *announced + regenerate_after / 5 {
                    *announced = at;
                    self.tell_all(Message::Here { epoch: self.epoch }, effects);
                }
                self.alive(at);
                if self.grant.is_none() && self.waiting.is_empty() && at >= since + pass_after {
                    self.pass(at, effects);
                }
            }
            Place::Passing { to, tries, sent } => {
                if at < *sent + retry_after {
                    return;
                }
                if *tries >= TRIES {
                    self.skipped.insert(*to);
                    return self.claim(at, effects);
                }
                (*tries, *sent) = (*tries + 1, at);
                let (to, message) = (*to, self.token());
                effects.send(to, message);
            }
            Place::Claiming { since, .. } => {
                if at >= *since + regenerate_after + stagger {
                    self.claim(at, effects);
                }
            }
        }
    }

    fn token(&self) -> Message {
        Message::Token { epoch: self.epoch, hop: self.hop, count: self.count }
    }

    fn pass(&mut self, at: Duration, effects: &mut Effects<Self>) {
        let Some(to) = self.successor() else {
            // Everybody is silent. They may be back by the next time.
            self.skipped.clear();
            return;
        };
        self.hop += 1;
        self.place = Place::Passing { to, tries: 1, sent: at };
        let message = self.token();
        self.journal.when_durable(Effect::Send { to, message }, effects);
    }

    fn expire(&mut self, at: Duration) {
        if self.grant.as_ref().is_some_and(|grant| grant.until <= at) {
            self.grant = None;
        }
    }

    fn request(&mut self, id: RequestId, Request { who, ask }: Request, at: Duration, effects: &mut Effects<Self>) {
        self.expire(at);
        let here = matches!(self.place, Place::Here { .. });
        let result = match ask {
            Ask::Ping if self.epoch > 0 && self.holder.is_some() && at < self.alive_until => Ok(Granted::Done),
            Ask::Ping => Err(Refusal::Unavailable),
            Ask::Acquire { .. } if here && self.grant.is_some() => Err(Refusal::LockHeld),
            Ask::Acquire { lock, lease } => {
                self.waiting.push_back(Waiting { id, who, lock, lease, until: at + self.config.wait });
                return;
            }
            // The epoch in which it was granted is over, and the grant with it.
            Ask::Renew { token, .. } | Ask::Release { token, .. } if token >> 32 < self.epoch => {
                Err(Refusal::NotHolder)
            }
            Ask::Renew { .. } | Ask::Release { .. } if !here => {
                Err(Refusal::Elsewhere(self.holder.filter(|holder| *holder != self.me)))
            }
            Ask::Renew { lock, token, lease } => match self.held(&lock, who, token) {
                Some(grant) => {
                    grant.until = at + lease;
                    Ok(Granted::Done)
                }
                None => Err(Refusal::NotHolder),
            },
            Ask::Release { lock, token } => match self.held(&lock, who, token) {
                Some(_) => {
                    self.grant = None;
                    Ok(Granted::Done)
                }
                None => Err(Refusal::NotHolder),
            },
        };
        self.respond(id, result, effects);
    }

    fn held(&mut self, lock: &SmolStr, who: Asker, token: u64) -> Option<&mut Grant> {
        self.grant.as_mut().filter(|grant| grant.lock == *lock && grant.client == who.client && grant.token == token)
    }

    /// Grants what can be granted, and asks for what that takes.
    fn serve(&mut self, at: Duration, effects: &mut Effects<Self>) {
        if !matches!(self.place, Place::Here { .. }) {
            return;
        }
        if self.grant.is_some() {
            for waiting in std::mem::take(&mut self.waiting) {
                self.respond(waiting.id, Err(Refusal::LockHeld), effects);
            }
            return;
        }
        if self.waiting.is_empty() {
            return;
        }
        let (enough, retry) = (self.majority(), self.config.retry_after);
        let durable = self.journal.durable_position() == self.journal.written();
        match &mut self.question {
            // The node's own promise is one of the majority's: it must be on disk, too.
            Some(question) if question.confirmed.len() >= enough && durable => {
                self.question = None;
                let Some(Waiting { id, who, lock, lease, .. }) = self.waiting.pop_front() else { return };
                self.count += 1;
                let token = self.epoch << 32 | self.count;
                self.grant = Some(Grant { lock, client: who.client, token, until: at + lease });
                effects.observe(Observation::Fact { what: SmolStr::new_static("holds-token"), value: token.into() });
                self.respond(id, Ok(Granted::Token(token)), effects);
                self.serve(at, effects);
            }
            Some(question) if at < question.sent + retry => {}
            // Asked anew rather than repeated: an answer counts from when it was asked for.
            _ => {
                self.rounds += 1;
                let round = self.rounds;
                self.question = Some(Question { round, confirmed: BTreeSet::from([self.me]), sent: at });
                self.tell_all(Message::Confirm { epoch: self.epoch, round }, effects);
            }
        }
    }
}
