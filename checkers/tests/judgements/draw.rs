//! Tiny random histories, and what all oracles ask of them.

use duress_checkers::models::named;
use duress_checkers::{Report, Run, Settings, Verdict};
use duress_history::formats::{Conventions, Failed, Format, Function, Imported, Moment, NilRead, Operation, Value};
use duress_history::{Op, Outcome, Process};
use duress_seed::Seed;

/// Decisions by what they are about.
pub(crate) struct Draws(Seed);

impl Draws {
    pub(crate) fn below(&self, key: &[u64], bound: u64) -> u64 {
        self.0.decide(key).below(bound)
    }
}

/// How many histories each property is tried on.
pub(crate) const HISTORIES: u64 = 4000;

pub(crate) fn draws(what: u64, n: u64) -> Draws {
    Draws(Seed(what).derive("judgements").derive(&n.to_string()))
}

/// What an operation is to be.
pub(crate) struct Asked {
    pub(crate) function: Function,
    pub(crate) key: Option<i64>,
    pub(crate) argument: Value,
    pub(crate) outcome: Outcome,
    pub(crate) result: Option<Value>,
}

impl Asked {
    pub(crate) fn new(name: &str, argument: Value, outcome: Outcome, result: Value) -> Asked {
        let result = (outcome == Outcome::Ok).then_some(result);
        Asked { function: Function::named(name), key: None, argument, outcome, result }
    }

    pub(crate) fn of(mut self, key: i64) -> Asked {
        self.key = Some(key);
        self
    }
}

/// Runs operations on processes side by side. A process is gone after an operation of unknown
/// outcome. What an operation is may depend on its number and on its process.
pub(crate) fn history(
    draws: &Draws,
    operations: u64,
    processes: u64,
    mut ask: impl FnMut(u64, u64) -> Asked,
) -> Imported {
    let mut all: Vec<Operation> = Vec::new();
    let mut slots: Vec<(u64, Option<usize>)> = (0..processes).map(|process| (process, None)).collect();
    let mut next_process = processes;
    let (mut step, mut index) = (0, 0);
    while (all.len() as u64) < operations || slots.iter().any(|(_, open)| open.is_some()) {
        step += 1;
        let slot = draws.below(&[90, step], processes) as usize;
        let moment = Moment { index, time_ns: Some(index as i64 * 1_000_000), line: index as usize + 1 };
        let (process, open) = slots[slot];
        match open {
            Some(at) => {
                index += 1;
                let operation = &mut all[at];
                let silent = operation.outcome == Outcome::Info && draws.below(&[91, step], 2) == 0;
                operation.completed = (!silent).then_some(moment);
                slots[slot].1 = None;
                if operation.outcome == Outcome::Info {
                    slots[slot].0 = next_process;
                    next_process += 1;
                }
            }
            None if (all.len() as u64) < operations => {
                index += 1;
                let Asked { function, key, argument, outcome, result } = ask(all.len() as u64, process);
                slots[slot].1 = Some(all.len());
                all.push(Operation {
                    process: Process(process),
                    client: None,
                    op: Op { f: function, key: key.map(Value::Int), value: argument },
                    result,
                    invoked: moment,
                    completed: None,
                    outcome,
                    error: None,
                    node: None,
                    term: None,
                });
            }
            None => {}
        }
    }
    let conventions = Conventions { nil_read: NilRead::Unset, failed: Failed::Drop };
    let independent = all.iter().any(|operation| operation.op.key.is_some());
    Imported {
        format: Format::Edn,
        conventions,
        operations: all,
        nemesis: Vec::new(),
        entries: index,
        independent,
        events: Vec::new(),
        truncated: false,
    }
}

pub(crate) fn outcome(draws: &Draws, n: u64) -> Outcome {
    match draws.below(&[92, n], 8) {
        0 => Outcome::Info,
        1 => Outcome::Fail,
        _ => Outcome::Ok,
    }
}

pub(crate) fn judge(model: &str, history: &Imported) -> Report {
    judge_with(model, history, None)
}

pub(crate) fn judge_with(model: &str, history: &Imported, permits: Option<u64>) -> Report {
    let report = named(model)
        .expect("it is a model")
        .judge(&Run::imported(history), &Settings { permits, ..Settings::default() });
    assert!(report.core.iter().all(|at| *at < history.operations.len()));
    report
}

pub(crate) fn figure(report: &Report, name: &str) -> u64 {
    report.figures[name] as u64
}

/// Counts how often each verdict came up: a test that never sees one of them tests nothing.
#[derive(Default)]
pub(crate) struct Tally {
    valid: u64,
    invalid: u64,
}

impl Tally {
    pub(crate) fn note(&mut self, verdict: Verdict) {
        self.valid += u64::from(verdict == Verdict::Valid);
        self.invalid += u64::from(verdict == Verdict::Invalid);
    }

    pub(crate) fn both(&self) {
        assert!(self.valid >= 50 && self.invalid >= 50, "{} valid, {} invalid", self.valid, self.invalid);
    }
}

pub(crate) fn end(operation: &Operation) -> u64 {
    operation.completed.map_or(u64::MAX, |moment| moment.index)
}

pub(crate) fn ints(values: &[i64]) -> Value {
    Value::Vector(values.iter().copied().map(Value::Int).collect())
}
