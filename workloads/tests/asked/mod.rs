//! What generators ask for, in types.

use duress_checkers::mutex::LockOp;
use duress_checkers::register::RegisterOp;
use duress_history::{Op, Value};
use smol_str::SmolStr;

/// An operation of one of the workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Read { key: SmolStr },
    Write { key: SmolStr, value: Value },
    Cas { key: SmolStr, from: Value, to: Value },
    Add { element: i64 },
    Elements,
    Acquire { lock: SmolStr, lease_ms: u64 },
    Renew { lock: SmolStr, token: u64, lease_ms: u64 },
    Release { lock: SmolStr, token: u64 },
    Access { lock: SmolStr, token: u64, work_ms: u64 },
}

/// What an operation asks for.
pub(crate) fn asked(op: &Op) -> Asked {
    let Some(key) = op.key_text().cloned() else {
        return match op.name() {
            "add" => Asked::Add { element: op.value.as_int().expect("a whole number") },
            "read" => Asked::Elements,
            other => panic!("nobody asks for {other} without a key"),
        };
    };
    match (RegisterOp::of(op), LockOp::of(op)) {
        (Some(RegisterOp::Read), _) => Asked::Read { key },
        (Some(RegisterOp::Write(value)), _) => Asked::Write { key, value: value.clone() },
        (Some(RegisterOp::Cas { from, to }), _) => Asked::Cas { key, from: from.clone(), to: to.clone() },
        (None, Some(LockOp::Acquire { lease_ms })) => Asked::Acquire { lock: key, lease_ms },
        (None, Some(LockOp::Renew { token, lease_ms })) => Asked::Renew { lock: key, token, lease_ms },
        (None, Some(LockOp::Release { token })) => Asked::Release { lock: key, token },
        (None, Some(LockOp::Access { token, work_ms })) => Asked::Access { lock: key, token, work_ms },
        (None, None) => panic!("nobody asks for {op}"),
    }
}
