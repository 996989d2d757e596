//! How a history's operations become a machine's requests, and answers become results.

use duress_history::{Op, Outcome, Process, Value};
use duress_machine::Machine;
use duress_machine::client::{self, Policy};
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
    /// What a client asks; `sequence` counts the operations of the process. Never called for
    /// an operation that the client does by itself, such as an access.
    fn request(&self, process: Process, sequence: u64, op: &Op) -> M::Request;

    /// What the end of a call means.
    fn completion(&self, op: &Op, outcome: client::Outcome<M::Response>) -> Done;

    /// How a client goes about its calls.
    fn policy(&self) -> Policy;

    /// Whether a client does best to go on asking the node that answered it last.
    fn sticky(&self) -> bool;

    /// Whether all nodes end up with the same log, so that their digests can be waited for.
    fn has_log(&self) -> bool;
}
