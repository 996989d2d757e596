//! Invocations and completions, put together.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{Client, Event, EventKind, Host, Op, Outcome, Process, Ret, Time};
use smol_str::SmolStr;

/// One operation, from invocation to completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked.
    pub process: Process,
    /// Where it ran and whom it asked first, when that is known.
    pub client: Option<Client>,
    /// What was asked.
    pub op: Op,
    /// When it was asked.
    pub invoked: Time,
    /// When it ended; `None` if its end was never recorded.
    pub completed: Option<Time>,
    /// How it ended; an end never recorded counts as [`Outcome::Info`].
    pub outcome: Outcome,
    /// What it gave back, if it happened.
    pub ret: Ret,
    /// Why it did not succeed.
    pub error: Option<SmolStr>,
    /// The node that answered.
    pub node: Option<Host>,
    /// The term in which it answered.
    pub term: Option<u64>,
}

/// A history that no run can have produced. Positions count events from zero.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// A process began an operation while another of its was in progress.
    #[error("event {at}: process {process} invokes an operation while its last one (event {earlier}) is still in progress", process = process.0)]
    Overlapping {
        /// Position of the second invocation.
        at: usize,
        /// Position of the first.
        earlier: usize,
        /// Whose.
        process: Process,
    },
    /// A completion without an invocation.
    #[error("event {at}: process {process} completes an operation that it never invoked", process = process.0)]
    NotInvoked {
        /// Position of the completion.
        at: usize,
        /// Whose.
        process: Process,
    },
    /// A completion of something else than was invoked.
    #[error("event {at}: process {process} completes another operation than it invoked at event {earlier}", process = process.0)]
    Different {
        /// Position of the completion.
        at: usize,
        /// Position of the invocation.
        earlier: usize,
        /// Whose.
        process: Process,
    },
    /// Time ran backwards.
    #[error("event {at}: its time is before that of the event ahead of it")]
    Backwards {
        /// Position of the event.
        at: usize,
    },
}

/// The operations of a history, in the order of their invocations.
pub fn operations(events: &[Event]) -> Result<Vec<Operation>, Malformed> {
    let mut found: Vec<Operation> = Vec::new();
    // process → (position of its invocation, index in `found`)
    let mut open: BTreeMap<Process, (usize, usize)> = BTreeMap::new();
    let mut last = Time(0);
    for (at, event) in events.iter().enumerate() {
        if event.time < last {
            return Err(Malformed::Backwards { at });
        }
        last = event.time;
        match &event.kind {
            EventKind::Invoke(invocation) => {
                let process = invocation.process;
                if let Some((earlier, _)) = open.insert(process, (at, found.len())) {
                    return Err(Malformed::Overlapping { at, earlier, process });
                }
                found.push(Operation {
                    process,
                    client: invocation.client.clone(),
                    op: invocation.op.clone(),
                    invoked: event.time,
                    completed: None,
                    outcome: Outcome::Info,
                    ret: Ret::Done,
                    error: None,
                    node: None,
                    term: None,
                });
            }
            EventKind::Complete(completion) => {
                let process = completion.process;
                let (earlier, index) = open.remove(&process).ok_or(Malformed::NotInvoked { at, process })?;
                let operation = &mut found[index];
                if operation.op != completion.op {
                    return Err(Malformed::Different { at, earlier, process });
                }
                operation.completed = Some(event.time);
                operation.outcome = completion.outcome;
                operation.ret = completion.ret.clone();
                operation.error = completion.error.clone();
                operation.node = completion.node.clone();
                operation.term = completion.term;
            }
            _ => {}
        }
    }
    Ok(found)
}
