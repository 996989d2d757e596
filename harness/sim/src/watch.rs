//! Seeing a run as it happens.

use std::fmt::Debug;

use duress_history::Time;
use duress_machine::NodeId;

/// Something that happened inside the cluster. What clients ask and are told, and what is done to
/// the cluster, stands in the history.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A node's process runs, with so many records on its disk.
    Started {
        /// Which node.
        node: NodeId,
        /// How many records it recovered.
        records: usize,
    },
    /// A node sends a message.
    Sent {
        /// Who sends.
        from: NodeId,
        /// To whom.
        to: NodeId,
        /// What.
        message: &'a dyn Debug,
    },
    /// A message reaches a node.
    Received {
        /// Who sent it.
        from: NodeId,
        /// Who gets it.
        to: NodeId,
        /// What.
        message: &'a dyn Debug,
    },
    /// A message, or all that was in flight on a connection, is lost.
    Lost {
        /// Who sent it.
        from: NodeId,
        /// Who will not get it.
        to: NodeId,
        /// How many messages.
        messages: usize,
    },
    /// A timer fires.
    Timer {
        /// Which node.
        node: NodeId,
        /// Which timer.
        timer: &'a dyn Debug,
    },
    /// Everything a node had written up to here is on its disk.
    Synced {
        /// Which node.
        node: NodeId,
        /// The position of the last durable write of this life.
        through: u64,
    },
    /// A client's request reaches a node.
    Request {
        /// Which node.
        node: NodeId,
        /// What is asked.
        request: &'a dyn Debug,
    },
    /// A node answers a client.
    Answer {
        /// Which node.
        node: NodeId,
        /// What it says.
        response: &'a dyn Debug,
    },
    /// A node's process has ended.
    Down {
        /// Which node.
        node: NodeId,
    },
}

/// Sees everything that happens, in order. Whatever it does, it doesn't change the run.
pub trait Watch {
    /// Something happens.
    fn on(&mut self, at: Time, what: Happening<'_>);
}

impl<F: FnMut(Time, Happening<'_>)> Watch for F {
    fn on(&mut self, at: Time, what: Happening<'_>) {
        self(at, what);
    }
}
