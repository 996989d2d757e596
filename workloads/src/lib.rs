//! Workloads: what is asked of a target, and what the answers are judged by.
//!
//! A [`Generator`] is a pure function of a seed, of the time, and of the completions it has seen.
//! It knows nothing of worlds: whoever runs it asks each [`Slot`] for its [`Next`] operation,
//! carries it out, and reports the completion. Each [`Workload`] is a plug, which declares its
//! options; [`ALL`] lists them, and a [`Chosen`] one is ready to run. [`limit`] holds what they
//! share. [`client`] is what a client does besides asking the target.

pub mod client;
mod generator;
pub mod limit;
pub mod lock;
pub mod register;
pub mod set;
mod workload;

pub use duress_history::PROBES;
pub use generator::{FinalOp, Generator, Next, Slot};
pub use workload::{ALL, Chosen, Size, Workload, named, plugs, probe};
