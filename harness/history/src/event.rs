//! One thing that happened in a run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::{Host, Op, Process, Time, Value};

/// One thing that happened, and when. Events of a history are in the order of their times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub time: Time,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventKind {
    /// The first event of every history.
    Header(Header),
    /// A process begins an operation.
    Invoke(Invocation),
    /// An operation is over.
    Complete(Completion),
    /// A fault was applied or healed.
    Fault(FaultEvent),
    /// What was measured of a fault.
    Evidence(Evidence),
    /// A node said something of itself out of band.
    Observation(NodeReport),
    /// Something else that a node said of itself, or that was observed of it.
    Fact(Fact),
    /// The run enters a phase.
    Phase {
        /// Which one.
        phase: Phase,
    },
}

/// What the run is, as far as judging its history needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the history's format.
    pub version: u32,
    /// The scenario's name.
    pub scenario: SmolStr,
    /// The run's seed.
    pub seed: u64,
    /// The members of the target.
    pub nodes: Vec<Host>,
    /// The client hosts.
    pub clients: Vec<Host>,
    /// Wall-clock time of the run's beginning, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
}

impl Header {
    /// The version that this crate writes, and the newest that it reads. Version 1 had a closed list
    /// of nine operations.
    pub const VERSION: u32 = 2;
}

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client {
    /// The client host that it runs on.
    pub host: Host,
    /// The node that it asks first.
    pub node: Host,
}

/// The beginning of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Who asks.
    pub process: Process,
    /// Where it runs and whom it asks, when that is known.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub client: Option<Client>,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It did not happen and never will.
    Fail,
    /// Nobody knows.
    Info,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Info => "info",
        })
    }
}

/// The end of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "stored::Completion")]
pub struct Completion {
    /// Who asked.
    pub process: Process,
    /// How it ended.
    pub outcome: Outcome,
    /// What was asked.
    #[serde(flatten)]
    pub op: Op,
    /// What it gave back, if it happened; `nil` is nothing but success, or a value that is `nil`.
    #[serde(skip_serializing_if = "Value::is_nil")]
    pub result: Value,
    /// Why it did not succeed: a short stable name such as `timeout` or `lock-held`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<SmolStr>,
    /// The node that answered.
    #[serde(rename = "by", skip_serializing_if = "Option::is_none")]
    pub node: Option<Host>,
    /// The term in which it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
}

/// Completions as they are stored, in format 1 too.
mod stored {
    use serde::Deserialize;
    use smol_str::SmolStr;

    use crate::{Host, Op, Outcome, Process, Value};

    #[derive(Deserialize)]
    pub(super) struct Completion {
        process: Process,
        outcome: Outcome,
        #[serde(flatten)]
        op: Op,
        #[serde(default)]
        result: Value,
        #[serde(default)]
        ret: Option<Ret>,
        #[serde(default)]
        error: Option<SmolStr>,
        #[serde(default)]
        by: Option<Host>,
        #[serde(default)]
        term: Option<u64>,
    }

    /// A result of format 1.
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Ret {
        Done,
        Value(Value),
        Elements(Value),
        Token(Value),
    }

    impl From<Completion> for super::Completion {
        fn from(stored: Completion) -> super::Completion {
            let Completion { process, outcome, op, result, ret, error, by: node, term } = stored;
            let result = match ret {
                None => result,
                Some(Ret::Done) => Value::Nil,
                Some(Ret::Value(value) | Ret::Elements(value) | Ret::Token(value)) => value,
            };
            super::Completion { process, outcome, op, result, error, node, term }
        }
    }
}

/// Whether a fault begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The fault has been applied: in force from here on.
    Start,
    /// The fault has been healed: no longer in force.
    End,
}

/// A fault was applied or healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultEvent {
    /// Names the fault within the run; its start, end and evidence share it.
    pub fault: u64,
    /// Start or end.
    pub stage: Stage,
    /// `partition`, `crash`, `pause`, ….
    pub kind: SmolStr,
    /// The fault in words: "partition: n1 | n2 n3".
    pub what: String,
    /// The hosts that were hit.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hosts: Vec<Host>,
    /// The directed links that were hit, as (from, to).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub links: Vec<(Host, Host)>,
}

/// What was measured of a fault: it took effect, or it was healed, or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Which fault.
    pub fault: u64,
    /// After which of its stages this was measured.
    pub stage: Stage,
    /// Whether the measurement shows what the stage claims.
    pub proven: bool,
    /// The measurement in words.
    pub what: String,
    /// The measurement in numbers, such as `frames_dropped`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub measured: BTreeMap<SmolStr, f64>,
}

/// What a node said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Which node.
    pub node: Host,
    /// Its role, where it has one: `leader`, `backup`, ….
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<SmolStr>,
    /// Whether it believes that it leads.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub leads: bool,
    /// Its term, view or ballot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub term: Option<u64>,
    /// Whom it takes for the leader.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leader: Option<Host>,
    /// A position of its log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub index: Option<u64>,
    /// Digest of everything committed up to `index`.
    #[serde(skip_serializing_if = "Option::is_none", default, with = "hex")]
    pub digest: Option<u64>,
}

/// Something that a node said of itself, or that was observed of it, out of band: that it is in the
/// critical section, that it decided commit, that it holds token 7. What many systems have (roles,
/// terms, digests) is a [`NodeReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Which node.
    pub node: Host,
    /// What it is about: a short stable name such as `holds-token`.
    pub what: SmolStr,
    /// What it says.
    #[serde(default)]
    pub value: Value,
}

/// The parts of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The workload runs and faults are injected.
    Main,
    /// Everything is healed; waiting until the target answers again.
    Recovery,
    /// The target answers again; final reads.
    Final,
    /// The run came to its end; a history without this event was cut short.
    End,
}

/// Digests as hexadecimal text: JSON numbers above 2^53 are read wrongly by many programs.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(digest: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => serializer.collect_str(&format_args!("{digest:016x}")),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let text = <Option<std::borrow::Cow<'de, str>>>::deserialize(deserializer)?;
        text.map(|t| u64::from_str_radix(&t, 16).map_err(serde::de::Error::custom)).transpose()
    }
}
