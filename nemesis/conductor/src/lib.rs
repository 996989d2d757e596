//! The life of a fault, once for every world: whom it hits and when, what it waits for, when it is
//! given up, when it is healed, and what the history says of it.
//!
//! A [`Conductor`] is told what happens (time passes, a node takes a part, a fault was applied,
//! measured or undone, a node was shut off) and answers with [`Order`]s. A world obeys them: it
//! applies, undoes, measures, records and waits, and decides nothing. That is all a world is asked
//! for, so the simulated one and the real one differ in how a link is cut, and in nothing else.
//!
//! It is pure and deterministic. It has no clock: times are nanoseconds of whatever clock the world
//! goes by, and to wait is an order like any other, whose [`Wake`] comes back when the time has.
//! Orders are to be obeyed one after the other, and what follows from obeying one comes before the
//! next. A world in which that takes time (probes need some) lets nobody in between.
//!
//! The life of a fault:
//!
//! ```text
//! waits for its trigger ─> comes ─> Look ─> Apply ─> Measure ─> in force ─> Undo ─> Measure ─> over
//!          │                 └─ nobody to hit: looks again ─┐
//!          └────────────────── given up: on record as not injected
//! ```
//!
//! Beside the faults of a schedule there are those that nobody scheduled, numbered from
//! [`UNSCHEDULED`]: a node that the cluster itself shut off, a node that ended by itself, and the
//! nodes that are held back while a quorum alone must serve.
//!
//! This crate must not know how anything is done to anybody, nor what a target is.

mod conductor;
mod found;
mod hold;
mod order;
mod unscheduled;

pub use conductor::{Conductor, InForce, Script, Standing};
pub use found::Found;
pub use hold::HeldBack;
pub use order::{NodeSight, Order, Sight, Wake};
pub use unscheduled::{Departure, Fencing};

use std::time::Duration;

/// Faults that nobody scheduled are numbered above this.
pub const UNSCHEDULED: u64 = 1 << 32;
/// How long a fault waits, at least, for whom it is to hit: a primary, a holder.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// A fault that finds nobody to hit looks again after this long.
pub const AGAIN: Duration = Duration::from_millis(5);
/// The operator comes by so long after a node was shut off or ended, if no fault is in force. While
/// one is, it comes when the last is healed.
pub const OPERATOR: Duration = Duration::from_secs(1);
/// How long a node, or a whole target at its start, may take to serve.
pub const READY: Duration = Duration::from_secs(20);
