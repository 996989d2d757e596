//! The workloads by name, put together from their parts.

use std::time::Duration;

use duress_checkers::Judge;
use duress_checkers::faults::FaultsProven;
use duress_checkers::linearizable::Linearizable;
use duress_checkers::mutex::MutualExclusion;
use duress_checkers::set::Set;
use duress_checkers::stats::Stats;
use duress_seed::Seed;

use crate::limit::{OpLimit, Stagger, TimeLimit};
use crate::{Generator, lock, register, set};

/// Every workload, with one line about it.
pub const ALL: &[(&str, &str)] = &[
    ("register", "reads, writes and compare-and-sets of many keys; must be linearizable"),
    ("lock", "locks with leases around a resource; nobody else may use it, tokens must increase"),
    ("set", "adds of unique elements; none that was acknowledged may be missing at the end"),
];

/// Which workload, and what can be chosen about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Options {
    /// [`register`]
    Register(register::Options),
    /// [`lock`]
    Lock(lock::Options),
    /// [`set`]
    Set(set::Options),
}

impl Options {
    /// The workload's name, as in [`ALL`].
    pub fn name(&self) -> &'static str {
        match self {
            Options::Register(_) => "register",
            Options::Lock(_) => "lock",
            Options::Set(_) => "set",
        }
    }

    /// What a run of this workload is judged by: the workload's own checker, that every fault is
    /// proven, and that at least `min_ok` operations succeeded. With `require_convergence`, every
    /// node must have the whole set at the end. Where a node leads, whoever knows the target adds
    /// [`SplitBrain`](duress_checkers::split_brain::SplitBrain).
    pub fn checkers(&self, min_ok: u64, require_convergence: bool) -> Vec<Box<dyn Judge>> {
        let own: Box<dyn Judge> = match self {
            Options::Register(_) => Box::new(Linearizable::default()),
            Options::Lock(options) => Box::new(MutualExclusion { fencing: options.fencing }),
            Options::Set(_) => Box::new(Set { require_convergence }),
        };
        vec![own, Box::new(FaultsProven), Box::new(Stats { min_ok })]
    }
}

/// A workload and the size of what it works on.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How many nodes the target has.
    pub nodes: usize,
    /// How many slots work side by side.
    pub concurrency: usize,
    /// How long operations are invoked.
    pub time: Duration,
    /// Which workload.
    pub options: Options,
}

/// A workload, ready to run.
pub struct Workload {
    /// Its name, as in [`ALL`].
    pub name: &'static str,
    /// Where its operations come from.
    pub generator: Box<dyn Generator>,
}

impl Workload {
    /// The workload that a configuration asks for, with every choice drawn from `seed`.
    pub fn new(config: Config, seed: Seed) -> Workload {
        let Config { nodes, concurrency, time, options } = config;
        let seed = seed.derive("workload");
        let name = options.name();
        let generator: Box<dyn Generator> = match options {
            Options::Register(options) => {
                let (rate, ops) = (options.rate, options.ops);
                let register = register::Register::new(options, nodes, concurrency, seed);
                limited(register, rate, ops, concurrency, seed)
            }
            Options::Set(options) => {
                limited(set::Set::new(nodes, concurrency), options.rate, options.ops, concurrency, seed)
            }
            Options::Lock(options) => {
                let ops = options.ops;
                limited(lock::Lock::new(options, concurrency, seed), None, ops, concurrency, seed)
            }
        };
        Workload { name, generator: Box::new(TimeLimit::new(generator, time)) }
    }
}

fn limited(
    generator: impl Generator + 'static,
    rate: Option<f64>,
    ops: Option<u64>,
    slots: usize,
    seed: Seed,
) -> Box<dyn Generator> {
    let mut generator: Box<dyn Generator> = Box::new(generator);
    if let Some(ops) = ops {
        generator = Box::new(OpLimit::new(generator, ops, slots));
    }
    if let Some(rate) = rate {
        generator = Box::new(Stagger::new(generator, rate, slots, seed.derive("stagger")));
    }
    generator
}
