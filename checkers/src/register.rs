//! The register that reads, writes and compare-and-sets are judged by.

use duress_history::{Function, Op, Value};
use stateright::semantics::SequentialSpec;

/// A register and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register<V = Value>(pub V);

impl Default for Register<Value> {
    /// An unset register.
    fn default() -> Self {
        Register(Value::Nil)
    }
}

/// What can be asked of a register.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOp<V = Value> {
    /// Its value.
    Read,
    /// Sets it.
    Write(V),
    /// Sets it to `to` if it holds `from`.
    Cas {
        /// What it must hold.
        from: V,
        /// Its new value.
        to: V,
    },
}

/// What a register answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterRet<V = Value> {
    /// It was set.
    Done,
    /// It holds this.
    Value(V),
    /// It was not set, because it holds something else.
    Mismatch,
}

impl RegisterOp<Value> {
    /// As an operation of a history, on this register.
    pub fn on(self, key: impl Into<Value>) -> Op {
        match self {
            RegisterOp::Read => Op::on(Function::Read, key, Value::Nil),
            RegisterOp::Write(value) => Op::on(Function::Write, key, value),
            RegisterOp::Cas { from, to } => Op::on(Function::Cas, key, vec![from, to]),
        }
    }
}

impl<'a> RegisterOp<&'a Value> {
    /// What a history's operation asks of a register, if it is about one.
    pub fn of(op: &'a Op) -> Option<RegisterOp<&'a Value>> {
        match (&op.f, &op.value) {
            (Function::Read | Function::Get, _) => Some(RegisterOp::Read),
            (Function::Write | Function::Put, value) => Some(RegisterOp::Write(value)),
            (Function::Cas, value) => match value.as_sequence() {
                Some([from, to]) => Some(RegisterOp::Cas { from, to }),
                _ => None,
            },
            _ => None,
        }
    }

    /// What it sets the register to, if it takes effect.
    pub fn sets(&self) -> Option<&'a Value> {
        match self {
            RegisterOp::Read => None,
            RegisterOp::Write(value) => Some(value),
            RegisterOp::Cas { to, .. } => Some(to),
        }
    }
}

impl<V: Clone + PartialEq> SequentialSpec for Register<V> {
    type Op = RegisterOp<V>;
    type Ret = RegisterRet<V>;

    fn invoke(&mut self, op: &RegisterOp<V>) -> RegisterRet<V> {
        match op {
            RegisterOp::Read => RegisterRet::Value(self.0.clone()),
            RegisterOp::Write(value) => {
                self.0 = value.clone();
                RegisterRet::Done
            }
            RegisterOp::Cas { from, to } if self.0 == *from => {
                self.0 = to.clone();
                RegisterRet::Done
            }
            RegisterOp::Cas { .. } => RegisterRet::Mismatch,
        }
    }
}
