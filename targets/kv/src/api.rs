//! What clients of the bundled service ask and are told, in every mode.

use std::time::Duration;

use duress_machine::NodeId;
use duress_machine::client::{Answer, Disposition};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A key of the key-value store.
pub type Key = SmolStr;
/// A value of the key-value store.
pub type Value = SmolStr;
/// The name of a lock.
pub type LockName = SmolStr;

/// Proof of having been granted a lock. Strictly increasing per lock in a correct service, so a
/// resource that refuses tokens older than the newest it has seen is safe from late holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

/// A client identity. Each has at most one request in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub u64);

/// One request. The pair (`client`, `sequence`) names it: a repetition carries the same pair, and
/// the modes that promise exactly-once apply it once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Who asks.
    pub client: ClientId,
    /// Strictly increasing from one request of a client to its next.
    pub sequence: u64,
    /// What is asked.
    pub op: Op,
}

/// The operations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    /// The value of a key.
    Read {
        /// The key.
        key: Key,
    },
    /// Sets a key.
    Write {
        /// The key.
        key: Key,
        /// Its new value.
        value: Value,
    },
    /// Sets a key if it holds `from` (`None`: is unset).
    Cas {
        /// The key.
        key: Key,
        /// What it must hold.
        from: Option<Value>,
        /// Its new value.
        to: Value,
    },
    /// Every key that starts with `prefix`, with its value, as the node asked knows it: never
    /// redirected. In the log-based modes this is the node's own applied state; in quorum mode
    /// the node coordinates a read of R replicas.
    Scan {
        /// What the keys start with.
        prefix: Key,
    },
    /// Asks for a lock. Refused at once when somebody holds it; no queue.
    Acquire {
        /// The lock.
        lock: LockName,
        /// How long the lock is held unless renewed.
        lease: Duration,
    },
    /// Extends the lease of a held lock to `lease` from now.
    Renew {
        /// The lock.
        lock: LockName,
        /// From the acquisition.
        token: Token,
        /// The new lease.
        lease: Duration,
    },
    /// Gives a lock back.
    Release {
        /// The lock.
        lock: LockName,
        /// From the acquisition.
        token: Token,
    },
}

impl Op {
    /// Whether the operation leaves the state as it is.
    pub fn is_read(&self) -> bool {
        matches!(self, Op::Read { .. } | Op::Scan { .. })
    }

    /// About how many bytes the operation takes in a message, for bounding messages.
    pub fn size(&self) -> usize {
        // Lengths, a token, a lease.
        16 + match self {
            Op::Read { key } => key.len(),
            Op::Write { key, value } => key.len() + value.len(),
            Op::Cas { key, from, to } => key.len() + from.as_ref().map_or(0, |from| from.len()) + to.len(),
            Op::Scan { prefix } => prefix.len(),
            Op::Acquire { lock, .. } | Op::Renew { lock, .. } | Op::Release { lock, .. } => lock.len(),
        }
    }
}

/// An answer, with who gave it in which term: evidence for the split-brain checker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Response {
    /// The node that answers.
    pub node: NodeId,
    /// Its term, view or ballot when it answered.
    pub term: u64,
    /// What it says.
    pub result: Result<Reply, Refusal>,
}

/// What a successful operation gives back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reply {
    /// The value read; `None` when the key is unset.
    Value(Option<Value>),
    /// Keys and values, in key order.
    Entries(Vec<(Key, Value)>),
    /// A write, cas, renewal or release took effect.
    Done,
    /// A lock was granted.
    Granted(Token),
}

/// Why an operation did not succeed. Every refusal but [`Unknown`](Refusal::Unknown) is definite:
/// this attempt had no effect and never will.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// This node doesn't lead; perhaps `leader` does.
    NotLeader {
        /// Whom to ask instead.
        leader: Option<NodeId>,
    },
    /// This node can't serve now (starting, no majority in sight, view change); try again.
    Unavailable,
    /// The key holds something else.
    CasMismatch {
        /// What it holds.
        actual: Option<Value>,
    },
    /// Somebody else holds the lock.
    LockHeld,
    /// The token is not that of the present holder, or its lease has run out.
    NotHolder,
    /// This mode doesn't have this operation.
    NotSupported,
    /// A request of this client with a higher sequence number has already been seen.
    Superseded,
    /// The request was begun and nobody knows whether it will take effect.
    Unknown,
}

impl Refusal {
    /// Whether the attempt certainly had and will have no effect.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Refusal::Unknown)
    }

    /// A short stable name, for histories and HTTP.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::NotLeader { .. } => "not-leader",
            Refusal::Unavailable => "unavailable",
            Refusal::CasMismatch { .. } => "cas-mismatch",
            Refusal::LockHeld => "lock-held",
            Refusal::NotHolder => "not-holder",
            Refusal::NotSupported => "not-supported",
            Refusal::Superseded => "superseded",
            Refusal::Unknown => "unknown",
        }
    }
}

impl Answer for Response {
    fn disposition(&self) -> Disposition {
        match &self.result {
            Ok(_) => Disposition::Ok,
            Err(Refusal::NotLeader { leader: Some(leader) }) => Disposition::Redirect(*leader),
            Err(Refusal::NotLeader { leader: None } | Refusal::Unavailable) => Disposition::Retry,
            // An earlier life of the request may have taken effect.
            Err(Refusal::Unknown | Refusal::Superseded) => Disposition::Unknown,
            Err(_) => Disposition::Fail,
        }
    }
}
