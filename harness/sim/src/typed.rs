//! The fleet of any machine: all of the simulator that is compiled for each of them.

use std::fmt::Debug;
use std::hash::Hash;

use duress_history::{Op, Process};
use duress_machine::client::{Answer, Disposition, Outcome, Policy};
use duress_machine::wal::{self, Damage, Recovered};
use duress_machine::{self as machine, Effects, Machine, NodeId, Reading, Status};
use serde::Serialize;

use crate::fleet::{Effect, Fleet, Held, Input, Logs, Store};
use crate::{Digest, Done, Service};

/// Machines of one kind with one configuration, and what their clients know of their service. Its
/// memory is used again from run to run.
#[derive(Debug)]
pub struct Typed<M: Machine, S> {
    config: M::Config,
    service: S,
    nodes: Vec<Node<M>>,
    messages: Slab<M::Message>,
    requests: Slab<M::Request>,
    responses: Slab<M::Response>,
    records: Slab<M::Record>,
    effects: Effects<M>,
}

#[derive(Debug)]
struct Node<M: Machine> {
    machine: Option<M>,
    /// The timers that are set, by their numbers.
    timers: Vec<Option<M::Timer>>,
}

impl<M: Machine, S: Service<M>> Typed<M, S>
where
    M::Response: Answer,
{
    /// A fleet for runs with this configuration of every node.
    pub fn new(config: M::Config, service: S) -> Typed<M, S> {
        Typed {
            config,
            service,
            nodes: Vec::new(),
            messages: Slab::default(),
            requests: Slab::default(),
            responses: Slab::default(),
            records: Slab::default(),
            effects: Effects::default(),
        }
    }

    /// Another configuration and service for the runs to come.
    pub fn configure(&mut self, config: M::Config, service: S) {
        self.config = config;
        self.service = service;
    }

    /// How many messages, requests and answers are kept: those that were under way when the last run
    /// ended, or at this moment. Records on disks don't count.
    pub fn under_way(&self) -> usize {
        self.messages.len() + self.requests.len() + self.responses.len()
    }

    /// Hands the effects of a step on.
    fn hand_on(&mut self, node: NodeId, into: &mut Vec<Effect>) {
        let timers = &mut self.nodes[usize::from(node.0)].timers;
        let records = &mut self.records;
        for effect in self.effects.drain() {
            into.push(match effect {
                machine::Effect::Send { to, message } => {
                    Effect::Send { to, message: self.messages.hold(Kind::Message, message) }
                }
                machine::Effect::SetTimer { timer, after } => Effect::SetTimer { timer: number(timers, timer), after },
                machine::Effect::CancelTimer { timer } => {
                    let Some(at) = timers.iter().position(|set| *set == Some(timer)) else { continue };
                    timers[at] = None;
                    Effect::CancelTimer { timer: at as u32 }
                }
                machine::Effect::Append { record } => Effect::Append { record: records.hold(Kind::Record, record) },
                machine::Effect::Rewrite { records: new } => {
                    let new = new.into_iter().map(|record| records.hold(Kind::Record, record));
                    Effect::Rewrite { records: new.collect() }
                }
                machine::Effect::Sync => Effect::Sync,
                machine::Effect::Respond { id, response } => {
                    Effect::Respond { id, response: self.responses.hold(Kind::Response, response) }
                }
                machine::Effect::Observe(observation) => Effect::Observe(observation),
                machine::Effect::Fence { node } => Effect::Fence { node },
            });
        }
    }
}

/// The number of a timer that is being set.
fn number<T: PartialEq>(timers: &mut Vec<Option<T>>, timer: T) -> u32 {
    let timer = Some(timer);
    let at = timers.iter().position(|set| *set == timer).or_else(|| timers.iter().position(Option::is_none));
    let at = at.unwrap_or(timers.len());
    match timers.get_mut(at) {
        Some(place) => *place = timer,
        None => timers.push(timer),
    }
    at as u32
}

impl<M: Machine, S> Store for Typed<M, S> {
    fn copy(&mut self, what: &Held) -> Held {
        match what.kind() {
            Kind::Message => self.messages.copy(what),
            Kind::Request => self.requests.copy(what),
            Kind::Response => self.responses.copy(what),
            Kind::Record => self.records.copy(what),
        }
    }

    fn free(&mut self, what: Held) {
        match what.kind() {
            Kind::Message => drop(self.messages.take(what)),
            Kind::Request => drop(self.requests.take(what)),
            Kind::Response => drop(self.responses.take(what)),
            Kind::Record => drop(self.records.take(what)),
        }
    }

    fn size(&self, what: &Held) -> usize {
        match what.kind() {
            Kind::Message => encoded_size(self.messages.get(what)),
            Kind::Request => encoded_size(self.requests.get(what)),
            Kind::Response => encoded_size(self.responses.get(what)),
            Kind::Record => encoded_size(self.records.get(what)),
        }
    }

    fn show(&self, what: &Held) -> &dyn Debug {
        match what.kind() {
            Kind::Message => self.messages.get(what),
            Kind::Request => self.requests.get(what),
            Kind::Response => self.responses.get(what),
            Kind::Record => self.records.get(what),
        }
    }
}

/// Bytes in postcard, which is what real nodes speak.
fn encoded_size(what: &impl Serialize) -> usize {
    postcard::experimental::serialized_size(what).expect("what machines say is plain data")
}

impl<M: Machine, S> Logs for Typed<M, S> {
    fn encode(&self, record: &Held, synced: u64, bytes: &mut Vec<u8>) {
        wal::encode(self.records.get(record), synced, bytes).expect("records are plain data of bounded size");
    }

    fn read_log(&mut self, bytes: &[u8]) -> Result<Recovered<Held>, Damage> {
        let Recovered { records, length, tail } = M::read_log(&self.config, bytes)?;
        let records = records.into_iter().map(|record| self.records.hold(Kind::Record, record)).collect();
        Ok(Recovered { records, length, tail })
    }
}

impl<M: Machine, S: Service<M>> Fleet for Typed<M, S>
where
    M::Response: Answer,
{
    fn reset(&mut self, nodes: usize) {
        self.nodes.truncate(nodes);
        for node in &mut self.nodes {
            node.machine = None;
            node.timers.clear();
        }
        self.nodes.resize_with(nodes, || Node { machine: None, timers: Vec::new() });
        self.messages.clear();
        self.requests.clear();
        self.responses.clear();
        self.records.clear();
        // After a panic there may be some left.
        self.effects.drain();
    }

    fn create(&mut self, node: NodeId) {
        self.nodes[usize::from(node.0)].machine = Some(M::new(&self.config, node));
    }

    fn start(
        &mut self,
        node: NodeId,
        log: &mut dyn ExactSizeIterator<Item = &Held>,
        now: Reading,
        effects: &mut Vec<Effect>,
    ) {
        let recovered = log.map(|record| self.records.get(record).clone()).collect();
        if let Some(machine) = &mut self.nodes[usize::from(node.0)].machine {
            machine.step(machine::Input::Started { recovered }, now, &mut self.effects);
            self.hand_on(node, effects);
        }
    }

    fn step(&mut self, node: NodeId, input: Input, now: Reading, digest: &mut Digest, effects: &mut Vec<Effect>) {
        let Node { machine, timers } = &mut self.nodes[usize::from(node.0)];
        let input = match input {
            Input::Message { from, message } => {
                self.messages.get(&message).hash(digest);
                machine::Input::Message { from, message: self.messages.take(message) }
            }
            Input::Timer(number) => {
                let Some(timer) = timers.get_mut(number as usize).and_then(Option::take) else { return };
                timer.hash(digest);
                machine::Input::Timer(timer)
            }
            Input::Request { id, request } => {
                self.requests.get(&request).hash(digest);
                machine::Input::Request { id, request: self.requests.take(request) }
            }
            Input::Durable { through } => machine::Input::Durable { through },
            Input::Fenced { node } => machine::Input::Fenced { node },
        };
        let Some(machine) = machine else { return };
        machine.step(input, now, &mut self.effects);
        self.hand_on(node, effects);
    }

    fn end(&mut self, node: NodeId) {
        let node = &mut self.nodes[usize::from(node.0)];
        node.machine = None;
        node.timers.clear();
    }

    fn status(&self, node: NodeId, now: Reading) -> Option<Status> {
        Some(self.nodes[usize::from(node.0)].machine.as_ref()?.status(now))
    }

    fn show_timer(&self, node: NodeId, timer: u32) -> &dyn Debug {
        match self.nodes[usize::from(node.0)].timers.get(timer as usize) {
            Some(Some(timer)) => timer,
            _ => &"none",
        }
    }

    fn request(&mut self, process: Process, sequence: u64, op: &Op) -> Option<Held> {
        let request = self.service.request(process, sequence, op)?;
        Some(self.requests.hold(Kind::Request, request))
    }

    fn answered(&self, response: &Held, digest: &mut Digest) -> Disposition {
        let response = self.responses.get(response);
        response.hash(digest);
        response.disposition()
    }

    fn completion(&mut self, op: &Op, outcome: Outcome<Held>) -> Done {
        let mut answer = |held| self.responses.take(held);
        let outcome = match outcome {
            Outcome::Ok { answer: held, node } => Outcome::Ok { answer: answer(held), node },
            Outcome::Failed { answer: held } => Outcome::Failed { answer: held.map(answer) },
            Outcome::Unknown { answer: held } => Outcome::Unknown { answer: held.map(answer) },
        };
        self.service.completion(op, outcome)
    }

    fn policy(&self) -> Policy {
        self.service.policy()
    }

    fn sticky(&self) -> bool {
        self.service.sticky()
    }

    fn has_log(&self) -> bool {
        self.service.has_log()
    }
}

/// What is held: the two lowest bits of a [`Held`]; the rest is the place.
#[derive(Clone, Copy)]
enum Kind {
    Message,
    Request,
    Response,
    Record,
}

impl Held {
    fn kind(&self) -> Kind {
        match self.0 & 3 {
            0 => Kind::Message,
            1 => Kind::Request,
            2 => Kind::Response,
            _ => Kind::Record,
        }
    }

    fn place(&self) -> usize {
        (self.0 >> 2) as usize
    }
}

/// Things of one type, whose places are used again: the one that was freed last first.
#[derive(Debug)]
struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn clear(&mut self) {
        self.places.clear();
        self.free.clear();
    }

    #[inline]
    fn put(&mut self, thing: T) -> u32 {
        let Some(place) = self.free.pop() else {
            assert!(self.places.len() < 1 << 30, "a simulated run has got out of hand");
            self.places.push(Some(thing));
            return self.places.len() as u32 - 1;
        };
        // There was nothing, and so nothing to drop: this spares every message the look.
        std::mem::forget(self.places[place as usize].replace(thing));
        place
    }

    #[inline]
    fn hold(&mut self, kind: Kind, thing: T) -> Held {
        Held(self.put(thing) << 2 | kind as u32)
    }

    #[inline]
    fn get(&self, held: &Held) -> &T {
        self.places[held.place()].as_ref().expect(HELD)
    }

    #[inline]
    fn take(&mut self, held: Held) -> T {
        let place = held.place();
        self.free.push(place as u32);
        self.places[place].take().expect(HELD)
    }
}

impl<T: Clone> Slab<T> {
    fn copy(&mut self, held: &Held) -> Held {
        let thing = self.get(held).clone();
        self.hold(held.kind(), thing)
    }
}

/// What is wrong if it isn't so.
const HELD: &str = "what is held is kept until it is freed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again() {
        let mut slab = Slab::default();
        let [a, b] = ["a", "b"].map(|thing| slab.hold(Kind::Response, thing));
        assert!(matches!(a.kind(), Kind::Response) && a != b);
        let place = a.place();
        assert_eq!((slab.take(a), slab.len()), ("a", 1));
        let c = slab.copy(&b);
        assert_eq!((c.place(), *slab.get(&c), slab.len()), (place, "b", 2));
        slab.clear();
        assert_eq!(slab.len(), 0);
    }

    #[test]
    fn a_timer_that_is_set_anew_keeps_its_number() {
        let mut timers = Vec::new();
        assert_eq!(["x", "y", "x"].map(|timer| number(&mut timers, timer)), [0, 1, 0]);
        timers[0] = None;
        assert_eq!(["y", "z"].map(|timer| number(&mut timers, timer)), [1, 0]);
    }
}
