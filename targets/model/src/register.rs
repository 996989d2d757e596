//! The sequential register that histories are compared with, as a stateright reference object.

use duress_kv::api::Value;
use stateright::semantics::SequentialSpec;

/// A register that may be unset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Register(Option<Value>);

/// What is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Read,
    Write(Value),
    /// Sets an unset register.
    SetFirst(Value),
}

/// What it gives back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Return {
    Value(Option<Value>),
    Done,
    /// A cas met this value instead.
    Mismatch(Option<Value>),
    /// The operation certainly had no effect and never will. Always allowed.
    Refused,
}

impl SequentialSpec for Register {
    type Op = Operation;
    type Ret = Return;

    fn invoke(&mut self, operation: &Operation) -> Return {
        match operation {
            Operation::Read => Return::Value(self.0.clone()),
            Operation::SetFirst(_) if self.0.is_some() => Return::Mismatch(self.0.clone()),
            Operation::Write(value) | Operation::SetFirst(value) => {
                self.0 = Some(value.clone());
                Return::Done
            }
        }
    }

    fn is_valid_step(&mut self, operation: &Operation, given: &Return) -> bool {
        *given == Return::Refused || self.invoke(operation) == *given
    }
}
