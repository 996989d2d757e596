//! Counters.

use duress_history::formats::{Function, Known, Operation, Value};
use stateright::semantics::SequentialSpec;

use super::cannot;
use super::object::{Call, Object};
use super::values::Values;

/// A counter and its count. Wide enough for any number of additions that fit in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counter(pub i128);

/// What can be asked of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// To count this, which may be negative.
    Add(i64),
    /// Its count.
    Read,
}

/// What a counter answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CounterRet {
    /// It was added.
    Done,
    /// The count.
    Count(i128),
}

impl SequentialSpec for Counter {
    type Op = CounterOp;
    type Ret = CounterRet;

    fn invoke(&mut self, op: &CounterOp) -> CounterRet {
        match op {
            CounterOp::Add(amount) => {
                self.0 += i128::from(*amount);
                CounterRet::Done
            }
            CounterOp::Read => CounterRet::Count(self.0),
        }
    }
}

/// Counters, one per key, zero at first.
pub(crate) struct Counters;

impl Object for Counters {
    type Spec = Counter;

    fn name(&self) -> &'static str {
        "counter"
    }

    fn about(&self) -> &'static str {
        "linearizable counters, zero at first: add n, increment, decrement, read -> count"
    }

    fn initial(&self) -> Counter {
        Counter(0)
    }

    fn calls(
        &self,
        operation: &Operation,
        known: Known<'_>,
        _: &mut Values,
        calls: &mut Vec<Call<Counter>>,
    ) -> Result<(), String> {
        let amount = |sign: i64| match &operation.op.value {
            Value::Nil => Ok(sign),
            Value::Int(n) => n.checked_mul(sign).ok_or_else(|| format!("{n} is too large an amount")),
            other => Err(format!("{other} is no whole number")),
        };
        let amount = match (&operation.op.f, known) {
            (Function::Read | Function::Get, Known::Happened(count)) => {
                let Some(count) = count.as_int() else { return Err(format!("a counter can't read {count}")) };
                calls.push(Call::look(CounterOp::Read, CounterRet::Count(count.into())));
                return Ok(());
            }
            (Function::Read | Function::Get, _) => return Ok(()),
            (Function::Add, _) if operation.op.value == Value::Nil => return Err("an add without an amount".into()),
            (Function::Add, _) => amount(1)?,
            (Function::Other(name), _) if matches!(name.as_str(), "increment" | "inc") => amount(1)?,
            (Function::Other(name), _) if matches!(name.as_str(), "decrement" | "dec") => amount(-1)?,
            _ => return cannot(operation, "add, increment, decrement and read"),
        };
        let done = matches!(known, Known::Happened(_)).then_some(CounterRet::Done);
        calls.push(Call::new(CounterOp::Add(amount), done));
        Ok(())
    }
}
