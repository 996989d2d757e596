//! The sans-IO contract of a bundled node.
//!
//! A node is a pure state machine: `(state, input, clock reading) → (state, effects)`. It does no
//! IO, reads no clock, draws no random numbers and iterates no hash map, so the same type runs
//! as a real process, in the simulator and under a model checker, and a run of it can be replayed
//! exactly. This crate knows nothing of any of the three, nor of any protocol.
//!
//! - [`Machine`] is the contract; [`Input`] and [`Effect`] are its two vocabularies.
//! - [`Journal`] keeps the one ordering rule that matters: what must be durable before what may
//!   be said.
//! - [`wal`] is the byte format of the log, shared by every driver so that recovery is the same
//!   code everywhere.
//! - [`Protocol`] makes a machine a target, whose clients speak the words of histories.
//! - [`client`] is the client's side: redirects, timeouts and retries, as a pure state machine.

pub mod client;
mod contract;
mod journal;
mod protocol;
pub mod wal;

pub use contract::{Effect, Effects, Input, Machine, NodeId, Observation, Reading, RequestId, Role, RoleName, Status};
pub use journal::Journal;
pub use protocol::{Asker, Ended, Protocol, Reply};
