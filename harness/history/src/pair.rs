//! Invocations and completions, put together.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{Event, EventKind, Moment, Operation, Outcome, Process, Time, Value};

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

/// The operations of a history, in the order of their invocations. Lines are those that the events
/// have when they are stored.
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
        let moment = Moment { index: at as u64, time_ns: i64::try_from(event.time.0).ok(), line: at + 1 };
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
                    result: None,
                    invoked: moment,
                    completed: None,
                    outcome: Outcome::Info,
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
                operation.completed = Some(moment);
                operation.outcome = completion.outcome;
                operation.result = (completion.outcome == Outcome::Ok).then(|| match &completion.result {
                    Value::Nil => operation.op.value.clone(),
                    result => result.clone(),
                });
                operation.error = completion.error.clone().map(Value::Keyword);
                operation.node = completion.node.clone();
                operation.term = completion.term;
            }
            _ => {}
        }
    }
    Ok(found)
}
