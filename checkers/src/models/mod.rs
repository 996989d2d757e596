//! What any history can be judged against, by name.
//!
//! A model is a [`Judge`] of histories whoever made them, values as they were written.
//! `duress check PATH --model NAME` finds it in [`ALL`]; adding one means a module here and a line
//! there. [`crate::ALL`] has the judges of whole runs besides. Operations that a model has no meaning for make the report unknown, with the
//! line of the first of them: they are never passed over in silence.
//!
//! Linearizable objects are [`object::Object`]s: a sequential specification, and how operations of
//! histories are read as calls of it.

pub mod containers;
mod core;
pub mod counter;
pub mod forward;
mod judgements;
pub mod kv;
pub mod locks;
pub mod log;
mod monitor;
pub mod multi_register;
mod object;
pub mod registers;
pub mod set;
mod values;

use duress_history::{Operation, Value};

use self::containers::Containers;
use self::locks::Locks;
use self::object::Linearizable;
use crate::{Judge, Report, Run};

/// Every model, in the order in which they are listed.
pub const ALL: &[&dyn Judge] = &[
    &registers::Judged(registers::Registers { cas: false }),
    &registers::Judged(registers::Registers { cas: true }),
    &Linearizable(multi_register::MultiRegisters),
    &Linearizable(Locks(locks::Discipline::Anyone)),
    &Linearizable(Locks(locks::Discipline::Holder)),
    &Linearizable(Locks(locks::Discipline::Reentrant)),
    &Linearizable(Locks(locks::Discipline::Fenced)),
    &Linearizable(counter::Counters),
    &Linearizable(set::Sets),
    &Linearizable(Containers(containers::Discipline::Queue)),
    &Linearizable(Containers(containers::Discipline::Stack)),
    &Linearizable(Containers(containers::Discipline::Priority)),
    &Linearizable(log::Logs),
    &Linearizable(kv::KeyValue),
    &judgements::SET_FINAL,
    &judgements::SET_FULL,
    &judgements::COUNTER_BOUNDS,
    &judgements::TOTAL_QUEUE,
    &judgements::EXACTLY_ONCE_QUEUE,
    &judgements::UNIQUE_IDS,
    &judgements::BANK,
    &judgements::BANK_OVERDRAFT,
    &judgements::LONG_FORK,
    &judgements::COMMENTS,
    &judgements::SEMAPHORE,
    &judgements::RW_LOCK,
    &judgements::MUTEX_FAIR,
    &judgements::READ_YOUR_WRITES,
    &judgements::MONOTONIC_READS,
    &judgements::MONOTONIC_WRITES,
    &judgements::WRITES_FOLLOW_READS,
    &judgements::SESSION,
    &judgements::CAUSAL,
    &judgements::CAUSAL_PER_KEY,
    &judgements::SEQUENTIAL,
    &judgements::SEQUENTIAL_PER_KEY,
    &judgements::STALENESS,
    &judgements::EXCEPTIONS,
];

/// Judges what a workload asked, without what the harness asked by itself.
fn of_the_workload(history: &Run<'_>, judge: impl FnOnce(&Run<'_>) -> Report) -> Report {
    let Some((own, numbers)) = history.without_probes() else { return judge(history) };
    let mut report = judge(&own);
    report.core.iter_mut().for_each(|at| *at = numbers[*at]);
    report
}

/// The model of a name.
pub fn named(name: &str) -> Option<&'static dyn Judge> {
    ALL.iter().copied().find(|model| model.name() == name)
}

/// An operation that a model doesn't have.
fn cannot<T>(operation: &Operation, known: &str) -> Result<T, String> {
    Err(format!("it is a {}, and only {known} are known", operation.op.f))
}

/// The two values of a cas.
fn pair(operation: &Operation) -> Result<(&Value, &Value), String> {
    match operation.op.value.as_sequence() {
        Some([from, to]) => Ok((from, to)),
        _ => Err(format!("the value of a {}, {}, is not [from to]", operation.op.f, operation.op.value)),
    }
}
