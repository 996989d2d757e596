//! The tokio driver that runs a [`Machine`](duress_machine::Machine) as a real process, with its
//! log on a real disk, its peers on real sockets and its clients on HTTP; and the client of the
//! bundled service.
//!
//! - [`run_node`] is the whole life of a node of the bundled cluster; [`run_machine`] that of any
//!   other machine's.
//! - [`control`] is what a node and its controller say to each other, out of band.
//! - [`client`] calls the service; [`client_host`] is a process that does so for a controller.
//! - [`log`] is the write-ahead log as a file.
//!
//! Nothing here knows a protocol or judges a history.

mod addresses;
mod checksum;
pub mod client;
pub mod client_host;
mod clock;
pub mod control;
mod disk;
mod driver;
mod frame;
mod http;
pub mod log;
mod run;
mod timers;
mod transport;

pub use run::{NodeConfig, NodeError, Place, run_machine, run_node};
