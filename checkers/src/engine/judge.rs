//! One key after the other, each by the cheapest method that is sound for it.

use super::frontier::Meter;
use super::history::{History, Operation};
use super::prepare::Problem;
use super::search::Search;
use super::sort::{Record, Sorted};
use super::{KeyAnswer, Method, zones};
use crate::Budget;
use crate::budget::Deadline;
use crate::register::Register;
use crate::wgl::{self, Outcome};

/// Judges keys one after the other, in memory that is used again.
pub(super) struct Judge {
    problem: Problem,
    search: Search,
    meter: Meter,
    certify: bool,
}

impl Judge {
    pub(super) fn new(deadline: Deadline, memory_bytes: usize, certify: bool) -> Judge {
        let meter = Meter::new(deadline, memory_bytes);
        Judge { problem: Problem::default(), search: Search::default(), meter, certify }
    }

    /// Judges operations that are all of one key.
    pub(super) fn operations(&mut self, initial: u32, operations: &[Operation]) -> KeyAnswer {
        self.problem.fill(initial, || operations.iter().enumerate().map(|(id, op)| Record::new(op, id)));
        self.judge()
    }

    /// Judges a key of many.
    pub(super) fn key(&mut self, initial: u32, sorted: &Sorted, key: u32) -> KeyAnswer {
        self.problem.fill(initial, || sorted.records(key));
        self.judge()
    }

    /// Goes on with the last key, which was unknown, with more to spend.
    pub(super) fn resume(&mut self, deadline: Deadline, memory_bytes: usize) -> KeyAnswer {
        self.meter = Meter::new(deadline, memory_bytes);
        match self.search.resume(&self.problem, &mut self.meter) {
            Some(outcome) => self.answer(outcome, Method::Configurations),
            None => self.judge(),
        }
    }

    fn judge(&mut self) -> KeyAnswer {
        let (outcome, method) = self.outcome();
        self.answer(outcome, method)
    }

    fn answer(&self, mut outcome: Outcome, method: Method) -> KeyAnswer {
        rename(&mut outcome, |op| self.problem.ids[op] as usize);
        KeyAnswer { outcome, method, completed: self.problem.completed }
    }

    fn outcome(&mut self) -> (Outcome, Method) {
        let Judge { problem, search, meter, certify } = self;
        if let Some(op) = problem.refuted {
            return (Outcome::NotLinearizable { stuck: op as usize }, Method::Refutation);
        }
        // Zones tell that there is no order, and not at which return; the search tells that too.
        if problem.unique
            && let Some(order) = zones::order(problem, *certify)
        {
            return (Outcome::Linearizable { order }, Method::Zones);
        }
        if let Some(outcome) = search.run(problem, meter, *certify) {
            return (outcome, Method::Configurations);
        }
        let (register, (entries, ids)) = (Register(problem.initial), problem.entries());
        let mut outcome = wgl::search_until(register, &entries, meter.deadline, meter.memory_bytes);
        rename(&mut outcome, |entry| ids[entry]);
        (outcome, Method::WingGongLowe)
    }
}

/// Calls operations by other names.
pub(super) fn rename(outcome: &mut Outcome, name: impl Fn(usize) -> usize) {
    match outcome {
        Outcome::Linearizable { order } => order.iter_mut().for_each(|op| *op = name(*op)),
        Outcome::NotLinearizable { stuck } => *stuck = name(*stuck),
        Outcome::Unknown { .. } => {}
    }
}

/// The search of one key of a history, which may be continued with another budget after one has
/// run out: what has been found out so far is kept.
pub struct KeySearch {
    judge: Judge,
    operations: Vec<Record>,
    initial: u32,
    answer: Option<KeyAnswer>,
}

impl KeySearch {
    /// Prepares the search of a key's operations. `certify`: for an order, if there is one.
    pub fn new(history: &History, key: u32, certify: bool) -> KeySearch {
        let records = history.operations.iter().enumerate().filter(|(_, operation)| operation.key == key);
        let operations = records.map(|(id, operation)| Record::new(operation, id)).collect();
        let judge = Judge::new(Deadline::after(std::time::Duration::ZERO), 0, certify);
        KeySearch { judge, operations, initial: history.initial, answer: None }
    }

    /// Searches on until the answer is known or a budget runs out. Its time counts from now; its
    /// memory is for all that is kept.
    pub fn resume(&mut self, budget: &Budget) -> &KeyAnswer {
        let deadline = Deadline::after(budget.time);
        let answer = match self.answer.take() {
            None => {
                self.judge.meter = Meter::new(deadline, budget.memory_bytes);
                self.judge.problem.fill(self.initial, || self.operations.iter().copied());
                self.operations = Vec::new();
                self.judge.judge()
            }
            Some(KeyAnswer { outcome: Outcome::Unknown { .. }, .. }) => {
                self.judge.resume(deadline, budget.memory_bytes)
            }
            Some(known) => known,
        };
        self.answer.insert(answer)
    }
}
