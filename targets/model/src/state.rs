//! A state of the explored cluster. Parts that most steps leave alone are shared between states
//! and carry their hash, so that a step costs little more than what it changes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use duress_kv::api::Response;
use duress_machine::{Machine, NodeId, RequestId};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

use crate::register::{Operation, Register, Return};

/// A value with its hash, cheap to clone.
pub(crate) struct Shared<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T: Hash> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        // Its keys are fixed: the same in every run.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Shared { hash: hasher.finish(), value: Arc::new(value) }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared { hash: self.hash, value: self.value.clone() }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value)
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A node: its machine, its timers and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node<M: Machine> {
    pub machine: M,
    /// When each timer that is set runs out.
    pub timers: BTreeMap<M::Timer, Duration>,
    /// What a crash leaves.
    pub log: Vec<M::Record>,
    /// What of this life a crash may take, oldest first.
    pub unsynced: Vec<Write<M>>,
    /// Counts the writes of this life.
    pub written: u64,
    /// How many of them the machine wants to be durable.
    pub asked: u64,
    /// How many of them are.
    pub durable: u64,
}

/// A change of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Write<M: Machine> {
    Append(M::Record),
    Rewrite(Vec<M::Record>),
}

impl<M: Machine> Node<M> {
    pub(crate) fn new(machine: M, log: Vec<M::Record>) -> Self {
        Node { machine, timers: BTreeMap::new(), log, unsynced: Vec::new(), written: 0, asked: 0, durable: 0 }
    }

    /// Whether the machine waits for its disk.
    pub(crate) fn syncing(&self) -> bool {
        self.asked > self.durable
    }

    /// Puts the oldest writes on disk, down to what remains.
    pub(crate) fn reach_disk(&mut self, count: usize) {
        for write in self.unsynced.drain(..count) {
            match write {
                Write::Append(record) => self.log.push(record),
                Write::Rewrite(records) => self.log = records,
            }
        }
    }
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Envelope<T> {
    pub from: NodeId,
    pub to: NodeId,
    pub message: T,
}

/// A client, following its script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// Operations that ended, for certain.
    pub ended: u8,
    /// Those of them that succeeded.
    pub succeeded: u8,
    /// How often the present operation was asked for; zero if there is none.
    pub tried: u8,
}

/// What clients asked and were told.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct History {
    pub tester: LinearizabilityTester<u8, Register>,
    pub linearizable: bool,
}

// Every part of it is compared by value; stateright's tester merely doesn't say so.
impl Eq for History {}

impl History {
    pub(crate) fn new() -> Self {
        History { tester: LinearizabilityTester::new(Register::default()), linearizable: true }
    }

    /// The driver keeps to the tester's rules: one operation of a client at a time.
    pub(crate) fn invoke(&mut self, client: u8, operation: Operation) {
        self.tester.on_invoke(client, operation).expect("a client asks for one thing at a time");
    }

    pub(crate) fn give(&mut self, client: u8, given: Return) {
        self.tester.on_return(client, given).expect("only what was asked is answered");
        self.linearizable = self.linearizable && self.tester.is_consistent();
    }
}

/// What has been used of the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Used {
    pub timeouts: u8,
    pub crashes: u8,
    pub duplicates: u8,
    pub retries: u8,
}

/// The whole cluster with its clients.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct State<M: Machine> {
    pub nodes: Vec<Shared<Node<M>>>,
    /// Messages on their way, by link; those of a link in the order in which they may arrive.
    pub network: Vec<Shared<Envelope<M::Message>>>,
    /// Who asked the controller to shut off whom.
    pub fences: BTreeSet<(NodeId, NodeId)>,
    /// Every node's monotonic clock.
    pub clock: Duration,
    pub clients: Vec<Client>,
    /// Answers on their way to clients: only if clients may ask again.
    pub answers: BTreeMap<RequestId, Response>,
    pub history: Shared<History>,
    /// Who has led in each term.
    pub led: BTreeMap<u64, NodeId>,
    /// A term in which two have.
    pub led_twice: Option<u64>,
    pub used: Used,
}

impl<M: Machine> Clone for State<M> {
    fn clone(&self) -> Self {
        State {
            nodes: self.nodes.clone(),
            network: self.network.clone(),
            fences: self.fences.clone(),
            clients: self.clients.clone(),
            answers: self.answers.clone(),
            history: self.history.clone(),
            led: self.led.clone(),
            ..*self
        }
    }
}
