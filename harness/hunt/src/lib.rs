//! Hunting: many simulated runs of a scenario, looking for one that breaks a promise; making it
//! small; keeping it, so that it can be repeated exactly.
//!
//! - [`Case`] is one run with every decision spelled out; [`draw`] draws one from a scenario and a
//!   seed.
//! - [`hunt()`] runs many of them on all cores and says what it [found](Hunted).
//! - [`shrink()`] makes a case smaller while it violates the same [`Property`].
//! - [`Repro`] is the file that a finding is kept in.
//! - [`story`] and [`trace`] tell what happens in a run.
//!
//! What runs a case is a [`Simulator`], which whoever knows the target provides.

mod case;
pub mod coverage;
mod hunt;
mod judge;
mod repro;
mod shrink;
pub mod statistics;
pub mod story;
mod swarm;
pub mod trace;

pub use case::{Case, Selected, Selection};
pub use hunt::{BUDGET, Found, Hunted, MakeSimulator, Options, Progress, Simulator, case, hunt, target_checkers};
pub use judge::{Judgement, Property, Violation, judge};
pub use repro::{Repro, ReproError};
pub use shrink::{Shrunk, Size, concrete, shrink};
pub use swarm::{draw, implied};
pub use trace::{Step, What};
