//! From a history to a verdict.
//!
//! A [`Judge`] reads a [`Run`] (any history, made ready for judging) and gives a [`Report`];
//! [`check_all`] puts several together. Checkers are pure and deterministic: they know nothing of
//! targets, worlds or how a report is shown, and the number of threads never changes what they
//! say. The one clock in here is the [`Budget`]'s deadline, and running out of it makes a verdict
//! [`Unknown`](Verdict::Unknown), never [`Invalid`](Verdict::Invalid).
//!
//! | checker | judges |
//! |---|---|
//! | [`linearizable::Linearizable`] | registers: read, write, cas |
//! | [`mutex::MutualExclusion`] | locks, their fencing tokens and the resource they protect |
//! | [`split_brain::SplitBrain`] | who led, who acted as leader, and what was lost by it |
//! | [`set::Set`] | unique elements added to a set, read at the end from every node |
//! | [`stats::Stats`] | whether enough succeeded for a verdict to mean something |
//! | [`service_level::ServiceLevel`] | whether the target was available for as long as was asked for |
//! | [`log_patterns`] | whether nodes' own logs tell of a failure |
//! | [`faults::FaultsProven`] | whether each fault was shown to have taken effect and been healed |

mod budget;
mod check;
pub mod engine;
pub mod faults;
pub mod generate;
pub mod linearizable;
pub mod log_patterns;
pub mod models;
pub mod mutex;
pub mod register;
mod report;
mod run;
pub mod service_level;
pub mod set;
pub mod split_brain;
pub mod stats;
pub mod wgl;
mod words;

pub use budget::Budget;
pub use check::{Judge, Settings, check_all, judge};
pub use report::{Class, Report, Results, Table, Verdict};
pub use run::{FaultSpan, Run, Span};

/// Judges of whole runs, which know of clients, nodes, times and faults, as they are where a scenario
/// says nothing else.
const RUNS: &[&dyn Judge] = &[
    &linearizable::Linearizable { model: register::Register(duress_history::Value::Nil) },
    &mutex::MutualExclusion { fencing: false },
    &split_brain::SplitBrain,
    &set::Set { require_convergence: true },
    &stats::Stats { min_ok: 1 },
    &service_level::ServiceLevel { min_available: 0 },
    &faults::FaultsProven,
];

/// Every judge, in the order in which they are listed: those of whole runs, then [`models::ALL`]. No
/// two have the same name. (Nodes' logs are no part of a history: [`log_patterns`] judges those.)
pub fn all() -> impl Iterator<Item = &'static dyn Judge> {
    RUNS.iter().chain(models::ALL).copied()
}

/// The judge of a name.
pub fn named(name: &str) -> Option<&'static dyn Judge> {
    all().find(|judge| judge.name() == name)
}
