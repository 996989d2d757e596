//! Follows a run's history as it grows, for `--stop-on-violation`.

use std::collections::BTreeMap;

use duress_checkers::Budget;
use duress_checkers::engine::online::{Online, State};
use duress_checkers::register::RegisterOp;
use duress_history::{EventKind, Outcome, Value};
use duress_run::Onlooker;

/// How much following one event may cost. A register that needs more is not followed any more;
/// the whole history is judged afterwards all the same.
const BUDGET: Budget = Budget { time: std::time::Duration::from_millis(200), memory_bytes: 64 << 20 };

/// One that has seen enough when a register's operations can't be ordered.
pub(crate) fn registers() -> Onlooker {
    let mut keys: BTreeMap<Option<Value>, u32> = BTreeMap::new();
    let mut values = BTreeMap::from([(Value::Nil, 0)]);
    let mut online = Online::new(0, BUDGET);
    Box::new(move |event| {
        let mut value = |value: &Value| {
            let next = values.len() as u32;
            *values.entry(value.clone()).or_insert(next)
        };
        match &event.kind {
            EventKind::Invoke(invocation) => {
                let op = match RegisterOp::of(&invocation.op) {
                    Some(RegisterOp::Read) => RegisterOp::Read,
                    Some(RegisterOp::Write(to)) => RegisterOp::Write(value(to)),
                    Some(RegisterOp::Cas { from, to }) => RegisterOp::Cas { from: value(from), to: value(to) },
                    None => return false,
                };
                let next = keys.len() as u32;
                let key = *keys.entry(invocation.op.key.clone()).or_insert(next);
                online.invoke(invocation.process.0, key, op);
                false
            }
            EventKind::Complete(completion) => {
                let process = completion.process.0;
                let violation = match completion.outcome {
                    Outcome::Ok if completion.op.f.reads() => online.ok(process, Some(value(&completion.result))),
                    Outcome::Ok => online.ok(process, None),
                    Outcome::Fail => online.fail(process),
                    Outcome::Info => {
                        online.info(process);
                        None
                    }
                };
                violation.is_some_and(|violation| matches!(online.state(violation.key), State::Invalid(_)))
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use duress_history::{Completion, Event, Invocation, Process, Time};

    use super::*;

    /// What an onlooker says to each of a writer's and a reader's steps, one after the other.
    fn says(read: Value) -> Vec<bool> {
        let (write, read_it) = (RegisterOp::Write(Value::Int(1)).on("x"), RegisterOp::Read.on("x"));
        let mut look = registers();
        let mut step = |kind| look(&Event { time: Time(0), kind });
        let mut said = Vec::new();
        for (process, op, result) in [(1, write, Value::Nil), (2, read_it, read)] {
            let process = Process(process);
            said.push(step(EventKind::Invoke(Invocation { process, client: None, op: op.clone() })));
            let outcome = Outcome::Ok;
            let completion = Completion { process, outcome, op, result, error: None, node: None, term: None };
            said.push(step(EventKind::Complete(completion)));
        }
        said
    }

    #[test]
    fn a_stale_read_is_seen_when_it_returns() {
        assert_eq!(says(Value::Int(1)), [false; 4]);
        assert_eq!(says(Value::Nil), [false, false, false, true]);
    }
}
