//! What the nodes say to each other, and what they write down.

use std::time::Duration;

use duress_machine::NodeId;
use serde::{Deserialize, Serialize};

use crate::api::{ClientId, Key, LockName, Value};

/// One round of a coordinator: a question to several replicas. Never reused, not even after a
/// restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoundId {
    /// The coordinator.
    pub node: NodeId,
    /// Which of its lives.
    pub life: u64,
    /// Counts the rounds of a life.
    pub number: u64,
}

/// Orders the writes of a key. No two writes have the same tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// A counter, or nanoseconds of the coordinator's wall clock.
    pub time: u64,
    /// The write's round; its coordinator decides between equal times.
    pub round: RoundId,
}

/// What nodes say to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Message {
    /// A coordinator asks a replica.
    Ask {
        /// The coordinator's round.
        round: RoundId,
        /// What.
        ask: Ask,
    },
    /// A replica answers. All that the answer speaks of is durable.
    Answer {
        /// The coordinator's round.
        round: RoundId,
        /// What.
        answer: Answer,
    },
    /// Read repair: a newer value than the one you answered with. Not answered.
    Repair {
        /// The key.
        key: Key,
        /// Its tag.
        tag: Tag,
        /// Its value.
        value: Value,
    },
}

/// What a coordinator asks of a replica. Each may be repeated without harm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// A key's tag and value.
    Query {
        /// The key.
        key: Key,
    },
    /// Keep this unless you have something newer.
    Store {
        /// The key.
        key: Key,
        /// Its tag.
        tag: Tag,
        /// Its value.
        value: Value,
    },
    /// A page of the keys with a prefix.
    Scan {
        /// The prefix.
        prefix: Key,
        /// Only keys greater than this.
        after: Option<Key>,
    },
    /// The greatest token ever used for a lock, and whether it is held.
    Token {
        /// The lock.
        lock: LockName,
    },
    /// Grant a lease.
    Grant {
        /// The lock.
        lock: LockName,
        /// Greater than every token seen.
        token: u64,
        /// For whom.
        client: ClientId,
        /// For how long, from the replica's acceptance.
        lease: Duration,
    },
    /// Extend a lease.
    Extend {
        /// The lock.
        lock: LockName,
        /// Its token.
        token: u64,
        /// Whose it is.
        client: ClientId,
        /// For how long, from the replica's acceptance.
        lease: Duration,
    },
    /// End a lease.
    Free {
        /// The lock.
        lock: LockName,
        /// Its token.
        token: u64,
        /// Whose it is.
        client: ClientId,
    },
    /// Take back a grant that didn't reach a majority.
    Abandon {
        /// The lock.
        lock: LockName,
        /// The round that granted.
        granted: RoundId,
    },
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// To `Query`; `None` when the key is unset.
    Value(Option<(Tag, Value)>),
    /// To `Store`: this tag or a greater one is kept.
    Stored,
    /// To `Scan`.
    Page {
        /// In key order.
        entries: Vec<(Key, Tag, Value)>,
        /// There are more keys behind the last one.
        more: bool,
    },
    /// To `Token`.
    Token {
        /// The greatest token ever used for the lock; zero for none.
        highest: u64,
        /// An unexpired lease stands in the way.
        held: bool,
    },
    /// To `Grant`, `Extend` and `Free`.
    Lease {
        /// Whether it was done.
        granted: bool,
    },
}

/// What a node writes down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// The node began another life.
    Life {
        /// Its number.
        life: u64,
    },
    /// A register was set.
    Register {
        /// The key.
        key: Key,
        /// Its tag.
        tag: Tag,
        /// Its value.
        value: Value,
    },
    /// A lock's state.
    Lock {
        /// The lock.
        lock: LockName,
        /// The greatest token ever used.
        highest: u64,
        /// The lease, if there is one.
        lease: Option<Lease>,
    },
}

/// A lease as written down: without the time of its end, which means nothing to the next life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Its token.
    pub token: u64,
    /// Whose it is.
    pub client: ClientId,
    /// The round that granted it.
    pub granted: RoundId,
    /// The longest time that it was granted or extended for.
    pub length: Duration,
    /// The round that ended it early.
    pub ended: Option<RoundId>,
}
