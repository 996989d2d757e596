//! Histories for `todc-utils`.

use duress_checkers::engine::{self, PENDING};
use rayon::prelude::*;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

/// A register.
pub(crate) struct Register;

impl Specification for Register {
    type State = u32;
    type Operation = engine::Operation;

    fn init() -> u32 {
        0
    }

    fn apply(operation: &engine::Operation, state: &u32) -> (bool, u32) {
        crate::step(operation, *state).map_or((false, *state), |after| (true, after))
    }
}

pub(crate) fn input(history: &engine::History) -> Vec<History<engine::Operation>> {
    crate::by_key(history).into_iter().filter(|operations| !operations.is_empty()).map(of_key).collect()
}

fn of_key(operations: Vec<engine::Operation>) -> History<engine::Operation> {
    let mut actions = Vec::new();
    for (process, operation) in operations.into_iter().enumerate() {
        let end =
            if operation.returned == PENDING { u64::from(PENDING) + process as u64 } else { operation.returned.into() };
        actions.push((u64::from(operation.invoked), process, Action::Call(operation)));
        actions.push((end, process, Action::Response(operation)));
    }
    actions.sort_by_key(|(at, ..)| *at);
    History::from_actions(actions.into_iter().map(|(_, process, action)| (process, action)).collect())
}

pub(crate) fn is_linearizable(keys: Vec<History<engine::Operation>>) -> bool {
    keys.into_par_iter().all(WGLChecker::<Register>::is_linearizable)
}
