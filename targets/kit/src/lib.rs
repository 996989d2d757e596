//! Kits: what can be done with a target, whatever it is.
//!
//! A [`Kit`] is one target with all that runs it. [`Machines`] is the kit of any machine that is a
//! [`Protocol`]: its processes, its simulation and its place in the binary come from there. A crate
//! of targets lists its kits in `KITS`; the binary puts the lists together.
//!
//! This crate names no target.

use std::marker::PhantomData;
use std::os::unix::net::UnixStream;

use duress_driver::{NodeConfig, NodeError};
use duress_machine::Protocol;
use duress_plug::{Opts, Target};
use duress_sim::{Clients, Fleet, Typed};

/// A target with all that runs it.
pub trait Kit: Send + Sync {
    /// What it says of itself.
    fn target(&self) -> &'static dyn Target;

    /// Whether its nodes are machines, which can be simulated.
    fn machines(&self) -> Option<&dyn AsMachines>;
}

/// A target whose nodes are machines.
pub trait AsMachines: Send + Sync {
    /// The configuration of its machines that options ask for, as a node's process takes it; what is
    /// drawn at random is drawn from `seed`.
    fn config(&self, options: &Opts, seed: u64) -> serde_json::Value;

    /// Runs a node in this process, until it is told to end or its disk fails.
    ///
    /// # Errors
    /// If it can't start, or its disk fails.
    fn run_node(&self, config: NodeConfig, control: Option<UnixStream>) -> Result<(), NodeError>;

    /// The same machines for the simulated world.
    fn simulated(&self) -> Box<dyn Simulated>;
}

/// Machines for the simulated world, of one target in any configuration. What one run needed, the next
/// uses again.
pub trait Simulated: Send {
    /// The fleet of a run.
    fn fleet(&mut self, options: &Opts, seed: u64, clients: Clients) -> &mut dyn Fleet;
}

/// The kit of a machine that is a target.
pub struct Machines<P>(PhantomData<fn() -> P>);

impl<P> Machines<P> {
    /// The kit of `P`.
    #[expect(clippy::new_without_default, reason = "kits are statics")]
    pub const fn new() -> Machines<P> {
        Machines(PhantomData)
    }
}

impl<P: Protocol> Kit for Machines<P> {
    fn target(&self) -> &'static dyn Target {
        P::target()
    }

    fn machines(&self) -> Option<&dyn AsMachines> {
        Some(self)
    }
}

impl<P: Protocol> AsMachines for Machines<P> {
    fn config(&self, options: &Opts, seed: u64) -> serde_json::Value {
        serde_json::to_value(P::config(options, seed)).expect("a configuration is plain data")
    }

    fn run_node(&self, config: NodeConfig, control: Option<UnixStream>) -> Result<(), NodeError> {
        duress_driver::run_node::<P>(config, control)
    }

    fn simulated(&self) -> Box<dyn Simulated> {
        Box::new(Fleets::<P>(None))
    }
}

/// The fleet of the last run, for the next.
struct Fleets<P: Protocol>(Option<Typed<P, Clients>>);

impl<P: Protocol> Simulated for Fleets<P> {
    fn fleet(&mut self, options: &Opts, seed: u64, clients: Clients) -> &mut dyn Fleet {
        let config = P::config(options, seed);
        match &mut self.0 {
            Some(fleet) => {
                fleet.configure(config, clients);
                fleet
            }
            empty => empty.insert(Typed::new(config, clients)),
        }
    }
}
