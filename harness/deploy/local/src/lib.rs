//! The local back end: hosts are network namespaces on this machine, joined by the fabric, inside a
//! *sandbox* that needs no root and leaves nothing behind.
//!
//! As a plug it is [`BACKEND`], and everything goes through its traits. What is behind them:
//!
//! 1. [`preflight`] tries what the kernel must allow and says what is missing.
//! 2. The outer process calls [`sandbox::enter`], which runs this same program again as the first
//!    process of new user, mount, PID, network, UTS and IPC namespaces.
//! 3. The inside process calls [`sandbox::prepare_inside`] before anything else.
//! 4. [`Local::new`] makes the hosts, their links and the prober; [`Local::spawn`] starts
//!    processes in them, and [`Process`] kills, pauses and measures them.
//!
//! This crate knows nothing of what runs on the hosts, of checkers or of reports.

mod advice;
mod error;
mod identity;
mod leftovers;
pub mod local;
mod plug;
mod preflight;
pub mod sandbox;

pub use error::DeployError;
pub use identity::{Identity, Life};
pub use leftovers::{Leftover, MARK, leftovers};
pub use local::{HostNamespace, Local, Process, cpu_time_self};
pub use plug::BACKEND;
pub use preflight::{Check, Preflight, preflight};
