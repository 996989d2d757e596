//! The clients' desk: who waits for what.

use std::collections::{BTreeMap, VecDeque};

use duress_machine::{Effects, Reading, RequestId};

use super::{CHUNK, Part, Paxos, Reads};
use crate::api::{ClientId, Op, Refusal, Request, Response};
use crate::bugs::Bug;
use crate::store::{Command, Outcome};

/// How many changes, and how many reads, may wait at a leader.
const MAX_WAITING: usize = 4096;
/// How many requests a batch holds at most.
const MAX_BATCH: usize = 1024;

/// A client and its sequence number: the name of a request, whichever attempt it is.
type Name = (ClientId, u64);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Desk {
    /// Changes not yet proposed: they can be refused for certain.
    pub pending: VecDeque<Request>,
    /// Who waits for each change, proposed or not.
    waiting: BTreeMap<Name, RequestId>,
    /// Reads, in the order of their rounds.
    pub reads: VecDeque<WaitingRead>,
}

/// A read that waits for the majority to confirm the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaitingRead {
    id: RequestId,
    op: Op,
    /// The first round that began after the read arrived.
    round: u64,
}

impl Desk {
    /// Who waits for a change that has now been applied.
    pub(super) fn take(&mut self, name: Name) -> Option<RequestId> {
        self.waiting.remove(&name)
    }

    /// The changes that have waited longest, as many as one message holds.
    pub(super) fn next_batch(&mut self) -> Vec<Request> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(request) = self.pending.front() {
            bytes += request.op.size();
            if !batch.is_empty() && (bytes > CHUNK || batch.len() >= MAX_BATCH) {
                break;
            }
            batch.extend(self.pending.pop_front());
        }
        batch
    }
}

impl Paxos {
    pub(super) fn response(&self, result: Outcome) -> Response {
        Response { node: self.me, term: self.term(), result }
    }

    fn refuse(&self, id: RequestId, refusal: Refusal, effects: &mut Effects<Self>) {
        effects.respond(id, self.response(Err(refusal)));
    }

    pub(super) fn request(&mut self, id: RequestId, request: Request, now: Reading, effects: &mut Effects<Self>) {
        if self.damaged {
            return self.refuse(id, Refusal::Unavailable, effects);
        }
        let local = match request.op {
            Op::Scan { .. } => true,
            Op::Read { .. } => self.config.reads == Reads::Local || self.holds_lease(now),
            _ => false,
        };
        if local && let Some(reply) = self.store.read(&request.op) {
            return effects.respond(id, self.response(Ok(reply)));
        }
        if !matches!(self.part, Part::Leader(_)) {
            return self.refuse(id, Refusal::NotLeader { leader: self.leader }, effects);
        }
        if request.op.is_read() {
            if self.desk.reads.len() >= MAX_WAITING {
                return self.refuse(id, Refusal::Unavailable, effects);
            }
            self.desk.reads.push_back(WaitingRead { id, op: request.op, round: self.round + 1 });
            return self.serve_reads(now, effects);
        }
        if !self.bug(Bug::RetryAppliedTwice)
            && let Some(outcome) = self.store.seen(&request)
        {
            return effects.respond(id, self.response(outcome));
        }
        let name = (request.client, request.sequence);
        if let Some(waiting) = self.desk.waiting.get_mut(&name) {
            // A repetition of what is under way: the newest attempt gets the answer.
            let earlier = std::mem::replace(waiting, id);
            return self.refuse(earlier, Refusal::Unknown, effects);
        }
        if self.desk.waiting.len() >= MAX_WAITING {
            return self.refuse(id, Refusal::Unavailable, effects);
        }
        self.desk.waiting.insert(name, id);
        self.desk.pending.push_back(request);
        self.flush(now, effects);
    }

    /// Answers the reads whose round a majority has answered.
    pub(super) fn answer_reads(&mut self, confirmed: u64, effects: &mut Effects<Self>) {
        while self.desk.reads.front().is_some_and(|read| read.round <= confirmed)
            && let Some(read) = self.desk.reads.pop_front()
        {
            let outcome = self.store.read(&read.op).ok_or(Refusal::NotSupported);
            effects.respond(read.id, self.response(outcome));
        }
    }

    /// Answers everybody: this node doesn't lead any more. What was proposed may yet be chosen.
    pub(super) fn dismiss(&mut self, leader: Option<duress_machine::NodeId>, effects: &mut Effects<Self>) {
        let desk = std::mem::take(&mut self.desk);
        let mut waiting = desk.waiting;
        let never_proposed =
            desk.pending.iter().filter_map(|request| waiting.remove(&(request.client, request.sequence)));
        for id in never_proposed.chain(desk.reads.into_iter().map(|read| read.id)).collect::<Vec<_>>() {
            self.refuse(id, Refusal::NotLeader { leader }, effects);
        }
        for id in waiting.into_values() {
            self.refuse(id, Refusal::Unknown, effects);
        }
    }

    /// After phase 1 of a node that led before: answers those whose requests are not among the
    /// commands proposed again.
    pub(super) fn dismiss_lost(&mut self, commands: &[Command], effects: &mut Effects<Self>) {
        let mut waiting = std::mem::take(&mut self.desk.waiting);
        let again = commands.iter().filter_map(|command| match command {
            Command::Request { request, .. } => Some(request),
            Command::Noop => None,
        });
        for request in again.chain(&self.desk.pending) {
            let name = (request.client, request.sequence);
            if let Some(id) = waiting.remove(&name) {
                self.desk.waiting.insert(name, id);
            }
        }
        for id in waiting.into_values() {
            self.refuse(id, Refusal::Unknown, effects);
        }
    }
}
