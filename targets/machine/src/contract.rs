//! [`Machine`], its inputs and its effects.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use duress_history::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::wal;

/// A member of a target, counted from zero. Shown as `n1`, `n2`, ….
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0 + 1)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names a client request that waits for its [`Effect::Respond`]. Chosen by the driver, unique
/// within one life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// What the node's two clocks show when an input is handled. Either may be skewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// Wall clock: time since the Unix epoch. May jump either way.
    pub wall: Duration,
    /// Monotonic clock: time since an origin of the node's own. Never goes backwards within one
    /// life of a node; means nothing to another node or another life.
    pub monotonic: Duration,
}

/// A bundled node's protocol, as a pure state machine.
///
/// The driver calls [`step`](Machine::step) with one input at a time and carries out the effects
/// in the order in which they were pushed. `Input::Started` comes first and exactly once.
///
/// `Clone + Eq + Hash` let a model checker store states; keep derived or cached data out of them
/// or make it a function of the rest.
pub trait Machine: Clone + Eq + Hash + fmt::Debug + Send + Sized + 'static {
    /// Fixed for the life of the cluster: membership, options, timeouts, seed.
    type Config: Clone + fmt::Debug + Send;
    /// What nodes say to each other.
    type Message: Clone + Ord + Hash + fmt::Debug + Serialize + DeserializeOwned + Send;
    /// What is written to the log.
    type Record: Clone + Eq + Hash + fmt::Debug + Serialize + DeserializeOwned + Send;
    /// Names a timer. Setting a timer that is already set moves it.
    type Timer: Copy + Ord + Hash + fmt::Debug + Send;
    /// What a client asks.
    type Request: Clone + Eq + Hash + fmt::Debug + Serialize + DeserializeOwned + Send;
    /// What a client is told.
    type Response: Clone + Eq + Hash + fmt::Debug + Serialize + DeserializeOwned + Send;

    /// A node that has not been started.
    fn new(config: &Self::Config, me: NodeId) -> Self;

    /// Handles one input. Must not panic on any message, request or recovered log that decodes.
    fn step(&mut self, input: Input<Self>, now: Reading, effects: &mut Effects<Self>);

    /// What the node says of itself at this moment.
    fn status(&self, now: Reading) -> Status;

    /// Reads the log's bytes for [`Input::Started`]. Every machine reads them with
    /// [`wal::recover`], unless a bug is planted here.
    ///
    /// # Errors
    /// If the log is damaged in a way that no crash explains.
    fn read_log(config: &Self::Config, bytes: &[u8]) -> Result<wal::Recovered<Self::Record>, wal::Damage> {
        let _ = config;
        wal::recover(bytes)
    }
}

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<M: Machine> {
    /// The node starts, with every record that its log held, oldest first. After a crash that may
    /// be fewer than were appended, but never fewer than were reported durable.
    Started {
        /// The log's records: everything since the last [`Effect::Rewrite`].
        recovered: Vec<M::Record>,
    },
    /// A message arrived. Messages may be lost, delayed, duplicated and reordered across
    /// connections; the sender is authentic.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: M::Message,
    },
    /// A timer set by [`Effect::SetTimer`] has run out.
    Timer(M::Timer),
    /// A client asks for something and waits for [`Effect::Respond`] with the same id.
    Request {
        /// Names the waiting client.
        id: RequestId,
        /// What it asks.
        request: M::Request,
    },
    /// Every log write up to and including the `through`-th of this life (appends and rewrites,
    /// counted from one in the order of their effects) has reached the disk.
    Durable {
        /// Counts [`Effect::Append`] and [`Effect::Rewrite`] since the node started.
        through: u64,
    },
    /// The controller has shut off `node` and saw it dead: the answer to [`Effect::Fence`].
    Fenced {
        /// The node that is off. It may be started again later.
        node: NodeId,
    },
}

/// What a node wants done. Effects of one step are carried out in order.
///
/// **Ordering contract.** `Append` and `Rewrite` change the log's contents but promise nothing
/// about the disk: after a crash they may be gone, wholly or in part. `Sync` asks for an
/// [`Input::Durable`] once everything before it is on disk. Whatever must not be said before it is
/// durable is *held by the machine* until that input; [`Journal`] does so. No driver delays a
/// `Send` or `Respond` for the disk's sake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect<M: Machine> {
    /// Send a message to another node; may be lost. Never sent to oneself.
    Send {
        /// The receiver.
        to: NodeId,
        /// What to say.
        message: M::Message,
    },
    /// Ask for [`Input::Timer`] after this much of the node's monotonic time.
    SetTimer {
        /// Names the timer; replaces an earlier one of the same name.
        timer: M::Timer,
        /// How long from now.
        after: Duration,
    },
    /// Forget a timer, if it is set.
    CancelTimer {
        /// Names the timer.
        timer: M::Timer,
    },
    /// Append a record to the log.
    Append {
        /// The record.
        record: M::Record,
    },
    /// Replace the log's whole contents, atomically: after a crash either the old log or the new
    /// one is recovered. This is how the log is truncated and snapshots are kept.
    Rewrite {
        /// The new contents, oldest first.
        records: Vec<M::Record>,
    },
    /// Ask for [`Input::Durable`] through the last write before this effect. The driver may
    /// answer several with one input.
    Sync,
    /// Answer a client.
    Respond {
        /// The waiting client.
        id: RequestId,
        /// The answer.
        response: M::Response,
    },
    /// Say something out of band about oneself.
    Observe(Observation),
    /// Ask the controller, out of band, to shut off another node ("pull the plug"). Answered by
    /// [`Input::Fenced`] when that has happened; may never be answered.
    Fence {
        /// The node to shut off.
        node: NodeId,
    },
}

/// The list that a step pushes its effects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Effects<M: Machine>(Vec<Effect<M>>);

impl<M: Machine> Default for Effects<M> {
    fn default() -> Self {
        Effects(Vec::new())
    }
}

impl<M: Machine> Effects<M> {
    /// Adds an effect.
    pub fn push(&mut self, effect: Effect<M>) {
        self.0.push(effect);
    }

    /// Adds a message.
    pub fn send(&mut self, to: NodeId, message: M::Message) {
        self.push(Effect::Send { to, message });
    }

    /// Adds a timer.
    pub fn set_timer(&mut self, timer: M::Timer, after: Duration) {
        self.push(Effect::SetTimer { timer, after });
    }

    /// Adds an answer.
    pub fn respond(&mut self, id: RequestId, response: M::Response) {
        self.push(Effect::Respond { id, response });
    }

    /// Adds an observation.
    pub fn observe(&mut self, observation: Observation) {
        self.push(Effect::Observe(observation));
    }

    /// Takes the effects out, in order, leaving the list empty and its memory in place.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect<M>> {
        self.0.drain(..)
    }

    /// The effects pushed so far.
    pub fn as_slice(&self) -> &[Effect<M>] {
        &self.0
    }
}

/// The part a node plays, as it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Started, not yet taking part.
    Recovering,
    /// Follows a leader.
    Follower,
    /// Tries to become leader.
    Candidate,
    /// Leads a consensus group.
    Leader,
    /// Receives a primary's log.
    Backup,
    /// Serves clients and sends its log to backups.
    Primary,
    /// One of equals, in a leaderless system.
    Replica,
    /// A part that only this system has, such as `holder`. Nobody leads by it.
    Own(RoleName),
}

/// The name of a part that only one system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleName(pub &'static str);

impl Serialize for RoleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for RoleName {
    /// Every name is kept once and for good: there are only a few.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RoleName, D::Error> {
        static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
        let name = String::deserialize(deserializer)?;
        let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(name) = known.get(name.as_str()) {
            return Ok(RoleName(name));
        }
        let name: &'static str = name.leak();
        known.insert(name);
        Ok(RoleName(name))
    }
}

impl Role {
    /// Whether the node believes that it leads.
    pub fn leads(self) -> bool {
        matches!(self, Role::Leader | Role::Primary)
    }

    /// Whether the node may serve by itself: because it leads, or because nobody does.
    pub fn may_serve(self) -> bool {
        self.leads() || matches!(self, Role::Replica | Role::Own(_))
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Recovering => "recovering",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Backup => "backup",
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::Own(RoleName(name)) => name,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Status {
    /// Its part.
    pub role: Role,
    /// The term, view or ballot it is in, as one growing number; zero in a leaderless system.
    /// At most one node may lead in a term.
    pub term: u64,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// How many log entries it knows to be committed and has applied; zero in a leaderless system.
    pub commit_index: u64,
    /// Digest of the committed state: of all entries up to `commit_index` in order, or of the
    /// whole key space in a leaderless system.
    pub digest: u64,
}

/// Something that a node says out of band.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Observation {
    /// Its role, term or leader changed.
    Status(Status),
    /// It has applied the log up to `index`; said at every index that is a multiple of an
    /// interval all nodes share, so that two nodes' digests can be compared.
    Committed {
        /// The index of the last entry applied.
        index: u64,
        /// Digest of all entries up to it, in order.
        digest: u64,
    },
    /// Something that only this system has to say: that it holds token 7.
    Fact {
        /// What it is about: a short stable name such as `holds-token`.
        what: SmolStr,
        /// What it says.
        value: Value,
    },
}
