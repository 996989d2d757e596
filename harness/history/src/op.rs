//! Operations and their results.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// A logical single-threaded client identity (Jepsen's sense). It has at most one operation in
/// progress, and is never used again after an indeterminate one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Process(pub u64);

/// A value that an operation carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing: an unset key.
    Nil,
    /// A whole number.
    Int(i64),
    /// Anything else, as text.
    Text(SmolStr),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Int(i) => write!(f, "{i}"),
            Value::Text(t) => write!(f, "{t:?}"),
        }
    }
}

/// What an operation asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Op {
    /// The value of a register.
    Read {
        /// The register.
        key: SmolStr,
    },
    /// Sets a register.
    Write {
        /// The register.
        key: SmolStr,
        /// Its new value.
        value: Value,
    },
    /// Sets a register if it holds `from`.
    Cas {
        /// The register.
        key: SmolStr,
        /// What it must hold.
        from: Value,
        /// Its new value.
        to: Value,
    },
    /// Adds an element to the set. Each element is added at most once.
    Add {
        /// The element.
        element: i64,
    },
    /// All elements of the set, as the process's node knows them.
    Elements,
    /// Asks for a lock.
    Acquire {
        /// The lock.
        lock: SmolStr,
        /// How long it is held unless renewed.
        lease_ms: u64,
    },
    /// Extends a lock's lease.
    Renew {
        /// The lock.
        lock: SmolStr,
        /// From the acquisition.
        token: u64,
        /// The new lease, from the moment of renewal.
        lease_ms: u64,
    },
    /// Gives a lock back.
    Release {
        /// The lock.
        lock: SmolStr,
        /// From the acquisition.
        token: u64,
    },
    /// Uses the resource that a lock protects: the client checks that its lease still runs by its
    /// own clock, works for a while, then writes to the resource with its token.
    Access {
        /// The lock.
        lock: SmolStr,
        /// From the acquisition.
        token: u64,
        /// How long the client works between its check and its write.
        work_ms: u64,
    },
}

impl Op {
    /// The operation's short name: `read`, `write`, ….
    pub fn name(&self) -> &'static str {
        match self {
            Op::Read { .. } => "read",
            Op::Write { .. } => "write",
            Op::Cas { .. } => "cas",
            Op::Add { .. } => "add",
            Op::Elements => "elements",
            Op::Acquire { .. } => "acquire",
            Op::Renew { .. } => "renew",
            Op::Release { .. } => "release",
            Op::Access { .. } => "access",
        }
    }

    /// The register or lock that the operation is about.
    pub fn key(&self) -> Option<&SmolStr> {
        match self {
            Op::Read { key } | Op::Write { key, .. } | Op::Cas { key, .. } => Some(key),
            Op::Acquire { lock, .. } | Op::Renew { lock, .. } | Op::Release { lock, .. } | Op::Access { lock, .. } => {
                Some(lock)
            }
            Op::Add { .. } | Op::Elements => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Read { key } => write!(f, "read {key}"),
            Op::Write { key, value } => write!(f, "write {key} = {value}"),
            Op::Cas { key, from, to } => write!(f, "cas {key} {from} -> {to}"),
            Op::Add { element } => write!(f, "add {element}"),
            Op::Elements => f.write_str("elements"),
            Op::Acquire { lock, lease_ms } => write!(f, "acquire {lock} for {lease_ms} ms"),
            Op::Renew { lock, token, .. } => write!(f, "renew {lock} token {token}"),
            Op::Release { lock, token } => write!(f, "release {lock} token {token}"),
            Op::Access { lock, token, .. } => write!(f, "access {lock} token {token}"),
        }
    }
}

/// What a successful operation gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ret {
    /// Nothing but success.
    #[default]
    Done,
    /// The value read.
    Value(Value),
    /// The elements of the set.
    Elements(Vec<i64>),
    /// The fencing token of a granted lock.
    Token(u64),
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ret::Done => f.write_str("ok"),
            Ret::Value(value) => value.fmt(f),
            Ret::Elements(elements) => write!(f, "{} elements", elements.len()),
            Ret::Token(token) => write!(f, "token {token}"),
        }
    }
}
