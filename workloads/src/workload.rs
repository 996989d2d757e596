//! The workloads as plugs, and those that there are.

use std::sync::LazyLock;
use std::time::Duration;

use duress_checkers::Judge;
use duress_checkers::faults::FaultsProven;
use duress_checkers::stats::Stats;
use duress_history::{Function, Op};
use duress_plug::{OPS, Opts, RATE, Value};
use duress_seed::Seed;
use smol_str::format_smolstr;

use crate::limit::{OpLimit, Stagger, TimeLimit};
use crate::{Generator, lock, register, set};

/// Every workload. What is meant by no name comes first.
pub static ALL: &[&'static dyn Workload] = &[&register::Plug, &lock::Plug, &set::Plug];

/// What the harness asks to see whether a node serves: the operation that the target names for it,
/// about a thing of its own each time.
pub fn probe(function: &str, number: u64) -> Op {
    Op::on(Function::named(function), format_smolstr!("{}{number}", duress_history::PROBES), 1)
}

/// What is asked of a target: a plug with operations and a judge.
pub trait Workload: duress_plug::Workload {
    /// Where its operations come from, without regard to their rate, number and time, every choice
    /// drawn from `seed`.
    fn generator(&self, options: &Opts, size: &Size, seed: Seed) -> Box<dyn Generator>;

    /// Its own checker. With `require_convergence`, every node must know everything at the end.
    fn checker(&self, options: &Opts, require_convergence: bool) -> Box<dyn Judge>;
}

/// The size of what a workload works on.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// How many nodes the target has.
    pub nodes: usize,
    /// How many slots work side by side.
    pub concurrency: usize,
    /// How long operations are invoked.
    pub time: Duration,
}

/// The workload of this name.
pub fn named(name: &str) -> Option<&'static dyn Workload> {
    ALL.iter().copied().find(|workload| workload.name() == name)
}

/// All workloads as the core knows them.
pub fn plugs() -> &'static [&'static dyn duress_plug::Workload] {
    static PLUGS: LazyLock<Vec<&'static dyn duress_plug::Workload>> =
        LazyLock::new(|| ALL.iter().map(|workload| *workload as &dyn duress_plug::Workload).collect());
    &PLUGS
}

/// A workload with its options.
#[derive(Clone)]
pub struct Chosen {
    /// Which.
    pub workload: &'static dyn Workload,
    /// With which options.
    pub options: Opts,
}

impl Chosen {
    /// A workload with every default, but for these options.
    pub fn new(workload: &'static dyn Workload, options: &[(&str, Value)]) -> Chosen {
        Chosen { workload, options: Opts::with(workload.options(), options) }
    }

    /// Where its operations come from, every choice drawn from `seed`.
    pub fn generator(&self, size: &Size, seed: Seed) -> Box<dyn Generator> {
        let (options, slots) = (&self.options, size.concurrency);
        let seed = seed.derive("workload");
        let mut generator = self.workload.generator(options, size, seed);
        if let Some(ops) = options.has(OPS).then(|| options.maybe_integer(OPS)).flatten() {
            generator = Box::new(OpLimit::new(generator, ops, slots));
        }
        if let Some(rate) = options.has(RATE).then(|| options.maybe_number(RATE)).flatten() {
            generator = Box::new(Stagger::new(generator, rate, slots, seed.derive("stagger")));
        }
        Box::new(TimeLimit::new(generator, size.time))
    }

    /// What a run of this workload is judged by: the workload's own checker, that every fault is
    /// proven, and that at least `min_ok` operations succeeded. With `require_convergence`, every
    /// node must have the whole set at the end. Where a node leads, whoever knows the target adds
    /// [`SplitBrain`](duress_checkers::split_brain::SplitBrain).
    pub fn checkers(&self, min_ok: u64, require_convergence: bool) -> Vec<Box<dyn Judge>> {
        let own = self.workload.checker(&self.options, require_convergence);
        vec![own, Box::new(FaultsProven), Box::new(Stats { min_ok })]
    }
}
