//! Taking a step: what a node's input does to it, and where its effects go.

use std::time::Duration;

use duress_kv::api::{ClientId, Key, Op, Refusal, Reply, Request, Response};
use duress_machine::{Effect, Effects, Input, NodeId, Reading, RequestId};

use crate::bounds::Ask;
use crate::register::{Operation, Return};
use crate::state::{Envelope, Node, Shared, State, Write};
use crate::step::Cluster;
use crate::subject::Subject;
use crate::words::told;

/// How far each node's wall clock is ahead of the one before, when they are skewed.
const SKEW: Duration = Duration::from_secs(3600);

/// First messages that are delivered before exploring begins, at most.
const MAX_WARM_UP: usize = 10_000;

/// A step being taken.
pub(crate) struct Turn<'a, M: Subject> {
    pub cluster: &'a Cluster<M>,
    pub state: State<M>,
    pub notes: Option<&'a mut Vec<String>>,
    /// The attempt that the step makes.
    pub asked: Option<RequestId>,
    /// It was refused at once, for certain.
    pub refused: bool,
}

impl<M: Subject> Turn<'_, M> {
    fn note(&mut self, words: impl FnOnce() -> String) {
        if let Some(notes) = &mut self.notes {
            notes.push(words());
        }
    }

    pub(crate) fn change<T>(&mut self, node: NodeId, change: impl FnOnce(&mut Node<M>) -> T) -> T {
        let place = &mut self.state.nodes[usize::from(node.0)];
        let mut at = (**place).clone();
        let given = change(&mut at);
        *place = Shared::new(at);
        given
    }

    fn reading(&self, node: NodeId) -> Reading {
        // Wall clocks stand still: nothing but leases of locks, which nobody asks for, and the
        // tags of `timestamps: wall` depends on them.
        let ahead = if self.cluster.bounds.skewed_clocks { SKEW * u32::from(node.0) } else { Duration::ZERO };
        Reading { wall: SKEW + ahead, monotonic: self.state.clock }
    }

    /// Takes a message that arrives from the network.
    pub(crate) fn take(&mut self, envelope: &Envelope<M::Message>, again: bool) {
        let network = &mut self.state.network;
        let Some(at) = network.iter().position(|one| **one == *envelope) else { return };
        let link = |one: &Envelope<M::Message>| (one.from, one.to);
        let first = match self.cluster.bounds.reordering {
            true => at,
            // Those before it are lost.
            false => network.partition_point(|one| link(one) < link(envelope)),
        };
        let last = if again { at } else { at + 1 };
        network.drain(first..last);
        self.state.used.duplicates += u8::from(again);
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: M::Message) {
        if usize::from(to.0) >= self.state.nodes.len() || to == from {
            return;
        }
        let envelope = Envelope { from, to, message };
        let network = &mut self.state.network;
        let at = match self.cluster.bounds.reordering {
            true => network.partition_point(|one| **one <= envelope),
            false => network.partition_point(|one| (one.from, one.to) <= (from, to)),
        };
        network.insert(at, Shared::new(envelope));
        if !self.cluster.bounds.reordering {
            let first = network.partition_point(|one| (one.from, one.to) < (from, to));
            if at + 1 - first > self.cluster.bounds.in_flight.max(1).into() {
                network.remove(first);
            }
        }
    }

    /// Gives a node an input. Whether anything came of it.
    pub(crate) fn input(&mut self, node: NodeId, input: Input<M>) -> bool {
        let now = self.reading(node);
        let (clock, before) = (now.monotonic, self.state.nodes[usize::from(node.0)].clone());
        let mut effects = Effects::default();
        let mut at = (*before).clone();
        at.machine.step(input, now, &mut effects);
        let changed = !effects.as_slice().is_empty() || at.machine != before.machine;
        let mut spoken = Vec::new();
        for effect in effects.drain() {
            match effect {
                Effect::SetTimer { timer, after } => {
                    at.timers.insert(timer, clock + after);
                }
                Effect::CancelTimer { timer } => {
                    at.timers.remove(&timer);
                }
                Effect::Append { record } => {
                    at.unsynced.push(Write::Append(record));
                    at.written += 1;
                }
                Effect::Rewrite { records } => {
                    at.unsynced.push(Write::Rewrite(records));
                    at.written += 1;
                }
                Effect::Sync => at.asked = at.written,
                Effect::Observe(_) => {}
                Effect::Send { .. } | Effect::Respond { .. } | Effect::Fence { .. } => spoken.push(effect),
            }
        }
        let (was, is) = (before.machine.status(now), at.machine.status(now));
        self.state.nodes[usize::from(node.0)] = Shared::new(at);
        if is.role.leads() && *self.state.led.entry(is.term).or_insert(node) != node {
            self.state.led_twice.get_or_insert(is.term);
        }
        if (was.role, was.term) != (is.role, is.term) {
            self.note(|| match M::HAS_LEADER {
                true => format!("{node} is {} in term {}", is.role, is.term),
                false => format!("{node} is {}", is.role),
            });
        }
        if was.commit_index != is.commit_index {
            self.note(|| format!("{node} has applied the log up to {}", is.commit_index));
        }
        for effect in spoken {
            match effect {
                Effect::Send { to, message } => self.send(node, to, message),
                Effect::Respond { id, response } => self.answer(id, response),
                Effect::Fence { node: other } => {
                    self.note(|| format!("{node} asks the controller to shut off {other}"));
                    self.state.fences.insert((node, other));
                }
                _ => {}
            }
        }
        changed
    }

    /// Delivers messages in order until none is left, disks being quick.
    pub(crate) fn deliver_all(&mut self) {
        for _ in 0..MAX_WARM_UP {
            if self.state.network.is_empty() {
                break;
            }
            let Envelope { from, to, message } = (*self.state.network.remove(0)).clone();
            self.input(to, Input::Message { from, message });
            self.finish_syncs(to);
        }
    }

    /// Lets a timer run out late, disks being quick.
    pub(crate) fn fire(&mut self, node: NodeId, timer: M::Timer) {
        let late = M::long(&self.cluster.config);
        self.state.clock = self.state.clock.max(late);
        self.change(node, |at| at.timers.remove(&timer));
        self.input(node, Input::Timer(timer));
        self.finish_syncs(node);
    }

    pub(crate) fn sync(&mut self, node: NodeId) {
        let through = self.change(node, |at| {
            let count = (at.asked - at.durable) as usize;
            at.durable = at.asked;
            at.reach_disk(count);
            at.durable
        });
        self.input(node, Input::Durable { through });
    }

    pub(crate) fn finish_syncs(&mut self, node: NodeId) {
        while self.state.nodes[usize::from(node.0)].syncing() {
            self.sync(node);
        }
    }

    /// Lets those disks finish whose nodes can't be stopped before they do.
    pub(crate) fn finish_dull_syncs(&mut self) {
        let bounds = &self.cluster.bounds;
        if bounds.overlapping_syncs || self.state.used.crashes < bounds.crashes {
            return;
        }
        loop {
            let dull = (0..self.state.nodes.len() as u16).map(NodeId).find(|node| {
                self.state.nodes[usize::from(node.0)].syncing()
                    && !self.state.fences.iter().any(|(_, fenced)| fenced == node)
            });
            match dull {
                Some(node) => self.sync(node),
                None => return,
            }
        }
    }

    /// Ends a node's life and begins its next.
    pub(crate) fn restart(&mut self, node: NodeId, kept: usize) {
        let config = &self.cluster.config;
        let log = self.change(node, |at| {
            at.reach_disk(kept.min(at.unsynced.len()));
            *at = Node::new(M::new(config, node), std::mem::take(&mut at.log));
            at.log.clone()
        });
        // Nobody is left to be told.
        self.state.fences.retain(|(by, _)| *by != node);
        self.input(node, Input::Started { recovered: log });
    }

    pub(crate) fn ask(&mut self, client: u8, node: NodeId) {
        let progress = &mut self.state.clients[usize::from(client)];
        let (index, attempt) = (progress.ended, progress.tried);
        let Some((ask, value)) = self.cluster.operation(client, index) else { return };
        let key = Key::new_static("x");
        let (op, operation) = match ask {
            Ask::Read => (Op::Read { key }, Operation::Read),
            Ask::Write => (Op::Write { key, value: value.clone() }, Operation::Write(value)),
            Ask::Cas => (Op::Cas { key, from: None, to: value.clone() }, Operation::SetFirst(value)),
        };
        progress.tried += 1;
        if attempt == 0 {
            let mut history = (*self.state.history).clone();
            history.invoke(client, operation);
            self.state.history = Shared::new(history);
        } else {
            self.state.used.retries += 1;
        }
        let id = RequestId(u64::from(client) << 16 | u64::from(index) << 8 | u64::from(attempt));
        self.asked = Some(id);
        let request = Request { client: ClientId(u64::from(client) + 1), sequence: u64::from(index) + 1, op };
        self.input(node, Input::Request { id, request });
    }
    /// A node answers an attempt. The answer arrives at once unless it matters that it may not.
    fn answer(&mut self, id: RequestId, response: Response) {
        let good = matches!(response.result, Ok(_) | Err(Refusal::CasMismatch { .. }));
        if good && self.cluster.bounds.retries > 0 {
            self.note(|| format!("{} answers client {}", response.node, (id.0 >> 16) + 1));
            self.state.answers.insert(id, response);
        } else {
            self.hear(id, response);
        }
    }

    /// A client hears an answer to an attempt. Only the present operation's is listened to.
    pub(crate) fn hear(&mut self, id: RequestId, response: Response) {
        let (client, index, attempt) = ((id.0 >> 16) as u8, (id.0 >> 8) as u8, id.0 as u8);
        let Some(progress) = self.state.clients.get_mut(usize::from(client)) else { return };
        if progress.ended != index || progress.tried <= attempt {
            return;
        }
        let given = match &response.result {
            Ok(Reply::Value(value)) => Return::Value(value.clone()),
            Ok(_) => Return::Done,
            Err(Refusal::CasMismatch { actual }) => Return::Mismatch(actual.clone()),
            Err(refusal) => {
                let definite = refusal.is_definite() && *refusal != Refusal::Superseded;
                self.refused |= definite && self.asked == Some(id);
                if !definite || progress.tried > 1 {
                    // It may have had, or have yet, an effect, if only by another attempt.
                    return self.note(|| told(client, &response));
                }
                Return::Refused
            }
        };
        progress.tried = 0;
        progress.ended += 1;
        // Nobody listens to answers to its other attempts.
        self.state.answers.retain(|id, _| (id.0 >> 16) as u8 != client);
        progress.succeeded += u8::from(given != Return::Refused);
        let mut history = (*self.state.history).clone();
        history.give(client, given);
        self.state.history = Shared::new(history);
        self.note(|| told(client, &response));
    }
}
