//! The models against two searches that were written elsewhere: stateright's tester and the search
//! of `todc-utils`, both over the oracle's steps.

use duress_checkers::Verdict;
use duress_checkers::generate::models;
use duress_history::Outcome;
use duress_history::formats::{Failed, Imported, NilRead, Operation, Value};
use duress_seed::Seed;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use super::fuzz::{count, judge};
use super::oracle::{State, step};
use super::tiny;

/// Histories in which everything that did not end is left out or known to have happened are all
/// that the two can be asked.
fn plain(model: &str, seed: u64) -> Imported {
    let mut history = tiny::history(model, Seed(seed));
    history.conventions.failed = Failed::Drop;
    let silent = history.conventions.nil_read == NilRead::Unknown;
    history.operations.retain(|o| o.outcome == Outcome::Ok);
    history.operations.retain(|o| !(silent && o.op.f.reads() && o.result == Some(Value::Nil)));
    history
}

/// An operation of a model, and whether a nil inside its result tells nothing.
#[derive(Clone, Debug, PartialEq)]
struct Asked(&'static str, bool, Operation);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Object(State);

fn start(model: &str) -> State {
    State { number: if model == "lock" { i64::MIN / 2 } else { 0 }, ..State::default() }
}

impl SequentialSpec for Object {
    type Op = Asked;
    type Ret = Value;

    fn invoke(&mut self, _: &Asked) -> Value {
        unreachable!("every operation has returned")
    }

    fn is_valid_step(&mut self, Asked(model, unknown, operation): &Asked, ret: &Value) -> bool {
        match step(model, *unknown, &self.0, operation, Some(ret)) {
            Some(after) => {
                self.0 = after;
                true
            }
            None => false,
        }
    }
}

/// Every operation's invocation and return, in order: the moment, the operation, whether it is the
/// return.
fn events(history: &Imported) -> Vec<(u64, &Operation, bool)> {
    let mut events = Vec::new();
    for operation in &history.operations {
        events.push((operation.invoked.index, operation, false));
        events.extend(operation.completed.map(|end| (end.index, operation, true)));
    }
    events.sort_by_key(|(at, ..)| *at);
    events
}

fn stateright(model: &'static str, history: &Imported) -> bool {
    let unknown = history.conventions.nil_read == NilRead::Unknown;
    let mut tester = LinearizabilityTester::new(Object(start(model)));
    for (_, operation, returns) in events(history) {
        let process = operation.process.0;
        if returns {
            let result = operation.result.clone().unwrap_or_default();
            tester.on_return(process, result).expect("it was invoked");
        } else {
            tester.on_invoke(process, Asked(model, unknown, operation.clone())).expect("one at a time");
        }
    }
    tester.is_consistent()
}

/// The oracle's steps in the form of `todc-utils`.
struct Plain;

impl Specification for Plain {
    type State = Option<State>;
    type Operation = Asked;

    fn init() -> Option<State> {
        None
    }

    fn apply(Asked(model, unknown, operation): &Asked, state: &Option<State>) -> (bool, Option<State>) {
        let state = state.clone().unwrap_or_else(|| start(model));
        match step(model, *unknown, &state, operation, operation.result.as_ref()) {
            Some(after) => (true, Some(after)),
            None => (false, Some(state)),
        }
    }
}

fn todc(model: &'static str, history: &Imported) -> bool {
    let unknown = history.conventions.nil_read == NilRead::Unknown;
    let action = |(_, operation, returns): (u64, &Operation, bool)| {
        let asked = Asked(model, unknown, operation.clone());
        (operation.process.0 as usize, if returns { Action::Response(asked) } else { Action::Call(asked) })
    };
    WGLChecker::<Plain>::is_linearizable(History::from_actions(events(history).into_iter().map(action).collect()))
}

#[test]
fn the_models_agree_with_searches_of_others() {
    for model in models() {
        let mut invalid = 0;
        let seeds = (count() / 150).clamp(100, 40_000);
        for seed in 2_000_000..2_000_000 + seeds {
            let history = plain(model, seed);
            if history.operations.is_empty() || history.operations.len() > 9 {
                continue;
            }
            let valid = judge(model, &history, false).verdict != Verdict::Invalid;
            assert_eq!(valid, stateright(model, &history), "stateright, {model} seed {seed}: {history:#?}");
            assert_eq!(valid, todc(model, &history), "todc-utils, {model} seed {seed}: {history:#?}");
            invalid += u64::from(!valid);
        }
        assert!(invalid > seeds / 50, "{model}: only {invalid} of {seeds} were invalid");
    }
}
