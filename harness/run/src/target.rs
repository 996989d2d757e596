//! What a run needs to know of a system under test.

use std::ffi::OsString;
use std::net::Ipv4Addr;

use duress_history::{Fact, NodeReport, Op, Outcome, Process, Value};
use smol_str::SmolStr;
use thiserror::Error;

/// How to start a process of the target.
#[derive(Clone, Debug)]
pub struct ProcessPlan {
    /// Arguments for this same program.
    pub args: Vec<OsString>,
}

/// What a node said over its control channel.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeMessage {
    /// It is up: its status answers.
    Ready,
    /// It said something of itself.
    Report(NodeReport),
    /// It said something of itself that not every system has.
    Fact(Fact),
    /// It asks for another node, counted from zero, to be shut off.
    Fence(usize),
}

/// The frames that tell of a node's new address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// For every other node.
    pub for_nodes: Vec<u8>,
    /// For every client host.
    pub for_clients: Vec<u8>,
}

/// What a client host said over its control channel.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientReport {
    /// A call is over.
    Done {
        /// Which call.
        call: u64,
        /// How it ended.
        outcome: Outcome,
        /// What it gave back.
        result: Value,
        /// Why it did not succeed.
        error: Option<SmolStr>,
        /// The node that answered, counted from zero.
        node: Option<usize>,
        /// Its term, where the system has terms.
        term: Option<u64>,
    },
    /// A client writes to the resource that a lock protects, and waits for its answer.
    ResourceWrite {
        /// Which call.
        call: u64,
        /// The lock.
        lock: SmolStr,
        /// The token that it shows.
        token: u64,
    },
}

/// A process of the target said something that can't be understood.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct TargetError(pub String);

/// A system under test: how its processes are started, and what goes over their control channels.
///
/// Control channels carry frames (a length and that many bytes); the target gives the bytes their
/// meaning. It is told the addresses of all hosts whenever it has something to start.
pub trait Target: Send + Sync {
    /// How to start a node.
    ///
    /// # Errors
    /// When its configuration can't be written.
    fn node(&self, node: usize, addresses: &[Ipv4Addr], data_dir: &std::path::Path)
    -> Result<ProcessPlan, TargetError>;

    /// How to start the process that runs the clients of one client host.
    ///
    /// # Errors
    /// When its configuration can't be written.
    fn client_host(&self, addresses: &[Ipv4Addr]) -> Result<ProcessPlan, TargetError>;

    /// Reads a frame from a node. `None`: of no interest.
    ///
    /// # Errors
    /// When the frame means nothing.
    fn node_message(&self, node: usize, frame: &[u8]) -> Result<Option<NodeMessage>, TargetError>;

    /// What tells the others that a node has another address than before, the one in `addresses`;
    /// none if a node's address can't change while the others run.
    fn moved(&self, _node: usize, _addresses: &[Ipv4Addr]) -> Option<Moved> {
        None
    }

    /// The frame that tells a node that another one is off.
    fn fenced(&self, node: usize) -> Vec<u8>;

    /// The frame that has a client host carry out an operation: `sequence` counts the operations
    /// of the process, `first` is the node to ask first.
    fn invoke(&self, call: u64, process: Process, sequence: u64, op: &Op, first: usize) -> Vec<u8>;

    /// The frame that tells a client host how the resource answered: why it refused, or that it didn't.
    fn resource_answer(&self, call: u64, refused: Option<&str>) -> Vec<u8>;

    /// Reads a frame from a client host.
    ///
    /// # Errors
    /// When the frame means nothing.
    fn client_report(&self, frame: &[u8]) -> Result<ClientReport, TargetError>;

    /// Whether a client does best to go on asking the node that answered it last: so it is where
    /// one node serves everybody.
    fn sticky(&self) -> bool;

    /// Whether all nodes end up with the same log, so that their digests can be waited for.
    fn has_log(&self) -> bool;
}
