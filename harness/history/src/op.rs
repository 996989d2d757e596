//! Operations: what was asked, by name, of which key, with which value.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::Value;

/// A logical single-threaded client identity (Jepsen's sense). It has at most one operation in
/// progress, and is never used again after an indeterminate one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Process(pub u64);

/// What an operation does, by the name that histories give it (Jepsen's `:f`). The names that many
/// workloads share are known by themselves; any other is [`Function::Other`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Function {
    /// `read`, also `r`.
    Read,
    /// `write`, also `w`.
    Write,
    /// `cas`, its value `[from to]`.
    Cas,
    /// `add`: an element to a set, or an amount to a counter.
    Add,
    /// `get` of a key.
    Get,
    /// `put` of a key.
    Put,
    /// `append` to a key's text or list.
    Append,
    /// `enqueue`.
    Enqueue,
    /// `dequeue`.
    Dequeue,
    /// `drain`: dequeues all that is left.
    Drain,
    /// `acquire` of a lock.
    Acquire,
    /// `release` of a lock.
    Release,
    /// `txn`: a list of micro-operations.
    Txn,
    /// `transfer` between accounts.
    Transfer,
    /// `generate` of a unique id.
    Generate,
    /// Any other name.
    Other(SmolStr),
}

impl Function {
    /// The function of a name.
    pub fn named(name: &str) -> Function {
        match name {
            "read" | "r" => Function::Read,
            "write" | "w" => Function::Write,
            "cas" => Function::Cas,
            "add" => Function::Add,
            "get" => Function::Get,
            "put" => Function::Put,
            "append" => Function::Append,
            "enqueue" => Function::Enqueue,
            "dequeue" => Function::Dequeue,
            "drain" => Function::Drain,
            "acquire" => Function::Acquire,
            "release" => Function::Release,
            "txn" => Function::Txn,
            "transfer" => Function::Transfer,
            "generate" => Function::Generate,
            other => Function::Other(other.into()),
        }
    }

    /// A function whose name is none of the common ones.
    pub const fn other(name: &'static str) -> Function {
        Function::Other(SmolStr::new_static(name))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Function::Read => "read",
            Function::Write => "write",
            Function::Cas => "cas",
            Function::Add => "add",
            Function::Get => "get",
            Function::Put => "put",
            Function::Append => "append",
            Function::Enqueue => "enqueue",
            Function::Dequeue => "dequeue",
            Function::Drain => "drain",
            Function::Acquire => "acquire",
            Function::Release => "release",
            Function::Txn => "txn",
            Function::Transfer => "transfer",
            Function::Generate => "generate",
            Function::Other(name) => name,
        }
    }

    /// Whether it asks without changing anything.
    pub fn reads(&self) -> bool {
        matches!(self, Function::Read | Function::Get)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Function {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Function {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Function::named(&SmolStr::deserialize(deserializer)?))
    }
}

/// What an operation asks, in the form that every history has it.
///
/// Workloads have typed operations of their own and convert here, once; judges read what they know
/// by its name. Which key and which value a name takes is said by the workload and by the judges
/// that know it: a cas has `[from to]`, a transaction a list of micro-operations, and so on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op {
    /// What it does.
    pub f: Function,
    /// Of which register, lock, queue, …; none where there is only one.
    pub key: Option<Value>,
    /// With what.
    pub value: Value,
}

/// The keys of what the harness itself asks, to see whether a target serves, begin so. No workload's do.
pub const PROBES: &str = "probe-";

impl Op {
    /// Whether the harness asked it, and no workload.
    pub fn is_probe(&self) -> bool {
        self.key_text().is_some_and(|key| key.starts_with(PROBES))
    }

    /// An operation without a key.
    pub fn new(f: Function, value: impl Into<Value>) -> Op {
        Op { f, key: None, value: value.into() }
    }

    /// An operation on a key.
    pub fn on(f: Function, key: impl Into<Value>, value: impl Into<Value>) -> Op {
        Op { f, key: Some(key.into()), value: value.into() }
    }

    /// The operation's short name: `read`, `write`, ….
    pub fn name(&self) -> &str {
        self.f.name()
    }

    /// What it gave back, in words: `ok`, `token 3`, `17 elements`, or the value.
    pub fn answer(&self, result: &Value) -> String {
        match (&self.f, result) {
            (f, Value::Nil) if !f.reads() => "ok".into(),
            (Function::Acquire, Value::Int(token)) => format!("token {token}"),
            (Function::Read, result) if self.key.is_none() => match result.as_elements() {
                Some(elements) => format!("{} elements", elements.len()),
                None => result.to_string(),
            },
            (_, result) => result.to_string(),
        }
    }

    /// The key as text, where it is one.
    pub fn key_text(&self) -> Option<&SmolStr> {
        match &self.key {
            Some(Value::Text(key)) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for Op {
    /// `read x`, `write x = 3`, `cas x 1 -> 2`, `acquire l for 500 ms`, `release l token 3`, …:
    /// the values of a map after the names that have a phrase, others as they are written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match &self.key {
            Some(Value::Text(key)) => write!(f, " {key}")?,
            Some(key) => write!(f, " {key}")?,
            None => {}
        }
        match (&self.f, &self.value) {
            (_, Value::Nil) => Ok(()),
            (Function::Write | Function::Put, value) if self.key.is_some() => write!(f, " = {value}"),
            (Function::Cas, Value::Vector(pair)) if pair.len() == 2 => write!(f, " {} -> {}", pair[0], pair[1]),
            (Function::Release, token @ Value::Int(_)) => write!(f, " token {token}"),
            (_, value) => match (value.get("token"), value.get("lease-ms")) {
                (Some(token), _) => write!(f, " token {token}"),
                (None, Some(lease)) => write!(f, " for {lease} ms"),
                (None, None) => write!(f, " {value}"),
            },
        }
    }
}

impl Serialize for Op {
    /// As text: a map of `f`, and of `key` and `value` where there are any. Binary: all three.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        if !serializer.is_human_readable() {
            return (&self.f, &self.key, &self.value).serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("f", &self.f)?;
        if let Some(key) = &self.key {
            map.serialize_entry("key", key)?;
        }
        if !self.value.is_nil() {
            map.serialize_entry("value", &self.value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Op {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            let (f, key, value) = Deserialize::deserialize(deserializer)?;
            return Ok(Op { f, key, value });
        }
        stored::Op::deserialize(deserializer).map(Op::from)
    }
}

/// Operations as they are stored: those of format 2 as they are, those of format 1, which was a
/// closed list of nine, by their fields.
mod stored {
    use serde::Deserialize;
    use smol_str::SmolStr;

    use super::Function;
    use crate::Value;

    #[derive(Deserialize)]
    pub(super) struct Op {
        f: SmolStr,
        #[serde(default, deserialize_with = "given")]
        key: Option<Value>,
        #[serde(default)]
        value: Value,
        #[serde(default, deserialize_with = "given")]
        from: Option<Value>,
        #[serde(default, deserialize_with = "given")]
        to: Option<Value>,
        #[serde(default, deserialize_with = "given")]
        element: Option<Value>,
        #[serde(default, deserialize_with = "given")]
        lock: Option<Value>,
        #[serde(default, deserialize_with = "given")]
        lease_ms: Option<Value>,
        #[serde(default, deserialize_with = "given")]
        token: Option<Value>,
        #[serde(default, deserialize_with = "given")]
        work_ms: Option<Value>,
    }

    /// A field that is there, though it be null.
    fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
        Value::deserialize(deserializer).map(Some)
    }

    impl From<Op> for super::Op {
        fn from(old: Op) -> super::Op {
            let f = if old.f == "elements" { Function::Read } else { Function::named(&old.f) };
            if let (Some(from), Some(to)) = (old.from, old.to) {
                return super::Op { f, key: old.key, value: Value::Vector(vec![from, to]) };
            }
            let key = old.lock.or(old.key);
            let value = match (old.element, old.lease_ms, old.token, old.work_ms) {
                (None, None, None, None) => old.value,
                (Some(element), ..) => element,
                (None, None, Some(token), None) => token,
                (None, lease, token, work) => {
                    let named = |name: &'static str, value: Option<Value>| Some((Value::keyword(name), value?));
                    let fields = [named("lease-ms", lease), named("token", token), named("work-ms", work)];
                    Value::Map(fields.into_iter().flatten().collect())
                }
            };
            super::Op { f, key, value }
        }
    }
}
