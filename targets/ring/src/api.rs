//! What clients ask and are told.

use std::time::Duration;

use duress_machine::client::{Answer, Disposition};
use duress_machine::{Asker, NodeId};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Who asks.
    pub who: Asker,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// The critical section, under any name: the ring has one. Refused at once when the node has the
    /// token and somebody holds the section; waits for the token otherwise.
    Acquire {
        /// What the client calls it.
        lock: SmolStr,
        /// How long it is held unless renewed.
        lease: Duration,
    },
    /// To hold it for so long from now.
    Renew {
        /// What the client calls it.
        lock: SmolStr,
        /// From the acquisition.
        token: u64,
        /// The new lease.
        lease: Duration,
    },
    /// To give it back.
    Release {
        /// What the client calls it.
        lock: SmolStr,
        /// From the acquisition.
        token: u64,
    },
    /// Whether the node knows of a token that goes round.
    Ping,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Response {
    /// Who answers.
    pub node: NodeId,
    /// What it says.
    pub result: Result<Granted, Refusal>,
}

/// What a successful request gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Granted {
    /// The section, with this token number.
    Token(u64),
    /// Nothing.
    Done,
}

/// Why a request did not succeed. Each is definite: it had no effect and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// Somebody else holds the section.
    LockHeld,
    /// The asker doesn't hold it, or not any more.
    NotHolder,
    /// The token is not here; perhaps it is there.
    Elsewhere(Option<NodeId>),
    /// The token did not come in time.
    Unavailable,
}

impl Refusal {
    /// A short stable name.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::LockHeld => "lock-held",
            Refusal::NotHolder => "not-holder",
            Refusal::Elsewhere(_) => "elsewhere",
            Refusal::Unavailable => "unavailable",
        }
    }
}

impl Answer for Response {
    fn disposition(&self) -> Disposition {
        match self.result {
            Ok(_) => Disposition::Ok,
            Err(Refusal::Elsewhere(Some(node))) => Disposition::Redirect(node),
            Err(Refusal::Elsewhere(None) | Refusal::Unavailable) => Disposition::Retry,
            Err(Refusal::LockHeld | Refusal::NotHolder) => Disposition::Fail,
        }
    }
}
