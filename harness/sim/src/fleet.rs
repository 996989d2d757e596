//! What the world knows of the machines that it runs.
//!
//! The world is compiled once, whatever the target. Everything that has a type of the target's own
//! (the machines, what they say to each other, write, are asked and answer) is kept by a [`Fleet`];
//! the world carries [`Held`]s about instead, and asks the fleet where it must know more. [`Typed`]
//! is the fleet of any machine, and the only thing here that is compiled anew for each of them.
//!
//! [`Typed`]: crate::Typed

use std::fmt::Debug;
use std::time::Duration;

use duress_history::{Op, Process};
use duress_machine::client::{Disposition, Outcome, Policy};
use duress_machine::wal::{Damage, Recovered};
use duress_machine::{NodeId, Observation, Reading, RequestId, Status};

use crate::{Digest, Done};

/// A message, a request, an answer or a log record that a fleet keeps. Whoever has it hands it on or
/// [frees](Store::free) it: it can be neither copied nor used twice. What is forgotten is kept until
/// the run is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Held(pub(crate) u32);

/// What happens to a node, as in [`duress_machine::Input`]. Its start is [`Fleet::start`].
#[derive(Debug)]
pub enum Input {
    /// A message arrives.
    Message {
        /// Who sent it.
        from: NodeId,
        /// What it says.
        message: Held,
    },
    /// A timer runs out: the one that [`Effect::SetTimer`] gave this number. It is not set any more.
    Timer(u32),
    /// A client asks.
    Request {
        /// Names the waiting client.
        id: RequestId,
        /// What it asks.
        request: Held,
    },
    /// Writes are on the disk.
    Durable {
        /// Up to this one of the node's life.
        through: u64,
    },
    /// A node was shut off.
    Fenced {
        /// Which.
        node: NodeId,
    },
}

/// What a node wants done, as in [`duress_machine::Effect`].
#[derive(Debug)]
pub enum Effect {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Held,
    },
    /// Set a timer, or set it anew.
    SetTimer {
        /// Its number, which is the node's own and is used again when the timer is no longer set.
        timer: u32,
        /// How long from now.
        after: Duration,
    },
    /// Forget a timer that is set.
    CancelTimer {
        /// Its number.
        timer: u32,
    },
    /// Append to the log.
    Append {
        /// The record.
        record: Held,
    },
    /// Replace the log.
    Rewrite {
        /// By these records.
        records: Vec<Held>,
    },
    /// Make durable what was written.
    Sync,
    /// Answer a client.
    Respond {
        /// Which.
        id: RequestId,
        /// The answer.
        response: Held,
    },
    /// Say something of itself.
    Observe(Observation),
    /// Have a node shut off.
    Fence {
        /// Which.
        node: NodeId,
    },
}

/// Keeps what the world carries about.
pub trait Store {
    /// The same once more.
    fn copy(&mut self, what: &Held) -> Held;

    /// It is not needed any more.
    fn free(&mut self, what: Held);

    /// How many bytes it takes when it is encoded. Encodes it to count them.
    fn size(&self, what: &Held) -> usize;

    /// It, for people to read.
    fn show(&self, what: &Held) -> &dyn Debug;
}

/// Turns log records into bytes and back.
pub trait Logs: Store {
    /// Appends a record's frame to `bytes`, as [`wal::encode`](duress_machine::wal::encode).
    fn encode(&self, record: &Held, synced: u64, bytes: &mut Vec<u8>);

    /// Reads a log's bytes, as [`Machine::read_log`](duress_machine::Machine::read_log).
    ///
    /// # Errors
    /// If the log is damaged in a way that no crash explains.
    fn read_log(&mut self, bytes: &[u8]) -> Result<Recovered<Held>, Damage>;
}

/// The machines of a cluster and the clients' side of their service.
///
/// What it is given as [`Held`] comes from itself. It forgets everything at
/// [`reset`](Fleet::reset); until then whatever panicked in it, the machine of the node that it was
/// told to step did.
pub trait Fleet: Logs {
    /// A run begins, of so many nodes. None has a machine.
    fn reset(&mut self, nodes: usize);

    /// A node's process begins. It is [started](Fleet::start) next.
    fn create(&mut self, node: NodeId);

    /// The node is started with the records of its log, oldest first.
    fn start(
        &mut self,
        node: NodeId,
        log: &mut dyn ExactSizeIterator<Item = &Held>,
        now: Reading,
        effects: &mut Vec<Effect>,
    );

    /// The node handles an input, which is folded into `digest` first. Its effects are appended, in
    /// order. Nothing happens if there is no process.
    fn step(&mut self, node: NodeId, input: Input, now: Reading, digest: &mut Digest, effects: &mut Vec<Effect>);

    /// The node's process is gone, and its timers with it.
    fn end(&mut self, node: NodeId);

    /// What a node says of itself, if it has a process.
    fn status(&self, node: NodeId, now: Reading) -> Option<Status>;

    /// A timer that is set, for people to read.
    fn show_timer(&self, node: NodeId, timer: u32) -> &dyn Debug;

    /// What a client asks; see [`Service::request`](crate::Service::request).
    fn request(&mut self, process: Process, sequence: u64, op: &Op) -> Option<Held>;

    /// A client is answered: what that means for its call. The answer is folded into `digest`.
    fn answered(&self, response: &Held, digest: &mut Digest) -> Disposition;

    /// What the end of a call means; see [`Service::completion`](crate::Service::completion).
    fn completion(&mut self, op: &Op, outcome: Outcome<Held>) -> Done;

    /// How a client goes about its calls.
    fn policy(&self) -> Policy;

    /// Whether a client does best to go on asking the node that answered it last.
    fn sticky(&self) -> bool;

    /// Whether all nodes end up with the same log, so that their digests can be waited for.
    fn has_log(&self) -> bool;
}
