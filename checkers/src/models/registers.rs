//! Registers that are read, written, and compared and set; judged by [`crate::engine`].
//!
//! Of a run of ours [`crate::linearizable`] tells more: clients, nodes, times and faults. It is the
//! same engine, so that a history gets the same verdict whether it is live or was imported.

use duress_history::formats::{Function, Known, Operation, Value};

use super::object::{Call, Entries, Linearizable, Object};
use super::values::{NIL, Values};
use super::{cannot, pair};
use crate::budget::Deadline;
use crate::engine;
use crate::register::{Register, RegisterOp, RegisterRet};
use crate::wgl::Outcome;
use crate::{Judge, Report, Run, Settings, linearizable};

/// Judges registers, each history in the way that tells most of it.
pub(crate) struct Judged(pub Registers);

impl Judge for Judged {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn about(&self) -> &'static str {
        self.0.about()
    }

    fn judge(&self, run: &Run<'_>, settings: &Settings) -> Report {
        let known = |op| match RegisterOp::of(op) {
            Some(RegisterOp::Cas { .. }) => self.0.cas,
            found => found.is_some(),
        };
        // What has no meaning is told in the words that all models share.
        if run.foreign || !run.operations.iter().all(|operation| known(&operation.op)) {
            return Linearizable(self.0).judge(run, settings);
        }
        let report = linearizable::Linearizable::default().judge(run, settings);
        Report { checker: self.name().into(), ..report }
    }
}

/// Registers, at first `nil`.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    /// Whether there is a cas.
    pub cas: bool,
}

impl Object for Registers {
    type Spec = Register<u32>;

    fn name(&self) -> &'static str {
        if self.cas { "cas-register" } else { "register" }
    }

    fn about(&self) -> &'static str {
        if self.cas {
            "registers, one per key, nil at first: read, write v, cas [from to], which fails unless it finds from"
        } else {
            "registers, one per key, nil at first: read, write v"
        }
    }

    fn initial(&self) -> Register<u32> {
        Register(NIL)
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        values: &mut Values,
        calls: &mut Vec<Call<Register<u32>>>,
    ) -> Result<(), String> {
        // Porcupine's text has no nil: what has no value reads as the empty text.
        let mut number = |value: &Value| match value {
            Value::Text(text) if text.is_empty() && operation.op.f == Function::Get => NIL,
            value => values.number(value),
        };
        let done = matches!(known, Known::Happened(_)).then_some(RegisterRet::Done);
        calls.push(match (&operation.op.f, known) {
            (Function::Read | Function::Get, Known::Happened(value)) => {
                Call::look(RegisterOp::Read, RegisterRet::Value(number(value)))
            }
            (Function::Read | Function::Get, _) => return Ok(()),
            (Function::Write | Function::Put, _) => Call::new(RegisterOp::Write(number(&operation.op.value)), done),
            (Function::Cas, known) if self.cas => {
                let (from, to) = pair(operation)?;
                let op = RegisterOp::Cas { from: number(from), to: number(to) };
                match known {
                    Known::NotHeld(_) => Call::look(op, RegisterRet::Mismatch),
                    _ => Call::new(op, done),
                }
            }
            _ => return cannot(operation, if self.cas { "read, write and cas" } else { "read and write" }),
        });
        Ok(())
    }

    fn search(
        &self,
        entries: &Entries<Register<u32>>,
        deadline: Deadline,
        memory_bytes: usize,
        certify: bool,
    ) -> Outcome {
        engine::search_until(NIL, entries, deadline, memory_bytes, certify)
    }

    /// Reads go alone. Where there is no cas, all that is about one value goes together: what
    /// remains of an order is one.
    fn classes(&self, entries: &Entries<Register<u32>>) -> Vec<Option<u64>> {
        let chained = entries.iter().any(|entry| matches!(entry.op, RegisterOp::Cas { .. }));
        let class = |(at, entry): (usize, &crate::wgl::Entry<RegisterOp<u32>, RegisterRet<u32>>)| match &entry.op {
            RegisterOp::Write(value) if !chained => Some(u64::from(*value)),
            RegisterOp::Read if !chained => match &entry.returned {
                Some((_, RegisterRet::Value(value))) if *value != NIL => Some(u64::from(*value)),
                _ => Some(at as u64 + (1 << 32)),
            },
            _ => entry.passive.then_some(at as u64 + (1 << 32)),
        };
        entries.iter().enumerate().map(class).collect()
    }
}
