//! Adds of unique elements to one set, and at the end what every node makes of it.

use std::time::Duration;

use duress_checkers::Judge;
use duress_history::{Completion, Function, Op, Value};
use duress_plug::{OPS, Opt, Opts, Usual};
use duress_seed::Seed;

use crate::{FinalOp, Generator, Next, Size, Slot, Workload};

static OPTIONS: &[Opt] = &[
    Opt::concurrency(),
    Opt { usual: Usual::Number(300.0), ..Opt::rate() },
    Opt::integer(OPS, 1..=100_000, 20_000, "Elements in all. Every node returns the whole set at the end."),
];

/// The workload.
pub struct Plug;

impl duress_plug::Workload for Plug {
    fn name(&self) -> &'static str {
        "set"
    }

    fn about(&self) -> &'static str {
        "adds of unique elements; none that was acknowledged may be missing at the end"
    }

    fn options(&self) -> &'static [Opt] {
        OPTIONS
    }

    fn functions(&self, _options: &Opts) -> Vec<&'static str> {
        vec!["add", "read"]
    }
}

impl Workload for Plug {
    fn generator(&self, _options: &Opts, size: &Size, _seed: Seed) -> Box<dyn Generator> {
        Box::new(Set::new(size.nodes, size.concurrency))
    }

    fn checker(&self, _options: &Opts, require_convergence: bool) -> Box<dyn Judge> {
        Box::new(duress_checkers::set::Set { require_convergence })
    }
}

/// The generator.
pub struct Set {
    nodes: usize,
    /// For each slot, how many operations it has begun.
    begun: Vec<i64>,
}

impl Set {
    /// A generator for `slots` slots over a target of `nodes` nodes.
    pub fn new(nodes: usize, slots: usize) -> Set {
        Set { nodes, begun: vec![0; slots] }
    }
}

impl Generator for Set {
    fn next(&mut self, who: Slot, _now: Duration) -> Next {
        let slots = self.begun.len() as i64;
        let Some(begun) = self.begun.get_mut(who.index) else { return Next::Done };
        let element = *begun * slots + who.index as i64;
        *begun += 1;
        Next::Op(Op::new(Function::Add, element))
    }

    fn completed(&mut self, _who: Slot, _completion: &Completion, _now: Duration) {}

    /// All elements, from every node.
    fn finale(&self) -> Vec<FinalOp> {
        (0..self.nodes).map(|node| FinalOp { node, op: Op::new(Function::Read, Value::Nil) }).collect()
    }
}
