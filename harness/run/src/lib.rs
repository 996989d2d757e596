//! Drives one run in the real world: deploys a target, puts clients to work, lets the nemesis
//! hurt it, heals it, asks a last time, and records everything in one history.
//!
//! It runs where a back end has hosts, and knows that only by the traits of `duress-backend`. It
//! knows how things are run, not what they mean: a [`Target`]
//! translates between operations and a system's own messages, a workload decides what is asked,
//! and nobody here looks at the history that comes out.
//!
//! - [`run`] is the whole story, phase by phase.
//! - [`Recorder`] is the one clock and the one order of events.
//! - [`Progress`] is what a spectator may look at while it goes on.

mod clients;
mod cluster;
mod conducting;
mod error;
mod frames;
mod needs;
mod nemesis;
mod phases;
mod plan;
mod progress;
mod recorder;
mod skews;
mod target;

pub use error::RunError;
pub use needs::{Refusal, check};
pub use phases::run;
pub use plan::{Ended, Plan, Stop};
pub use progress::{Progress, Snapshot};
pub use recorder::{Onlooker, Recorder};
pub use target::{ClientReport, Moved, NodeMessage, ProcessPlan, Target, TargetError};
