//! The bundled cluster: one replicated key-value and lock service in three modes, as pure
//! machines.

pub mod api;
pub mod bugs;
pub mod config;
pub mod kit;
pub mod paxos;
pub mod primary_backup;
pub mod quorum;
pub mod store;
