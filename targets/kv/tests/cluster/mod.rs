//! A small deterministic world for testing machines: virtual time, a network that delays, loses,
//! duplicates and reorders, disks that lose what was not synced, skewed clocks, crashes, pauses,
//! partitions and clients. Everything that happens follows from [`Settings::seed`].
//!
//! Safety violations that any protocol could show (two leaders in a term, digests that differ at
//! the same index) are collected in [`Cluster::violations`], not asserted, because some settings
//! are unsafe on purpose and their tests look for a violation.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test file uses its part of it"
)]

mod clients;
mod linearizable;
mod node;
mod storm;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duress_kv::api::{Request, Response};
use duress_machine::{Effect, Effects, Input, Machine, NodeId, Observation, RequestId};
use duress_seed::Seed;

pub use clients::{Call, Client, Replies, Workload, mixed_workload, patient, reading_workload};
pub use linearizable::{check_registers, stale_read};
pub use node::Clock;
use node::Node;
pub use storm::Storm;

/// A machine of the bundled service.
pub trait Service: Machine<Request = Request, Response = Response> {}
impl<M: Machine<Request = Request, Response = Response>> Service for M {}

/// Says what is wrong with a message that a node is about to send.
pub type Watch<M> = fn(&Cluster<M>, NodeId, &<M as Machine>::Message) -> Option<String>;

/// How the world behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    pub nodes: u16,
    /// The least and greatest delay of a message, between nodes and between clients and nodes.
    pub delay: (Duration, Duration),
    /// The share of messages between nodes that are lost.
    pub loss: f64,
    /// The share of messages between nodes that arrive twice.
    pub duplicate: f64,
    /// The least and greatest time that a sync takes.
    pub sync: (Duration, Duration),
}

impl Settings {
    /// A quick network and disk without faults.
    pub fn calm(seed: u64, nodes: u16) -> Self {
        let delay = (Duration::from_micros(100), Duration::from_millis(2));
        let sync = (Duration::from_micros(200), Duration::from_millis(4));
        Settings { seed, nodes, delay, loss: 0.0, duplicate: 0.0, sync }
    }

    /// A network that loses, repeats and reorders.
    pub fn rough(seed: u64, nodes: u16) -> Self {
        let calm = Settings::calm(seed, nodes);
        Settings { delay: (calm.delay.0, Duration::from_millis(20)), loss: 0.05, duplicate: 0.05, ..calm }
    }
}

enum Event<M: Service> {
    /// Something for one life of a node.
    Node { node: NodeId, life: u64, input: NodeInput<M> },
    /// A client's request arrives at a node.
    Request { node: NodeId, client: usize, attempt: u64, request: Request },
    /// Something for a client.
    Client { client: usize, attempt: u64, event: clients::ClientEvent },
    /// The next fault of a storm.
    Fault(storm::Fault),
    /// The controller shuts a node off for another.
    Fence { asker: NodeId, life: u64, node: NodeId },
}

enum NodeInput<M: Service> {
    Message { from: NodeId, message: M::Message },
    Timer { timer: M::Timer, generation: u64 },
    Synced { through: u64 },
    Fenced { node: NodeId },
}

/// The world.
pub struct Cluster<M: Service> {
    pub settings: Settings,
    config: M::Config,
    pub now: Duration,
    nodes: Vec<Node<M>>,
    queue: BTreeMap<(Duration, u64), Event<M>>,
    /// Counts every decision and event, so that each decision has its own key.
    steps: u64,
    /// Directed links that carry nothing.
    cuts: BTreeSet<(NodeId, NodeId)>,
    clients: Vec<Client>,
    /// What each client's latest call gave.
    pub replies: Replies,
    waiting: BTreeMap<RequestId, (usize, u64, NodeId)>,
    /// Every call, in the order of invocation.
    pub history: Vec<Call>,
    /// What no protocol may do, in words.
    pub violations: Vec<String>,
    /// Everything said out of band: when, by whom, what.
    pub observations: Vec<(Duration, NodeId, Observation)>,
    leaders: BTreeMap<u64, (NodeId, u64)>,
    digests: BTreeMap<u64, u64>,
    /// Judges every message between nodes when it is sent: says what is wrong with it, if anything.
    pub watch: Option<Watch<M>>,
    /// Messages sent between nodes, for measuring a protocol's cost.
    pub messages: u64,
}

impl<M: Service> Cluster<M> {
    /// A world whose nodes have not been started.
    pub fn new(config: M::Config, settings: Settings) -> Self {
        let nodes = (0..settings.nodes).map(|_| Node::default()).collect();
        Cluster {
            settings,
            config,
            now: Duration::ZERO,
            nodes,
            queue: BTreeMap::new(),
            steps: 0,
            cuts: BTreeSet::new(),
            clients: Vec::new(),
            replies: Replies::default(),
            waiting: BTreeMap::new(),
            history: Vec::new(),
            violations: Vec::new(),
            observations: Vec::new(),
            leaders: BTreeMap::new(),
            digests: BTreeMap::new(),
            watch: None,
            messages: 0,
        }
    }

    /// A world with every node started at time zero.
    pub fn started(config: M::Config, settings: Settings) -> Self {
        let mut cluster = Self::new(config, settings);
        for node in cluster.node_ids() {
            cluster.start(node);
        }
        cluster
    }

    pub fn node_ids(&self) -> Vec<NodeId> {
        (0..self.settings.nodes).map(NodeId).collect()
    }

    /// The machine of a node that is up.
    pub fn machine(&self, node: NodeId) -> Option<&M> {
        self.nodes[usize::from(node.0)].machine.as_ref()
    }

    /// What a node that is up says of itself.
    pub fn status(&self, node: NodeId) -> Option<duress_machine::Status> {
        Some(self.machine(node)?.status(self.nodes[usize::from(node.0)].clock.read(self.now)))
    }

    /// The node that leads in the highest term, by its own account.
    pub fn leader(&self) -> Option<NodeId> {
        let leading = self.node_ids().into_iter().filter_map(|node| {
            let status = self.status(node)?;
            status.role.leads().then_some((status.term, node))
        });
        leading.max().map(|(_, node)| node)
    }

    /// Sets a node's clocks; takes effect at its next input. Before the node starts, normally.
    pub fn set_clock(&mut self, node: NodeId, clock: Clock) {
        self.nodes[usize::from(node.0)].clock = clock;
    }

    /// Changes how fast a node's clocks run from now on.
    pub fn set_rate(&mut self, node: NodeId, rate: f64) {
        let now = self.now;
        let clock = &mut self.nodes[usize::from(node.0)].clock;
        let shown = clock.read(now);
        let passed = now.mul_f64(rate);
        *clock = Clock { wall: shown.wall - passed, monotonic: shown.monotonic - passed, rate };
    }

    /// The records on a node's disk, unsynced ones not included.
    pub fn disk(&self, node: NodeId) -> &[M::Record] {
        self.nodes[usize::from(node.0)].disk.durable()
    }

    /// Replaces the records on the disk of a node that is down.
    pub fn set_disk(&mut self, node: NodeId, records: Vec<M::Record>) {
        self.nodes[usize::from(node.0)].disk.replace(records);
    }

    /// Starts a node that is down, with what its disk holds.
    pub fn start(&mut self, node: NodeId) {
        let state = &mut self.nodes[usize::from(node.0)];
        if state.machine.is_some() {
            return;
        }
        state.life += 1;
        state.machine = Some(M::new(&self.config, node));
        state.timers.clear();
        state.backlog.clear();
        state.paused = false;
        let recovered = state.disk.start();
        self.step(node, Input::Started { recovered });
    }

    /// Kills a node. A prefix of its unsynced writes, by the seed, is on its disk.
    pub fn crash(&mut self, node: NodeId) {
        let keep = self.decide(&[1]).unit();
        let state = &mut self.nodes[usize::from(node.0)];
        if state.machine.take().is_some() {
            state.disk.crash(keep);
        }
    }

    /// Stops a node from handling anything until [`resume`](Self::resume); what arrives waits.
    pub fn pause(&mut self, node: NodeId) {
        self.nodes[usize::from(node.0)].paused = true;
    }

    pub fn resume(&mut self, node: NodeId) {
        let state = &mut self.nodes[usize::from(node.0)];
        state.paused = false;
        for event in std::mem::take(&mut state.backlog) {
            self.handle(event);
        }
    }

    /// Cuts the directed link.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Cuts both directions between every node of `group` and every other node.
    pub fn partition(&mut self, group: &[NodeId]) {
        for a in self.node_ids() {
            for b in self.node_ids() {
                if group.contains(&a) != group.contains(&b) {
                    self.cuts.insert((a, b));
                }
            }
        }
    }

    /// Mends every link.
    pub fn heal_links(&mut self) {
        self.cuts.clear();
    }

    /// Mends every link, resumes and starts every node.
    pub fn heal(&mut self) {
        self.heal_links();
        for node in self.node_ids() {
            self.resume(node);
            self.start(node);
        }
    }

    /// Runs until time `until` of the world.
    pub fn run_until(&mut self, until: Duration) {
        self.run_until_some(until, |_| false);
    }

    /// Runs for this much longer.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs until `condition` holds, and says whether it did before time `until`.
    pub fn run_until_some(&mut self, until: Duration, mut condition: impl FnMut(&Self) -> bool) -> bool {
        loop {
            if condition(self) {
                return true;
            }
            match self.queue.first_key_value() {
                Some(((at, _), _)) if *at <= until => {}
                _ => {
                    self.now = self.now.max(until);
                    return condition(self);
                }
            }
            if let Some(((at, _), event)) = self.queue.pop_first() {
                self.now = self.now.max(at);
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: Event<M>) {
        let to = match &event {
            Event::Node { node, .. } | Event::Request { node, .. } => Some(*node),
            _ => None,
        };
        if let Some(node) = to {
            let state = &mut self.nodes[usize::from(node.0)];
            if state.paused && state.machine.is_some() {
                state.backlog.push(event);
                return;
            }
        }
        match event {
            Event::Node { node, life, input } => self.node_input(node, life, input),
            Event::Request { node, client, attempt, request } => self.request_arrives(node, client, attempt, request),
            Event::Client { client, attempt, event } => self.client_event(client, attempt, event),
            Event::Fault(fault) => self.fault(fault),
            Event::Fence { asker, life, node } => {
                self.crash(node);
                self.node_later(asker, life, Duration::from_millis(1), NodeInput::Fenced { node });
            }
        }
    }

    fn node_input(&mut self, node: NodeId, life: u64, input: NodeInput<M>) {
        let state = &mut self.nodes[usize::from(node.0)];
        if state.machine.is_none() {
            return;
        }
        // Messages reach whichever life is running; all else belongs to the life that asked.
        let same_life = state.life == life;
        match input {
            NodeInput::Message { from, message } => self.step(node, Input::Message { from, message }),
            NodeInput::Timer { timer, generation } => {
                if same_life && state.timers.get(&timer) == Some(&generation) {
                    state.timers.remove(&timer);
                    self.step(node, Input::Timer(timer));
                }
            }
            NodeInput::Synced { through } if same_life => {
                state.disk.synced(through);
                self.step(node, Input::Durable { through });
            }
            NodeInput::Fenced { node: off } if same_life => self.step(node, Input::Fenced { node: off }),
            NodeInput::Synced { .. } | NodeInput::Fenced { .. } => {}
        }
    }

    fn step(&mut self, node: NodeId, input: Input<M>) {
        let state = &mut self.nodes[usize::from(node.0)];
        let Some(machine) = state.machine.as_mut() else { return };
        let mut effects = Effects::default();
        let reading = state.clock.read(self.now);
        machine.step(input, reading, &mut effects);
        let status = machine.status(reading);
        let life = state.life;
        self.judge(node, life, status);
        for effect in effects.drain() {
            self.effect(node, life, effect);
        }
    }

    fn judge(&mut self, node: NodeId, life: u64, status: duress_machine::Status) {
        if status.role.leads() {
            let first = *self.leaders.entry(status.term).or_insert((node, life));
            if first != (node, life) {
                self.violations.push(format!("{} and {node} both lead in term {}", first.0, status.term));
            }
        }
        if status.commit_index > 0 {
            self.compare(node, status.commit_index, status.digest);
        }
    }

    fn compare(&mut self, node: NodeId, index: u64, digest: u64) {
        if *self.digests.entry(index).or_insert(digest) != digest {
            self.violations.push(format!("{node}'s digest at index {index} differs from another node's"));
        }
    }

    fn effect(&mut self, node: NodeId, life: u64, effect: Effect<M>) {
        match effect {
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::SetTimer { timer, after } => {
                let generation = self.next_step();
                let state = &mut self.nodes[usize::from(node.0)];
                state.timers.insert(timer, generation);
                let after = state.clock.true_time(after);
                self.node_later(node, life, after, NodeInput::Timer { timer, generation });
            }
            Effect::CancelTimer { timer } => {
                self.nodes[usize::from(node.0)].timers.remove(&timer);
            }
            Effect::Append { record } => self.nodes[usize::from(node.0)].disk.append(record),
            Effect::Rewrite { records } => self.nodes[usize::from(node.0)].disk.rewrite(records),
            Effect::Sync => {
                let takes = self.decide(&[2]).between(self.settings.sync.0, self.settings.sync.1);
                let now = self.now;
                let state = &mut self.nodes[usize::from(node.0)];
                let (through, at) = state.disk.sync(now + takes);
                self.node_later(node, life, at.saturating_sub(now), NodeInput::Synced { through });
            }
            Effect::Respond { id, response } => self.respond(node, id, response),
            Effect::Observe(observation) => {
                if let Observation::Committed { index, digest } = observation {
                    self.compare(node, index, digest);
                }
                self.observations.push((self.now, node, observation));
            }
            Effect::Fence { node: off } => {
                let delay = self.decide(&[3]).between(Duration::from_millis(1), Duration::from_millis(20));
                self.later(delay, Event::Fence { asker: node, life, node: off });
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: M::Message) {
        assert_ne!(from, to, "{from} sends to itself: {message:?}");
        self.messages += 1;
        if let Some(problem) = self.watch.and_then(|watch| watch(self, from, &message)) {
            self.violations.push(format!("{from} to {to}: {problem}"));
        }
        if self.cuts.contains(&(from, to)) || self.decide(&[4]).chance(self.settings.loss) {
            return;
        }
        if self.decide(&[5]).chance(self.settings.duplicate) {
            let again = self.decide(&[6]).between(self.settings.delay.0, self.settings.delay.1);
            let message = message.clone();
            self.node_later(to, 0, again, NodeInput::Message { from, message });
        }
        let delay = self.decide(&[7]).between(self.settings.delay.0, self.settings.delay.1);
        self.node_later(to, 0, delay, NodeInput::Message { from, message });
    }

    fn node_later(&mut self, node: NodeId, life: u64, after: Duration, input: NodeInput<M>) {
        self.later(after, Event::Node { node, life, input });
    }

    fn later(&mut self, after: Duration, event: Event<M>) {
        let step = self.next_step();
        self.queue.insert((self.now + after, step), event);
    }

    fn next_step(&mut self) -> u64 {
        self.steps += 1;
        self.steps
    }

    fn decide(&mut self, key: &[u64]) -> duress_seed::Decision {
        let step = self.next_step();
        let mut whole = vec![step];
        whole.extend_from_slice(key);
        Seed(self.settings.seed).decide(&whole)
    }
}
