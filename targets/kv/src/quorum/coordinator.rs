//! The coordinator's side: rounds of questions, from the request to its answer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use duress_machine::{Effect, Effects, NodeId, Reading, RequestId};

use super::config::Timestamps;
use super::message::{Answer, Ask, Message, RoundId, Tag};
use super::operation::{Operation, Phase};
use super::{MAX_OPERATIONS, Quorum, Tick};
use crate::api::{Key, Op, Refusal, Reply, Request, Response, Token, Value};
use crate::bugs::Bug;

/// No scan gives back more bytes of keys and values than this, a page apart; a longer one is
/// refused as [`Unavailable`](Refusal::Unavailable).
const MAX_SCAN_BYTES: usize = 32 << 20;

/// What becomes of an operation when an answer has come in.
enum Next {
    /// It waits for more answers.
    Wait,
    /// It answers its client and is over.
    Finish(Result<Reply, Refusal>),
    /// It answers its client and stays, to repair old replicas.
    Linger(Value, Tag),
    /// It goes into another round.
    Round(Phase, Ask, Vec<NodeId>),
    /// Its acquisition failed: replicas take their grants back.
    Abandon(Refusal),
}

impl Quorum {
    /// A client's request.
    pub(super) fn request(&mut self, id: RequestId, request: Request, now: Reading, effects: &mut Effects<Self>) {
        if !self.ready || self.operations.len() >= MAX_OPERATIONS {
            return self.respond(Some(id), Err(Refusal::Unavailable), effects);
        }
        let all = self.config.all();
        let (phase, ask, targets) = match request.op {
            Op::Cas { .. } => return self.respond(Some(id), Err(Refusal::NotSupported), effects),
            Op::Read { key } => {
                let mut targets = self.config.placement(&key);
                // One's own replica is always the fastest, so with R = 1 nobody else need be asked.
                if self.config.reads() == 1 && !self.config.read_repair && targets.contains(&self.me) {
                    targets = vec![self.me];
                }
                (Phase::ReadQuery { key: key.clone() }, Ask::Query { key }, targets)
            }
            Op::Write { key, value } => {
                let targets = self.config.placement(&key);
                match self.config.timestamps {
                    Timestamps::Logical => (Phase::WriteQuery { key: key.clone(), value }, Ask::Query { key }, targets),
                    Timestamps::Wall => {
                        let mut time = u64::try_from(now.wall.as_nanos()).unwrap_or(u64::MAX);
                        if self.config.bug == Some(Bug::TieBrokenByArrival) {
                            // A clock of milliseconds, or no two times would ever be the same.
                            time -= time % 1_000_000;
                        }
                        let tag = Tag { time, round: self.next_round() };
                        (Phase::WriteStore, Ask::Store { key, tag, value }, targets)
                    }
                }
            }
            Op::Scan { prefix } => {
                let ask = Ask::Scan { prefix: prefix.clone(), after: None };
                (Phase::Scan { prefix, found: Vec::new(), bytes: 0 }, ask, all)
            }
            Op::Acquire { lock, lease } => {
                (Phase::AcquireToken { lock: lock.clone(), lease }, Ask::Token { lock }, all)
            }
            Op::Renew { lock, token, lease } => {
                (Phase::Consent, Ask::Extend { lock, token: token.0, client: request.client, lease }, all)
            }
            Op::Release { lock, token } => {
                (Phase::Consent, Ask::Free { lock, token: token.0, client: request.client }, all)
            }
        };
        let operation = Operation {
            request: Some(id),
            client: request.client,
            started: now.monotonic,
            sent: now.monotonic,
            ask,
            targets,
            answers: BTreeMap::new(),
            phase,
        };
        self.begin(operation, now, effects);
    }

    /// The round that the next [`begin`](Self::begin) starts.
    fn next_round(&self) -> RoundId {
        RoundId { node: self.me, life: self.life, number: self.rounds + 1 }
    }

    /// Puts an operation's question to its targets.
    fn begin(&mut self, operation: Operation, now: Reading, effects: &mut Effects<Self>) {
        let round = self.next_round();
        self.rounds += 1;
        for to in &operation.targets {
            self.put(*to, round, &operation.ask, now, effects);
        }
        self.operations.insert(round.number, operation);
        if !self.ticking {
            self.ticking = true;
            effects.set_timer(Tick, self.config.retransmit());
        }
    }

    /// Puts a question to one replica.
    fn put(&mut self, to: NodeId, round: RoundId, ask: &Ask, now: Reading, effects: &mut Effects<Self>) {
        if to != self.me {
            return effects.send(to, Message::Ask { round, ask: ask.clone() });
        }
        let (answer, position) = self.serve(ask, round, now, effects);
        if position <= self.journal.durable_position() {
            self.arrived.push_back((round.number, answer));
        } else {
            self.journal.sync(effects);
            self.waiting.push_back((self.journal.written(), round.number, answer));
        }
    }

    /// Hands the own replica's answers to their rounds, as far as they are durable. A round may
    /// start another that is answered at once, so this goes on until none is left; every
    /// operation has few rounds, except a scan, which ends at its limit.
    pub(super) fn settle(&mut self, now: Reading, effects: &mut Effects<Self>) {
        loop {
            let durable = self.journal.durable_position();
            if let Some((number, answer)) = self.arrived.pop_front() {
                self.deliver(number, self.me, answer, now, effects);
            } else if self.waiting.front().is_some_and(|(position, ..)| *position <= durable) {
                if let Some((_, number, answer)) = self.waiting.pop_front() {
                    self.deliver(number, self.me, answer, now, effects);
                }
            } else {
                return;
            }
        }
    }

    /// A replica has answered a round.
    pub(super) fn deliver(
        &mut self,
        number: u64,
        from: NodeId,
        answer: Answer,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        let Some(mut operation) = self.operations.remove(&number) else { return };
        if !operation.targets.contains(&from) || operation.answers.contains_key(&from) {
            self.operations.insert(number, operation);
            return;
        }
        if let Phase::Repair { key, tag, value } = &operation.phase {
            let (key, tag, value) = (key.clone(), *tag, value.clone());
            self.repair(from, &answer, key, tag, value, effects);
        }
        operation.answers.insert(from, answer);
        match self.next(&operation, now) {
            Next::Wait => {
                self.operations.insert(number, operation);
            }
            Next::Finish(result) => self.respond(operation.request, result, effects),
            Next::Linger(value, tag) => self.linger(number, operation, value, tag, effects),
            Next::Round(phase, ask, targets) => {
                let next =
                    Operation { ask, targets, phase, answers: BTreeMap::new(), sent: now.monotonic, ..operation };
                self.begin(next, now, effects);
            }
            Next::Abandon(refusal) => self.abandon(number, operation, refusal, now, effects),
        }
    }

    /// Decides on an operation by the answers it has.
    fn next(&self, operation: &Operation, now: Reading) -> Next {
        let answered = operation.answers.len();
        match &operation.phase {
            Phase::WriteQuery { key, value } => {
                if answered < self.config.reads() {
                    return Next::Wait;
                }
                let time = operation.newest().map_or(0, |(tag, ..)| tag.time).saturating_add(1);
                let tag = Tag { time, round: self.next_round() };
                let ask = Ask::Store { key: key.clone(), tag, value: value.clone() };
                Next::Round(Phase::WriteStore, ask, operation.targets.clone())
            }
            Phase::WriteStore if answered < self.config.writes() => Next::Wait,
            Phase::WriteStore => Next::Finish(Ok(Reply::Done)),
            Phase::ReadQuery { .. } if answered < self.config.reads() => Next::Wait,
            Phase::ReadQuery { key } => self.after_read(operation, key),
            Phase::WriteBack { holders, .. } if answered + holders < self.config.writes() => Next::Wait,
            Phase::WriteBack { value, .. } => Next::Finish(Ok(Reply::Value(Some(value.clone())))),
            Phase::Repair { .. } if answered < operation.targets.len() => Next::Wait,
            // Nobody waits for it any more.
            Phase::Repair { .. } => Next::Finish(Ok(Reply::Done)),
            Phase::Scan { prefix, found, bytes } => self.after_page(operation, prefix, found, *bytes),
            Phase::AcquireToken { lock, lease } => {
                let mut highest = 0;
                let mut free = 0;
                for answer in operation.answers.values() {
                    if let Answer::Token { highest: h, held } = answer {
                        highest = highest.max(*h);
                        free += usize::from(!held);
                    }
                }
                let held = answered - free;
                if held > usize::from(self.config.nodes) - self.config.majority() {
                    return Next::Finish(Err(Refusal::LockHeld));
                }
                if free < self.config.majority() {
                    return Next::Wait;
                }
                let token = highest.saturating_add(1);
                let ask = Ask::Grant { lock: lock.clone(), token, client: operation.client, lease: *lease };
                let phase = Phase::AcquireGrant { lock: lock.clone(), token, lease: *lease };
                Next::Round(phase, ask, operation.targets.clone())
            }
            Phase::AcquireGrant { token, lease, .. } => {
                let (granted, refused) = operation.votes();
                if refused > usize::from(self.config.nodes) - self.config.majority() {
                    return Next::Abandon(Refusal::LockHeld);
                }
                if granted < self.config.majority() {
                    return Next::Wait;
                }
                // The holder counts its lease from the moment it asked: nothing is left of it.
                if now.monotonic.saturating_sub(operation.started) >= *lease {
                    return Next::Abandon(Refusal::Unknown);
                }
                Next::Finish(Ok(Reply::Granted(Token(*token))))
            }
            Phase::Consent => {
                let (granted, refused) = operation.votes();
                if granted >= self.config.majority() {
                    Next::Finish(Ok(Reply::Done))
                } else if refused > usize::from(self.config.nodes) - self.config.majority() {
                    Next::Finish(Err(Refusal::NotHolder))
                } else {
                    Next::Wait
                }
            }
        }
    }

    /// R replicas have answered a read.
    fn after_read(&self, operation: &Operation, key: &Key) -> Next {
        let Some((tag, value, holders)) = operation.newest() else {
            // No write of this key has finished, so there is nothing to make sure of.
            return Next::Finish(Ok(Reply::Value(None)));
        };
        if !self.config.write_back || holders >= self.config.writes() {
            if self.config.read_repair && self.operations.len() < MAX_OPERATIONS / 2 {
                return Next::Linger(value, tag);
            }
            return Next::Finish(Ok(Reply::Value(Some(value))));
        }
        let holds =
            |node: &NodeId| matches!(operation.answers.get(node), Some(Answer::Value(Some((t, _)))) if *t == tag);
        let targets = operation.targets.iter().copied().filter(|node| !holds(node)).collect();
        let ask = Ask::Store { key: key.clone(), tag, value: value.clone() };
        Next::Round(Phase::WriteBack { value, holders }, ask, targets)
    }

    /// Merges the pages of a scan once, for every group of replicas, R have answered.
    fn after_page(&self, operation: &Operation, prefix: &Key, found: &[(Key, Value)], bytes: usize) -> Next {
        let answered = |group: Vec<NodeId>| group.iter().filter(|n| operation.answers.contains_key(n)).count();
        if (0..self.config.nodes).any(|first| answered(self.config.group(first)) < self.config.reads()) {
            return Next::Wait;
        }
        // A page that was cut says nothing of the keys behind its last one.
        let mut end: Option<&Key> = None;
        let mut merged: BTreeMap<&Key, (Tag, &Value)> = BTreeMap::new();
        for answer in operation.answers.values() {
            let Answer::Page { entries, more } = answer else { continue };
            if let (true, Some((last, ..))) = (*more, entries.last()) {
                end = Some(end.map_or(last, |e| e.min(last)));
            }
            for (key, tag, value) in entries {
                let newest = merged.entry(key).or_insert((*tag, value));
                if *tag > newest.0 {
                    *newest = (*tag, value);
                }
            }
        }
        let upper = end.map_or(Bound::Unbounded, Bound::Included);
        let mut found = found.to_vec();
        let page = merged.range::<&Key, _>((Bound::Unbounded, upper.as_ref()));
        found.extend(page.map(|(key, (_, value))| ((*key).clone(), (*value).clone())));
        let Some(end) = end.cloned() else { return Next::Finish(Ok(Reply::Entries(found))) };
        let bytes = bytes.max(found.iter().map(|(k, v)| k.len() + v.len()).sum());
        if bytes > MAX_SCAN_BYTES {
            return Next::Finish(Err(Refusal::Unavailable));
        }
        let ask = Ask::Scan { prefix: prefix.clone(), after: Some(end) };
        Next::Round(Phase::Scan { prefix: prefix.clone(), found, bytes }, ask, operation.targets.clone())
    }

    /// Answers a read, repairs those who gave an old value, and stays for those still to answer.
    fn linger(&mut self, number: u64, mut operation: Operation, value: Value, tag: Tag, effects: &mut Effects<Self>) {
        let Phase::ReadQuery { key } = operation.phase else { return };
        self.respond(operation.request.take(), Ok(Reply::Value(Some(value.clone()))), effects);
        for (node, answer) in &operation.answers {
            self.repair(*node, answer, key.clone(), tag, value.clone(), effects);
        }
        if operation.answers.len() < operation.targets.len() {
            operation.phase = Phase::Repair { key, tag, value };
            self.operations.insert(number, operation);
        }
    }

    /// Sends a replica the newer value if its answer was older; keeps the answer's if *that* is
    /// newer than what one's own replica holds.
    fn repair(&mut self, to: NodeId, answer: &Answer, key: Key, tag: Tag, value: Value, effects: &mut Effects<Self>) {
        let Answer::Value(theirs) = answer else { return };
        match theirs {
            Some((t, v)) if *t > tag && self.config.bug != Some(Bug::ReadRepairWritesOlderTag) => {
                self.keep(key, *t, v.clone(), effects)
            }
            Some((t, _)) if *t == tag => {}
            _ if to == self.me => self.keep(key, tag, value, effects),
            _ => effects.send(to, Message::Repair { key, tag, value }),
        }
    }

    /// Stores a repaired value in one's own replica, if it has one of that key.
    fn keep(&mut self, key: Key, tag: Tag, value: Value, effects: &mut Effects<Self>) {
        if !self.config.placement(&key).contains(&self.me) {
            return;
        }
        if let Some(record) = self.replica.store(key, tag, value, self.journal.written() + 1) {
            self.append(record, effects);
        }
    }

    /// Answers a failed acquisition and asks all replicas, once, to take back what they granted.
    /// Where that is lost the lease just runs out.
    fn abandon(
        &mut self,
        number: u64,
        operation: Operation,
        refusal: Refusal,
        now: Reading,
        effects: &mut Effects<Self>,
    ) {
        if let Phase::AcquireGrant { lock, .. } = &operation.phase {
            let granted = RoundId { number, ..self.next_round() };
            let ask = Ask::Abandon { lock: lock.clone(), granted };
            let round = self.next_round();
            self.rounds += 1;
            for to in self.config.all() {
                // Nobody waits for the answers: there is no operation of this number.
                self.put(to, round, &ask, now, effects);
            }
        }
        self.respond(operation.request, Err(refusal), effects);
    }

    /// Gives up on what took too long, and asks silent replicas again.
    pub(super) fn tick(&mut self, now: Reading, effects: &mut Effects<Self>) {
        self.ticking = false;
        let age = |since: Duration| now.monotonic.saturating_sub(since);
        let late = |o: &Operation| age(o.started) >= self.config.request_timeout;
        let expired: Vec<u64> = self.operations.iter().filter(|(_, o)| late(o)).map(|(n, _)| *n).collect();
        for number in expired {
            if let Some(operation) = self.operations.remove(&number) {
                self.time_out(number, operation, now, effects);
            }
        }
        let interval = self.config.retransmit();
        for (number, operation) in &mut self.operations {
            // A read that has been answered doesn't go after those who are silent.
            if operation.request.is_none() || age(operation.sent) < interval {
                continue;
            }
            operation.sent = now.monotonic;
            let round = RoundId { node: self.me, life: self.life, number: *number };
            for to in &operation.targets {
                // One's own replica never loses a question.
                if *to != self.me && !operation.answers.contains_key(to) {
                    effects.push(Effect::Send { to: *to, message: Message::Ask { round, ask: operation.ask.clone() } });
                }
            }
        }
        if !self.operations.is_empty() {
            self.ticking = true;
            effects.set_timer(Tick, interval);
        }
    }

    fn time_out(&mut self, number: u64, operation: Operation, now: Reading, effects: &mut Effects<Self>) {
        match operation.phase {
            Phase::AcquireGrant { .. } => self.abandon(number, operation, Refusal::Unknown, now, effects),
            // Some replica may have done it.
            Phase::WriteStore | Phase::Consent => self.respond(operation.request, Err(Refusal::Unknown), effects),
            // Nothing was asked but questions; a write-back only spreads another's write.
            _ => self.respond(operation.request, Err(Refusal::Unavailable), effects),
        }
    }

    fn respond(&self, id: Option<RequestId>, result: Result<Reply, Refusal>, effects: &mut Effects<Self>) {
        if let Some(id) = id {
            effects.respond(id, Response { node: self.me, term: 0, result });
        }
    }
}
