//! How a history's operations become a machine's requests, and answers become results.

use duress_history::{Op, Outcome, Process, Value};
use duress_machine::client::{self, Disposition, Policy};
use duress_machine::{Asker, Ended, Machine, Protocol};
use smol_str::SmolStr;

/// How an operation ended, in a history's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// How it ended.
    pub outcome: Outcome,
    /// What it gave back.
    pub result: Value,
    /// Why it did not succeed: a short stable name.
    pub error: Option<SmolStr>,
    /// The node that answered, counted from zero.
    pub node: Option<usize>,
    /// Its term, where the system has terms.
    pub term: Option<u64>,
}

/// The client's side of a target that runs the machine `M`: the twin of what a client host of the
/// real world does for the same target.
pub trait Service<M: Machine> {
    /// What a client asks; `sequence` counts the operations of the process. `None` of an operation
    /// that the service doesn't have. Never called for one that the client does by itself, such as
    /// an access.
    fn request(&self, process: Process, sequence: u64, op: &Op) -> Option<M::Request>;

    /// What the end of a call means.
    fn completion(&self, op: &Op, outcome: client::Outcome<M::Response>) -> Done;

    /// How a client goes about its calls.
    fn policy(&self) -> Policy;

    /// Whether a client does best to go on asking the node that answered it last.
    fn sticky(&self) -> bool;

    /// Whether all nodes end up with the same log, so that their digests can be waited for.
    fn has_log(&self) -> bool;
}

/// The clients of any machine that is a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    /// How they go about their calls.
    pub policy: Policy,
    /// Whether one does best to go on asking the node that answered it last.
    pub sticky: bool,
    /// Whether all nodes end up with the same log.
    pub has_log: bool,
}

impl<P: Protocol> Service<P> for Clients {
    fn request(&self, process: Process, sequence: u64, op: &Op) -> Option<P::Request> {
        P::request(Asker { client: process.0, sequence }, op)
    }

    fn completion(&self, op: &Op, outcome: client::Outcome<P::Response>) -> Done {
        let reply = |answer: P::Response| P::reply(op, &answer);
        let outcome = match outcome {
            client::Outcome::Ok { answer, node } => match reply(answer) {
                answer if answer.disposition == Disposition::Ok => client::Outcome::Ok { answer, node },
                // An answer to another question: nobody knows what happened to this one.
                wrong => client::Outcome::Unknown { answer: Some(wrong) },
            },
            client::Outcome::Failed { answer } => client::Outcome::Failed { answer: answer.map(reply) },
            client::Outcome::Unknown { answer } => client::Outcome::Unknown { answer: answer.map(reply) },
        };
        let Ended { outcome, result, error, node, term } = outcome.into();
        Done { outcome, result, error, node: node.map(|node| usize::from(node.0)), term }
    }

    fn policy(&self) -> Policy {
        self.policy
    }

    fn sticky(&self) -> bool {
        self.sticky
    }

    fn has_log(&self) -> bool {
        self.has_log
    }
}
