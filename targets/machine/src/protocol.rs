//! A machine as a target: its options, and its clients' requests in the words of histories.
//!
//! Whoever implements [`Protocol`] for a [`Machine`] has a process of it, the simulated world and
//! the model checker for nothing: they all ask in [`Op`]s and are told [`Reply`]s.

use duress_history::{Op, Value};
use duress_plug::{Opts, Target};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::client::{Answer, Disposition, Outcome};
use crate::{Machine, NodeId};

/// Who asks, and which of its requests this is. A repetition of a request carries the same pair, so
/// a service can apply it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Asker {
    /// The client. Each has at most one request in progress.
    pub client: u64,
    /// Strictly increasing from one request of a client to its next.
    pub sequence: u64,
}

/// A machine that is a target.
pub trait Protocol: Machine<Config: Serialize + DeserializeOwned, Response: Answer> {
    /// What it says of itself: name, options, promises.
    fn target() -> &'static dyn Target;

    /// The configuration that options ask for; what it draws at random, it draws from `seed`.
    fn config(options: &Opts, seed: u64) -> Self::Config;

    /// An operation as a request; `None` of one that this service doesn't have.
    fn request(who: Asker, op: &Op) -> Option<Self::Request>;

    /// What an answer to a request for `op` means. One that is no answer to it at all is
    /// [`Reply::wrong`].
    fn reply(op: &Op, response: &Self::Response) -> Reply;
}

/// What a client is told, in the words of histories.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What it means for the call.
    pub disposition: Disposition,
    /// What the operation gave back, if it took effect.
    pub result: Value,
    /// Why it did not: a short stable name.
    pub error: Option<SmolStr>,
    /// Who answers.
    pub node: Option<NodeId>,
    /// In which term, where the service has terms.
    pub term: Option<u64>,
}

impl Reply {
    /// It took effect and gave this back.
    pub fn ok(result: impl Into<Value>) -> Reply {
        Reply { disposition: Disposition::Ok, result: result.into(), error: None, node: None, term: None }
    }

    /// It did not take effect, or nobody knows, by the disposition, for this reason.
    pub fn refused(disposition: Disposition, error: impl Into<SmolStr>) -> Reply {
        Reply { disposition, error: Some(error.into()), ..Reply::ok(Value::Nil) }
    }

    /// An answer to another question: nobody knows what happened to this one.
    pub fn wrong() -> Reply {
        Reply::refused(Disposition::Unknown, "wrong-answer")
    }

    /// The same, by this node in this term.
    pub fn by(self, node: NodeId, term: impl Into<Option<u64>>) -> Reply {
        Reply { node: Some(node), term: term.into(), ..self }
    }
}

impl Answer for Reply {
    fn disposition(&self) -> Disposition {
        self.disposition
    }
}

/// How a call ended, in the words of histories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub outcome: duress_history::Outcome,
    /// What the operation gave back.
    pub result: Value,
    /// Why it did not succeed.
    pub error: Option<SmolStr>,
    /// Who answered.
    pub node: Option<NodeId>,
    /// In which term.
    pub term: Option<u64>,
}

impl From<Outcome<Reply>> for Ended {
    fn from(outcome: Outcome<Reply>) -> Ended {
        use duress_history::Outcome::{Fail, Info, Ok};
        let (outcome, reply, silence) = match outcome {
            // Whoever answered in another's stead is unknown; so is what happened.
            Outcome::Ok { answer, .. } => (Ok, Some(answer), ""),
            Outcome::Failed { answer } => (Fail, answer, "unreachable"),
            Outcome::Unknown { answer } => (Info, answer, "timeout"),
        };
        let Some(Reply { result, error, node, term, .. }) = reply else {
            return Ended {
                outcome,
                result: Value::Nil,
                error: Some(SmolStr::new_static(silence)),
                node: None,
                term: None,
            };
        };
        match outcome {
            Ok => Ended { outcome, result, error: None, node, term },
            _ => {
                let error = error.or(Some(SmolStr::new_static(silence)));
                Ended { outcome, result: Value::Nil, error, node, term }
            }
        }
    }
}
