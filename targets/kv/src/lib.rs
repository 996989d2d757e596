//! The bundled cluster: one replicated key-value and lock service in three modes, as pure
//! machines.

use duress_kit::{Kit, Machines};

/// The targets of this crate. What is meant by no name comes first.
pub static KITS: &[&'static dyn Kit] = &[
    &Machines::<paxos::Paxos>::new(),
    &Machines::<quorum::Quorum>::new(),
    &Machines::<primary_backup::PrimaryBackup>::new(),
];

pub mod api;
pub mod bugs;
pub mod config;
pub mod kit;
pub mod paxos;
pub mod primary_backup;
pub mod quorum;
pub mod store;
