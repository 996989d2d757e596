//! The simulated world: a whole cluster, its network, disks, clocks and clients, in one thread and
//! in virtual time.
//!
//! [`World::run`] carries out a [`SimPlan`] with the same machines, generators, schedules and
//! history as the real world, so that the same checkers judge both. Nothing happens between two
//! events, so idle time costs nothing; and everything that happens follows from the plan and its
//! seed, so that a run can be repeated exactly. There are no files, sockets, threads, wall clocks
//! or random streams in here, and no map whose order could leak.
//!
//! Each decision is a function of the seed and of what it is about (the n-th message of a link,
//! the n-th sync of a disk): leaving out a fault or an operation leaves the others' decisions as
//! they were, as far as the run itself still is what it was.
//!
//! - [`SimPlan`] says what is run and how network, disks and clocks behave, and
//!   which faults are injected: the same as in the real world.
//! - [`Fleet`] is what is run: the machines of a cluster, behind a trait, so that the world is
//!   compiled once for all of them. [`Typed`] makes one of any machine and a [`Service`], which
//!   translates between a history's operations and the machine's requests.
//! - [`SimRun`] is what comes out: the history, a hash of everything that happened, statistics,
//!   and [`Coverage`]: which faults met whom in which situation.
//! - [`Watch`] sees every event as it happens, for traces that people read.
//!
//! Inside, `state` holds everything that changes, in the vocabulary of the modules that it uses;
//! `phases`, `clients`, `calls`, `connections`, `node`, `step` and `nemesis` each act upon it, and
//! know no other's types; `world` hands each what comes.

mod calendar;
mod calls;
mod clients;
mod clock;
mod connections;
mod coverage;
mod digest;
mod disk;
mod event;
mod fleet;
mod harms;
mod host;
mod nemesis;
mod network;
mod node;
mod phases;
mod plan;
mod run;
mod seat;
mod service;
mod state;
mod step;
mod typed;
mod watch;
mod world;

pub use coverage::{Coverage, Situation};
pub use digest::Digest;
pub use duress_fault::Timed;
pub use fleet::{Effect, Fleet, Held, Input, Logs, Store};
pub use plan::{Chance, Clocks, Crash, Disk, Latency, Network, SimPlan, Transport};
pub use run::{Ended, SimRun, Stats};
pub use service::{Clients, Done, Service};
pub use typed::Typed;
pub use watch::{Happening, Watch};
pub use world::World;
