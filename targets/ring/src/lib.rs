//! Mutual exclusion by a token that goes round a ring of nodes: no store, no log, no leader.
//!
//! [`Ring`] is the machine, [`kit`] what it says of itself as a target.

use duress_kit::{Kit, Machines};

pub mod api;
pub mod kit;
mod ring;

pub use ring::{Config, Message, Record, Ring, Tick};

/// The targets of this crate.
pub static KITS: &[&'static dyn Kit] = &[&Machines::<Ring>::new()];
