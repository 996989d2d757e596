//! Histories for `porcupine-rs`.

use duress_checkers::engine::{self, History, PENDING};
use porcupine_rs::{Model, Operation, check_operations};

/// A register.
#[derive(Clone)]
pub(crate) struct Register;

impl Model for Register {
    type State = u32;
    type Op = engine::Operation;
    type Metadata = ();

    fn partition_operations(history: &[Operation<Self>]) -> Vec<Vec<Operation<Self>>> {
        let keys = history.iter().map(|operation| operation.op.key as usize + 1).max().unwrap_or(0);
        let mut parts = vec![Vec::new(); keys];
        for operation in history {
            parts[operation.op.key as usize].push(operation.clone());
        }
        parts
    }

    fn init() -> u32 {
        0
    }

    fn step(state: &u32, op: &engine::Operation) -> (bool, u32) {
        crate::step(op, *state).map_or((false, *state), |after| (true, after))
    }
}

pub(crate) fn input(history: &History) -> Vec<Operation<Register>> {
    let operation = |op: &engine::Operation| Operation {
        client_id: None,
        call_time: op.invoked.into(),
        return_time: if op.returned == PENDING {
            i64::from(PENDING) + i64::from(op.invoked)
        } else {
            op.returned.into()
        },
        op: *op,
        metadata: None,
    };
    history.operations.iter().map(operation).collect()
}

pub(crate) fn is_linearizable(history: Vec<Operation<Register>>) -> bool {
    check_operations(&history)
}
